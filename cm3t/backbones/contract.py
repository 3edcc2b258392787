"""What a backbone offers to the plugins: an embedding, blocks with two open branches, a pool. Nothing else is assumed.

A backbone is read, never rewritten: `cm3t.model` walks over its blocks and adds the plugins' outputs between the
branches. Whatever keeps this contract can be adapted; whatever breaks it is refused by name.
"""

from collections.abc import Sequence
from numbers import Integral

from torch import Tensor

Pixels = tuple[tuple[float, float, float], tuple[float, float, float]]

IMAGENET: Pixels = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_BACKBONE = (
    "name", "clip", "width", "widths", "blocks", "embed", "advance", "pool", "prefix_length", "source_classes",
)  # fmt: skip
_BLOCK = ("attention", "feedforward")


class ContractError(TypeError):
    """A backbone lacks something that a plugin needs; the message names the attribute and the block."""


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

    Where there are class tokens, read "what the blocks pass on" for the maps of `embed`, `attention`, `feedforward`,
    `advance` and `pool`.
    """

    pixels: Pixels = IMAGENET
    loaded = None  # the report of the weights that were loaded (`formats.Report`)

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


def check(backbone, *, prefixes: bool = False) -> None:
    """Raise `ContractError` naming the first attribute that is missing, and the block it is missing from.

    With `prefixes` the attention must be one that prefix tuning can open; without, any attention will do.
    """
    who = getattr(backbone, "name", type(backbone).__name__)
    for attribute in _BACKBONE:
        if not hasattr(backbone, attribute):
            raise ContractError(f"backbone {who!r} has no `{attribute}`; see cm3t.backbones.contract.Backbone")
    for i, block in enumerate(backbone.blocks):
        for attribute in _BLOCK:
            if not callable(getattr(block, attribute, None)):
                raise ContractError(f"block {i} of {who!r} has no method `{attribute}(x)`; plugins have no place in it")
        if prefixes and not hasattr(getattr(block, "attn", None), "project_prefix"):
            raise ContractError(
                f"block {i} of {who!r} has no `attn.project_prefix`: prefix tuning cannot open its attention; "
                "use a method without `pt` (MHVA and AdaptFormer do not touch the attention)"
            )


def check_video(video: Tensor, name: str, patch: tuple[int, int, int] | None = None) -> None:
    """Raise TypeError or ValueError, with the remedy, unless `video` is a normalised float (B, 3, T, H, W).

    `patch` is (t, h, w) pixels a token, where clips must divide by it.
    """
    shape = tuple(video.shape)
    if not video.is_floating_point():
        raise TypeError(f"video is {video.dtype}; hand in normalised floats (cm3t.data.clip.normalise)")
    if video.ndim != 5:
        raise ValueError(f"{name}: video has shape {shape}, not (B, 3, T, H, W); add the axis that is missing")
    if shape[1] != 3:
        orders = {
            4: ("channel-last", "b t h w c -> b c t h w"),
            2: ("frames before channels", "b t c h w -> b c t h w"),
        }
        known = next((order for axis, order in orders.items() if shape[axis] == 3), None)
        remedy = f": it looks {known[0]}; use einops.rearrange(video, {known[1]!r})" if known else ""
        raise ValueError(f"{name}: video has shape {shape}, not (B, 3, T, H, W){remedy}")
    check_clip(shape[2:], name, patch or (1, 1, 1))


def as_clip(clip: Sequence[int]) -> tuple[int, int, int]:
    """(T, H, W) of a clip's shape as it was given; ValueError, with an example, for what is no such thing."""
    example = "give (frames, height, width) in pixels, such as clip=(8, 224, 224)"
    if not isinstance(clip, Sequence) or isinstance(clip, str) or len(clip) != 3:
        raise ValueError(f"clip={clip!r}: {example}")
    if not all(isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in clip):
        raise ValueError(f"clip={tuple(clip)!r} is not of positive integers; {example}")
    return tuple(int(n) for n in clip)


def check_clip(clip: tuple[int, ...], name: str, patch: tuple[int, int, int]) -> None:
    """Raise ValueError unless a clip of (T, H, W) pixels divides into patches of (t, h, w)."""
    for axis, n, p in zip(("length", "height", "width"), clip, patch, strict=True):
        if n % p or not n:
            near = max(p, round(n / p) * p)
            raise ValueError(f"{name}: clip {axis} {n} does not divide into patches of {p}; resize or sample to {near}")
