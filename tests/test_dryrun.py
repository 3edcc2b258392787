"""What a dry run opens, once for all runs that share it, and where its time comes from."""

from types import SimpleNamespace

import pytest

from cm3t import dryrun
from cm3t.config import config_hash, resolve
from cm3t.records import save_record


@pytest.fixture
def opened(monkeypatch):
    """Splits that are asked for: of 100 clips, as far as a limit lets them; nothing is read, or counted."""
    asked = []

    def open_set(**options):
        asked.append(options)
        return range(min(100, options["limit"] or 100))

    monkeypatch.setattr(dryrun, "open_set", open_set)
    monkeypatch.setattr(dryrun, "_try", lambda *_: 1.0)
    return asked


def runs(**more):
    return [resolve("full", method="linear", seed=seed, train_clips=n, **more) for seed in (0, 1) for n in (25, 50)]


def test_runs_that_differ_in_seed_and_number_of_clips_open_the_data_once(opened, monkeypatch, tmp_path):
    monkeypatch.setattr(dryrun, "_estimate", lambda *_: None)
    monkeypatch.setattr(dryrun, "weights_missing", lambda *_: None)
    lines = []
    assert dryrun.check([*runs(), *runs(gap=1)], tmp_path, lines.append) == 0
    assert len(opened) == 6 and {options["limit"] for options in opened if options["split"] == "train"} == {50}
    said = [line for line in lines if line.startswith("rooms-kitchen")]
    assert said == ["rooms-kitchen (shipped with the study): train 50, tune 100, validation 100 clips"]


def test_a_run_takes_its_own_number_of_clips():
    config = runs()[0]
    assert dryrun._own(config, {"train": 100, "tune": 9}) == {"train": 25, "tune": 9}
    assert dryrun._most([3, None]) is None and dryrun._most([3, 7]) == 7


def test_a_published_run_of_the_same_settings_tells_the_time(make_record, monkeypatch, tmp_path):
    monkeypatch.setattr(dryrun, "records_dir", lambda _: tmp_path)
    record = make_record("quick")
    record.train_info["seconds"] = 60.0
    record.meta_info["hardware"] = {"device": "cpu", "cpu": "Some CPU", "cores": 2, "at_once": 2}
    save_record(record, tmp_path)
    config = SimpleNamespace(profile="quick")
    monkeypatch.setattr(dryrun, "config_hash", lambda _: record.run_info["config_hash"])
    before = dryrun._before([config])
    assert list(before.values()) == [(30.0, "Some CPU, 2 cores")]
    first, second = dryrun._times(before, [5.0], 1e9)
    assert first == "time: 30 s for 1 run, as published runs of the same settings took on Some CPU, 2 cores"
    assert second.startswith("      5 s of computing for 1 run: multiply-accumulates") and "at least" not in second
    monkeypatch.undo()
    assert len({config_hash(config) for config in runs()}) == 4
