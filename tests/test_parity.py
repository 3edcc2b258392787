"""ViViT against transformers' and the frame-wise transformers against timm's, weight by weight."""

import pytest
import timm
import torch
from einops import rearrange
from torch import nn

from cm3t import backbones
from cm3t.backbones import formats
from cm3t.backbones.clip import FrameViT
from cm3t.backbones.positions import resample
from cm3t.backbones.vivit import ViViT

CONTRACT = dict(prefix_length=4, source_classes=5)


def lively(model: nn.Module) -> nn.Module:
    """Weights large enough that an error in any of them shows, biases and norms included."""
    for p in model.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=p.shape[-1] ** -0.5 if p.shape[-1] > 8 else 0.5)
        else:
            nn.init.normal_(p, mean=float(p.detach().mean() > 0.5), std=0.2)
    return model.eval()


def hugging_face(clip, *, width, depth, heads, classes):
    """transformers' ViViT classifier with random weights."""
    transformers = pytest.importorskip("transformers")
    config = transformers.VivitConfig(
        image_size=clip[1],
        num_frames=clip[0],
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        num_labels=classes,
    )
    config.image_size = list(clip[1:])
    return lively(transformers.VivitForVideoClassification(config))


def compare(ours, theirs, video, tolerance):
    """Both on the same clip; theirs takes what ours takes."""
    with torch.no_grad():
        expected, actual = theirs(video), ours(video)
    assert expected.std() > 0.1  # the comparison is about something
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def as_hugging_face(model):
    return lambda video: model(pixel_values=rearrange(video, "b c t h w -> b t c h w")).logits


@pytest.mark.oracle
@pytest.mark.parametrize("clip", [(4, 32, 32), (6, 48, 32)], ids=str)
def test_vivit_equals_transformers_in_float64(clip):
    torch.manual_seed(0)
    theirs = hugging_face(clip, width=24, depth=2, heads=3, classes=5).double()
    ours = ViViT(name="small", clip=clip, width=24, depth=2, heads=3, num_classes=5, **CONTRACT).double().eval()
    state, _ = formats.translate(theirs.state_dict(), ours)
    ours.load_state_dict(state)
    compare(ours, as_hugging_face(theirs), torch.randn(2, 3, *clip, dtype=torch.float64), 1e-10)


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("clip", [(32, 224, 224), (16, 192, 160)], ids=str)
def test_vivit_b_equals_transformers_in_float32(clip):
    torch.manual_seed(0)
    theirs = hugging_face(clip, width=768, depth=12, heads=12, classes=400)
    ours = backbones.backbone("vivit_b", num_classes=400, clip=clip).eval()
    state, _ = formats.translate(theirs.state_dict(), ours)
    ours.load_state_dict(state)
    compare(ours, as_hugging_face(theirs), torch.randn(1, 3, *clip), 1e-4)


def by_frame(model):
    """A timm image model on video: its features frame by frame, their mean, its head."""

    def forward(video):
        frames = model.forward_features(rearrange(video, "b c t h w -> (b t) c h w"))
        features = rearrange(model.forward_head(frames, pre_logits=True), "(b t) c -> b t c", b=len(video))
        return model.get_classifier()(features.mean(dim=1))

    return forward


SMALL = dict(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5)
IMAGE_MODELS = {
    "class token": {},
    "clip": dict(pre_norm=True, act_layer="quick_gelu"),
    "average": dict(class_token=False, global_pool="avg"),
    "registers, layer scale": dict(reg_tokens=4, no_embed_class=True, init_values=0.5, dynamic_img_size=True),
    "qk-norm, attention pooling": dict(qk_norm=True, class_token=False, global_pool="map"),
    "no positions": dict(pos_embed="none"),
}


@pytest.mark.parametrize("options", IMAGE_MODELS.values(), ids=IMAGE_MODELS)
def test_frames_equal_timm_in_float64(options):
    torch.manual_seed(0)
    theirs = lively(timm.models.VisionTransformer(**SMALL | options)).double()
    forward = by_frame(theirs)  # before its modules move into ours
    video = torch.randn(2, 3, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected = forward(video)
    ours = FrameViT(theirs, name="small", clip=(3, 32, 32), **CONTRACT).double().eval()
    ours.head = theirs.head
    assert expected.std() > 0.1
    with torch.no_grad():
        torch.testing.assert_close(ours(video), expected, rtol=0, atol=1e-10)
    assert {k for k in ours.state_dict() if k != "temporal_embed"} == set(theirs.state_dict())


def test_another_image_size_equals_timm():
    torch.manual_seed(0)
    theirs = lively(timm.models.VisionTransformer(**SMALL, dynamic_img_size=True)).double()
    video = torch.randn(1, 3, 2, 48, 24, dtype=torch.float64)
    with torch.no_grad():
        expected = by_frame(theirs)(video)
        ours = FrameViT(theirs, name="small", clip=(2, 32, 32), **CONTRACT).double().eval()
        ours.head = theirs.head
        torch.testing.assert_close(ours(video), expected, rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("side", [224, 192])
@pytest.mark.parametrize("name, classes", [("clip_b", 512), ("vit_b", 1000)])
def test_base_equals_timm_in_float32(name, classes, side):
    torch.manual_seed(0)
    model = {"clip_b": "vit_base_patch16_clip_quickgelu_224", "vit_b": "vit_base_patch16_224"}[name]
    theirs = lively(timm.create_model(model, num_classes=classes, dynamic_img_size=True))
    ours = backbones.backbone(name, num_classes=classes).eval()
    assert sum(p.numel() for p in ours.parameters()) - 8 * 768 == sum(p.numel() for p in theirs.parameters())
    ours.load_state_dict(theirs.state_dict() | {"temporal_embed": torch.zeros(1, 8, 768)})
    compare(ours, by_frame(theirs), torch.randn(1, 3, 2, side, side), 1e-4)


def test_parameter_counts_are_the_published_ones():
    counts = {"vivit_b": (400, 88_954_000, 88_646_400), "clip_b": (512, 86_193_152 + 6_144, 85_799_424 + 6_144)}
    for name, (classes, whole, bare) in counts.items():
        with torch.device("meta"):
            for n, expected in ((classes, whole), (None, bare)):
                model = backbones.backbone(name, num_classes=n)
                assert sum(p.numel() for p in model.parameters()) == expected
        assert model.source_classes == classes


def test_positions_of_the_same_grid_are_untouched_and_class_tokens_never_move():
    torch.manual_seed(0)
    position = torch.randn(1, 1 + 2 * 4 * 3, 5)
    assert resample(position, (2, 4, 3), (2, 4, 3)) is position
    longer = resample(position, (2, 4, 3), (4, 8, 6))
    assert longer.shape == (1, 1 + 4 * 8 * 6, 5) and torch.equal(longer[:, 0], position[:, 0])
    flat = torch.ones(1, 24, 5)
    torch.testing.assert_close(resample(flat, (2, 4, 3), (5, 7, 9)), torch.ones(1, 5 * 7 * 9, 5))
    ramp = torch.arange(3.0).reshape(1, 3, 1)  # time alone: linear, so the middle frame stays in the middle
    assert resample(ramp, (3, 1, 1), (5, 1, 1))[0, 2, 0] == 1
