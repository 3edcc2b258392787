"""Image models that nobody tuned for, wrapped in a line: they keep their features, and take the plugins."""

import pytest
import timm
import torch
from einops import rearrange
from test_parity import lively
from torchvision.models.swin_transformer import SwinTransformer as TorchSwin
from torchvision.models.vision_transformer import VisionTransformer as TorchViT

import cm3t
from cm3t import backbones
from cm3t.backbones.contract import ContractError, check

SMALL = dict(img_size=56, embed_dim=48, depth=2, num_heads=3, num_classes=0)
MODELS = {
    "DINO style": lambda: timm.create_model("vit_small_patch14_reg4_dinov2", **SMALL),
    "average pooling": lambda: timm.create_model("vit_medium_patch16_gap_256", **SMALL | dict(img_size=64)),
    "attention pooling": lambda: timm.create_model("vit_base_patch16_siglip_224", **SMALL | dict(img_size=64)),
    "largest token": lambda: timm.models.VisionTransformer(**SMALL, patch_size=14, global_pool="max"),
    "Swin": lambda: timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=56, embed_dim=24, depths=(2, 2), num_heads=(2, 4), num_classes=0
    ),
    **{
        f"Swin, {pool}": lambda pool=pool: timm.models.SwinTransformer(
            img_size=28, patch_size=4, window_size=7, embed_dim=24, depths=(1,), num_heads=(2,), global_pool=pool
        )
        for pool in ("max", "avgmax", "catavgmax")
    },
}


def features_alone(model):
    """A model without its classifier."""
    model.reset_classifier(0)
    return model


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_features_are_the_mean_of_the_image_models_own(make):
    torch.manual_seed(0)
    image_model = lively(features_alone(make())).double()
    side = image_model.patch_embed.img_size[0]
    video = torch.randn(2, 3, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        frames = image_model(rearrange(video, "b c t h w -> (b t) c h w"))
        expected = rearrange(frames, "(b t) c -> b t c", b=2).mean(dim=1)
        backbone = backbones.wrap(image_model, frames=3)
        check(backbone)
        torch.testing.assert_close(backbone(video), expected, rtol=0, atol=1e-10)
    assert expected.std() > 0.05 and backbone.clip == (3, side, side)
    assert backbone.width == expected.shape[1]


@pytest.mark.parametrize("name", [name for name in MODELS if "," not in name])
def test_plugins_attach_by_the_contract_alone(name):
    torch.manual_seed(0)
    backbone = backbones.wrap(MODELS[name](), frames=2).eval()
    open_attention = (
        hasattr(backbone.blocks[0].attn, "project_prefix") if hasattr(backbone.blocks[0], "attn") else False
    )
    if not open_attention:
        with pytest.raises(ContractError, match="block 0 of 'swin_tiny_patch4_window7_224'.*project_prefix"):
            cm3t.CM3T(backbone, "mhva+pt", {"verb": 5})
    model = cm3t.CM3T(backbone, "mhva+pt" if open_attention else "mhva", {"verb": 5}).eval()
    video = torch.randn(2, 3, *backbone.clip)
    with torch.no_grad(), model.disabled():
        assert torch.equal(model.features(video), backbone(video))
    loss = model(video)["verb"].square().sum()
    loss.backward()
    trained = [name for name, p in model.named_parameters() if p.grad is not None]
    assert any("adapters" in name for name in trained) and not any(name.startswith("backbone.") for name in trained)
    assert any("prefixes" in name for name in trained) == open_attention


def test_what_cannot_be_wrapped_is_refused_with_the_reason():
    reasons = {
        "attribute `rope`": timm.create_model(
            "eva02_tiny_patch14_224", img_size=28, embed_dim=48, depth=1, num_heads=3
        ),
        r"timm.models.swin_transformer_v2.SwinTransformerV2; .*its blocks are post-norm": timm.create_model(
            "swinv2_tiny_window8_256", img_size=32, embed_dim=12, depths=(1,), num_heads=(1,), window_size=4
        ),
        r"timm.models.resnet.ResNet; only timm.models.vision_transformer.V.*has no `blocks`": timm.create_model(
            "resnet10t"
        ),
        "block 0 .*is a ParallelScalingBlock": timm.models.VisionTransformer(
            img_size=28, patch_size=14, embed_dim=48, depth=1, num_heads=3, block_fn=parallel()
        ),
        "drops patches": timm.models.VisionTransformer(
            img_size=28, patch_size=14, embed_dim=48, depth=1, num_heads=3, patch_drop_rate=0.5
        ),
    }
    for reason, model in reasons.items():
        with pytest.raises(ContractError, match=reason):
            backbones.wrap(model, frames=2)


class Own(timm.models.VisionTransformer):
    """A network of somebody's own."""


VIT = dict(img_size=28, patch_size=14, embed_dim=48, depth=1, num_heads=3)
SWIN = dict(img_size=28, patch_size=4, window_size=7, embed_dim=12, depths=(1,), num_heads=(1,))
OBSTACLES = {
    "`dist_token`: a distillation token": lambda: timm.models.deit.VisionTransformerDistilled(**VIT),
    "`rel_pos_bias`: relative positions": lambda: timm.models.Beit(**VIT, use_shared_rel_pos_bias=True),
    "`patch_embed` is a HybridEmbed, a network of its own": lambda: hybrid(),
    r"is a timm.models.beit.Beit; .*`attn.relative_position_bias_table` of its blocks: relative": lambda: (
        timm.models.Beit(**VIT, use_rel_pos_bias=True)
    ),
    "is a timm.models.vision_transformer_sam.VisionTransformerSAM; .*`attn.rel_pos_h` of its blocks": lambda: (
        timm.models.VisionTransformerSAM(**VIT, use_rel_pos=True, neck_chans=0)
    ),
    "is a timm.models.naflexvit.NaFlexVit; .*packs patches of frames of any size": lambda: timm.create_model(
        "naflexvit_base_patch16_gap", embed_dim=48, depth=1, num_heads=3
    ),
    r"is a torchvision.models.swin_transformer.SwinTransformer; only timm.*timm.create_model\('swin_tiny_": lambda: (
        TorchSwin([4, 4], 12, [2], [1], [7, 7])
    ),
    r"is a torchvision.models.vision_transformer.VisionTransformer; only .*timm.create_model\('vit_base_patch16_224'": (
        lambda: TorchViT(28, 14, 1, 3, 48, 96)
    ),
    r"is a test_backbones_wrap.Own; .*it is a subclass": lambda: Own(**VIT),
    "images of 1 channels, a video has 3; make it with in_chans=3": lambda: timm.models.VisionTransformer(
        **VIT, in_chans=1
    ),
    "images of 4 channels": lambda: timm.models.SwinTransformer(**SWIN, in_chans=4),
    "with global_pool='' it hands on tokens": lambda: timm.models.VisionTransformer(**VIT, global_pool=""),
    "'swintransformer': with global_pool=''": lambda: timm.models.SwinTransformer(**SWIN, global_pool=""),
}


@pytest.mark.parametrize("reason", OBSTACLES)
def test_the_obstacle_is_named(reason):
    with pytest.raises(ContractError, match=reason):
        backbones.wrap(OBSTACLES[reason](), frames=2)


def hybrid():
    """A transformer over the maps of a small convolutional network."""
    from functools import partial

    from timm.layers import HybridEmbed

    network = timm.create_model("resnet10t", features_only=True, out_indices=(2,))
    embed = partial(HybridEmbed, backbone=network)
    return timm.models.VisionTransformer(**VIT | dict(img_size=32, patch_size=1), embed_layer=embed)


def test_what_is_no_model_is_refused_with_the_call_that_makes_one():
    with pytest.raises(TypeError, match=r"not a str: wrap\(timm.create_model\('vit_tiny', pretrained=True\), frames=8"):
        backbones.wrap("vit_tiny", frames=8)
    with pytest.raises(ValueError, match="frames=0: a clip has at least one frame"):
        backbones.wrap(timm.models.VisionTransformer(**VIT), frames=0)
    for length in (0, -3, 2.5, "a", True):
        with pytest.raises(ValueError, match=rf"prefix_length={length!r}: a prefix has at least one token, such as"):
            backbones.wrap(timm.models.VisionTransformer(**VIT), frames=2, prefix_length=length)
    assert backbones.wrap(timm.models.VisionTransformer(**VIT), frames=2, prefix_length=5).prefix_length == 5


def test_dropout_after_the_positions_stays():
    vit = timm.models.VisionTransformer(**VIT, pos_drop_rate=0.5)
    backbone, video = backbones.wrap(vit, frames=1), torch.randn(1, 3, 1, 28, 28)
    assert backbone.pos_drop.p == 0.5
    dropped = (backbone.train().embed(video) == 0).float().mean()
    assert 0.3 < dropped < 0.7 and backbone.eval().embed(video).all()


def parallel():
    return timm.models.vision_transformer.ParallelScalingBlock


def test_another_attention_takes_every_plugin_but_prefixes():
    torch.manual_seed(0)
    vit = timm.models.VisionTransformer(**SMALL, patch_size=14, attn_layer="diff")
    backbone = backbones.wrap(vit, frames=2, name="differential")
    with pytest.raises(ContractError, match="block 0 of 'differential' has no `attn.project_prefix`"):
        cm3t.CM3T(backbone, "pt", {"verb": 5})
    model = cm3t.CM3T(backbone, "mhva", {"verb": 5})
    assert model(torch.randn(1, 3, 2, 56, 56))["verb"].shape == (1, 5)


def test_shares_are_of_the_model_with_its_classifier():
    vit = timm.models.VisionTransformer(**SMALL | dict(num_classes=10), patch_size=14)
    whole = sum(p.numel() for p in vit.parameters())
    summary = cm3t.CM3T(backbones.wrap(vit, frames=2), "mhva").summary()
    assert summary.reference == whole


@pytest.mark.slow
def test_pixels_are_normalised_as_the_weights_expect():
    """By timm's own configurations; ViViT's processor halves and centres."""
    from timm.models import get_pretrained_cfg

    published = {"clip_b": "vit_base_patch16_clip_224.openai", "vit_b": "vit_base_patch16_224.augreg_in21k_ft_in1k"}
    for name, model in published.items():
        about = get_pretrained_cfg(model)
        with torch.device("meta"):
            assert backbones.backbone(name).pixels == (about.mean, about.std)
    assert backbones.backbone("vivit_mini").pixels == backbones.backbone("video_swin_mini").pixels
    wrapped = backbones.wrap(MODELS["attention pooling"](), frames=2)
    assert wrapped.pixels == ((0.5,) * 3, (0.5,) * 3)


def test_a_map_that_no_cells_divide_comes_with_the_nearest_clip():
    """A DINOv2 of 518 pixels has maps of 37 x 37 tokens."""
    options = dict(img_size=70, patch_size=14, embed_dim=48, depth=1, num_heads=3)
    backbone = backbones.wrap(timm.models.VisionTransformer(**options, dynamic_img_size=True), frames=2)
    with pytest.raises(
        ValueError, match=r"cells=2 divides no token map .*5 x 5.*; give cells=1, or clip=\(2, 56, 56\)"
    ):
        cm3t.CM3T(backbone, "mhva", {"verb": 5})
    model = cm3t.CM3T(backbone, "mhva", {"verb": 5}, clip=(2, 56, 56))
    assert model(torch.randn(1, 3, 2, 56, 56))["verb"].shape == (1, 5)


def test_a_compiled_model_is_wrapped_as_what_it_is():
    vit = timm.models.VisionTransformer(**VIT)
    assert type(backbones.wrap(torch.compile(vit), frames=2)) is type(backbones.wrap(vit, frames=2))
    with pytest.raises(ContractError, match="is a timm.models.beit.Beit"):
        backbones.wrap(torch.compile(timm.models.Beit(**VIT)), frames=2)


@pytest.mark.parametrize("size, words", [((56, 56), "56"), ((28, 56), r"\(28, 56\)")])
def test_a_swin_of_another_size_is_made_anew(size, words):
    """Its window masks are made for one size: the remedy makes the model that takes such frames."""
    swin = timm.models.SwinTransformer(**SWIN, num_classes=0)
    model = cm3t.CM3T(backbones.wrap(swin, frames=2), "adaptformer", {"verb": 3})
    with pytest.raises(ValueError, match=rf"28 x 28, .* or wrap timm.create_model\(..., img_size={words}\)$"):
        model(torch.zeros(1, 3, 2, *size))
    larger = backbones.wrap(timm.models.SwinTransformer(**SWIN | dict(img_size=size), num_classes=0), frames=2)
    assert cm3t.CM3T(larger, "adaptformer", {"verb": 3})(torch.zeros(1, 3, 2, *size))["verb"].shape == (1, 3)
