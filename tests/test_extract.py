"""Features once: whole shards, resumption, bad files that stop nothing, and the same numbers as without."""

import json
import os
import shutil
import signal
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from test_epic import copy, kitchen  # noqa: F401
from torch import nn

from cm3t.data import normalise
from cm3t.data.epic import EpicKitchens
from cm3t.data.features import FeatureError, open_features, read_manifest
from cm3t.data.workers import Workers
from cm3t.extract import clip_ids, extract, main


class Mean(nn.Module):
    """Stands for a backbone: mean colours, (B, 3, T, H, W) -> (B, 3)."""

    name = "mean"

    def forward(self, video):
        return video.mean((2, 3, 4))


class Toy:
    """Ten clips; some raise, some kill the process that reads them."""

    split, digest = "train", "0" * 64

    def __init__(self, n=10, raises=(), kills=()):
        self.annotations = pd.DataFrame({"id": [f"clip/{i}" for i in range(n)]})
        self.raises, self.kills = raises, kills

    def clip(self, index):
        if index in self.raises:
            raise RuntimeError(f"clip {index} is damaged\nin detail")
        if index in self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        return SimpleNamespace(video=torch.full((3, 2, 4, 4), index, dtype=torch.uint8))


def quiet(*_):
    pass


@pytest.mark.parametrize("form", ["safetensors", "hdf5"])
def test_features_of_a_backbone(kitchen, tmp_path, form):  # noqa: F811
    if form == "hdf5":
        pytest.importorskip("h5py")
    data = EpicKitchens(kitchen, frames=2)
    result = extract(data, tmp_path, backbone=Mean(), shard=3, batch=2, form=form, log=quiet)
    assert (result.written, result.without, result.failed, result.found) == (4, 0, 0, 0)
    stored, videos = open_features(tmp_path), data.decode_all()
    expected = normalise(videos).mean((2, 3, 4))
    for i, name in enumerate(data.annotations.narration_id):
        assert torch.allclose(stored.tokens(name), expected[i : i + 1], atol=1e-6)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == sorted(
        [".json"] + [".h5" if form == "hdf5" else ".safetensors"] * 2
    )


def test_tokens_of_a_modality_take_its_place(kitchen, tmp_path):  # noqa: F811
    data = EpicKitchens(kitchen, frames=2, modalities=("audio",))
    result = extract(data, tmp_path, modality="audio", shard=2, log=quiet)
    assert (result.written, result.without, result.failed) == (2, 2, 0)
    tokens, present = data.decode_side("audio")
    again = EpicKitchens(kitchen, frames=2, modalities=("audio",), features={"audio": tmp_path})
    stored = again.decode_side("audio")
    assert torch.equal(stored[0], tokens) and torch.equal(stored[1], present)
    assert read_manifest(tmp_path)["complete"] and again.digest != data.digest


def test_a_bad_file_is_reported_counted_and_absent(copy, tmp_path):  # noqa: F811
    data, said = EpicKitchens(copy, frames=2), []
    video = copy / "P02/videos/P02_01.MP4"
    video.write_bytes(video.read_bytes()[:500])
    result = extract(data, tmp_path / "out", backbone=Mean(), shard=2, log=said.append)
    assert (result.written, result.failed) == (3, 1)
    absent = read_manifest(tmp_path / "out")["shards"][1]["absent"]
    assert list(absent) == ["P02_01_0"] and "P02_01.MP4" in absent["P02_01_0"]
    assert any("P02_01_0 is absent: MediaError" in line for line in said) and "1 unreadable" in said[-1]
    assert open_features(tmp_path / "out").tokens("P02_01_0") is None


def test_a_stopped_run_goes_on(tmp_path):
    class Stops(Mean):
        left = 3

        def forward(self, video):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().forward(video)

    with pytest.raises(KeyboardInterrupt):
        extract(Toy(), tmp_path, backbone=Stops(), settings={"a": 1}, shard=3, batch=2, log=quiet)
    manifest = read_manifest(tmp_path)
    assert len(manifest["shards"]) == 1 and not manifest["complete"]  # two batches a shard: the second was cut
    before = (tmp_path / "shard-00000.safetensors").stat().st_mtime_ns
    said = []
    result = extract(Toy(), tmp_path, backbone=Mean(), settings={"a": 1}, shard=3, log=said.append)
    assert said[0] == "10 clips in 4 shards, 1 of them found" and "s left" in said[1] and result.found == 3
    assert (tmp_path / "shard-00000.safetensors").stat().st_mtime_ns == before
    assert [s["file"] for s in read_manifest(tmp_path)["shards"]] == [f"shard-{i:05d}.safetensors" for i in range(4)]
    assert not list(tmp_path.glob(".*partial"))
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1  # whoever reads the manifest reads the shards


def test_damaged_or_missing_shards_are_made_again(tmp_path):
    extract(Toy(), tmp_path, backbone=Mean(), shard=3, log=quiet)
    whole = (tmp_path / "shard-00001.safetensors").read_bytes()
    (tmp_path / "shard-00001.safetensors").write_bytes(whole[:-1])
    (tmp_path / "shard-00002.safetensors").unlink()
    result = extract(Toy(), tmp_path, backbone=Mean(), shard=3, log=quiet)
    assert result.written == 10 and result.found == 4
    assert (tmp_path / "shard-00001.safetensors").read_bytes() == whole


def test_a_folder_of_another_extraction_is_refused(tmp_path):
    extract(Toy(), tmp_path, backbone=Mean(), settings={"weights": "a"}, log=quiet)
    for data, options in ((Toy(), {"settings": {"weights": "b"}}), (Toy(9), {"settings": {"weights": "a"}})):
        with pytest.raises(FeatureError, match="holds another extraction .*: choose another folder, or remove it"):
            extract(data, tmp_path, backbone=Mean(), log=quiet, **options)


def test_arguments(tmp_path):
    with pytest.raises(ValueError, match="give one of the two"):
        extract(Toy(), tmp_path)
    with pytest.raises(ValueError, match="form one of safetensors, hdf5"):
        extract(Toy(), tmp_path, backbone=Mean(), form="zip")
    assert clip_ids(Toy(2)) == ["clip_0", "clip_1"]
    twice, odd = Toy(2), Toy(2)
    twice.annotations["id"] = ["a/b", "a_b"]
    odd.annotations["id"] = ["..", "x"]
    with pytest.raises(FeatureError, match="1 of 2 clips have an id that another has"):
        clip_ids(twice)
    with pytest.raises(FeatureError, match="'..' cannot name features"):
        clip_ids(odd)
    with pytest.raises(ValueError, match="workers=-1"):
        Workers(Toy(), -1)


def test_the_command(kitchen, tmp_path, capsys):  # noqa: F811
    words = ["--data", "epic", "--root", str(kitchen), "--frames", "2"]
    backbone = [*words, "--backbone", "video_swin_mini", "--out", str(tmp_path / "a"), "--limit", "2"]
    assert main(backbone) == 0
    first = open_features(tmp_path / "a")
    assert sum(len(s["ids"]) for s in first.manifest["shards"]) == 2
    settings = first.manifest["settings"]
    assert settings["backbone"] == "video_swin_mini" and settings["weights"] == "random" and settings["size"] == "96"
    assert main(backbone) == 0 and "1 of them found" in capsys.readouterr().out
    assert main([*words, "--modality", "flow", "--out", str(tmp_path / "a")]) == 1
    assert "holds another extraction" in capsys.readouterr().err
    assert main([*words, "--modality", "smell", "--out", str(tmp_path / "b")]) == 1
    assert main(["--data", "epic", "--modality", "audio", "--out", str(tmp_path / "b")]) == 1
    assert "no root was given" in capsys.readouterr().err


def test_read_in_this_process():
    with Workers(Toy(4, raises=(2,))) as workers:
        results = list(workers.read("video", [3, 2, 0]))
    assert [r.index for r in results] == [3, 2, 0] and results[0].array.max() == 3
    assert results[1].array is None and results[1].problem == "RuntimeError: clip 2 is damaged"


@pytest.mark.slow
def test_other_processes_give_the_same_and_survive_their_death(tmp_path):
    data = Toy(12, raises=(2,), kills=(5, 6))
    with Workers(data, 2) as workers:
        results = list(workers.read("video", range(12)))
        assert [r.index for r in results] == list(range(12))
        problems = {r.index: r.problem for r in results if r.array is None}
        assert sorted(problems) == [2, 5, 6] and "is damaged" in problems[2] and "died" in problems[6]
        assert all((r.array == r.index).all() for r in results if r.array is not None)
        assert [r.index for r in workers.read("video", [0, 1])] == [0, 1]  # the pool goes on
    result = extract(data, tmp_path / "a", backbone=Mean(), shard=4, workers=1, log=quiet)
    assert (result.written, result.failed) == (9, 3)


def test_shards_do_not_depend_on_batch_or_order_of_making(tmp_path):
    extract(Toy(), tmp_path / "a", backbone=Mean(), shard=4, batch=3, log=quiet)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "shard-00000.safetensors").unlink()
    extract(Toy(), tmp_path / "b", backbone=Mean(), shard=4, batch=1, log=quiet)
    manifests = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in "ab"]
    assert manifests[0] == manifests[1] and open_features(tmp_path / "b").tokens("clip_0").isfinite().all()
