"""What small models reach on a room stands beside the study's results, and comes from the cards' records."""

import json
import re

import pytest

from cm3t.config import data_dir, results_dir
from cm3t.pages import ceilings
from cm3t.plans import HEADLINES, ROOMS


@pytest.mark.parametrize("room", ROOMS)
def test_every_probe_is_recorded_and_its_mean_is_the_records(room):
    folder, probes = ceilings.PROBES[room]
    table = ceilings.recorded(room)
    assert table.iloc[:, 0].tolist() == list(probes.values())
    for (_, text, n), probe in zip(table.itertuples(index=False), probes, strict=True):
        paths = list((results_dir() / "records" / folder).glob(f"{probe}-s*.json"))
        records = [json.loads(path.read_text())["train_info"]["metrics"]["validation"]["all"] for path in paths]
        mean = sum(record[HEADLINES[room]] for record in records) / len(records)
        assert n == len(paths) and float(text.split()[0]) == pytest.approx(mean, abs=0.051 if mean > 2 else 0.00051)


def test_the_cards_mean_and_the_pages_agree():
    card = (data_dir() / "rooms-kitchen" / "README.md").read_text()
    (motion,) = re.findall(r"([\d.]+) % from motion alone", card)
    row = ceilings.recorded("rooms-kitchen").iloc[1]
    assert row.iloc[0] == "motion alone" and row.iloc[1].startswith(motion)


def test_a_table_says_what_these_models_are(monkeypatch):
    assert "ridge regressions, settled with the held-out people in view" in ceilings.table("rooms-dyad")
    assert "synthetic" in ceilings.table("rooms-group")
    monkeypatch.setitem(ceilings.PROBES, "rooms-group", ("nowhere", {"sound": "sound alone"}))
    assert ceilings.recorded("rooms-group").empty
