"""Video Swin against torchvision, weight by weight; against a naive twin where torchvision is wrong; the contract."""

from itertools import product

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models.video import swin3d_b, swin3d_t
from torchvision.models.video.swin_transformer import SwinTransformer3d

from cm3t import backbones
from cm3t.backbones import video_swin, weights
from cm3t.backbones.contract import ContractError, check
from cm3t.backbones.video_swin import VideoSwin, WindowAttention3d

SMALL = dict(patch_size=[2, 4, 4], embed_dim=24, depths=[2, 2], num_heads=[2, 4], num_classes=5)


def lively(model: nn.Module) -> nn.Module:
    """Weights large enough that an error in any of them shows: the 0.02 of a fresh Swin hides most."""
    for p in model.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=p.shape[-1] ** -0.5 if p.shape[-1] > 8 else 1.0)
    return model.eval()


def both(window=(4, 3, 3)) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    theirs = lively(SwinTransformer3d(**SMALL, window_size=list(window)).double())
    ours = VideoSwin(name="small", clip=(8, 24, 24), window=window, **SMALL).double().eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("clip", [(8, 24, 24), (16, 48, 24), (8, 56, 40), (5, 33, 26)], ids=str)
def test_equals_torchvision_in_float64(clip):
    theirs, ours = both()
    video = torch.randn(2, 3, *clip, dtype=torch.float64)
    with torch.no_grad():
        expected, actual = theirs(video), ours(video)
    assert expected.std() > 0.1  # the comparison is about something
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("clip", [(32, 24, 24), (8, 48, 24)], ids=str)
def test_the_long_window_equals_torchvision_in_float64(clip):
    theirs, ours = both(window=(8, 3, 3))  # as Something-Something v2's, twice as long as the other
    video = torch.randn(1, 3, *clip, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(ours(video), theirs(video), rtol=0, atol=1e-10)


@pytest.mark.slow
def test_base_equals_torchvision_in_float32():
    torch.manual_seed(0)
    theirs = lively(swin3d_b())
    ours = backbones.backbone("video_swin_b", num_classes=400).eval()
    ours.load_state_dict(theirs.state_dict())
    video = torch.randn(1, 3, 16, 224, 224)
    with torch.no_grad():
        expected, actual = theirs(video), ours(video)
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("clip", [(32, 224, 224), (20, 232, 248)], ids=str)
def test_tiny_equals_torchvision_in_float32(clip):
    torch.manual_seed(0)
    theirs = lively(swin3d_t())
    ours = backbones.backbone("video_swin_t", num_classes=400).eval()
    ours.load_state_dict(theirs.state_dict())
    video = torch.randn(1, 3, *clip)
    with torch.no_grad():
        expected, actual = theirs(video), ours(video)
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


def test_base_has_torchvisions_names_shapes_and_count():
    with torch.device("meta"):
        ours, theirs = backbones.backbone("video_swin_b", num_classes=400), swin3d_b()
        bare = backbones.backbone("video_swin_b")
    shapes = {k: v.shape for k, v in ours.state_dict().items()}
    assert shapes == {k: v.shape for k, v in theirs.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == 88_048_984
    assert sum(p.numel() for p in bare.parameters()) == 87_638_984


def naive_attention(attn: WindowAttention3d, x: torch.Tensor, prefix=None) -> torch.Tensor:
    """One clipped, unshifted window, pair by pair: bias from the difference of the coordinates themselves."""
    tokens = list(product(*(range(n) for n in x.shape[1:4])))
    flat = x.flatten(1, 3)
    q, k, v = attn.qkv(flat).chunk(3, dim=-1)
    d = flat.shape[-1] // attn.heads
    spans = [2 * w - 1 for w in attn.window]
    out = torch.zeros_like(flat)
    for b, head in product(range(len(flat)), range(attn.heads)):
        cut = slice(head * d, head * d + d)
        for i, here in enumerate(tokens):
            logits, values = [], []
            if prefix is not None:
                logits += [q[b, i, cut] @ key[cut] / d**0.5 for key in prefix[0]]
                values += [value[cut] for value in prefix[1]]
            for j, there in enumerate(tokens):
                a = [p - r + w - 1 for p, r, w in zip(here, there, attn.window, strict=True)]
                row = (a[0] * spans[1] + a[1]) * spans[2] + a[2]
                logits.append(q[b, i, cut] @ k[b, j, cut] / d**0.5 + attn.relative_position_bias_table[row, head])
                values.append(v[b, j, cut])
            out[b, i, cut] = torch.softmax(torch.stack(logits), 0) @ torch.stack(values)
    return attn.proj(out).view_as(x)


@pytest.mark.parametrize("size", [(4, 3, 3), (2, 3, 3), (4, 2, 3), (3, 2, 2), (1, 1, 2)], ids=str)
@pytest.mark.parametrize("l", [0, 3])
def test_clipped_windows_equal_the_naive_twin(size, l):
    torch.manual_seed(0)
    attn = WindowAttention3d(8, window=(4, 3, 3), shift=(2, 1, 1), heads=2).double()
    nn.init.normal_(attn.relative_position_bias_table)
    x = torch.randn(1, *size, 8, dtype=torch.float64)
    prefix = tuple(torch.randn(l, 8, dtype=torch.float64) for _ in "kv") if l else None
    torch.testing.assert_close(attn(x, prefix), naive_attention(attn, x, prefix), rtol=0, atol=1e-12)


def test_torchvision_is_wrong_where_height_is_clipped():
    """The reason for the twin above: if this ever fails, torchvision has been mended and the docstring must change."""
    theirs, ours = both()
    video = torch.randn(1, 3, 8, 8, 24, dtype=torch.float64)
    with torch.no_grad():
        assert (theirs(video) - ours(video)).abs().max() > 1e-3


def test_a_prefix_is_seen_by_every_window_and_no_shift_mask_hides_it():
    torch.manual_seed(0)
    attn = WindowAttention3d(8, window=(2, 2, 2), shift=(1, 1, 1), heads=2)
    x = torch.zeros(1, 4, 4, 4, 8)
    nn.init.zeros_(attn.qkv.weight)
    nn.init.zeros_(attn.qkv.bias)
    nn.init.zeros_(attn.relative_position_bias_table)
    with torch.no_grad():
        shared = attn.proj(torch.full((8,), 1 / 9))  # one prefix value of ones among 8 tokens of zeros: weight 1 / 9
        out = attn(x, (torch.zeros(1, 8), torch.ones(1, 8)))
    inner = out[:, 1:3, 1:3, 1:3]  # a window that no border crosses holds all of its 8 tokens
    torch.testing.assert_close(inner, shared.expand_as(inner))
    assert (out - attn.proj(torch.zeros(8))).abs().amin(dim=-1).min() > 0


def test_a_default_device_of_torch_changes_no_shift_mask():
    """Masks and tables are remembered: made on the meta device they would be empty, or fail, for whoever comes next."""
    torch.manual_seed(0)
    ours = lively(VideoSwin(name="small", clip=(4, 24, 24), window=(2, 3, 3), **SMALL))
    video = torch.randn(1, 3, 8, 24, 16)  # windows that are shifted, and some that are clipped
    remembered = (video_swin._kept, video_swin._shift_mask)
    for cache in remembered:
        cache.cache_clear()
    with torch.no_grad():
        expected = ours(video)
        for cache in remembered:
            cache.cache_clear()
        with torch.device("meta"):
            twin = VideoSwin(name="small", clip=(4, 24, 24), window=(2, 3, 3), **SMALL)
            assert twin(torch.zeros(video.shape)).shape == expected.shape
            assert torch.equal(ours(video), expected)


def test_features_are_the_loop_over_blocks():
    model = lively(backbones.backbone("video_swin_mini"))
    video = torch.randn(2, 3, *model.clip)
    with torch.no_grad():
        x = model.embed(video)
        for i, block in enumerate(model.blocks):
            x = block(model.advance(i, x))
        assert torch.equal(model(video), model.pool(x))
    assert model(video).shape == (2, model.width)
    assert len(model.widths) == len(model.blocks)


def test_unknown_backbone_lists_the_known():
    with pytest.raises(ValueError, match="video_swin_mini"):
        backbones.backbone("video_swim_mini")


def test_contract_names_the_attribute_and_the_block():
    model = backbones.backbone("video_swin_mini")
    check(model, prefixes=True)
    model.blocks[3].attn = nn.Identity()
    check(model)
    with pytest.raises(ContractError, match="block 3 .*project_prefix"):
        check(model, prefixes=True)
    with pytest.raises(ContractError, match="`name`"):
        check(nn.Linear(1, 1))


@pytest.mark.slow
def test_weights_round_trip_and_every_misfit_is_listed(tmp_path):
    torch.manual_seed(0)
    model = backbones.backbone("video_swin_mini", num_classes=3)
    path = tmp_path / "mini.safetensors"
    weights.save(model, path, metadata={"backbone": "video_swin_mini"}, half=False)
    again = backbones.backbone("video_swin_mini", num_classes=3, weights=path)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())
    backbones.backbone("video_swin_mini", weights=path)  # a head left over is no misfit

    tensors, _ = weights.read(path)
    tensors["norm.bias"] = torch.zeros(7)
    tensors["norm.bais"] = tensors.pop("norm.weight")
    save_file(tensors, path)
    with pytest.raises(weights.WeightsError) as error:
        backbones.backbone("video_swin_mini", weights=path)
    for line in ("missing key norm.weight", "unexpected key norm.bais", "norm.bias has shape (7,)"):
        assert line in str(error.value)
