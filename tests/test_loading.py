"""What a load does to a checkpoint reaches whoever asked for it: other clips, other windows, other precision."""

import pytest
import torch
from safetensors.torch import save_file
from test_weights import SWIN, swin, vivit

import cm3t
from cm3t import backbones
from cm3t.backbones import formats, weights

CLIPS = {"vivit_mini": ["pos_embed (1, 145, 144) -> (1, 33, 144)"], "clip_mini": ["temporal_embed (1, 8, 144)"]}


@pytest.mark.parametrize("name", CLIPS)
def test_positions_for_another_clip_are_made_when_weights_are_loaded(name, tmp_path):
    """A model made for other clips holds positions for them, and gives what the own ones gave, interpolated."""
    torch.manual_seed(0)
    whole, clip = backbones.backbone(name).eval(), (4, 64, 64)
    weights.save(whole, tmp_path / "whole.safetensors", metadata={}, half=False)
    model = cm3t.create(name, method="mhva", heads={"verb": 2}, weights=tmp_path / "whole.safetensors", clip=clip)
    assert model.backbone.clip == model.clip == clip
    loaded = model.backbone.loaded
    assert any(line.startswith(CLIPS[name][0]) for line in loaded.interpolated) and not loaded.plain
    assert "interpolated" in loaded.line() and "\n" not in loaded.line()
    video = torch.randn(1, 3, *clip)
    with torch.no_grad():
        torch.testing.assert_close(model.features(video), whole(video), rtol=0, atol=1e-5)
    assert cm3t.create(name, method="mhva", weights=None, clip=clip).backbone.loaded is None


def test_the_backbone_that_has_the_files_windows_is_named(tmp_path, monkeypatch):
    spec = dict(make="video_swin:VideoSwin", clip=(4, 24, 24), window=(2, 3, 3), **SWIN)
    monkeypatch.setitem(backbones._SPECS, "small", spec)
    monkeypatch.setitem(backbones._SPECS, "small_ssv2", spec | dict(window=(4, 3, 3), source_classes=174))
    save_file(swin(window=(4, 3, 3), classes=None).state_dict(), tmp_path / "long.safetensors")
    with pytest.warns(UserWarning, match=r"windows of \(4, 3, 3\), small of \(2, 3, 3\): small_ssv2 has the file's"):
        model = backbones.backbone("small", weights=tmp_path / "long.safetensors")
    assert model.loaded.window == (4, 3, 3) and len(model.loaded.interpolated) == 4
    assert backbones.backbone("small_ssv2", weights=tmp_path / "long.safetensors").loaded.plain


def test_a_record_holds_the_first_of_a_long_list_and_its_length():
    report = formats.Report("OpenAI CLIP", mapped=3, dropped=[f"text.{i}" for i in range(40)])
    assert report.brief()["dropped"][-1] == "and 28 more" and len(report.brief()["dropped"]) == 13
    assert report.line() == "OpenAI CLIP layout, 3 tensors mapped; dropped (40): text.0, text.1 and 38 more"


def test_double_precision_is_narrowed_and_said_so(tmp_path):
    model = vivit(classes=None)
    save_file(vivit(classes=None).double().state_dict(), tmp_path / "double.safetensors")
    report = weights.load(model, tmp_path / "double.safetensors")
    assert report.narrowed == report.mapped == len(model.state_dict()) and not report.plain
    assert f"{report.narrowed} narrowed from float64 to float32" in report.line()


@pytest.mark.parametrize("clip", [(8, 96), 224, (3, 8, 96, 96), (8.0, 96, 96), (8, 96, -96), "8,96,96", ()], ids=str)
def test_a_clip_is_three_positive_integers(clip):
    for make in (backbones.backbone, cm3t.create):
        with pytest.raises(ValueError, match=r"clip=.*\(frames, height, width\) in pixels, such as"):
            make("vivit_mini", weights=None, clip=clip)


@pytest.mark.parametrize("classes", [0, -1, True, 2.5])
def test_a_number_of_classes_is_at_least_one(classes):
    with pytest.raises(ValueError, match="num_classes=.*at least 1 class is needed, or None"):
        backbones.backbone("video_swin_mini", num_classes=classes)


def test_weights_are_no_yes_or_no():
    with pytest.raises(TypeError, match="weights=True is a bool; give weights='default'"):
        cm3t.create("video_swin_mini", weights=True)
