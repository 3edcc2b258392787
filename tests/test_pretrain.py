"""Pretraining on a tiny source set: it reads what was written, resumes bit for bit, publishes what it scored."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from cm3t import backbones, pretrain, study
from cm3t.backbones import weights
from cm3t.data.rooms.recorder import write_recording
from cm3t.data.source import SourceSet
from cm3t.records import load_run

RECIPE = pretrain.Recipe(epochs=2, batch=4, lr=1e-3, small=0.0, smoothing=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes, six clips each of 10 frames at 96 px: a bright square that moves right, or left."""
    root = tmp_path_factory.mktemp("source")
    rows = []
    for label, (name, way) in enumerate([("push-right", 1), ("push-left", -1)]):
        clips = []
        for k in range(6):
            frames = np.zeros((10, 96, 96, 3), np.uint8)
            for t in range(10):
                x = 40 + way * 4 * (t - 5) + k
                frames[t, 30 + k : 50 + k, x : x + 20] = 220
            clips.append(frames)
            split = "validation" if k == 5 else "train"
            times = {"start": k * 10 / 8, "stop": (k + 1) * 10 / 8}
            rows.append(
                {
                    "class": name,
                    "label": label,
                    "clip_id": f"{name}_{k}",
                    "rollout": k,
                    "camera": 0,
                    "split": split,
                    "kind": "person",
                }
                | times
            )
        write_recording(root / "videos" / f"{name}.mp4", np.concatenate(clips), fps=8, crf=18, gop=10)
    pd.DataFrame(rows).to_csv(root / "annotations.csv", index=False)
    about = {"digest": "0123456789abcdef", "recipe": {"fps": 8, "frames": 10, "size": 96}}
    (root / "source.json").write_text(json.dumps(about))
    return root


@pytest.fixture(scope="module")
def data(folder):
    return SourceSet(folder)


def test_reads_what_the_generator_wrote(data):
    assert data.classes == ["push-right", "push-left"]
    assert data.frames.shape == (12, 10, 96, 96, 3) and data.frames.dtype == torch.uint8
    assert len(data.split("train")) == 10 and len(data.split("validation")) == 2
    right = data.frames[0].float().mean(dim=(1, 3))  # brightness of each column, (T, W)
    centre = (right * torch.arange(96)).sum(1) / right.sum(1)
    assert (centre.diff() > 2).all()


def test_a_missing_set_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match="cm3t.data.rooms source"):
        SourceSet(tmp_path)


def test_a_lost_video_and_a_lost_column_are_named(folder, tmp_path):
    rows = pd.read_csv(folder / "annotations.csv")
    rows.to_csv(tmp_path / "annotations.csv", index=False)
    (tmp_path / "source.json").write_text((folder / "source.json").read_text())
    with pytest.raises(FileNotFoundError, match="push-"):
        SourceSet(tmp_path)
    rows.drop(columns="rollout").to_csv(tmp_path / "annotations.csv", index=False)
    with pytest.raises(ValueError, match="rollout"):
        SourceSet(tmp_path)


def test_augmentation_keeps_shape_and_follows_its_generator(data):
    draw = [pretrain.augment(data.frames[:3], RECIPE, 64, torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert draw[0].shape == (3, 3, 8, 64, 64) and draw[0].dtype == torch.uint8
    assert torch.equal(draw[0], draw[1]) and not torch.equal(draw[0], draw[2])


def interrupted(monkeypatch, *, steps: int):
    """Stop training by Ctrl-C after so many steps, once."""
    real, left = pretrain.objective, [steps]

    def killed(*arguments):
        left[0] -= 1
        if left[0] == -1:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(pretrain, "objective", killed)


@pytest.mark.slow
@pytest.mark.parametrize("backbone, protocol", [("video_swin_mini", "supervised"), ("clip_mini", "contrastive")])
def test_an_interrupted_run_goes_on_bit_for_bit(data, tmp_path, monkeypatch, backbone, protocol):
    """Stopped in the middle of the second epoch, of three steps each; the checkpoint is that of the fourth step."""
    recipe, quiet = replace(RECIPE, backbone=backbone, protocol=protocol, small=1.0), dict(log=lambda line: None)
    whole = pretrain.pretrain(recipe, data, _made(tmp_path / "whole"), **quiet)
    interrupted(monkeypatch, steps=4)
    monkeypatch.setattr(pretrain, "SAVE_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(recipe, data, _made(tmp_path / "cut"), **quiet)
    lines = []
    resumed = pretrain.pretrain(recipe, data, tmp_path / "cut", log=lines.append)
    assert lines[0] == "resuming after epoch 1 and 1 steps"
    state = resumed["model"].state_dict()
    assert all(torch.equal(value, state[key]) for key, value in whole["model"].state_dict().items())
    for first, second in zip(whole["history"], resumed["history"], strict=True):
        assert (first["loss"], first["train_top1"]) == (second["loss"], second["train_top1"])
    with pytest.raises(ValueError, match="another recipe"):
        pretrain.pretrain(replace(recipe, lr=1e-2), data, tmp_path / "cut", **quiet)


@pytest.mark.slow
def test_publishes_what_it_scored(data, tmp_path):
    result = pretrain.pretrain(RECIPE, data, tmp_path, log=lambda line: None)
    path = pretrain.publish(RECIPE, result, data, tmp_path)
    record = load_run(tmp_path / "pretrain--video_swin_mini.json")
    assert record.meta_info["digests"]["weights"] == weights.digest(path)
    again = backbones.backbone("video_swin_mini", num_classes=2, weights=path)
    held_out = data.split("validation")
    top1 = pretrain.score(pretrain.predict(again, data, held_out, RECIPE), data, held_out)
    assert record.train_info["metrics"]["validation"]["top1"] == top1
    card = path.with_suffix(".md").read_text()
    assert "synthetic" in card and record.meta_info["digests"]["weights"] in card


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_with_a_remedy(data, tmp_path):
    with pytest.raises(FloatingPointError, match="lower --lr"):
        pretrain.pretrain(replace(RECIPE, lr=1e30), data, tmp_path, log=lambda line: None)


def test_runs_wait_for_their_weights_or_show_untrained_that_they_run(monkeypatch, tmp_path):
    """As if only the Swin's weights shipped, whatever ships today."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "video_swin_mini.safetensors").touch()
    monkeypatch.setattr(weights, "files", lambda package: tmp_path)
    configs = study.configs("06", "quick")
    found, waiting = pretrain.ready(configs)
    assert {c.backbone for c in found} == {"video_swin_mini"} and len(found) < len(configs)
    assert set(waiting) == {"vivit_mini, default", "clip_mini, contrastive"}
    assert "cm3t.pretrain --backbone clip_mini --protocol contrastive" in waiting["clip_mini, contrastive"]
    every, again = pretrain.ready(configs, untrained=True)
    assert len(every) == len(configs) and again == waiting
    assert {c.weights for c in every if c.backbone != "video_swin_mini"} == {None}


def _made(folder):
    folder.mkdir()
    return folder
