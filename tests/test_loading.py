"""What a load does to a checkpoint reaches whoever asked for it: other clips, other windows, other precision."""

import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import timm
import torch
from einops import repeat
from safetensors.torch import save_file
from test_parity import lively
from test_weights import CLIP, SWIN, as_official, as_openai, equal, frames_of, image_swin, swin, vivit
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.video.swin_transformer import SwinTransformer3d

import cm3t
from cm3t import backbones
from cm3t.backbones import formats, weights
from cm3t.config import resolve
from cm3t.dryrun import weights_missing

CLIPS = {
    "vivit_mini": ["pos_embed (1, 145, 144) of 4 x 6 x 6 -> (1, 33, 144) of 2 x 4 x 4"],
    "clip_mini": ["temporal_embed (1, 8, 144)"],
}


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
    assert f"weights: {loaded.line()}" in str(model.summary())
    video = torch.randn(1, 3, *clip)
    with torch.no_grad():
        torch.testing.assert_close(model.features(video), whole(video), rtol=0, atol=1e-5)
    random = cm3t.create(name, method="mhva", weights=None, clip=clip)
    assert random.backbone.loaded is None and "weights" not in str(random.summary())


def test_the_backbone_that_has_the_files_windows_is_named(tmp_path, monkeypatch):
    spec = dict(make="video_swin:VideoSwin", clip=(4, 24, 24), window=(2, 3, 3), **SWIN)
    monkeypatch.setitem(backbones._SPECS, "small", spec)
    monkeypatch.setitem(backbones._SPECS, "small_ssv2", spec | dict(window=(4, 3, 3), source_classes=174))
    save_file(swin(window=(4, 3, 3), classes=None).state_dict(), tmp_path / "long.safetensors")
    with pytest.warns(UserWarning, match=r"windows of \(4, 3, 3\), small of \(2, 3, 3\): small_ssv2 has the file's"):
        model = backbones.backbone("small", weights=tmp_path / "long.safetensors")
    assert model.loaded.window == (4, 3, 3) and len(model.loaded.interpolated) == 4
    assert backbones.backbone("small_ssv2", weights=tmp_path / "long.safetensors").loaded.plain


def test_a_swin_of_images_with_other_windows_is_told_as_one_of_videos_is(tmp_path, monkeypatch):
    """As swin_base_patch4_window12_384 for video_swin_b: tables of 23 x 23 rows are not those of 7 x 7 windows."""
    spec = dict(make="video_swin:VideoSwin", clip=(4, 24, 24), window=(2, 3, 3), **SWIN)
    monkeypatch.setitem(backbones._SPECS, "small", spec)
    for side, windows in ((3, None), (6, (1, 6, 6))):
        theirs = image_swin(img_size=48, window_size=side, num_classes=5)
        save_file(theirs.state_dict(), tmp_path / f"{side}.safetensors")
        expected = pytest.warns(UserWarning, match=r"windows of \(1, 6, 6\), small of \(2, 3, 3\)\. The tables")
        with expected if windows else nullcontext():
            loaded = backbones.backbone("small", weights=tmp_path / f"{side}.safetensors").loaded
        tables = [sum("bias_table" in line for line in lines) for lines in (loaded.interpolated, loaded.inflated)]
        assert loaded.window == windows and tables == ([4, 0] if windows else [0, 4])
        assert any(line.startswith("patch_embed.proj.weight") for line in loaded.inflated)


def test_a_record_holds_the_first_of_a_long_list_and_its_length():
    report = formats.Report("OpenAI CLIP", mapped=3, dropped=[f"text.{i}" for i in range(40)])
    assert report.brief()["dropped"][-1] == "and 28 more" and len(report.brief()["dropped"]) == 13
    assert report.line() == "OpenAI CLIP layout, 3 tensors mapped; dropped (40): text.0, text.1 and 38 more"


def test_half_precision_is_widened_and_said_so_in_a_line(tmp_path):
    model = vivit(classes=None)
    weights.save(model, tmp_path / "half.safetensors", metadata={})
    loaded = weights.load(model, tmp_path / "half.safetensors")
    n = loaded.mapped
    assert n and loaded.line() == f"timm ViT layout, {n} tensors mapped; {n} of the file's widened to float32"


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


def save_torch(path):
    torch.save({"head.weight": torch.zeros(5000)}, path)


def save_safe(path):
    save_file({"head.weight": torch.zeros(5000)}, path)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth"])
def test_what_a_download_left_is_told_from_a_dangerous_file(tmp_path, name):
    path = tmp_path / name
    for saved in (save_torch, save_safe):
        saved(path)
        assert weights.read(path)[0]["head.weight"].shape == (5000,)  # whatever it is called
        path.write_bytes(path.read_bytes()[:9000])
        with pytest.raises(weights.WeightsError, match="truncated.*, 9,000 bytes; download it again"):
            weights.read(path)
    for content, words in (
        (b"neither this nor that", "neither a safetensors file nor a torch file: truncated or not a weights file, 21"),
        (b"", "truncated or not a weights file, 0 bytes"),
        (b"\n<!DOCTYPE html><title>404</title>", "a web page, .*from the address of the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9", "a git-lfs pointer.*git lfs pull"),
    ):
        path.write_bytes(content)
        with pytest.raises(weights.WeightsError, match=words) as error:
            weights.read(path)
        assert "run code" not in str(error.value)


def test_a_folder_stands_for_the_weights_in_it(tmp_path):
    with pytest.raises(weights.WeightsError, match="a folder without model.safetensors or pytorch_model.bin"):
        weights.resolve("vivit_b", tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert weights.resolve("vivit_b", str(tmp_path)) == tmp_path / "model.safetensors"


def test_integers_and_what_is_not_finite_are_no_weights(tmp_path):
    path, model = tmp_path / "w.safetensors", vivit(classes=None)
    for value, words in ((torch.zeros(24, dtype=torch.int8), "norm.bias is torch.int8"), (torch.full((24,), torch.nan),
                          "norm.bias has values that are not finite")):  # fmt: skip
        save_file(model.state_dict() | {"norm.bias": value}, path)
        with pytest.raises(weights.WeightsError, match=words):
            weights.load(model, path)


def test_a_head_of_other_classes_says_which_it_has(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(vivit(classes=5).state_dict(), path)
    with pytest.raises(weights.WeightsError, match="the file has a classifier of 5; give num_classes=5, or"):
        weights.load(vivit(classes=7), path)
    save_file(vivit(classes=None).state_dict(), path)
    with pytest.raises(weights.WeightsError, match="the file has no classifier; give num_classes=None, or"):
        weights.load(vivit(classes=7), path)


def test_a_classifier_without_a_bias_is_named_as_such(tmp_path):
    state = vivit(classes=5).state_dict()
    del state["head.bias"]
    save_file(state, tmp_path / "w.safetensors")
    words = r"the file's classifier has no bias; add one of zeros, 'head.bias': torch.zeros\(5\), or .*num_classes=None"
    with pytest.raises(weights.WeightsError, match=words):
        weights.load(vivit(classes=5), tmp_path / "w.safetensors")
    with pytest.raises(weights.WeightsError, match="a classifier of 5; give num_classes=5"):
        weights.load(vivit(classes=7), tmp_path / "w.safetensors")


@pytest.mark.parametrize("before, told", [("model.",) * 2, ("model.backbone.", "model."), ("net.encoder.",) * 2])
def test_a_prefix_of_all_names_is_taken_off_and_said_so(tmp_path, before, told):
    """A `backbone.` alone is the way of self-supervised files, and known."""
    whole, path = vivit(classes=5), tmp_path / "lightning.ckpt"
    state = {f"{before}{key}": value for key, value in whole.state_dict().items()}
    torch.save({"state_dict": state, "pytorch-lightning_version": "2.4.0", "epoch": 3}, path)
    model = vivit(classes=None)
    report = weights.load(model, path)
    assert torch.equal(model.blocks[1].mlp.fc1.weight, whole.blocks[1].mlp.fc1.weight)
    assert report.prefix == told and not report.plain
    assert f"the prefix {told!r} of all names taken off" in str(report)
    assert report.dropped == [f"{before}head.weight", f"{before}head.bias"]


def test_a_prefix_before_another_layout_or_one_that_is_not_shared(tmp_path):
    save_file({f"model.{k}": v for k, v in as_official(swin().state_dict()).items()}, tmp_path / "swin.safetensors")
    report = weights.load(swin(), tmp_path / "swin.safetensors")
    assert (report.layout, report.prefix) == ("official Swin", "model.")
    own = weights.load(swin(), save(swin().state_dict(), tmp_path / "own.safetensors"))
    assert own.plain and not own.prefix
    state = {f"model.{k}": v for k, v in vivit(classes=None).state_dict().items()} | {"loss.weight": torch.zeros(3)}
    with pytest.raises(weights.WeightsError, match="unexpected key model.norm.weight") as error:
        weights.load(vivit(classes=None), save(state, tmp_path / "beside.safetensors"))
    assert "missing key blocks.0.attn.proj.bias" in str(error.value)


def save(state, path):
    """A file of a state, which holds its index tables too."""
    torch.save(state, path)
    return path


def test_of_keys_that_do_not_fit_some_of_each_kind_are_listed(tmp_path):
    own = vivit(classes=None).state_dict()
    state = {f"strange.{key}": value for key, value in own.items() if not key.startswith("blocks.0")}
    state |= {key: value for key, value in own.items() if key.startswith("blocks.0.attn")}
    state |= {"norm.weight": torch.zeros(7), "norm.bias": torch.zeros(7)}
    with pytest.raises(weights.WeightsError) as error:
        weights.load(vivit(classes=None), save(state, tmp_path / "w.pth"))
    lines = str(error.value).splitlines()[1:]
    kinds = [sum(word in line for line in lines) for word in ("has shape", "missing key", "unexpected key strange.")]
    assert kinds == [2, 4, 4] and lines[-1].startswith("  and ")
    assert f"unexpected key {next(iter(state))}" in str(error.value)


def test_hugging_faces_clip_is_named_as_such(tmp_path):
    save_file({"vision_model.encoder.layers.0.self_attn.q_proj.weight": torch.zeros(4, 4)}, tmp_path / "w.safetensors")
    words = "Hugging Face CLIP layout.*such files are not read; take timm's file or OpenAI's own"
    with pytest.raises(weights.WeightsError, match=words):
        weights.load(vivit(), tmp_path / "w.safetensors")


def test_a_torchvision_swin_of_videos_by_its_own_file(tmp_path):
    torch.manual_seed(0)
    theirs = lively(SwinTransformer3d(**SWIN, window_size=[2, 3, 3], num_classes=5))
    torch.save(theirs.state_dict(), tmp_path / "swin3d.pth")
    ours, video = swin(), torch.randn(2, 3, 4, 24, 24)
    report = weights.load(ours, tmp_path / "swin3d.pth")
    with torch.no_grad():
        equal(ours, theirs(video), video)
    assert report.layout == "torchvision Swin" and report.plain


def test_a_torchvision_swin_of_images_is_inflated(tmp_path):
    """With windows of one frame a still clip is seen as the image is."""
    torch.manual_seed(0)
    options = SWIN | dict(patch_size=[4, 4])
    theirs = lively(SwinTransformer(**options, window_size=[3, 3], num_classes=5))
    save_file(theirs.state_dict(), tmp_path / "swin.safetensors")
    ours, image = swin(window=(1, 3, 3)), torch.randn(2, 3, 24, 24)
    report = weights.load(ours, tmp_path / "swin.safetensors")
    with torch.no_grad():
        equal(ours, theirs(image), repeat(image, "b c h w -> b c t h w", t=4))
    assert report.layout == "torchvision 2-D Swin" and len(report.inflated) == 1


def test_the_table_of_an_image_model_is_read_as_one_whatever_its_rows_divide_by():
    """225 rows are 15 x 15 relative positions of an image; as 9 moments of 5 x 5 they would divide, too."""
    model = swin(window=(4, 3, 3))
    key = "features.0.0.attn.relative_position_bias_table"
    for image in (True, False):
        kernel = torch.zeros(24, 3, *((4, 4) if image else (2, 4, 4)))
        state = {key: torch.arange(225.0).repeat(2, 1).T.contiguous(), "patch_embed.proj.weight": kernel}
        made, report = formats.translate(state, model)
        moments = made[key].reshape(7, 25, 2)
        assert torch.equal(moments[0], moments[6]) == image
        assert report.window == ((1, 8, 8) if image else (5, 3, 3)) and bool(report.inflated) == image
        assert any(line.startswith(key) for line in report.interpolated)


def test_what_is_dropped_of_openais_clip_has_the_files_names():
    torch.manual_seed(0)
    state = as_openai(lively(timm.models.VisionTransformer(**CLIP, num_classes=5)).state_dict())
    made, report = formats.translate(
        state, frames_of(timm.models.VisionTransformer(**CLIP, num_classes=0), classes=None)
    )
    text = [key for key in state if not key.startswith("visual.")]
    assert report.dropped == [*text, "visual.proj"] and report.strange == len(text) and not report.plain


def test_shipped_weights_are_twenty_megabytes_at_most():
    shipped = list((Path(weights.__file__).parents[1] / "weights").glob("*.safetensors"))
    assert shipped and sum(path.stat().st_size for path in shipped) <= 20e6


def test_the_ssv2_file_has_the_shapes_of_its_backbone():
    """The official layout at windows of (16, 7, 7), tables of 31 x 13 x 13 relative positions: all of it fits."""
    with torch.device("meta"):
        model = backbones.backbone("video_swin_b_ssv2", num_classes=174)
    state = as_official(model.state_dict())
    assert state["backbone.layers.2.blocks.17.attn.relative_position_bias_table"].shape == (5239, 16)
    made, report = formats.translate(state, model)
    assert report.layout == "official Swin" and report.plain and not weights.misfits(model.state_dict(), made)
    assert report.mapped == sum(not k.endswith("relative_position_index") for k in model.state_dict())


@pytest.mark.parametrize(
    "name, weight, mean",
    [
        ("vit_b", "vit_base_patch16_224.dino", 0.485),
        ("vit_b", "timm/vit_base_patch16_224.mae", 0.485),
        ("vit_b", "vit_base_patch16_384.augreg_in21k_ft_in1k", 0.5),
        ("vit_b", "imagenet21k-imagenet1k", 0.5),
        ("clip_b", "openai", 0.48145466),
        ("clip_b", "vit_base_patch16_clip_224.openai", 0.48145466),
        ("clip_b", "vit_base_patch16_clip_quickgelu_224.metaclip_400m", 0.48145466),
        ("video_swin_b", "swin_base_patch4_window7_224.ms_in22k", 0.485),
    ],
)
def test_weights_of_timms_bring_the_normalisation_they_were_trained_with(name, weight, mean):
    assert backbones.names.pixels_trained_on(name, weight)[0][0] == mean


def test_other_weights_tell_no_normalisation(tmp_path):
    usual = backbones.names.pixels_trained_on("vit_b", "imagenet21k-imagenet1k")
    assert backbones.names.pixels_trained_on("vit_b", "default") == usual == ((0.5,) * 3,) * 2
    for weight in (None, "someone/vit", "my.pth", tmp_path):
        assert backbones.names.pixels_trained_on("vit_b", weight) is None


@pytest.mark.parametrize(
    "name, words",
    [
        ("clip_b", r"QuickGELU, pixels of mean \(0.481, 0.458, 0.408\) and deviation \(0.269, 0.261, 0.276\)"),
        ("vit_b", r"pixels of mean \(0.5, 0.5, 0.5\)"),
    ],
)
def test_what_a_file_does_not_tell_is_said_to_be_assumed(tmp_path, monkeypatch, name, words):
    path = tmp_path / "w.safetensors"
    path.touch()
    monkeypatch.setattr(backbones.names, "fetch", lambda *given: path)
    monkeypatch.setattr(weights, "load", lambda model, path, **clips: formats.Report("timm ViT"))
    with torch.device("meta"):
        line = backbones.backbone(name, weights=path).loaded.line()
        assert re.search(f"; assumed, for the file does not tell: {words}", line)
        for told in (*backbones.names.NAMED[name], "default"):
            assert not backbones.backbone(name, weights=told).loaded.assumed


def test_a_file_of_ones_own_backbone_and_what_ships_tell_how_they_were_trained(tmp_path):
    for name in ("video_swin_mini", "clip_mini"):
        assert not backbones.backbone(name, weights="default").loaded.assumed
    assert not backbones.backbone("clip_mini", weights=weights.resolve("clip_mini", "default")).loaded.assumed
    save_file(backbones.backbone("vivit_mini").state_dict(), tmp_path / "w.safetensors")
    loaded = backbones.backbone("vivit_mini", weights=tmp_path / "w.safetensors").loaded
    assert "assumed, for the file does not tell: pixels of mean (0.485," in str(loaded) and loaded.plain


@pytest.mark.parametrize(
    "name, weight, theirs",
    [
        ("clip_b", "vit_base_patch16_clip_224.laion2b", "vit_base_patch16_clip"),  # trained with GELU
        ("vit_b", "vit_small_patch16_224.dino", "vit_small_patch16"),
    ],
)
def test_weights_of_another_network_are_refused_by_their_name(name, weight, theirs, monkeypatch):
    """Before anything is downloaded, and whoever asks where they are."""
    monkeypatch.setattr(backbones.names, "fetch", lambda *given: pytest.fail("asked for a download"))
    for ask in (lambda: backbones.backbone(name, weights=weight), lambda: weights.resolve(name, weight)):
        with pytest.raises(
            weights.WeightsError, match=f"are of timm's {theirs}, {name} is a .*: wrap theirs, .*{weight}"
        ):
            ask()
    assert f"are of timm's {theirs}" in weights_missing(name, weight)


def test_positions_of_frames_of_another_form_are_resampled(tmp_path):
    """4 x 4 and 2 x 8 tokens are as many, and lie elsewhere; inside a frame, as in a video."""
    torch.manual_seed(0)
    square = backbones.backbone("clip_mini", clip=(2, 64, 64))
    save_file(square.state_dict(), tmp_path / "square.safetensors")
    flat = backbones.backbone("clip_mini", clip=(2, 32, 128))
    report = weights.load(flat, tmp_path / "square.safetensors", native=(2, 64, 64))
    assert len(report.interpolated) == 1 and report.interpolated[0].startswith("pos_embed (1, 17,")
    assert not torch.equal(flat.pos_embed, square.pos_embed)


def test_a_clip_resnet_is_no_clip_vit(tmp_path):
    save_file({"visual.conv1.weight": torch.zeros(32, 3, 3, 3), "logit_scale": torch.zeros(1)}, tmp_path / "rn50.st")
    with pytest.raises(weights.WeightsError, match="holds no transformer that is known here"):
        weights.load(backbones.backbone("clip_mini"), tmp_path / "rn50.st")


def test_default_is_what_ships_and_the_summary_says_of_which_protocol_it_is():
    default, named = (weights.resolve("clip_mini", word) for word in ("default", "contrastive"))
    assert default == named and default.name == "clip_mini-contrastive.safetensors"
    assert weights.known("clip_mini") == ("default", "contrastive") and weights.known("vivit_mini")[0] == "default"
    assert resolve(backbone="clip_mini") == resolve(backbone="clip_mini", weights="contrastive")
    summaries = [str(cm3t.create(name, weights="default").summary()) for name in ("clip_mini", "vivit_mini")]
    assert "pretrained by the protocol 'contrastive'" in summaries[0] and "weights:" not in summaries[1]
    with pytest.raises(
        weights.WeightsError, match=r"no supervised weights ship .*weights='default' \(also: contrastive"
    ):
        weights.resolve("clip_mini", "supervised")
