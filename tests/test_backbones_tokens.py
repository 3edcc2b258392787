"""The plain transformers on the contract: split and join, prefixes by the exact gate, sizes, training, bad input."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from cm3t import backbones
from cm3t.backbones.contract import ContractError, check
from cm3t.backbones.tokens import OpenAttention
from cm3t.plugins.prefix import prefix_gate

MINIS = ["vivit_mini", "clip_mini"]
EXTRA = {"vivit_mini": 1, "clip_mini": 8}  # one class token, or one a frame


@pytest.mark.parametrize("name", MINIS)
def test_split_gives_the_map_and_join_takes_it_back(name):
    torch.manual_seed(0)
    model = backbones.backbone(name).eval()
    check(model, prefixes=True)
    with torch.no_grad():
        x = model.embed(torch.randn(2, 3, 8, 64, 96))
    fmap, extra = model.split(x)
    t = 4 if name == "vivit_mini" else 8
    assert fmap.shape == (2, t, 4, 6, model.width) and extra.shape == (2, EXTRA[name], model.width)
    assert torch.equal(model.join(fmap, extra), x)
    with pytest.raises(ValueError, match="not of the last video"):
        model.split(x[:, :, :-1])


def test_a_clip_that_the_patches_do_not_divide_is_refused_at_once():
    with pytest.raises(ValueError, match="vivit_mini: clip length 7 does not divide into patches of 2"):
        backbones.backbone("vivit_mini", clip=(7, 96, 96))
    with pytest.raises(ValueError, match="width 100"):
        backbones.backbone("clip_mini", clip=(8, 96, 100))


@pytest.mark.parametrize("name", MINIS)
def test_the_map_lies_where_the_video_does(name):
    """A change in one patch of one moment changes that token of the first map, and (the stem overlaps) few others."""
    torch.manual_seed(0)
    model = backbones.backbone(name).eval()
    video = torch.randn(1, 3, 8, 96, 96)
    other = video.clone()
    other[:, :, 4, 80 - 4 : 80 + 4, 16 - 4 : 16 + 4] += 5
    with torch.no_grad():
        before, after = model.split(model.embed(video))[0], model.split(model.embed(other))[0]
    change = (before - after).norm(dim=-1)[0]
    t, h, w = (int(i) for i in torch.unravel_index(change.argmax(), change.shape))
    assert t == (2 if name == "vivit_mini" else 4) and h in (4, 5) and w in (0, 1)
    assert (change > 1e-6).float().mean() < 0.2


@pytest.mark.parametrize("name", MINIS)
def test_features_are_the_loop_over_blocks_at_any_admissible_size(name):
    torch.manual_seed(0)
    model = backbones.backbone(name).eval()
    for clip in (model.clip, (4, 64, 64), (16, 96, 64)):
        video = torch.randn(1, 3, *clip)
        with torch.no_grad():
            x = model.embed(video)
            for i, block in enumerate(model.blocks):
                x = block(model.advance(i, x))
            assert torch.equal(model(video), model.pool(x))
        assert x.shape[-1] == model.width == model(video).shape[1]


def test_frames_without_training_know_no_order_and_vivit_does():
    torch.manual_seed(0)
    video = torch.randn(1, 3, 8, 96, 96)
    shuffled = video[:, :, [3, 1, 7, 0, 2, 6, 5, 4]]
    for name, same in (("clip_mini", True), ("vivit_mini", False)):
        model = backbones.backbone(name).eval()
        with torch.no_grad():
            assert torch.allclose(model(video), model(shuffled), atol=1e-5) == same
            if same:  # until the temporal embedding is trained
                nn.init.normal_(model.temporal_embed)
                assert not torch.allclose(model(video), model(shuffled), atol=1e-3)


@pytest.mark.parametrize("qk_norm", [False, True])
def test_prefixes_are_the_gated_addition(qk_norm):
    """Eq. 3 and 5 computed as they stand: two attentions, weighed by lambda."""
    from timm.layers import Attention

    torch.manual_seed(0)
    attn = OpenAttention(Attention(12, num_heads=3, qkv_bias=True, qk_norm=qk_norm, norm_layer=nn.LayerNorm)).double()
    x, prefix = torch.randn(2, 7, 12).double(), tuple(torch.randn(4, 12).double() for _ in "kv")
    q, k, v = rearrange(attn.qkv(x), "n m (three h d) -> three n h m d", three=3, h=3)
    p_k, p_v = (rearrange(p, "l (h d) -> h l d", h=3) for p in prefix)
    q, k, p_k = attn.q_norm(q), attn.k_norm(k), attn.k_norm(p_k)
    gate = prefix_gate(q, k, p_k)
    own = F.softmax(q @ k.mT / 2, dim=-1) @ v
    seen = F.softmax(q @ p_k.mT / 2, dim=-1) @ p_v
    expected = attn.proj(rearrange((1 - gate) * own + gate * seen, "n h m d -> n m (h d)"))
    torch.testing.assert_close(attn(x, prefix), expected, rtol=0, atol=1e-12)
    empty = tuple(torch.zeros(0, 12).double() for _ in "kv")
    torch.testing.assert_close(attn(x, empty), attn(x), rtol=0, atol=1e-12)
    w_q, w_k, w_v = attn.qkv.weight.chunk(3)
    for projected, weight in zip(attn.project_prefix(x[0]), (w_k, w_v), strict=True):
        torch.testing.assert_close(projected, x[0] @ weight.T)


def test_a_block_without_the_two_branches_is_refused_by_number():
    import timm

    from cm3t.backbones.clip import FrameViT

    small = dict(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=0)
    post = timm.models.vision_transformer.ResPostBlock
    vit = timm.models.VisionTransformer(**small, block_fn=post, init_values=1e-5)
    with pytest.raises(ContractError, match="block 0 of 'post' is a ResPostBlock"):
        FrameViT(vit, name="post", clip=(2, 32, 32), prefix_length=2, source_classes=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", MINIS)
def test_a_mini_learns_eight_clips_by_heart(name):
    from cm3t.pretrain import Recipe, optimisation

    torch.manual_seed(0)
    model = backbones.backbone(name, num_classes=8).train()
    assert 1e6 < sum(p.numel() for p in model.parameters()) < 2e6
    optimiser, schedule = optimisation(model, Recipe(), 12)
    video, label = torch.randn(8, 3, 8, 96, 96), torch.arange(8)
    for _ in range(12):
        loss = F.cross_entropy(model(video), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    assert loss < 0.05


@pytest.mark.parametrize("name", ["video_swin_mini", *MINIS])
def test_bad_video_is_named_with_its_remedy(name):
    model = backbones.backbone(name)
    bad = {
        "normalised floats": torch.zeros(1, 3, 8, 96, 96, dtype=torch.uint8),
        "channel-last.*b t h w c -> b c t h w": torch.zeros(1, 8, 96, 96, 3),
        "frames before channels.*b t c h w": torch.zeros(1, 8, 3, 96, 96),
        "add the axis": torch.zeros(3, 8, 96, 96),
        "channel-last": torch.zeros(1, 3, 96, 96, 3),  # of three frames
        r"video is torch.float64, the weights are torch.float32; hand in video.to\(torch.float32\)": torch.zeros(
            1, 3, 8, 96, 96, dtype=torch.float64
        ),
        "video is torch.float16": torch.zeros(1, 3, 8, 96, 96, dtype=torch.float16),
    }
    if name == "video_swin_mini":
        bad["8 frames of 4 x 96 pixels hold no patch of 8 x 8"] = torch.zeros(1, 3, 8, 4, 96)
        bad["0 frames"] = torch.zeros(1, 3, 0, 96, 96)
    else:
        bad["height 90 does not divide into patches of 16; resize or sample to 96"] = torch.zeros(1, 3, 8, 90, 96)
    if name == "vivit_mini":
        bad["length 7 does not divide into patches of 2"] = torch.zeros(1, 3, 7, 96, 96)
    for message, video in bad.items():
        with pytest.raises((TypeError, ValueError), match=message):
            model(video)
    with torch.autocast("cpu", torch.bfloat16):  # casts by itself
        assert model.eval()(torch.zeros(1, 3, 8, 96, 96, dtype=torch.bfloat16)).isfinite().all()
