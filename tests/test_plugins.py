"""The plugins alone: no-op at step 0, gradients, parameter counts, cells, and what they refuse."""

import re

import pytest
import torch

from cm3t import plugins


def numel(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("cells", [1, 2, 3])
def test_a_fresh_adapter_adds_exact_zeros(cells):
    x = torch.randn(2, 2, 6, 6, 8)
    assert not plugins.MultiHeadVisionAdapter(8, 2, cells=cells)(x).any()
    assert not plugins.ParallelAdapter(8, 2)(x).any()


@pytest.mark.parametrize("width, r, g, length", [(1, 1, 1, 1), (8, 3, 2, 5), (37, 20, 4, 9)])
def test_parameter_formulas(width, r, g, length):
    """MHVA: h (2Cr + r + C) + 1 with h = g * g; AdaptFormer the same with h = 1 and no scale; PT: l C."""
    assert numel(plugins.MHVA(width, r, cells=g)) == g * g * (2 * width * r + r + width) + 1
    assert numel(plugins.ParallelAdapter(width, r)) == 2 * width * r + r + width
    assert numel(plugins.PrefixTuning(width, length)) == length * width


def test_every_parameter_gets_a_gradient_once_the_up_projection_has_moved():
    torch.manual_seed(0)
    adapter = plugins.MHVA(8, 4)
    torch.nn.init.normal_(adapter.up)
    adapter(torch.randn(2, 2, 4, 4, 8)).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in adapter.parameters())


def test_relu_of_the_projection_leaves_no_row_of_the_embedding_without_gradient():
    torch.manual_seed(0)
    prefix, weight = plugins.PrefixTuning(16, 4), torch.randn(2, 16, 16)
    sum(p.sum() for p in prefix(lambda e: (e @ weight[0], e @ weight[1]))).backward()
    assert (prefix.embedding.grad != 0).all()


def test_a_cell_sees_its_own_tokens_only():
    torch.manual_seed(0)
    adapter = plugins.MHVA(4, 32)
    torch.nn.init.normal_(adapter.up)
    x = torch.randn(1, 1, 4, 4, 4, requires_grad=True)
    adapter(x)[0, 0, :2, 2:].sum().backward()  # upper right: cell 1
    touched = x.grad[0, 0].abs().sum(-1) > 0
    assert torch.equal(touched, adapter.cell_map(4, 4) == 1)
    assert [i for i, grad in enumerate(adapter.down.grad) if grad.any()] == [1]


def test_cell_map_is_in_raster_order():
    expected = torch.tensor([[0, 0, 1, 1], [2, 2, 3, 3]])
    assert torch.equal(plugins.MHVA(4, 2).cell_map(2, 4), expected)


def test_cells_that_do_not_divide_the_map_name_its_sides_and_what_does():
    with pytest.raises(ValueError, match=r"cells=5 .* 12 x 6 .* use one of 1, 2, 3, 6 per side"):
        plugins.MHVA(4, 2, cells=5)(torch.zeros(1, 1, 12, 6, 4))


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: plugins.ParallelAdapter(0, 4), "width must be"),
        (lambda: plugins.ParallelAdapter(8, 0), "bottleneck must be"),
        (lambda: plugins.ParallelAdapter(8, 2.5), "bottleneck must be an integer"),
        (lambda: plugins.ParallelAdapter(8, 2, dropout=1.0), "dropout must be"),
        (lambda: plugins.MHVA(8, 2, cells=0), "cells must be"),
        (lambda: plugins.PrefixTuning(8, 0), "length must be"),
        (lambda: plugins.PrefixTuning(8, 2, activation="gelu"), "relu, tanh; got 'gelu'"),
        (lambda: plugins.PrefixTuning(8, 2, dropout=-0.1), "dropout must be"),
    ],
)
def test_bad_settings_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    prefix = plugins.PrefixTuning(64, 8, dropout=0.5)
    same = lambda: prefix(lambda e: (e, e))[0]  # noqa: E731
    assert not torch.equal(same(), same())
    prefix.eval()
    assert torch.equal(same(), same())


@pytest.mark.parametrize("plugin", [plugins.ParallelAdapter, plugins.MHVA, plugins.PrefixTuning, plugins.AdapterFusion])
def test_equations_that_the_paper_lacks_are_said_to_be_reconstructed(plugin):
    choice = " ".join(plugin.__doc__.partition("Choice:")[2].split())
    assert "Eq. (" in plugin.__doc__ and re.search(r"equations? [\d and-]+ (is|are) blank in the public text", choice)
