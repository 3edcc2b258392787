"""The paper's profile end to end on invented data in the three real layouts: trained, scored, and scored again.

Two steps of training on a small Swin, clips read as they are needed; the record's metrics are the official ones of the
file of scores that lies beside it.
"""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_epic import copy, kitchen  # noqa: F401
from test_epic_annotations import TRAIN, VALIDATION
from test_flow_files import planes
from test_frames import extract
from test_media import click_track
from test_mpiigi import group, put_sound  # noqa: F401
from test_udiva import dyads  # noqa: F401
from toys import SMALL_SWIN, quiet

from cm3t import backbones, dryrun, evaluate, train
from cm3t.config import resolve
from cm3t.data.epic_files import ARCHIVE
from cm3t.records import load_run
from cm3t.training import sets

pytestmark = pytest.mark.filterwarnings(
    "ignore:1 segments of validation", "ignore::cm3t.data.frames.NearestFrameWarning"
)
SMALL = dict(weights=None, backbone="video_swin_mini", workers=0, epochs=1, batch_size=2, lr=1e-3, size=24, frames=2)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A Swin of two blocks, at 24 pixels."""
    spec = SMALL_SWIN | dict(make="video_swin:VideoSwin", clip=(2, 24, 24), prefix_length=2)
    monkeypatch.setitem(backbones._SPECS, "video_swin_mini", spec)
    for remembered in (sets._open_set, sets._stream, sets.side_tokens):
        remembered.cache_clear()


@pytest.fixture
def extracted(copy):  # noqa: F811
    """The invented kitchens as pictures, motion and sound in files, without a single MP4."""
    h5py = pytest.importorskip("h5py")
    videos = sorted({row["video_id"] for row in TRAIN + VALIDATION})
    for video in videos:
        extract(copy / video[:3] / "rgb_frames" / video, 24)
        planes(copy / video[:3] / "flow_frames" / video, [(1.0, -1.0)] * 12, 25 if len(video) == 6 else 8)
    for path in copy.rglob("*.MP4"):
        path.unlink()
    with h5py.File(copy / ARCHIVE, "w") as file:
        for video in videos[:-1]:
            file[video] = (click_track(24000, 5, 1.0) * 32767).astype(np.int16)
    shutil.rmtree(copy / "gap1")
    (copy / "annotations/EPIC_100_video_info.csv").unlink()
    return copy


def settings(data, root, **given):
    return resolve("paper", **(SMALL | {"data": data, "root": str(root)} | given))


def trained(config, out):
    """The record of a run, and the official metrics of the file of scores beside it."""
    record = train.run(config, out, quiet)
    assert record.status == "ok" and load_run(out / f"{record.run_id}.json") == record
    (path,) = (out / "scores").glob(f"{record.run_id}.*")
    options = SimpleNamespace(scores=path, root=Path(config.root), split=None, submission=None)
    return record, evaluate.EVALUATORS[config.data](options)


def agree(record, official, metrics):
    own = record.train_info["metrics"]["validation"]
    for subset, scores in official.items():
        for name in metrics:
            assert own[subset][name] == pytest.approx(scores[name], abs=1e-4), (subset, name)


@pytest.mark.parametrize(
    "given",
    [{"method": "mhva+pt"}, pytest.param({"method": "mhva+pt+caa", "side": "audio,flow"}, marks=pytest.mark.slow)],
)
def test_kitchens_from_files(extracted, tmp_path, given):
    config = settings("epic", extracted, source="frames", flow="files", audio="archive", **given)
    record, official = trained(config, tmp_path / "out")
    agree(record, official, ["verb_top1", "noun_top5", "action_top1"])
    scores = record.train_info["metrics"]["validation"]
    assert {"all", "unseen", "tail"} <= set(scores) and ("no_flow" in scores) == ("side" in given)
    assert record.train_info["reading"].keys() == {"train", "tune", "validation"}


def test_the_test_split_is_scored_by_the_finished_run(kitchen, tmp_path, capsys):  # noqa: F811
    words = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    words += ["--profile=paper", f"--root={kitchen}", "--method=linear", f"--out={tmp_path}", "--score-test"]
    assert train.main(words) == 0 and train.main(words) == 0
    said = capsys.readouterr().out
    assert "found, not run again" in said and "scores of 2 clips of the test split" in said
    (path,) = (tmp_path / "scores").glob("*.test.npz")
    options = ["epic", "--scores", str(path), "--root", str(kitchen), "--split", "test", "--supervision", "2,3,3"]
    assert evaluate.main([*options, "--submission", str(tmp_path / "sub.zip")]) == 0
    assert (tmp_path / "sub.zip").is_file()
    assert train.main(["--score-test", "--data", "rooms-kitchen"]) == 2
    assert "rooms-kitchen has no test split to be scored elsewhere; epic, mpiigi" in capsys.readouterr().err


def test_kitchens_from_videos_with_a_head_for_actions(kitchen, tmp_path):  # noqa: F811
    config = settings("epic", kitchen, method="mhva+pt", head="action", jitter=True, transform="crop+flip")
    record, official = trained(config, tmp_path / "out")
    agree(record, official, ["verb_top1", "noun_top1", "action_top1", "action_top5"])
    with np.load(next((tmp_path / "out/scores").iterdir())) as file:
        assert file["action_output"].shape == (4, 7) and "verb_output" not in file


@pytest.mark.slow
@pytest.mark.parametrize("given", [{"method": "mhva+pt"}, {"method": "mhva+pt+caa", "side": "audio"}])
def test_groups(group, tmp_path, given):  # noqa: F811
    root = Path(shutil.copytree(group, tmp_path / "mpiigi"))
    put_sound(root, "rec25", click_track(16000, 5, 2.5))  # the recording that is kept out of training is the last
    record, official = trained(settings("mpiigi", root, view=0, sampling="dense", **given), tmp_path / "out")
    names = ["map", "map_micro", "map_weighted", "classes_averaged"]
    agree(record, official, names)
    assert record.run_info["config"]["tune"] is None and record.train_info["epochs"][0]["tune"]["n"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("given", [{"method": "mhva+pt"}, {"method": "mhva+pt+caa", "side": "audio,transcript"}])
def test_dyads(dyads, tmp_path, given):  # noqa: F811
    words = {"sentences": "hashing:16", "encoding": "utf-8"}
    config = settings("udiva", dyads, tasks="talk+lego", seconds=2.0, windows=1, **words, **given)
    record, official = trained(config, tmp_path)
    agree(record, official, ["mse", "mse_openmindedness"])
    assert record.train_info["metrics"]["validation"]["all"]["n"] == 2
    if "side" in given:
        assert "no_transcript" in record.train_info["metrics"]["validation"]


def test_features_in_every_layout(group, dyads, tmp_path):  # noqa: F811
    for name, root, ids in (("mpiigi", group, ["00003", "00004"]), ("udiva", dyads, ["000001_talk_01_0"])):
        folder = tmp_path / name
        folder.mkdir()
        for clip in ids:
            np.save(folder / f"{clip}.npy", np.full((3, 6), 2.0, np.float32))
        config = settings(name, root, method="mhva+caa", side="gaze", features=f"gaze={folder}")
        data = sets.open_sets(config)["train"]
        clips = sets.decode(data, ("gaze",), 0)
        assert clips.side["gaze"].shape[1:] == (3, 6) and 0 < int(clips.present["gaze"].sum()) <= len(ids)
        assert data.digest != sets.open_sets(settings(name, root))["train"].digest


@pytest.mark.filterwarnings("ignore::cm3t.training.stream.UnreadableWarning")
def test_features_of_different_lengths_are_brought_to_one_and_recordings_to_a_rate(group, copy, tmp_path):  # noqa: F811
    given = dict(method="mhva+caa", side="gaze", features=f"gaze={tmp_path / 'gaze'}")
    (tmp_path / "gaze").mkdir()
    for rows, clip in ((3, "00003"), (5, "00004")):
        np.save(tmp_path / "gaze" / f"{clip}.npy", np.full((rows, 6), 2.0, np.float32))
    with pytest.raises(ValueError, match="differ in shape.*feature_length"):
        train.run(settings("mpiigi", group, **given), tmp_path, quiet)
    data = sets.open_sets(settings("mpiigi", group, feature_length=4, **given))["train"]
    assert sets.decode(data, ("gaze",), 0).side["gaze"].shape[1:] == (4, 6)
    for video in {row["video_id"] for row in TRAIN + VALIDATION}:
        np.save(tmp_path / "gaze" / f"{video}.npy", np.arange(60, dtype=np.float32)[:, None])
    with pytest.raises(RuntimeError, match="spans a recording.*feature_rate"):
        train.run(settings("epic", copy, **given), tmp_path, quiet)
    data = sets.open_sets(settings("epic", copy, feature_length=2, feature_rate=10, **given))["train"]
    row, tokens = data.annotations.iloc[0], data.side_tokens("gaze", 0)
    assert tokens.shape == (2, 1) and 10 * row.start - 1 <= tokens[0] <= tokens[1] <= 10 * row.stop


@pytest.mark.slow
def test_a_batch_in_parts_has_the_gradient_of_the_whole(group, tmp_path):  # noqa: F811
    losses = []
    for more in ({}, {"micro_batch": 1}, {"micro_batch": 1, "checkpointing": True}):
        config = settings("mpiigi", group, method="mhva", epochs=2, batch_size=4, **more)
        losses.append([row["loss"] for row in train.run(config, tmp_path, quiet).train_info["epochs"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[1] == pytest.approx(losses[2], rel=1e-5)


@pytest.mark.slow
def test_a_dry_run_says_what_is_there_and_what_it_takes(group, tmp_path, capsys, monkeypatch):  # noqa: F811
    root = Path(shutil.copytree(group, tmp_path / "mpiigi"))
    words = f"--profile paper --data mpiigi --root {root} --method mhva+pt+caa --side audio --backbone video_swin_mini"
    more = "--weights none --workers 0 --size 24 --frames 2 --tune 7,25"
    with monkeypatch.context() as quicker:
        quicker.setattr(dryrun, "_estimate", lambda *_: None)
        assert train.main([*words.split(), *more.split(), "--dry-run"]) == 2
    said = capsys.readouterr().out
    assert "missing (1):" in said and "no recording of the train split has audio" in said
    put_sound(root, "recording24", click_track(16000, 5, 2.5))
    sets._open_set.cache_clear()
    assert train.main([*words.split(), *more.split(), "--dry-run"]) == 0
    said = capsys.readouterr().out
    for part in ("dry run of 2 runs", "train 1, tune 3, validation 2 clips", "GFLOP/s", "memory: ", "free at"):
        assert part in said
    assert said.strip().endswith("nothing is missing")


def test_a_dry_run_lists_all_that_is_missing(copy, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("P01/videos/P01_01.MP4", "P01/videos/P01_02.MP4", "P02/videos/P02_01.MP4"):
        (copy / name).unlink()
    (copy / "annotations/EPIC_100_tail_nouns.csv").unlink()
    lines = []
    config = settings("epic", copy, method="mhva+pt", audio="nowhere.hdf5", weights="gone.safetensors")
    full = resolve("paper", root=str(copy), method="mhva+pt")
    assert dryrun.check([config, full], tmp_path, lines.append) == 2
    missing = "\n".join(lines[[line.startswith("missing") for line in lines].index(True) :])
    for part in ("P01_01.MP4", "P02_01.MP4", "EPIC_100_tail_nouns.csv (a table", "gone.safetensors", "'kinetics400'"):
        assert part in missing, missing
    assert "swin3d_b" in missing and str(tmp_path) in missing


@pytest.mark.slow
def test_counts_of_memory_and_activations_grow_with_what_is_asked():
    small, large = (resolve("paper", **SMALL | {"frames": frames}) for frames in (2, 4))
    assert dryrun.saved_bytes(large, {}) > 1.8 * dryrun.saved_bytes(small, {}) > 0
    lean = resolve("paper", **SMALL | {"checkpointing": True})
    assert dryrun.saved_bytes(lean, {}) < dryrun.saved_bytes(small, {})


@pytest.mark.slow
def test_a_disk_that_is_full_is_missing_something(group, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.setattr(dryrun.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    lines = []
    assert dryrun.check([settings("mpiigi", group)], tmp_path, lines.append) == 2
    assert any("GB are needed, 0.0 are free" in line for line in lines)


def test_of_a_root_that_is_no_folder_the_dry_run_says_so_and_what_is_expected(tmp_path):
    for data, licence in (("mpiigi", "multimediate-challenge.org"), ("udiva", "chalearnlap")):
        lines = []
        config = resolve("paper", **SMALL, data=data, root=str(tmp_path / "none"), method="mhva+pt")
        assert dryrun.check([config], tmp_path, lines.append) == 2
        said = "\n".join(lines)
        assert "missing (1):" in said and "none is no folder" in said and "Expected: " in said and licence in said


def test_without_a_folder_the_dry_run_says_what_is_expected(tmp_path):
    lines = []
    configs = [resolve("paper", **SMALL, data=data, method="mhva+pt") for data in ("epic", "mpiigi", "udiva")]
    assert dryrun.check(configs, tmp_path, lines.append) == 2
    said = "\n".join(lines)
    assert "missing (3):" in said and said.count("no root was given") == said.count("Expected: ROOT/") == 3
    assert "udiva (no folder was given): no clips" in said and "chalearnlap" in said


@pytest.mark.slow
def test_the_study_lists_the_runs_of_its_notebooks(group, kitchen, dyads, capsys):  # noqa: F811
    from cm3t import run

    small = ["--dry-run", "-p", "weights=none", "-p", "backbone=video_swin_mini"]
    given = ["02", "--profile", "paper", *small, "-p", "data=mpiigi", "-p", f"root={group}", "-p", "groups=core"]
    assert run.main(given) == 0
    assert "train 3, tune 1, validation 2" in capsys.readouterr().out
    given = ["07", "--profile", "paper", *small, "-p", f"roots=epic={kitchen},mpiigi={group},udiva={dyads}"]
    assert run.main(given) == 2  # few of these recordings have sound
    said = capsys.readouterr().out
    missing = said.partition("missing (")[2].splitlines()[1:]
    assert "dry run of 12 runs" in said and missing and all(" has audio" in line for line in missing)
    assert all(f"{name} ({root})" in said for name, root in (("epic", kitchen), ("mpiigi", group), ("udiva", dyads)))
    assert run.main(["01", "--dry-run"]) == 2
    assert "plan no runs" in capsys.readouterr().err
