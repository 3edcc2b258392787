"""Backbones whose blocks pass on class tokens beside the map: an adapter of their own, and a place in the CAA."""

import pytest
import torch

import cm3t
from cm3t import plugins
from cm3t.assembly.attach import class_tokens
from cm3t.assembly.summary import count

HEADS = {"verb": 3}
NAMES = ("vivit_mini", "clip_mini")


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    torch.manual_seed(0)
    made = cm3t.create(request.param, method="mhva+pt+caa", heads=HEADS, weights=None)
    made.add_modality("audio", 6)
    return made.eval()


@pytest.fixture
def video() -> torch.Tensor:
    return torch.randn(2, 3, 8, 96, 96, generator=torch.Generator().manual_seed(0))


def test_the_map_and_its_class_tokens_come_back_in_place(model, video):
    backbone = model.backbone
    x = backbone.embed(video)
    plane, extra = backbone.split(x)
    assert extra is not None and extra.shape[1] == class_tokens(backbone, backbone.clip)
    row = plugins.to_tokens(plane, extra)
    assert row.shape[1] == plane.shape[1] * plane.shape[2] * plane.shape[3] + extra.shape[1]
    assert torch.equal(backbone.join(*plugins.from_tokens(row, plane.shape)), x)


def test_an_adapter_has_one_more_cell_for_class_tokens_and_swin_has_none(model):
    assert [len(adapter.down) for adapter in model.adapters] == [5] * len(model.adapters)
    swin = cm3t.create("video_swin_mini", method="mhva", weights=None)
    assert [len(adapter.down) for adapter in swin.adapters] == [adapter.cells**2 for adapter in swin.adapters]


@torch.no_grad()
def test_fresh_plugins_change_nothing_and_lively_ones_move_the_class_tokens(model, video):
    side = {"audio": torch.randn(2, 3, 6)}
    bare = cm3t.create(model.backbone.name, method="mhva+caa", heads=HEADS, weights=None)
    bare.backbone.load_state_dict(model.backbone.state_dict())
    bare.add_modality("audio", 6)
    bare.eval()
    assert torch.equal(bare.features(video, side), bare.backbone(video))
    for part, said in ((bare.adapters[0], None), (bare.side["audio"].cross["0"], side)):
        torch.nn.init.normal_(part.up if said is None else part.up.weight, std=0.5)
        block = bare.backbone.blocks[0]
        z, mlp = block.feedforward(bare.backbone.embed(video))
        heard = bare._hear(video, said, None)
        change = bare._beside_mlp(0, z, z, mlp, heard, None) - mlp
        plane, extra = bare.backbone.split(change)
        assert plane.abs().amax(-1).min() > 0 and extra.abs().amax(-1).min() > 0


def test_the_class_tokens_adapter_is_the_last_and_sees_no_other():
    torch.manual_seed(0)
    adapter = plugins.MHVA(8, 4, cells=2, class_tokens=True).double()
    for p in adapter.parameters():
        torch.nn.init.normal_(p)
    x, extra = torch.randn(2, 3, 4, 4, 8).double(), torch.randn(2, 2, 8).double()
    out, extra_out, z = adapter.branch(x, extra)
    assert torch.equal(out, adapter(x)) and z.shape == (2, 3 * 16 + 2, 4)
    own = extra @ adapter.down[-1] + adapter.down_bias[-1]
    torch.testing.assert_close(z[:, -2:], own, atol=1e-12, rtol=0)
    twin = adapter.scale * (own.relu() @ adapter.up[-1] + adapter.up_bias[-1])
    torch.testing.assert_close(extra_out, twin, atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="class_tokens=True"):
        plugins.MHVA(8, 4, cells=2).double().branch(x, extra)


@pytest.mark.parametrize("cells, times", [(1, 1), (2, 1), (2, 3)])
def test_the_bottleneck_has_every_token_in_its_place_before_the_relu(cells, times):
    torch.manual_seed(0)
    adapter = plugins.MHVA(8, 4, cells=cells, time_cells=times).double()
    x = torch.randn(2, 3, 4, 4, 8).double()
    z = adapter.branch(x)[2].reshape(2, 3, 4, 4, 4)
    for t in range(3):
        for h in range(4):
            for w in range(4):
                cell = ((h * cells // 4) * cells + w * cells // 4) * times + t * times // 3
                twin = x[:, t, h, w] @ adapter.down[cell] + adapter.down_bias[cell]
                torch.testing.assert_close(z[:, t, h, w], twin, atol=1e-12, rtol=0)
    assert z.min() < 0


def test_a_shared_adapter_treats_class_tokens_as_all_others():
    torch.manual_seed(0)
    adapter = plugins.ParallelAdapter(8, 4).double()
    torch.nn.init.normal_(adapter.up)
    x, extra = torch.randn(2, 3, 4, 4, 8).double(), torch.randn(2, 2, 8).double()
    out, extra_out, z = adapter.branch(x, extra)
    torch.testing.assert_close(out, adapter(x), atol=1e-12, rtol=0)
    torch.testing.assert_close(extra_out, adapter(extra), atol=1e-12, rtol=0)
    assert z.shape == (2, 50, 4)
    twin = torch.cat([x.flatten(1, 3), extra], 1) @ adapter.down[0] + adapter.down_bias[0]
    torch.testing.assert_close(z, twin, atol=1e-12, rtol=0)
    assert z.min() < 0, "before the ReLU: cross-attention reads both signs"


def test_time_cells_must_divide_the_frames():
    with pytest.raises(ValueError, match="time_cells=2 does not divide the 3 frames"):
        plugins.MHVA(8, 4, time_cells=2)(torch.zeros(1, 3, 4, 4, 8))


def test_cells_of_a_class_token_are_counted():
    with torch.device("meta"):
        vit = cm3t.create("vit_b", method="mhva")
    r = 768 // 4
    assert count(vit.adapters) == 12 * (5 * (2 * 768 * r + r + 768) + 1)


def test_two_sizes_before_one_way_back_with_checkpointing(model):
    """What is computed again on the way back is of its own video, though another came since."""
    videos = [torch.randn(1, 3, 4, size, 64) for size in (96, 64)]
    side = {"audio": torch.randn(1, 3, 6)}
    gradients = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        sum(model(video, side)["verb"].square().sum() for video in videos).backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    model.checkpointing = False
    model.zero_grad()
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 20
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)
    assert model.backbone.seen[1:] == (4, 4)  # of the last video, as before
