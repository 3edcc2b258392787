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


def set_own(name, value):
    return lambda model: setattr(model, name, value)


def set_advance(change):
    return lambda model: setattr(model, "advance", lambda i, x: change(x) if i == 1 else x)


BREACHES = {
    "2 `blocks` and 1 `widths`; it needs one each": lambda model: model.widths.pop(),
    "0 `blocks` and 0 `widths`": lambda model: (model.widths.clear(), setattr(model, "blocks", nn.ModuleList())),
    r"`embed` of 'own' gives maps of width 8, `widths\[0\]` is 4": lambda model: setattr(model, "widths", [4, 8]),
    r"`advance\(1, x\)` of 'own' gives maps of width 8, `widths\[1\]` is 6": lambda model: setattr(
        model, "widths", [8, 6]
    ),
    r"`advance\(1, x\)` of 'own' gives maps of width 4, `widths\[1\]` is 8": set_advance(lambda x: x[..., :4]),
    r"`advance\(1, x\)` of 'own' gives a tensor of shape \(1, 2, 2, 8\), not a map": set_advance(lambda x: x[:, 0]),
    r"`advance\(1, x\)` of 'own' fails: ZeroDivisionError": set_advance(lambda x: x / (1 // 0)),
    r"`feedforward\(x\)` of block 1 of 'own'.*a tensor of shape .*, not \(norm2\(x\), branch\)": (
        set_block("feedforward", lambda x: x)
    ),
    r"`feedforward\(x\)` of block 1 of 'own'.* gives a list, not": set_block("feedforward", lambda x: [x, x]),
    r"block 1 .*gives a tensor of shape \(1, 2, 2, 2\), not \(norm2": set_block(
        "feedforward", lambda x: (x, x.sum(-1))
    ),
    r"`attention\(x\)` of block 1 of 'own', on x of shape \(1, 2, 2, 2, 8\), gives a tuple, not the branch": (
        set_block("attention", lambda x, prefix=None: (x, None))
    ),
    r"`attention\(x\)` of block 1 of 'own'.* gives a tensor of shape \(1, 2, 2, 2, 4\)": (
        set_block("attention", lambda x, prefix=None: x[..., :4])
    ),
    r"`attention\(x\)` of block 1 of 'own'.* gives a tensor of shape \(1, 2, 2, 2, 1\)": (  # it would broadcast
        set_block("attention", lambda x, prefix=None: x[..., :1])
    ),
    r"`pool\(x\)` of 'own' gives a tensor of shape \(1, 2, 2, 2, 8\), not features": set_own("pool", lambda x: x),
    r"`pool\(x\)` of 'own' gives .* \(1, 4\), not features \(B, D\), D its `width`: \(1, 8\)": (
        set_own("pool", lambda x: x.mean((1, 2, 3))[:, :4])
    ),
    r"`embed` of 'own' gives a tensor of shape \(1, 2, 4, 8\), not a map .*`split` makes one of it": (
        set_own("embed", lambda video: Own.embed(Own(), video).flatten(2, 3))
    ),
    r"`embed` of 'own' gives a tuple, not a map": set_own("embed", lambda video: (video, video)),
    r"`split\(x\)` of 'own', on `embed`.* gives a tensor of shape .*, not a pair": set_own("split", lambda x: x),
    r"`split\(x\)` of 'own'.*gives a tensor of shape \(1, 8\) as extra tokens": (
        set_own("split", lambda x: (x, x[:, 0, 0, 0]))
    ),
    r"`join\(\*split\(x\)\)` of 'own'.* gives a tensor of shape \(1, 2, 2, 8\), not shaped as x": (
        set_own("join", lambda x, extra: x[:, 0])
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


def opened(model: Own, hears=lambda x, prefix: x if prefix is None else x + prefix[1].mean(0)) -> Own:
    """The same network, of which prefix tuning can open the attention."""
    for block in model.blocks:
        block.attn = nn.Module()
        block.attn.project_prefix = lambda embedding: (embedding, embedding)
        block.attention = lambda x, prefix=None, block=block: block.mix(hears(x, prefix))
    return model


def test_what_prefix_tuning_reads_is_looked_at_too():
    model = opened(Own())
    check(model, prefixes=True)
    model.prefix_length = 3
    model.blocks[1].attn.project_prefix = lambda embedding: (embedding, embedding[:1])
    with pytest.raises(
        ContractError, match=r"`attn.project_prefix\(E\)` of block 1 of 'own' gives .* \(1, 8\), not .k, v."
    ):
        check(model, prefixes=True)
    model.blocks[1].attn.project_prefix = lambda embedding: embedding
    with pytest.raises(ContractError, match=r"of block 1 of 'own' gives a tensor of shape \(3, 8\), not .k, v."):
        check(model, prefixes=True)


def test_an_attention_that_ignores_its_prefix_is_named():
    words = r"`attention\(x, prefix\)` of block 1 of 'own', on x of .* it ignores the prefix \(k, v\); .* without `pt`"
    model = opened(Own())
    model.blocks[1].attention = lambda x, prefix=None: model.blocks[1].mix(x)
    for make in (lambda: check(model, prefixes=True), lambda: cm3t.CM3T(model, "mhva+pt", {"verb": 3})):
        with pytest.raises(ContractError, match=words):
            make()
    check(model)
    nn.init.zeros_(model.blocks[1].mix.weight)
    nn.init.zeros_(model.blocks[1].mix.bias)
    check(model, prefixes=True)  # behind a gate that starts at 0 nobody can tell
    with torch.device("meta"):
        check(opened(Own(), hears=lambda x, prefix: x), prefixes=True)  # nor where there are no values


def test_a_backbone_of_ones_own_is_walked_once_and_one_of_the_packages_is_not(monkeypatch):
    model, calls = Own(), []
    monkeypatch.setattr(Block, "attention", lambda self, x, prefix=None: calls.append(x.shape) or self.mix(x))
    cm3t.CM3T(model, "mhva", {"verb": 3})
    assert calls == [(1, 2, 2, 2, 8)] * 2
    calls.clear()
    check(opened(Own(), hears=lambda x, prefix: calls.append(x.shape) or (x if prefix is None else -x)), prefixes=True)
    assert len(calls) == 4
    calls.clear()
    ours = cm3t.backbone("vivit_mini")
    monkeypatch.setattr(type(ours.blocks[0]), "attention", lambda self, x, prefix=None: calls.append(x.shape))
    check(ours, prefixes=True)
    assert not calls


def test_a_backbone_on_the_meta_device_is_walked_without_memory():
    with torch.device("meta"):
        check(Own(width=1024))


BYTES = torch.zeros(2, 3, 2, 8, 8, dtype=torch.uint8)
VIDEOS = {
    r"own: video has .* it looks channel-last; use einops.rearrange\(video, 'b t h w c -> b c t h w'": BYTES.movedim(
        1, 4
    ),
    r"own: video is torch.uint8; .*cm3t.data.clip.normalise\(video, \*model.backbone.pixels\)": BYTES,
    r"own: video is torch.int64; .*normalise\(video.to\(torch.uint8\), \*model": BYTES.long(),
    r"own: video is torch.complex64; hand in its real part: video.real$": BYTES.to(torch.complex64),
    r"own: video is a ndarray, not a torch.Tensor; hand in torch.from_numpy\(video\)": BYTES.numpy(),
    r"own: video is a list, not a torch.Tensor; hand in torch.stack\(video\)": [BYTES[0].float()],
    r"own: video has shape \(0, 3, 2, 8, 8\), a batch of no clips; leave empty batches out": BYTES[:0].float(),
}


@pytest.mark.parametrize("words", VIDEOS)
def test_what_is_no_video_is_refused_before_anything_is_run(words):
    model = cm3t.CM3T(Own(), "mhva+caa", {"verb": 3})
    model.add_modality("audio", width=4)
    for side in (None, {"audio": torch.zeros(2, 1, 4)}):
        with pytest.raises((TypeError, ValueError), match=words):
            model(VIDEOS[words], side=side)


def test_three_frames_with_their_colours_last_are_told_from_a_video_by_the_patch():
    model = cm3t.create("video_swin_mini", method="mhva", weights=None)
    with pytest.raises(ValueError, match="it looks channel-last"):
        model(torch.zeros(2, 3, 96, 96, 3, dtype=torch.uint8))


def test_a_backbone_alone_names_its_own_pixels():
    with pytest.raises(TypeError, match=r"vivit_mini: video is torch.uint8; .*normalise\(video, \*backbone.pixels\)"):
        cm3t.backbone("vivit_mini")(torch.zeros(1, 3, 8, 96, 96, dtype=torch.uint8))
