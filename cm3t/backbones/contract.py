"""What a backbone offers to the plugins: an embedding, blocks with two open branches, a pool. Nothing else is assumed.

A backbone is read, never rewritten: `cm3t.model` walks over its blocks and adds the plugins' outputs between the
branches. Whatever keeps this contract can be adapted; whatever breaks it is refused by name.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from numbers import Integral

import torch
from torch import Tensor, nn

from cm3t.words import kind_of

Pixels = tuple[tuple[float, float, float], tuple[float, float, float]]

IMAGENET: Pixels = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_BACKBONE = (
    "name", "clip", "width", "widths", "blocks", "embed", "advance", "pool", "prefix_length", "source_classes",
    "pixels", "split", "join",
)  # fmt: skip
_BLOCK = ("attention", "feedforward")


class ContractError(TypeError):
    """A backbone lacks something that a plugin needs; the message names the attribute and the block."""


class FixedSizeError(ValueError):
    """Frames of another size than the network was made for; the message says how one is made for them."""


class Backbone:
    """The contract, as a mixin for `torch.nn.Module`.

    name           the name it was created by
    clip           (T, H, W) of the clips it was made for
    blocks         the blocks in order; each has
                     attention(x, prefix=None) -> branch (B, T, H, W, C), norm inside, prefix = (k, v) each (l, C)
                     feedforward(x) -> (norm2(x), branch): the normed input and the MLP branch, both (B, T, H, W, C)
                     attn.project_prefix(E (l, C)) -> (k, v), each (l, C), by the frozen slices (prefix tuning only)
    widths, width  C of each block; D of the features
    prefix_length  l of prefix tuning's default preset here
    source_classes classes of its pretraining: with their head it is what trainable shares are shares of
    embed(video)   (B, 3, T, H, W) -> (B, T', H', W', C)
    advance(i, x)  the map that block i reads, where a stage begins
    pool(x)        (B, T, H, W, C) -> (B, D)
    pixels         (mean, std) per colour, of pixels from 0 to 1, that its weights expect videos to be normalised by
    split(x)       what the blocks pass on -> (map (B, T, H, W, C), extra (B, E, C) or None), extra being class tokens
    join(map, extra)  the way back; both are the identity where the blocks pass on a map
    seen           grid (T, H, W) of the last embedded video, where `split` needs it; None where it does not

    Where there are class tokens, read "what the blocks pass on" for the maps of `embed`, `attention`, `feedforward`,
    `advance` and `pool`.
    """

    pixels: Pixels = IMAGENET
    seen: tuple[int, int, int] | None = None
    loaded = None  # the report of the weights that were loaded (`report.Report`)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(map (B, T, H, W, C), extra (B, E, C) or None) of what the blocks pass on."""
        return x, None

    def join(self, x: Tensor, extra: Tensor | None) -> Tensor:
        """What the blocks pass on, of a map (B, T, H, W, C) and its extra tokens (B, E, C)."""
        return x

    def features_of(self, video: Tensor) -> Tensor:
        """Video (B, 3, T, H, W) -> features (B, D) of the backbone alone."""
        x = self.embed(video)
        for i, block in enumerate(self.blocks):
            x = self.advance(i, x)
            x = x + block.attention(x)
            x = x + block.feedforward(x)[1]
        return self.pool(x)


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """Without gradients and in eval mode, so that nothing is drawn; afterwards every part is in its own mode again."""
    training = {part: part.training for part in module.modules()}
    try:
        with torch.no_grad():
            module.eval()
            yield
    finally:
        for part, mode in training.items():
            part.training = mode


def embed_nothing(backbone: nn.Module, clip: Sequence[int]) -> Tensor:
    """The embedding (1, T, H, W, C) of a black clip of (T, H, W) pixels, or what the blocks pass on in its place."""
    some = next(backbone.parameters(), torch.empty(0))
    with at_rest(backbone):
        return backbone.embed(torch.zeros(1, 3, *clip, device=some.device, dtype=some.dtype))


def check(backbone: nn.Module, *, prefixes: bool = False) -> None:
    """Raise `ContractError` naming the first attribute that is missing or at fault, and the block where it is in one.

    With `prefixes` the attention must be one that prefix tuning can open, and must heed its prefix; without, any will
    do. One clip is walked through a backbone of one's own, in eval mode, so that all that it returns is known: it costs
    a forward pass. Of this package's networks the embedding alone is run.
    """
    who = getattr(backbone, "name", type(backbone).__name__)
    for attribute in _BACKBONE:
        if not hasattr(backbone, attribute):
            mixin = "; inherit it from cm3t.backbones.Backbone" if attribute in ("pixels", "split", "join") else ""
            raise ContractError(f"backbone {who!r} has no `{attribute}`{mixin}; see cm3t.backbones.contract.Backbone")
    if not isinstance(backbone, nn.Module):
        raise ContractError(f"backbone {who!r} is {kind_of(backbone)}, not a torch.nn.Module")
    blocks, widths = len(backbone.blocks), len(backbone.widths)
    if not blocks or blocks != widths:
        raise ContractError(f"backbone {who!r} has {blocks} `blocks` and {widths} `widths`; it needs one each")
    for i, block in enumerate(backbone.blocks):
        for attribute in _BLOCK:
            if not callable(getattr(block, attribute, None)):
                raise ContractError(f"block {i} of {who!r} has no method `{attribute}(x)`; plugins have no place in it")
        if not _takes_a_prefix(block.attention):
            raise ContractError(f"block {i} of {who!r}: its `attention` has to be `attention(x, prefix=None)`")
        if prefixes and not hasattr(getattr(block, "attn", None), "project_prefix"):
            raise ContractError(
                f"block {i} of {who!r} has no `attn.project_prefix`: prefix tuning cannot open its attention; "
                "use a method without `pt` (MHVA and AdaptFormer do not touch the attention)"
            )
    _walk(backbone, who, prefixes)


def _takes_a_prefix(attention: Callable) -> bool:
    try:
        signature(attention).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # not written in Python: nobody can know
        return True
    return True


def _walk(backbone: nn.Module, who: str, prefixes: bool) -> None:
    """ContractError at the first step of a walk over a black clip that gives what the contract does not promise.

    The networks of this package are tested to keep it: of those the embedding alone is looked at.
    """
    x = _run(f"`embed` of {who!r}, on a clip of its own size,", lambda: embed_nothing(backbone, backbone.clip))
    with at_rest(backbone):
        _map_of(backbone, x, f"`embed` of {who!r}")
        x = _advanced(backbone, 0, x, who)
        if type(backbone).__module__.startswith(f"{__package__}."):
            return
        for i, block in enumerate(backbone.blocks):
            x = _advanced(backbone, i, x, who) if i else x
            x = _through(block, x, f"block {i} of {who!r}", backbone.prefix_length if prefixes else 0)
        call = f"`pool(x)` of {who!r}"
        _expect(call, _run(call, lambda: backbone.pool(x)), (1, backbone.width), "features (B, D), D its `width`")


def _advanced(backbone: nn.Module, i: int, x: Tensor, who: str) -> Tensor:
    """What block i reads, shaped as x or (B, T, H, W, C); ContractError unless its map has the block's width."""
    call, before = f"`advance({i}, x)` of {who!r}", x
    x = _run(call, lambda: backbone.advance(i, before))
    width = _map_of(backbone, x, call).shape[-1]
    if width != backbone.widths[i]:
        at_fault = f"`embed` of {who!r}" if i == 0 and x.shape == before.shape else call
        raise ContractError(f"{at_fault} gives maps of width {width}, `widths[{i}]` is {backbone.widths[i]}")
    return x


def _map_of(backbone: nn.Module, x: Tensor, what: str) -> Tensor:
    """The map (1, T, H, W, C) in what the blocks pass on; ContractError where `split` and `join` do not find it."""
    if not isinstance(x, Tensor):
        raise ContractError(f"{what} gives {_kind(x)}, not a map (B, T, H, W, C)")
    of = f"{backbone.name!r}, on {what} of shape {tuple(x.shape)},"
    pair = _run(f"`split(x)` of {of}", lambda: backbone.split(x))
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise ContractError(f"`split(x)` of {of} gives {_kind(pair)}, not a pair (map, extra tokens or None)")
    plane, extra = pair
    if not isinstance(plane, Tensor) or plane.ndim != 5 or len(plane) != 1:
        split = "; where there are class tokens, `split` makes one of it" if plane is x else ", by its `split`"
        raise ContractError(f"{what} gives {_kind(plane)}, not a map (B, T, H, W, C){split}")
    if extra is not None and (not isinstance(extra, Tensor) or extra.ndim != 3 or extra.shape[2] != plane.shape[4]):
        raise ContractError(f"`split(x)` of {of} gives {_kind(extra)} as extra tokens, not (B, E, C) or None")
    call = f"`join(*split(x))` of {of}"
    _expect(call, _run(call, lambda: backbone.join(plane, extra)), tuple(x.shape), "shaped as x")
    return plane


def _through(block: nn.Module, x: Tensor, of: str, length: int) -> Tensor:
    """x, shaped as x, behind both branches of a block; with a `length`, its attention reads so long a prefix."""
    shape = tuple(x.shape)
    if length:  # a black clip may give zeros, which hide what a prefix does
        x = _waves(x, shape)
    call = f"`attention(x)` of {of}, on x of shape {shape},"
    branch = _run(call, lambda: block.attention(x))
    _expect(call, branch, shape, "the branch, shaped as x")
    if length:
        _expect_a_prefix_heard(block, x, branch, of, length)
    x = x + branch
    call = f"`feedforward(x)` of {of}, on x of shape {shape},"
    pair = _run(call, lambda: block.feedforward(x))
    _expect_two(call, pair, shape, "(norm2(x), branch), both shaped as x")
    return x + pair[1]


def _expect_a_prefix_heard(block: nn.Module, x: Tensor, plain: Tensor, of: str, length: int) -> None:
    """ContractError unless the attention of x takes a prefix, and gives with it another branch than the plain one.

    A branch of zeros, as behind a gate that starts at 0, tells nothing; nor do branches on the meta device.
    """
    call, embedding = f"`attn.project_prefix(E)` of {of}", _waves(x, (length, x.shape[-1]))
    prefix = _run(call, lambda: block.attn.project_prefix(embedding))
    _expect_two(call, prefix, tuple(embedding.shape), "(k, v), both shaped as E")
    call = f"`attention(x, prefix)` of {of}, on x of shape {tuple(x.shape)},"
    branch = _run(call, lambda: block.attention(x, prefix))
    _expect(call, branch, tuple(x.shape), "the branch, shaped as x")
    if not x.is_meta and branch.any() and torch.equal(branch, plain):
        raise ContractError(
            f"{call} gives what `attention(x)` gives: it ignores the prefix (k, v); put it before the attention's own "
            "keys and values, as cm3t.backbones.tokens.OpenAttention does, or use a method without `pt`"
        )


def _waves(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Numbers of a shape, none 0, with the precision and device of a tensor; nothing is drawn."""
    return torch.arange(1.0, math.prod(shape) + 1, device=like.device).sin().reshape(shape).to(like.dtype)


def _expect(call: str, value: object, shape: tuple[int, ...], words: str) -> None:
    """ContractError unless a call gave a tensor of a shape, which the words call by its name."""
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        raise ContractError(f"{call} gives {_kind(value)}, not {words}: {shape}")


def _expect_two(call: str, pair: object, shape: tuple[int, ...], words: str) -> None:
    """ContractError unless a call gave a tuple of two tensors of one shape."""
    if not isinstance(pair, tuple) or len(pair) != 2:
        raise ContractError(f"{call} gives {_kind(pair)}, not {words}: {shape}")
    for one in pair:
        _expect(call, one, shape, words)


def _kind(value: object) -> str:
    """What something is: a tensor and its shape, or a class."""
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else kind_of(value)


def _run(what: str, call: Callable) -> object:
    """What `call` returns; ContractError where it fails."""
    try:
        return call()
    except Exception as error:  # somebody else's code may fail in any way
        raise ContractError(f"{what} fails: {type(error).__name__}: {error}") from error


_ORDERS = {  # where the channels are, if not where they belong -> the order's name, and how to put it right
    4: ("channel-last", "b t h w c -> b c t h w"),
    2: ("frames before channels", "b t c h w -> b c t h w"),
}


def check_layout(
    video: Tensor, name: str, patch: tuple[int, int, int] | None = None, *, owner: str = "model.backbone"
) -> None:
    """Raise TypeError or ValueError, with the remedy, unless `video` is a float tensor (B, 3, T, H, W) of some clips.

    patch  (t, h, w) pixels a token: three frames whose channels are last are told from a video by it
    owner  how the caller's code names what has the `pixels` by which videos are normalised
    """
    if not isinstance(video, Tensor):
        made = {"ndarray": "torch.from_numpy(video)", "list": "torch.stack(video)"}.get(
            type(video).__name__, "a tensor"
        )
        raise TypeError(f"{name}: video is {kind_of(video)}, not a torch.Tensor; hand in {made}")
    shape = tuple(video.shape)
    if video.ndim != 5:
        raise ValueError(f"{name}: video has shape {shape}, not (B, 3, T, H, W); add the axis that is missing")
    three = shape[4] == 3 and isinstance(patch, tuple) and patch[2] > 3  # frames, channel-last: 3 in both places
    if shape[1] != 3 or three:
        known = next((order for axis, order in _ORDERS.items() if shape[axis] == 3), None)
        remedy = f": it looks {known[0]}; use einops.rearrange(video, {known[1]!r})" if known else ""
        raise ValueError(f"{name}: video has shape {shape}, not (B, 3, T, H, W){remedy}")
    if not len(video):
        raise ValueError(f"{name}: video has shape {shape}, a batch of no clips; leave empty batches out")
    if not video.is_floating_point():
        given = "video" if video.dtype == torch.uint8 else "video.to(torch.uint8)"
        remedy = f"normalised floats: cm3t.data.clip.normalise({given}, *{owner}.pixels)"
        remedy = "its real part: video.real" if video.is_complex() else remedy
        raise TypeError(f"{name}: video is {video.dtype}; hand in {remedy}")


def check_device(video: Tensor, name: str, weights: Tensor) -> None:
    """Raise TypeError, with the remedy, where a video (B, 3, T, H, W) is on another device than a parameter is."""
    if video.device != weights.device:
        raise TypeError(
            f"{name}: video is on {video.device}, the weights are on {weights.device}; hand in "
            f"video.to('{weights.device}'), or move the model: model.to('{video.device}')"
        )


def check_video(
    video: Tensor,
    name: str,
    patch: tuple[int, int, int] | None = None,
    *,
    weights: Tensor | None = None,
    padded: bool = False,
) -> None:
    """Raise TypeError or ValueError, with the remedy, unless `video` is a normalised float (B, 3, T, H, W) that fits.

    patch    (t, h, w) pixels a token, by which clips must divide; where they are `padded`, they need one patch at least
    weights  one of the backbone's parameters: the video must have its device and, unless torch casts, its precision
    """
    check_layout(video, name, patch, owner="backbone")
    check_device(video, name, video if weights is None else weights)
    shape = tuple(video.shape)
    if weights is not None and video.dtype != weights.dtype and not torch.is_autocast_enabled(video.device.type):
        own = str(weights.dtype).removeprefix("torch.")
        raise TypeError(
            f"{name}: video is {video.dtype}, the weights are {weights.dtype}; hand in video.to(torch.{own}), or make "
            f"the model of that precision: model.to({video.dtype})"
        )
    if not padded:
        check_clip(shape[2:], name, patch or (1, 1, 1))
    elif not shape[2] or shape[3] < patch[1] or shape[4] < patch[2]:
        frames = f"{shape[2]} frames of {shape[3]} x {shape[4]} pixels"
        raise ValueError(f"{name}: {frames} hold no patch of {patch[1]} x {patch[2]}; give larger ones")


def as_clip(clip: Sequence[int], option: str = "clip") -> tuple[int, int, int]:
    """(T, H, W) of a clip's shape as `option` was given; ValueError, with an example, for what is no such thing."""
    example = f"give (frames, height, width) in pixels, such as {option}=(8, 224, 224)"
    if not isinstance(clip, Sequence) or isinstance(clip, str) or len(clip) != 3:
        raise ValueError(f"{option}={clip!r}: {example}")
    if not all(isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in clip):
        raise ValueError(f"{option}={tuple(clip)!r} is not of positive integers; {example}")
    return tuple(int(n) for n in clip)


def check_clip(clip: tuple[int, ...], name: str, patch: tuple[int, int, int]) -> None:
    """Raise ValueError unless a clip of (T, H, W) pixels divides into patches of (t, h, w)."""
    for axis, n, p in zip(("length", "height", "width"), clip, patch, strict=True):
        if n % p or not n:
            near = max(p, round(n / p) * p)
            raise ValueError(f"{name}: clip {axis} {n} does not divide into patches of {p}; resize or sample to {near}")
