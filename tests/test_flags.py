"""`python -m cm3t.train --help` tells every setting, its choices and its default, each in one place."""

import argparse
from dataclasses import fields

import pytest

from cm3t import config, flags
from cm3t.config import RunConfig
from cm3t.settings import CHOICES

SETTINGS = [field.name for field in fields(RunConfig)]


@pytest.fixture(scope="module")
def parser():
    made = argparse.ArgumentParser(formatter_class=flags.Help)
    flags.add_flags(made, ("one_net", "another_net"))
    return made


def test_every_setting_has_its_help_once_and_nothing_else_has():
    told = [name for group in flags.HELP.values() for name in group]
    assert sorted(told) == sorted(SETTINGS)
    assert all(words.strip() for group in flags.HELP.values() for words in group.values())


def test_the_help_shows_groups_choices_defaults_and_who_knows_a_setting(parser):
    text = " ".join(parser.format_help().split())
    assert all(f"{title}:" in text for title in flags.HELP)
    assert all(f"--{name.replace('_', '-')} " in text for name in SETTINGS)
    assert all(choice in text for choices in CHOICES.values() for choice in choices)
    assert "{one_net,another_net}" in text and "{double,standard,token_gate}" in text
    for shown in ("(default: 0.05)", "(default: true)", "(left out: the profile's)", "(of mpiigi, rooms-group)"):
        assert shown in text, shown
    assert "(not of folder)" in text


def test_flags_hand_on_what_was_given_and_nothing_else(parser):
    given = vars(parser.parse_args(["--method", "pt+mhva", "--batch-size", "4", "--anchored", "no"]))
    assert given == {"method": "pt+mhva", "batch_size": "4", "anchored": "no"}
    assert config.resolve(**given) == config.resolve(method="mhva+pt", batch_size=4, anchored=False)
