"""Tensors of a checkpoint that have another shape than the model's: inflated over time, or resampled."""

import math

import torch
from einops import repeat
from torch import Tensor, nn

from cm3t.backbones.positions import Grid, resample
from cm3t.backbones.report import Report


def fit(
    key: str,
    value: Tensor,
    own: Tensor,
    model: nn.Module,
    report: Report,
    *,
    image: bool,
    native: Grid | None = None,
    told: Grid | None = None,
) -> Tensor:
    """A tensor of any shape inflated over time or resampled to that of `own`, if it is one of those that can be.

    image   the file is a model of images, which has no time
    native  clip (T, H, W) in pixels of the backbone's published weights, which a file may have
    told    clip in pixels that the file has, as whoever loads it says; ValueError where its positions are not so many
    """
    fitted, how, grids = value, report.interpolated, ("", "")
    if key == "patch_embed.proj.weight" and value.ndim == 4 and own.ndim == 5:
        fitted, how = inflate(value, own.shape[2], central=hasattr(model, "grid")), report.inflated
    elif key.endswith("relative_position_bias_table"):
        spans = tuple(2 * w - 1 for w in model.get_submodule(key.rpartition(".")[0]).window)
        old = _table_grid(len(value), spans, image)
        if old is not None:
            fitted = _spread(value, old, spans)
            inflated = old[0] == 1 < spans[0]
            if old[1:] != spans[1:] or (old[0] != spans[0] and not inflated):
                report.window = tuple((n + 1) // 2 for n in old)
            elif inflated:
                how = report.inflated
    elif key == "pos_embed" and value.ndim == 3 and value.shape[1] > (extra := own.shape[1] - math.prod(model.grid)):
        old = _position_grid(value.shape[1] - extra, model, image, native, told)
        if old is not None:
            still, grids = value, tuple(f" of {' x '.join(map(str, grid))}" for grid in (old, model.grid))
            if old[0] == 1 < model.grid[0]:
                still = repeat(value[:, extra:], "b n c -> b (t n) c", t=model.grid[0])
                still = torch.cat([value[:, :extra], still], dim=1)
                old, how = (model.grid[0], *old[1:]), report.inflated
            fitted = resample(still, old, model.grid)
    elif key == "temporal_embed":
        fitted = resample(value, (value.shape[1], 1, 1), (own.shape[1], 1, 1))
    if fitted is value:
        return value
    if fitted.shape == own.shape:
        how.append(f"{key} {tuple(value.shape)}{grids[0]} -> {tuple(own.shape)}{grids[1]}")
        return fitted
    return value


def inflate(weight: Tensor, frames: int, *, central: bool) -> Tensor:
    """A 2-D convolution's weight (C', C, h, w) over time, (C', C, t, h, w).

    Central: all of it on the frame in the middle (ViViT's initialisation); else an equal part on every frame (Swin's).
    On a clip of equal frames both give what the 2-D convolution gave.
    """
    if not central:
        return repeat(weight / frames, "o c h w -> o c t h w", t=frames)
    out = weight.new_zeros(*weight.shape[:2], frames, *weight.shape[2:])
    out[:, :, frames // 2] = weight
    return out


def _table_grid(rows: int, spans: Grid, image: bool) -> Grid | None:
    """(T, H, W) spans of a bias table with so many rows: a 2-D one, or one of another window length."""
    side = math.isqrt(rows)
    if rows % (spans[1] * spans[2]) == 0 and not image:
        return rows // (spans[1] * spans[2]), spans[1], spans[2]
    return (1, side, side) if side * side == rows else None


def _spread(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """A bias table (rows, h) of spans `old` on spans `new`: a 2-D one is repeated over time, others interpolated."""
    if old[0] == 1:
        plane = resample(table[None], old, (1, *new[1:]))[0]
        return plane.repeat(new[0], 1)
    return resample(table[None], old, new)[0]


def _position_grid(rows: int, model: nn.Module, image: bool, native: Grid | None, told: Grid | None) -> Grid | None:
    """(T, H, W) of position embeddings with so many rows; None where nothing tells it.

    The clip that was told; else the published one's grid, or the model's own. Else images are square, and of a video
    either time or space is taken to be another; where more than one reading is possible, no guess is made.
    """
    still = image or model.grid[0] == 1
    if told is not None:
        given = _tokens(told, model, still)
        if math.prod(given) != rows:
            of = " x ".join(map(str, given))
            raise ValueError(
                f"a clip of {told} has {of} = {math.prod(given)} positions, the file has {rows}; "
                "give the clip that it was trained on as weights_clip"
            )
        return given
    known = _known(model, still, native)
    if found := next((grid for grid in known if math.prod(grid) == rows), None):
        return found
    if still:
        side = math.isqrt(rows)
        return (1, side, side) if side * side == rows else None
    found = _readings(rows, known)
    return found.pop() if len(found) == 1 else None


def _known(model: nn.Module, still: bool, native: Grid | None) -> list[Grid]:
    """(T, H, W) tokens of the published clip, where there is one, and of the model's own."""
    published = [_tokens(native, model, still)] if native is not None else []
    return [*published, (1, *model.grid[1:]) if still else model.grid]


def _readings(rows: int, known: list[Grid]) -> set[Grid]:
    """The grids (T, H, W) with so many rows that differ from a known one in time alone, or, if square, in space."""
    times = {(rows // (h * w), h, w) for t, h, w in known if rows % (h * w) == 0 and _near(rows // (h * w), t)}
    sides = {(t, math.isqrt(rows // t), math.isqrt(rows // t)) for t, _, _ in known}
    return times | {(t, h, w) for t, h, w in sides if t * h * w == rows}


REACH = 4  # Choice: a file of 8 frames for a model of 32 is common, one of 4 is not


def _tokens(clip: Grid, model: nn.Module, still: bool) -> Grid:
    """(T, H, W) tokens of a clip in pixels; one moment where every frame has the same positions."""
    t, h, w = (n // p for n, p in zip(clip, model.patch, strict=True))
    return (1 if still else t), h, w


def _near(n: int, t: int) -> bool:
    """Are n moments within a factor of `REACH` of t?"""
    return n <= REACH * t and t <= REACH * n


def clips_of(rows: int, model: nn.Module, native: Grid | None = None) -> list[Grid]:
    """Clips (T, H, W) in pixels that have so many positions: the possible readings, else those of square frames."""
    t, (length, height, width) = model.grid[0], model.patch
    if t == 1:  # the frames share their positions, which are those of one image
        return []
    sides = [side for side in range(4, math.isqrt(rows) + 1) if rows % (side * side) == 0]
    square = [(rows // (side * side), side, side) for side in sides]
    grids = sorted(_readings(rows, _known(model, False, native)), reverse=True)
    grids = grids or [grid for grid in square if 1 < grid[0] <= REACH * t]
    return [(n * length, h * height, w * width) for n, h, w in grids]
