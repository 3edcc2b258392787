"""A backbone that breaks the contract is refused at once, by the attribute and the block."""

import pytest
import torch
from torch import Tensor, nn

import cm3t
from cm3t.backbones.contract import Backbone, ContractError, check


class Block(nn.Module):
    """Two linear branches."""

    def __init__(self, width):
        super().__init__()
        self.mix, self.mlp = nn.Linear(width, width), nn.Linear(width, width)

    def attention(self, x, prefix=None):
        return self.mix(x)

    def feedforward(self, x):
        return x, nn.functional.dropout(self.mlp(x), 0.5, self.training)


class Own(nn.Module, Backbone):
    """The smallest backbone there is."""

    name, clip, prefix_length, source_classes = "own", (2, 8, 8), 2, 0

    def __init__(self, width=8):
        super().__init__()
        self.patches = nn.Conv3d(3, width, (1, 4, 4), (1, 4, 4))
        self.blocks, self.width, self.widths = nn.ModuleList([Block(width), Block(width)]), width, [width, width]

    def embed(self, video: Tensor) -> Tensor:
        return self.patches(video).movedim(1, -1)

    def advance(self, i, x):
        return x

    def pool(self, x):
        return x.mean((1, 2, 3))


class Bare(nn.Module):
    """All that the contract lists but the mixin."""

    name, clip, prefix_length, source_classes = "bare", (2, 8, 8), 2, 0
    embed, advance, pool = Own.embed, Own.advance, Own.pool

    def __init__(self):
        super().__init__()
        self.blocks, self.width, self.widths = nn.ModuleList([Block(8)]), 8, [8]


def test_a_small_backbone_of_ones_own_takes_every_plugin_but_prefixes():
    model = cm3t.CM3T(Own(), "mhva", {"verb": 3})
    assert model(torch.randn(2, 3, 2, 8, 8))["verb"].shape == (2, 3)
    with pytest.raises(ContractError, match="block 0 of 'own' has no `attn.project_prefix`"):
        cm3t.CM3T(Own(), "pt")
    with pytest.raises(ContractError, match="has no `pixels`; inherit it from cm3t.backbones.Backbone"):
        check(Bare())


def set_block(name, value):
    return lambda model: setattr(model.blocks[1], name, value)


BREACHES = {
    "2 `blocks` and 1 `widths`; it needs one each": lambda model: model.widths.pop(),
    "0 `blocks` and 0 `widths`": lambda model: (model.widths.clear(), setattr(model, "blocks", nn.ModuleList())),
    r"`embed` of 'own' gives maps of width 8, `widths\[0\]` is 4": lambda model: setattr(model, "widths", [4, 8]),
    r"`feedforward\(x\)` of block 1 of 'own', on a map of width 6 \(`widths\[1\]`\), fails": (
        lambda model: setattr(model, "widths", [8, 6])
    ),
    r"of block 1 of 'own'.* gave a Tensor, not \(norm2\(x\), branch\)": set_block("feedforward", lambda x: x),
    r"block 1 .*gave tensors of shape \[\(1, 1, 1, 1, 8\), \(1, 1, 1, 1\)\]": (
        set_block("feedforward", lambda x: (x, x.sum(-1)))
    ),
    r"block 1 of 'own': its `attention` has to be `attention\(x, prefix=None\)`": set_block("attention", lambda x: x),
    r"block 1 of 'own' has no method `attention\(x\)`": set_block("attention", None),
    "`embed` of 'own', on a clip of its own size, fails: RuntimeError": lambda model: setattr(model, "clip", (2, 2, 2)),
    r"`advance\(0, x\)` of 'own' fails: KeyError": lambda model: setattr(model, "advance", lambda i, x: {}[i]),
}


@pytest.mark.parametrize("words", BREACHES)
def test_every_breach_names_the_attribute_and_the_block(words):
    model = Own()
    BREACHES[words](model)
    with pytest.raises(ContractError, match=words):
        cm3t.CM3T(model, "mhva", {"verb": 3})


def test_looking_draws_nothing_and_leaves_every_part_in_its_mode():
    torch.manual_seed(0)
    model = Own().train()
    model.blocks[0].eval()
    state = torch.get_rng_state()
    check(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and model.blocks[1].training and not model.blocks[0].training
