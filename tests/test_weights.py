"""Checkpoints built in each foreign layout load, and the backbone gives the foreign model's output."""

import math

import pytest
import timm
import torch
from einops import rearrange, repeat
from safetensors.torch import save_file
from test_parity import CONTRACT, by_frame, lively
from torch import nn
from torchvision.models.video.swin_transformer import SwinTransformer3d

from cm3t import backbones
from cm3t.backbones import formats, weights
from cm3t.backbones.clip import FrameViT
from cm3t.backbones.video_swin import VideoSwin
from cm3t.backbones.vivit import ViViT

SWIN = dict(patch_size=[2, 4, 4], embed_dim=24, depths=[2, 2], num_heads=[2, 4])
CLIP = dict(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, pre_norm=True, act_layer="quick_gelu")


def swin(window=(2, 3, 3), classes: int | None = 5) -> VideoSwin:
    return VideoSwin(name="small", clip=(4, 24, 24), window=window, num_classes=classes, **SWIN).eval()


def frames_of(vit: nn.Module, clip=(3, 32, 32), classes: int | None = 5) -> FrameViT:
    model = FrameViT(vit, name="small", clip=clip, **CONTRACT).eval()
    if classes:
        model.head = nn.Linear(model.width, classes)
    return model


def vivit(clip=(4, 32, 32), classes: int | None = 5, patch=(2, 16, 16)) -> ViViT:
    options = dict(width=24, depth=2, heads=3, patch=patch, num_classes=classes)
    return ViViT(name="small", clip=clip, **options, **CONTRACT).eval()


def equal(ours, expected, video):
    assert expected.std() > 0.1
    with torch.no_grad():
        torch.testing.assert_close(ours(video), expected, rtol=0, atol=1e-5)


def as_official(state: dict) -> dict:
    """torchvision's Swin3D parameters under the official code's names."""
    out = {}
    for key, value in state.items():
        part = key.split(".")
        if part[0] == "features" and int(part[1]) % 2 == 0:
            tail = ".".join(part[3:]).replace("mlp.0", "mlp.fc1").replace("mlp.3", "mlp.fc2")
            key = f"backbone.layers.{int(part[1]) // 2}.blocks.{part[2]}.{tail}"
        elif part[0] == "features":
            key = f"backbone.layers.{int(part[1]) // 2}.downsample.{'.'.join(part[2:])}"
        else:
            key = f"cls_head.fc_cls.{part[1]}" if part[0] == "head" else f"backbone.{key}"
        out[key] = value
    return out


@pytest.mark.parametrize("half", [False, True])
def test_official_video_swin(tmp_path, half):
    torch.manual_seed(0)
    theirs = lively(SwinTransformer3d(**SWIN, window_size=[2, 3, 3], num_classes=5))
    if half:
        theirs = theirs.half().float()
    state = as_official(theirs.state_dict())
    assert "backbone.layers.0.downsample.reduction.weight" in state
    state = {k: v.half() if half and v.is_floating_point() else v for k, v in state.items()}
    torch.save({"meta": {"epoch": 30}, "state_dict": state}, tmp_path / "k400.pth")
    ours = swin()
    report = weights.load(ours, tmp_path / "k400.pth")
    video = torch.randn(2, 3, 4, 24, 24)
    with torch.no_grad():
        equal(ours, theirs(video), video)
    assert report.layout == "official Swin" and len(report.digest) == 16
    assert len(report.dropped) == 4 and all(k.endswith("relative_position_index") for k in report.dropped)
    assert report.widened == (report.mapped if half else 0)

    headless = weights.load(swin(classes=None), tmp_path / "k400.pth")
    assert set(headless.dropped) < set(state)  # by the file's names
    assert [k for k in headless.dropped if "head." in k] == ["cls_head.fc_cls.weight", "cls_head.fc_cls.bias"]
    assert headless.plain
    assert "dropped (6)" in str(headless)
    with pytest.raises(weights.WeightsError, match=r"head.weight has shape \(5, 48\), the model's is \(7, 48\)"):
        weights.load(swin(classes=7), tmp_path / "k400.pth")


def image_swin(**options) -> nn.Module:
    """timm's 2-D Swin of the same size."""
    sizes = dict(img_size=24, patch_size=4, window_size=3, embed_dim=24, depths=(2, 2), num_heads=(2, 4))
    return lively(timm.models.SwinTransformer(**sizes | options))


def test_a_2d_swin_is_inflated_and_sees_a_still_clip_as_the_image(tmp_path):
    """Time has no say in a clip of equal frames: with one-frame windows the inflated model is the image model."""
    torch.manual_seed(0)
    theirs = image_swin(num_classes=5)
    save_file(theirs.state_dict(), tmp_path / "swin.safetensors")
    ours = swin(window=(1, 3, 3))
    report = weights.load(ours, tmp_path / "swin.safetensors")
    image = torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        equal(ours, theirs(image), repeat(image, "b c h w -> b c t h w", t=4))
    assert report.layout == "timm Swin"
    assert report.inflated == ["patch_embed.proj.weight (24, 3, 4, 4) -> (24, 3, 2, 4, 4)"]

    original = {}  # the original code merges patches where a stage ends
    for key, value in theirs.state_dict().items():
        key = key.replace("layers.1.downsample", "layers.0.downsample").replace("head.fc.", "head.")
        original[key] = value
    torch.save({"model": original}, tmp_path / "swin.pth")
    again = swin(window=(1, 3, 3))
    assert weights.load(again, tmp_path / "swin.pth").layout == "official Swin"
    for key, value in ours.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])


def test_a_2d_bias_table_is_repeated_over_time():
    torch.manual_seed(0)
    theirs, ours = image_swin(num_classes=5), swin(window=(2, 3, 3))
    state, report = formats.translate(theirs.state_dict(), ours)
    ours.load_state_dict(state)
    attn, flat = ours.blocks[0].attn, theirs.layers[0].blocks[0].attn
    plane = flat._get_rel_pos_bias()[0]  # (h, 9, 9)
    torch.testing.assert_close(attn.bias((2, 3, 3)), plane.repeat(1, 2, 2))
    assert len(report.inflated) == 5 and not report.interpolated


def test_bias_tables_of_another_window_are_interpolated_and_reported():
    torch.manual_seed(0)
    theirs, ours = lively(swin(window=(4, 3, 3))), swin(window=(2, 3, 3))
    state, report = formats.translate(theirs.state_dict(), ours)
    assert not weights.misfits(ours.state_dict(), state)
    assert "features.0.0.attn.relative_position_bias_table (175, 2) -> (75, 2)" in report.interpolated
    table = rearrange(theirs.blocks[0].attn.relative_position_bias_table, "(t n) h -> t n h", t=7)
    small = rearrange(state["features.0.0.attn.relative_position_bias_table"], "(t n) h -> t n h", t=3)
    torch.testing.assert_close(small[1], table[3])  # the same moment stays the same moment


@pytest.mark.oracle
def test_hugging_face_vivit_by_its_own_file(tmp_path):
    from test_parity import as_hugging_face, hugging_face

    torch.manual_seed(0)
    theirs = hugging_face((4, 32, 32), width=24, depth=2, heads=3, classes=5)
    theirs.save_pretrained(tmp_path)  # in the hub's layout
    ours = vivit()
    report = weights.load(ours, tmp_path / "model.safetensors")
    video = torch.randn(2, 3, 4, 32, 32)
    with torch.no_grad():
        equal(ours, as_hugging_face(theirs)(video), video)
    assert report.layout == "Hugging Face ViViT" and not report.dropped and not report.interpolated

    longer = weights.load(vivit(clip=(8, 48, 32)), tmp_path / "model.safetensors", native=(4, 32, 32))
    assert longer.interpolated == ["pos_embed (1, 9, 24) of 2 x 2 x 2 -> (1, 25, 24) of 4 x 3 x 2"]


def test_positions_of_equal_number_and_another_shape_are_resampled(tmp_path):
    """4 x 4 and 2 x 8 tokens are as many, and lie elsewhere."""
    torch.manual_seed(0)
    square, flat = vivit(clip=(4, 64, 64)), vivit(clip=(4, 32, 128))
    save_file(square.state_dict(), tmp_path / "square.safetensors")
    report = weights.load(flat, tmp_path / "square.safetensors", native=(4, 64, 64))
    assert report.interpolated == ["pos_embed (1, 33, 24) of 2 x 4 x 4 -> (1, 33, 24) of 2 x 2 x 8"]
    assert not torch.equal(flat.pos_embed, square.pos_embed)
    again = vivit(clip=(4, 64, 64))
    assert not weights.load(again, tmp_path / "square.safetensors", native=(4, 64, 64)).interpolated
    assert torch.equal(again.pos_embed, square.pos_embed)


def test_a_2d_vit_becomes_vivit_by_its_central_frame():
    torch.manual_seed(0)
    theirs = lively(timm.models.VisionTransformer(**CLIP | dict(pre_norm=False, act_layer=None), num_classes=5))
    ours = vivit(patch=(2, 8, 8))
    state, report = formats.translate(theirs.state_dict(), ours)
    assert not weights.misfits(ours.state_dict(), state)
    assert len(report.inflated) == 2
    kernel = state["patch_embed.proj.weight"]  # (C, 3, 2, 8, 8): all of it on the frame in the middle, t // 2
    assert torch.equal(kernel[:, :, 1], theirs.patch_embed.proj.weight) and not kernel[:, :, 0].any()
    image = torch.randn(1, 3, 32, 32)
    flat = theirs.patch_embed(image)[0] + theirs.pos_embed[0, 1:]
    ours.load_state_dict(state)
    fmap = ours.split(ours.embed(repeat(image, "b c h w -> b c t h w", t=4)))[0]
    torch.testing.assert_close(rearrange(fmap, "1 t h w c -> t (h w) c"), flat.expand(2, -1, -1))


def as_openai(state: dict) -> dict:
    """timm's CLIP tower under OpenAI's names, with a text tower beside it."""
    out = {"text_projection": torch.zeros(3, 3), "transformer.resblocks.0.ln_1.weight": torch.zeros(3)}
    names_of = {"cls_token": "class_embedding", "pos_embed": "positional_embedding"}
    parts = {
        "patch_embed.proj": "conv1",
        "norm_pre": "ln_pre",
        "norm1": "ln_1",
        "norm2": "ln_2",
        "attn.qkv.": "attn.in_proj_",
        "attn.proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    for key, value in state.items():
        key = names_of.get(key, key)
        for ours, theirs in parts.items():
            key = key.replace(ours, theirs)
        key = "ln_post." + key[5:] if key.startswith("norm.") else key.replace("blocks.", "transformer.resblocks.")
        if key == "head.weight":
            out["visual.proj"] = value.T.contiguous()
        elif key != "head.bias":
            out[f"visual.{key}"] = value.squeeze() if "embedding" in key else value
    return out


def test_openai_clip_and_timm_clip(tmp_path):
    torch.manual_seed(0)
    theirs = lively(timm.models.VisionTransformer(**CLIP, num_classes=5))
    nn.init.zeros_(theirs.head.bias)  # as CLIP's projection has none
    video = torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        expected = by_frame(theirs)(video)
    torch.save(as_openai(theirs.state_dict()), tmp_path / "openai.pt")
    save_file(theirs.state_dict(), tmp_path / "timm.safetensors")
    for file, layout, dropped in (("openai.pt", "OpenAI CLIP", 2), ("timm.safetensors", "timm ViT", 0)):
        ours = frames_of(timm.models.VisionTransformer(**CLIP, num_classes=0))
        report = weights.load(ours, tmp_path / file)
        equal(ours, expected, video)
        assert report.layout == layout and len(report.dropped) == dropped
        assert report.kept == ["temporal_embed (starts at 0)"]


def test_positions_of_another_size_are_interpolated_as_timm_does_it():
    torch.manual_seed(0)
    small = timm.models.VisionTransformer(**CLIP, num_classes=0)
    large = timm.models.VisionTransformer(**CLIP | dict(img_size=48), num_classes=0)
    state, report = formats.translate(small.state_dict(), frames_of(large, clip=(3, 48, 48), classes=None))
    expected = timm.layers.resample_abs_pos_embed(small.pos_embed, [6, 6])
    torch.testing.assert_close(state["pos_embed"], expected)
    assert report.interpolated == ["pos_embed (1, 17, 24) of 1 x 4 x 4 -> (1, 37, 24) of 1 x 6 x 6"]


def test_another_architecture_or_size_lists_what_differs(tmp_path):
    save_file(vivit(classes=None).state_dict(), tmp_path / "vivit.safetensors")
    vit = timm.models.VisionTransformer(**CLIP | dict(pre_norm=False), num_classes=0)
    with pytest.raises(weights.WeightsError, match="patch_embed.proj.weight has shape .24, 3, 2, 16, 16."):
        weights.load(frames_of(vit, classes=None), tmp_path / "vivit.safetensors")
    with pytest.raises(weights.WeightsError, match="missing key features.0.0.attn.proj.bias"):
        weights.load(swin(classes=None), tmp_path / "vivit.safetensors")
    wide = ViViT(name="wide", clip=(4, 32, 32), width=48, depth=2, heads=3, **CONTRACT)
    with pytest.raises(weights.WeightsError) as error:
        weights.load(wide, tmp_path / "vivit.safetensors")
    first, *keys = str(error.value).splitlines()
    there, here = (f"a ViT of width {width} with 2 blocks over patches of 2 x 16 x 16" for width in (24, 48))
    assert f"the file holds {there}, the model is {here}; make a backbone of the file's size" in first
    assert "blocks.0.attn.proj.bias has shape (24,), the model's is (48,)" in keys[0]
    assert len(keys) == weights.LISTED + 1 and keys[-1] == f"  and {len(wide.state_dict()) - 10} more"


def test_published_weights_are_for_the_backbones_own_shapes():
    """The tables' sizes: 15 x 13 x 13 relative positions on K400, 31 x 13 x 13 on Something-Something v2."""
    for name, rows in (("video_swin_b", 2535), ("video_swin_b_ssv2", 5239)):
        with torch.device("meta"):
            model = backbones.backbone(name)
        window = model.blocks[0].attn.window
        assert model.blocks[0].attn.relative_position_bias_table.shape[0] == rows
        assert rows == math.prod(2 * w - 1 for w in window)
