"""A record is written whole or not at all, found by its hash, and never counted unless the run finished."""

import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest

from cm3t import records
from cm3t.config import config_hash, records_dir, resolve
from cm3t.records import find_record, largest_profile, load_run, results, save_record


def test_a_record_comes_back_as_it_went(tmp_path, make_record):
    record = make_record("quick", seed=1)
    path = save_record(record, tmp_path / "new" / "folder")
    assert path.name == record.run_id + ".json"
    back = load_run(path)
    assert back.run_info["config"]["claims"] == [] and back.run_info["command"].startswith("python -m cm3t.train")
    assert back.train_info == record.train_info and back.meta_info == record.meta_info


def test_numbers_of_other_libraries_and_not_a_number(tmp_path):
    path = records.write_json(
        tmp_path / "x.json", {"a": np.float32(0.5), "b": np.int64(3), "c": float("nan"), "d": (1,)}
    )
    assert json.loads(path.read_text()) == {"a": 0.5, "b": 3, "c": None, "d": [1]}


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_record_and_names_the_path(tmp_path, make_record, monkeypatch, broken):
    path = save_record(make_record(score=40.0), tmp_path)
    old = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, broken, full)
    with pytest.raises(OSError, match="make room") as error:
        save_record(make_record(score=50.0), tmp_path)
    assert error.value.errno == errno.ENOSPC and error.value.filename == str(path)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def test_a_kill_in_the_middle_leaves_no_half_record(tmp_path, make_record, monkeypatch):
    def kill(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", kill)
    with pytest.raises(KeyboardInterrupt):
        save_record(make_record(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_a_finished_run_is_resumed(tmp_path, make_record):
    key = config_hash(resolve("smoke", study="02"))
    for status in ("failed", "cancelled"):
        assert status in save_record(make_record(status=status), tmp_path).name
    assert find_record(tmp_path, key) is None
    save_record(make_record(), tmp_path)
    assert find_record(tmp_path, key).status == "ok"
    assert find_record(tmp_path, key, data="d" * 12) is not None
    assert find_record(tmp_path, key, data="changed") is None
    assert find_record(tmp_path, config_hash(resolve("smoke", seed=9))) is None
    assert find_record(tmp_path / "absent", key) is None


def test_a_status_must_be_known(make_record):
    with pytest.raises(ValueError, match="ok, failed, cancelled"):
        make_record(status="fine")


@pytest.mark.parametrize("text, words", [("{", "not JSON"), ("[]", "needs run_id"), ('{"run_id": 1}', "needs run_id")])
def test_a_file_that_is_no_record_is_named(tmp_path, text, words):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        load_run(path)
    assert str(path) in str(error.value)


def test_results_are_a_table_of_finished_runs(study, make_record):
    study("quick", [("mhva+pt", 40.0), ("adaptformer+pt", 30.0)])
    save_record(make_record("quick", status="failed", seed=7), records_dir("quick"))
    table = results("quick")
    assert len(table) == 4 and set(table["seed"]) == {0, 1}
    assert {"method", "share", "validation.all.action_top1", "validation.unseen.action_top1"} <= set(table)
    assert results("full").empty and "method" in results("full")


def test_the_largest_complete_profile_is_shown(study, make_record):
    assert largest_profile() is None and results().empty
    study("quick", [("mhva+pt", 40.0)])
    save_record(make_record("full", seed=0), records_dir("full"))  # one of five seeds: not complete
    assert largest_profile() == "quick"
    study("full", [("mhva+pt", 41.0)])
    assert largest_profile() == "full" and len(results()) == 5
    assert largest_profile("03") is None


def test_runs_on_two_versions_of_the_data_are_not_compared(study, make_record):
    study("quick", [("mhva+pt", 40.0)])
    record = make_record("quick", method="pt")
    digests = record.meta_info["digests"]
    save_record(
        replace(record, meta_info=record.meta_info | {"digests": digests | {"weights": "random"}}), records_dir("quick")
    )
    assert len(results("quick")) == 3
    save_record(
        replace(record, meta_info=record.meta_info | {"digests": digests | {"data": "e" * 12}}), records_dir("quick")
    )
    with pytest.raises(ValueError, match="rooms-kitchen rest on 2 versions.*dddd.*eeee.*run the older"):
        results("quick")


def test_one_run_for_two_studies_counts_once(study):
    study("quick", [("mhva+pt", 40.0)])
    study("quick", [("mhva+pt", 40.0)], study="03")
    assert len(list(records_dir("quick").glob("*.json"))) == 4 and len(results("quick")) == 2


def test_the_command_repeats_the_run():
    config = resolve("quick", method="pt", anchored=False, seed=1)
    words = records.command_line(config).removeprefix("python -m cm3t.train ").split()
    flags = {
        flag.removeprefix("--").replace("-", "_"): value for flag, value in zip(words[::2], words[1::2], strict=True)
    }
    assert resolve(**flags) == config


def test_what_a_notebook_took_is_kept(tmp_path):
    records.save_timing(tmp_path, "02_x", 100.04, device="cpu")
    assert records.timings(tmp_path)["02_x"]["seconds"] == 100.0 and records.timings(tmp_path / "absent") == {}


def test_provenance_names_versions_and_hardware_but_no_place_or_person():
    found = records.provenance(device="a GPU", data="abc")
    assert found["versions"]["numpy"] and found["hardware"]["device"] == "a GPU" and found["digests"] == {"data": "abc"}
    text = json.dumps(found)
    assert str(os.path.expanduser("~")) + "/" not in text and os.uname().nodename not in text
