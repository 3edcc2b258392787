"""What the window attention keeps for its backward pass, and that it treats the clips of a batch alike."""

import pytest
import torch

from cm3t.backbones.video_swin import WindowAttention3d

N, L, WIDTH = 2 * 3 * 3, 4, 16
CASES = {  # size of the map, shift, and how many N x N masks a head needs
    "one window": ((2, 3, 3), (1, 1, 1), 1),
    "windows": ((2, 6, 6), (0, 0, 0), 1),
    "shifted windows, padded": ((4, 8, 9), (1, 1, 1), 2 * 3 * 3),
}


def attention(shift: tuple, trained_bias: bool = False) -> WindowAttention3d:
    torch.manual_seed(0)
    module = WindowAttention3d(WIDTH, window=(2, 3, 3), shift=shift, heads=2).requires_grad_(False)
    torch.nn.init.normal_(module.relative_position_bias_table)
    module.relative_position_bias_table.requires_grad_(trained_bias)
    return module


def prefix(length: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    return (torch.randn(length, WIDTH), torch.randn(length, WIDTH)) if length else None


def kept_squares(module: WindowAttention3d, batch: int, size: tuple, length: int, dtype: torch.dtype) -> list[int]:
    """Bytes of each kept storage seen as (..., N, l + N): the mask, and the softmax where a slow kernel keeps one."""
    kept = {}

    def pack(saved: torch.Tensor) -> torch.Tensor:
        if saved.shape[-2:] == (N, length + N):
            kept[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes()
        return saved

    x = torch.randn(batch, *size, WIDTH, requires_grad=True)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved),
        torch.autocast("cpu", dtype, dtype != torch.float32),
    ):
        _out = module(x, prefix(length))  # its graph, alive to the end, keeps every address from being used twice
    return list(kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("length", [0, L])
@pytest.mark.parametrize("where", CASES)
def test_a_frozen_attention_keeps_one_mask_whatever_the_batch_and_no_softmax(where, length, dtype):
    size, shift, masks = CASES[where]
    for batch in (1, 3):
        kept = kept_squares(attention(shift), batch, size, length, dtype)
        assert kept == [masks * 2 * N * (length + N) * dtype.itemsize]


def test_a_trained_bias_takes_the_slow_kernel_so_the_count_above_can_fail():
    size, shift, _ = CASES["windows"]
    slow = kept_squares(attention(shift, trained_bias=True), 3, size, 0, torch.float32)
    assert sum(slow) >= 3 * 4 * 2 * N * N * 4  # a softmax a clip, window and head


@pytest.mark.parametrize("length", [0, L])
@pytest.mark.parametrize("where", CASES)
def test_a_batch_is_its_clips(where, length):
    size, shift, _ = CASES[where]
    module, x = attention(shift).double(), torch.randn(3, *size, WIDTH, dtype=torch.float64)
    given = prefix(length)
    given = given and tuple(p.double() for p in given)
    alone = torch.cat([module(clip[None], given) for clip in x])
    assert alone.std() > 0.01
    torch.testing.assert_close(module(x, given), alone, rtol=0, atol=1e-12)
    assert not torch.allclose(module(x.flip(0), given), alone)
