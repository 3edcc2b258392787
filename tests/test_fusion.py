"""AdapterFusion against a loop over samples and tokens, and what it promises about modalities that are missing."""

import math

import pytest
import torch

from cm3t import plugins

M, B, N, A, C = 3, 5, 5, 3, 6
# All three, the second, the first, none, the first and the third.
PRESENT = torch.tensor([[1, 0, 1, 0, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 1]], dtype=torch.bool)


@pytest.fixture
def fusion() -> plugins.AdapterFusion:
    torch.manual_seed(0)
    made = plugins.AdapterFusion(C, A).double()
    for p in made.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return made


@pytest.fixture
def said() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, hidden and output of M modalities."""
    rng = torch.Generator().manual_seed(1)
    return tuple(torch.randn(M, B, N, width, dtype=torch.float64, generator=rng) for width in (A, A, C))


def one_token(fusion, query, hidden, out):
    """Eq. 7-10 for one token over the modalities present: query, hidden (n, a), out (n, C) -> y (C,), weights."""
    n = len(query)
    if n == 0:
        return torch.zeros(C, dtype=torch.float64), []
    q = sum(query) / n
    k = [fusion.key.weight @ o + fusion.key.bias for o in hidden]
    v = [fusion.value.weight @ o + fusion.value.bias for o in hidden]
    logits = [float((q @ one).detach()) / math.sqrt(A) for one in k]
    weights = [math.exp(one) / sum(map(math.exp, logits)) for one in logits]
    y = fusion.up.weight @ sum(a * one for a, one in zip(weights, v, strict=True)) + fusion.up.bias
    if out is not None:
        y = y + sum(a * one for a, one in zip(weights, out, strict=True))
    return n * y, weights


@pytest.mark.parametrize("with_out", [True, False])
def test_eq_7_to_10_equal_a_loop_over_samples_and_tokens(fusion, said, with_out):
    query, hidden, out = said
    out = out if with_out else None
    y, weights = fusion(query, hidden, out, PRESENT)
    for b in range(B):
        there = [m for m in range(M) if PRESENT[m, b]]
        for i in range(N):
            parts = [None if part is None else [part[m, b, i] for m in there] for part in (query, hidden, out)]
            twin, shares = one_token(fusion, *parts)
            torch.testing.assert_close(y[b, i], twin, atol=1e-12, rtol=0)
            assert weights[there, b, i].tolist() == pytest.approx(shares, abs=1e-12)
            assert all(weights[m, b, i] == 0 for m in range(M) if m not in there)


def test_a_fresh_fusion_is_plain_addition_of_whatever_is_present(said):
    y, _ = plugins.AdapterFusion(C, A).double()(*said, PRESENT)
    torch.testing.assert_close(y, plugins.add(said[2], PRESENT), atol=1e-12, rtol=0)
    twin = torch.stack([sum((said[2][m, b] for m in range(M) if PRESENT[m, b]), 0 * y[0]) for b in range(B)])
    torch.testing.assert_close(y, twin, atol=1e-12, rtol=0)


def test_the_order_of_modalities_does_not_matter(fusion, said):
    order = torch.tensor([2, 0, 1])
    y, weights = fusion(*said, PRESENT)
    moved, moved_weights = fusion(*(part[order] for part in said), PRESENT[order])
    torch.testing.assert_close(moved, y, atol=1e-12, rtol=0)
    torch.testing.assert_close(moved_weights, weights[order], atol=1e-12, rtol=0)


@pytest.mark.parametrize("join", ["fusion", "add"])
def test_what_is_absent_reaches_neither_output_nor_gradient_even_as_nan(fusion, said, join):
    results = []
    for garbage in (0.0, float("nan"), float("inf")):
        parts = [torch.where(PRESENT[:, :, None, None], part, garbage).requires_grad_(True) for part in said]
        y = fusion(*parts, PRESENT)[0] if join == "fusion" else plugins.add(parts[2], PRESENT)
        fusion.zero_grad()
        y.square().sum().backward()
        grads = [parts[2].grad] if join == "add" else [*(p.grad for p in parts), *(p.grad for p in fusion.parameters())]
        assert all(grad.isfinite().all() for grad in grads)
        assert not parts[2].grad[~PRESENT].any()
        results.append([y, *grads])
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


def test_weights_sum_to_one_over_what_is_present_and_one_alone_has_all(fusion, said):
    y, weights = fusion(*said, PRESENT)
    torch.testing.assert_close(weights.sum(0), PRESENT.any(0).double()[:, None].expand(B, N), atol=1e-12, rtol=0)
    assert (weights[1, 1] == 1).all() and not y[3].any()


def test_every_parameter_gets_a_gradient_with_two_modalities_and_the_key_none_with_one(fusion, said):
    fusion(*said, PRESENT)[0].square().sum().backward()
    names = {name for name, p in fusion.named_parameters() if p.grad.abs().max() > 1e-12}
    assert names == set(dict(fusion.named_parameters())) - {"key.bias"}  # it moves all modalities' logits alike
    fusion.zero_grad()
    fusion(*(part[:1] for part in said), PRESENT[:1])[0].square().sum().backward()
    assert fusion.key.weight.grad.abs().max() < 1e-12 and fusion.value.weight.grad.any()


def test_a_fresh_fusion_starts_to_learn_its_weights_at_once(said):
    fresh = plugins.AdapterFusion(C, A).double()
    fresh(*said, PRESENT)[0].square().sum().backward()
    assert fresh.key.weight.grad.any() and fresh.up.weight.grad.any()
