"""Equations 1-6 against twins written as loops over single tokens, straight from the formulas."""

import math

import pytest
import torch

from cm3t import plugins
from cm3t.backbones.video_swin import WindowAttention3d

C, R, L = 12, 5, 3


def lively(module: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere, in float64: zero-initialised parts would hide their errors."""
    module = module.double()
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return module


def one_token(x, down, down_bias, up, up_bias):
    """Eq. 2 for one token, a number at a time."""
    r, c = len(down_bias), len(up_bias)
    hidden = [max(0.0, sum(x[i] * down[i, j] for i in range(c)) + down_bias[j]) for j in range(r)]
    return torch.stack([sum(hidden[j] * up[j, i] for j in range(r)) + up_bias[i] for i in range(c)])


def weights_of(adapter, cell):
    return (p[cell].detach() for p in (adapter.down, adapter.down_bias, adapter.up, adapter.up_bias))


def test_eq_1_and_2_adapter_equals_a_loop_over_tokens():
    torch.manual_seed(0)
    adapter = lively(plugins.ParallelAdapter(C, R, learnable_scale=True))
    x = torch.randn(2, 4, C, dtype=torch.float64)
    twin = torch.stack([torch.stack([one_token(t, *weights_of(adapter, 0)) for t in row]) for row in x])
    torch.testing.assert_close(adapter(x), adapter.scale * twin, atol=1e-12, rtol=0)


@pytest.mark.parametrize("cells, height, width", [(1, 4, 6), (2, 4, 6), (3, 3, 6)])
def test_eq_6_grouped_einsum_equals_a_loop_over_heads_and_tokens(cells, height, width):
    torch.manual_seed(0)
    adapter = lively(plugins.MultiHeadVisionAdapter(C, R, cells=cells))
    x = torch.randn(2, 2, height, width, C, dtype=torch.float64)
    twin = torch.empty_like(x)
    for b in range(2):
        for t in range(2):
            for h in range(height):
                for w in range(width):
                    cell = (h * cells // height) * cells + w * cells // width
                    twin[b, t, h, w] = one_token(x[b, t, h, w], *weights_of(adapter, cell))
    torch.testing.assert_close(adapter(x), adapter.scale.detach() * twin, atol=1e-12, rtol=0)


def test_eq_6_with_one_cell_is_eq_1_bit_for_bit():
    torch.manual_seed(0)
    one = plugins.MultiHeadVisionAdapter(C, R, cells=1, learnable_scale=False, scale=0.1)
    torch.nn.init.normal_(one.up)
    shared = plugins.ParallelAdapter(C, R, scale=0.1)
    shared.load_state_dict(one.state_dict())
    x = torch.randn(2, 4, 6, 6, C)
    assert torch.equal(one(x), shared(x))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_eq_4_prefix_keys_and_values_are_activated_projections(activation):
    torch.manual_seed(0)
    attention = lively(WindowAttention3d(C, window=(1, 2, 2), shift=(0, 0, 0), heads=2)).requires_grad_(False)
    prefix = plugins.PrefixTuning(C, L, activation=activation).double().requires_grad_(False)
    p_k, p_v = prefix(attention.project_prefix)
    act = {"relu": lambda a: max(a, 0.0), "tanh": math.tanh}[activation]
    for row in range(L):
        for column in range(C):
            for out, offset in ((p_k, C), (p_v, 2 * C)):
                w = attention.qkv.weight[offset + column]
                expected = act(sum(float(prefix.embedding[row, i] * w[i]) for i in range(C)))
                assert float(out[row, column]) == pytest.approx(expected, abs=1e-12)


def test_eq_3_and_5_gate_by_hand_equals_concatenated_keys_and_values():
    """Attention over [P_k; K] and [P_v; V] is Eq. 3 with lambda of Eq. 5, bias and shift mask on the self part."""
    torch.manual_seed(0)
    heads, n, d = 2, 8, C // 2
    attention = lively(WindowAttention3d(C, window=(2, 2, 2), shift=(0, 0, 0), heads=heads)).requires_grad_(False)
    x = torch.randn(1, 1, n, C, dtype=torch.float64)
    mask = torch.randn(1, heads, n, n, dtype=torch.float64)
    p_k, p_v = plugins.PrefixTuning(C, L, init_std=1.0).double().requires_grad_(False)(attention.project_prefix)
    q, k, v = (part[0, 0] for part in attention.qkv(x).chunk(3, -1))
    rows = []
    for i in range(n):
        out = []
        for h in range(heads):
            at = slice(h * d, (h + 1) * d)
            own = torch.stack([(q[i, at] @ k[j, at] / d**0.5 + mask[0, h, i, j]).exp() for j in range(n)])
            ahead = torch.stack([(q[i, at] @ p_k[j, at] / d**0.5).exp() for j in range(L)])
            gate = ahead.sum() / (ahead.sum() + own.sum())
            found = plugins.prefix_gate(q[:, at], k[:, at], p_k[:, at], bias=mask[0, h])
            assert float(found[i]) == pytest.approx(float(gate), abs=1e-12)
            self_part, prefix_part = own / own.sum() @ v[:, at], ahead / ahead.sum() @ p_v[:, at]
            out.append((1 - gate) * self_part + gate * prefix_part)
        rows.append(torch.cat(out))
    by_hand = attention.proj(torch.stack(rows))
    torch.testing.assert_close(attention.attend(x, mask, (p_k, p_v))[0, 0], by_hand, atol=1e-10, rtol=0)
