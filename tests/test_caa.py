"""Cross-attention adapters against twins written as loops over single tokens, and what they promise."""

import math

import pytest
import torch

from cm3t import plugins
from cm3t.plugins.caa import FORMS

B, N, A = 2, 5, 3


def lively(module: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere, in float64: zero-initialised parts would hide their errors."""
    torch.manual_seed(0)
    module = module.double()
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return module


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def one_sample(q, k, v, form: str):
    """O (N, a) of one sample, a number at a time: Q (N, a), K (L, a), V (N, a), or (L, a) for `standard`."""
    n, length, a = len(q), len(k), q.shape[1]
    s = [[sum(float(q[i, c] * k[j, c]) for c in range(a)) / math.sqrt(a) for j in range(length)] for i in range(n)]
    if form == "token_gate":
        gates = [1 / (1 + math.exp(-sum(row) / length)) for row in s]
        return [[gates[i] * float(v[i, c]) for c in range(a)] for i in range(n)]
    gathered = v.tolist()  # standard: the side's own values
    if form == "double":
        gather = [softmax([s[i][j] for i in range(n)]) for j in range(length)]
        gathered = [[sum(gather[j][i] * float(v[i, c]) for i in range(n)) for c in range(a)] for j in range(length)]
    take = [softmax(row) for row in s]
    return [[sum(take[i][j] * gathered[j][c] for j in range(length)) for c in range(a)] for i in range(n)]


@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_equals_its_loop_for_any_number_of_side_tokens(form, length):
    q, k = random(B, N, A), random(B, length, A)
    v = random(B, length if form == "standard" else N, A + 1)[..., :A]
    twin = torch.tensor([one_sample(q[b], k[b], v[b], form) for b in range(B)], dtype=torch.float64)
    torch.testing.assert_close(plugins.cross_attention(q, k, v, form), twin, atol=1e-12, rtol=0)


@pytest.mark.parametrize("options", [{}, {"source": None}, {"affine": True}, {"output": True}, {"up": False}])
@pytest.mark.parametrize("form", FORMS)
def test_the_projections_stand_where_the_docstring_says(form, options):
    caa = lively(plugins.CAA(8, A, side_width=6, **{"source": 4, "form": form} | options))
    x, side = random(B, N, 8 if options.get("source", 4) is None else 4), random(B, 2, 6)
    z = x @ caa.down.weight.T + caa.down.bias if caa.down is not None else x
    z = z - z.mean(-1, keepdim=True)
    z = z / (z.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    if options.get("affine"):
        z = z * caa.norm_source.weight + caa.norm_source.bias
    m = side - side.mean(-1, keepdim=True)
    m = m / (m.square().mean(-1, keepdim=True) + 1e-5).sqrt() * caa.norm.weight + caa.norm.bias
    linear = lambda layer, of: of @ layer.weight.T + layer.bias  # noqa: E731
    q, k, v = linear(caa.query, z), linear(caa.key, m), linear(caa.value, m if form == "standard" else z)
    hidden = torch.stack(
        [torch.tensor(one_sample(*(t[b].detach() for t in (q, k, v)), form), dtype=torch.float64) for b in range(B)]
    )
    hidden = linear(caa.output, hidden) if caa.output is not None else hidden
    said = caa(x, side)
    torch.testing.assert_close(said.query, q, atol=1e-12, rtol=0)
    if caa.up is None:
        assert said.out is None
        torch.testing.assert_close(said.hidden, caa.scale * hidden, atol=1e-12, rtol=0)
    else:
        torch.testing.assert_close(said.out, caa.scale * linear(caa.up, hidden), atol=1e-12, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_a_fresh_adapter_adds_exact_zeros_and_the_first_gradient_reaches_its_up_projection(form):
    caa = plugins.CAA(8, A, side_width=6, source=4, form=form)
    out = caa(torch.randn(B, N, 4), torch.randn(B, 3, 6)).out
    assert not out.any()
    (out - 1).square().sum().backward()
    assert caa.up.weight.grad.any() and caa.up.bias.grad.any()


@pytest.mark.parametrize("form", FORMS)
def test_every_parameter_gets_a_gradient_once_the_up_projection_has_moved(form):
    caa = lively(plugins.CAA(8, A, side_width=6, source=None, form=form, affine=True, output=True))
    caa(random(B, N, 8), random(B, 4, 6)).out.square().sum().backward()
    blank = {name for name, p in caa.named_parameters() if not p.grad.abs().max() > 1e-12}
    # A shift of all logits of a row cancels in a softmax over that row: the query's bias acts through the other one.
    assert blank <= ({"key.bias"} if form == "standard" else set())


def toy(kind: str, n: int, rng: torch.Generator):
    """Vision (n, 8, 32), side (n, 4, 16), label: "told" by the side alone, or "selected" by it among four contents."""
    fixed = torch.Generator().manual_seed(5)
    prototypes, keys, mark = (torch.randn(*shape, generator=fixed) for shape in ((4, 16), (4, 32), (32,)))
    which, signs = torch.randint(4, (n,), generator=rng), torch.randint(2, (n, 4), generator=rng)
    side = prototypes[which][:, None] + 0.5 * torch.randn(n, 4, 16, generator=rng)
    vision = 0.3 * torch.randn(n, 8, 32, generator=rng)
    if kind == "told":
        return vision, side, which
    vision[:, :4] += keys + (2 * signs[..., None] - 1) * mark
    return vision, side, signs[torch.arange(n), which]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, form, low, high",
    [("told", "double", 0.6, 1), ("selected", "double", 0.9, 1), ("selected", "standard", 0.5, 0.85)],
)
def test_double_attention_learns_what_the_side_tells_and_what_it_selects(kind, form, low, high):
    """One adapter, its residual, a mean and a linear head. `standard` only adds what the side says: no selection."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(1)
    caa, head = plugins.CAA(32, 8, side_width=16, source=None, form=form), torch.nn.Linear(32, 4)
    answer = lambda x, side: head((x + caa(x, side).out).mean(1))  # noqa: E731
    optimizer = torch.optim.AdamW([*caa.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(400):
        x, side, label = toy(kind, 64, rng)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(answer(x, side), label).backward()
        optimizer.step()
    x, side, label = toy(kind, 1000, rng)
    assert low < (answer(x, side).argmax(1) == label).float().mean() < high + 1e-6


def test_one_side_token_gives_every_vision_token_the_same_answer():
    hidden = plugins.cross_attention(random(B, N, A), random(B, 1, A), random(B, N, A))
    torch.testing.assert_close(hidden, hidden[:, :1].expand_as(hidden), atol=1e-12, rtol=0)


def test_the_side_reaches_the_output_and_its_order_does_not_matter():
    caa, x, side = lively(plugins.CAA(8, A, side_width=6, source=4)), random(B, N, 4), random(B, 3, 6)
    out = caa(x, side).out
    assert (out - caa(x, side.flip(0)).out).abs().amax(-1).min() > 1e-6
    torch.testing.assert_close(caa(x, side.flip(1)).out, out, atol=1e-12, rtol=0)


def test_the_parameter_formula():
    """2 (r^2 + r) + d_m r + r + 2 d_m + r C + C + 1, with a = r."""
    numel = sum(p.numel() for p in plugins.CAA(16, 4, side_width=10, source=4).parameters())
    assert numel == 2 * (16 + 4) + 40 + 4 + 20 + 64 + 16 + 1


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="double, standard, token_gate; got 'literal'"):
        plugins.CAA(8, A, side_width=6, source=4, form="literal")


def test_sequential_attention_equals_its_loop_and_starts_as_nothing():
    fresh = plugins.MMCA(8, A, side_width=6)
    assert not fresh(torch.randn(B, N, 8), torch.randn(B, 3, 6)).any()
    module, x, side = lively(fresh), random(B, N, 8), random(B, 3, 6)
    norm = lambda layer, t: torch.nn.functional.layer_norm(t, t.shape[-1:], layer.weight, layer.bias)  # noqa: E731
    linear = lambda layer, of: of @ layer.weight.T + layer.bias  # noqa: E731
    q, m = linear(module.query, norm(module.norm, x)), norm(module.norm_side, side)
    k, v = linear(module.key, m), linear(module.value, m)
    twin = [one_sample(q[b].detach(), k[b].detach(), v[b].detach(), "standard") for b in range(B)]
    twin = linear(module.up, torch.tensor(twin, dtype=torch.float64))
    torch.testing.assert_close(module(x, side), twin, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "kind, length, tokens", [("linear", 40, 41), ("transformer", 32, 33), ("transformer", 400, 32)]
)
def test_side_encoders_merge_long_sequences(kind, length, tokens):
    encoder = plugins.side_encoder(kind, width=6, embed=8, length=length)
    assert encoder(torch.randn(2, length, 6)).shape == (2, tokens, 8)
    assert encoder(torch.randn(2, 1, 6)).shape == (2, 2, 8)
    with pytest.raises(ValueError, match=f"{length + 1} side tokens came; .* at most {length}"):
        encoder(torch.randn(2, length + 1, 6))


def test_a_side_encoder_hears_loudness_which_layer_norm_alone_would_not():
    encoder = lively(plugins.side_encoder("linear", width=6, embed=8, length=4))
    x = random(1, 4, 6)
    assert (encoder(x) - encoder(8 * x))[:, 1:].abs().min() > 1e-3
    assert encoder(torch.zeros_like(x)).isfinite().all()


def test_what_all_tokens_share_reaches_the_token_of_the_mean_alone():
    encoder = lively(plugins.side_encoder("linear", width=6, embed=8, length=4))
    x, microphone = random(1, 4, 6), random(1, 1, 6)
    change = (encoder(x + microphone) - encoder(x)).abs()
    assert change[:, 0].min() > 1e-3 and change[:, 1:].max() < 1e-9


def test_an_encoder_equals_its_formula_and_fills_the_last_group_up_with_zeros():
    encoder = lively(plugins.SideEncoder(2, 3, length=3, merge=2))
    x = random(1, 3, 2)
    mean = x[0].mean(0)
    rest = x[0] - mean
    norm = torch.nn.functional.layer_norm(rest, (2,), encoder.norm.weight, encoder.norm.bias)
    level = torch.stack([rest.mean(-1), rest.std(-1, unbiased=False)], -1)
    rows = torch.cat([norm, level.sign() * level.abs().log1p()], -1)
    groups = torch.stack([torch.cat([rows[0], rows[1]]), torch.cat([rows[2], torch.zeros(4)])])
    twin = torch.cat([encoder.mean(mean[None]), groups @ encoder.embed.weight.T + encoder.embed.bias])
    torch.testing.assert_close(encoder(x)[0], twin + encoder.position_embedding, atol=1e-12, rtol=0)


def test_an_encoder_of_unknown_kind_or_length_is_refused():
    with pytest.raises(ValueError, match="encoder='mlp' is not known; use one of None, linear, transformer"):
        plugins.side_encoder("mlp", width=6, embed=8, length=4)
    with pytest.raises(ValueError, match="give length="):
        plugins.side_encoder("linear", width=6, embed=8, length=None)
