"""From specifications to plugins: how many, how wide, in which blocks of a backbone."""

from collections.abc import Mapping
from numbers import Integral

from torch import nn

from cm3t.backbones.contract import at_rest, embed_nothing
from cm3t.methods import AdapterSpec, CrossSpec, PrefixSpec
from cm3t.plugins import (
    AdapterFusion,
    CrossAttentionAdapter,
    MultiHeadVisionAdapter,
    ParallelAdapter,
    PrefixTuning,
    SequentialCrossAttention,
    admissible_cells,
)
from cm3t.words import kind_of


def check_heads(heads: Mapping[str, int] | None) -> dict[str, int]:
    """{name: classes}; TypeError or ValueError, with an example, for what is no such thing."""
    example = "give {name: number of classes}, such as {'verb': 97, 'noun': 300}"
    if not isinstance(heads or {}, Mapping):
        raise TypeError(f"heads is {kind_of(heads)}, {heads!r}; {example}")
    for name, classes in (heads or {}).items():
        if not isinstance(name, str) or not isinstance(classes, Integral) or isinstance(classes, bool):
            raise TypeError(f"heads={{{name!r}: {classes!r}}}: a word and an integer are needed; {example}")
        if classes < 1 or not name or "." in name or hasattr(nn.ModuleDict, name):
            raise ValueError(
                f"heads={{{name!r}: {classes!r}}}: a plain word and at least 1 class are needed; {example}"
            )
    return {name: int(classes) for name, classes in (heads or {}).items()}


def linear_head(width: int, classes: int) -> nn.Linear:
    """A classifier that starts small, N(0, 0.02^2)."""
    head = nn.Linear(width, classes)
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def adapters(backbone: nn.Module, spec: AdapterSpec, clip: tuple[int, int, int]) -> nn.ModuleList:
    """One adapter a block; with cells, and where the backbone has class tokens, one more cell for those."""
    cells = cells_of(backbone, spec.match_cells or spec.cells, clip)
    options = dict(scale=spec.scale, learnable_scale=spec.learnable_scale, dropout=spec.dropout)
    found = nn.ModuleList()
    for width, g in zip(backbone.widths, cells, strict=True):
        r = spec.width(width)
        if spec.cells == 1 and spec.time_cells == 1:
            found.append(ParallelAdapter(width, matched(width, r, g), **options))
        else:
            own = dict(time_cells=spec.time_cells, class_tokens=class_tokens(backbone, clip) > 0)
            found.append(MultiHeadVisionAdapter(width, r, cells=g, **own, **options))
    return found


def prefixes(backbone: nn.Module, spec: PrefixSpec) -> nn.ModuleList:
    """One prefix a block."""
    length = spec.length or backbone.prefix_length
    options = dict(activation=spec.activation, dropout=spec.dropout)
    return nn.ModuleList(PrefixTuning(width, length, **options) for width in backbone.widths)


def cross_attention(backbone: nn.Module, spec: CrossSpec, bottlenecks: list, side_width: int) -> nn.ModuleDict:
    """One cross-attention adapter a block, by the block's number; `bottlenecks`: r of each block's vision adapter."""
    found = nn.ModuleDict()
    for i in blocks_in(backbone, spec.stages):
        width = backbone.widths[i]
        found[str(i)] = CrossAttentionAdapter(
            width,
            spec.width(width),
            side_width=side_width,
            source=None if spec.source == "generic" else bottlenecks[i],
            form=spec.form,
            up=spec.up == "each",
            output=spec.output,
            affine=spec.affine,
            scale=spec.scale,
        )
    return found


def fusions(backbone: nn.Module, spec: CrossSpec) -> nn.ModuleDict:
    """One fusion a block that has cross-attention."""
    widths = {i: backbone.widths[i] for i in blocks_in(backbone, spec.stages)}
    return nn.ModuleDict({str(i): AdapterFusion(width, spec.width(width)) for i, width in widths.items()})


def sequential(backbone: nn.Module, spec: CrossSpec) -> nn.ModuleDict:
    """One sequential cross-attention a block, shared by all modalities."""
    widths = {i: backbone.widths[i] for i in blocks_in(backbone, spec.stages)}
    common = common_width(backbone, spec)
    made = {i: SequentialCrossAttention(width, spec.width(width), side_width=common) for i, width in widths.items()}
    return nn.ModuleDict({str(i): module for i, module in made.items()})


def common_width(backbone: nn.Module, spec: CrossSpec) -> int:
    """The width to which sequential cross-attention takes every modality: that of its widest block."""
    return spec.width(max(backbone.widths))


def stages_of(backbone: nn.Module) -> list[int]:
    """The stage, from 1, of each block: a stage is a run of blocks of one width."""
    stages = [1]
    for before, width in zip(backbone.widths, backbone.widths[1:], strict=False):
        stages.append(stages[-1] + (width != before))
    return stages


def blocks_in(backbone: nn.Module, stages: tuple[int, ...] | None) -> list[int]:
    """The numbers of the blocks in the given stages, or of all; ValueError for a stage that the backbone lacks."""
    found = stages_of(backbone)
    if lacking := set(stages or ()) - set(found):
        raise ValueError(f"caa_stages names {sorted(lacking)}; {backbone.name} has stages 1 to {found[-1]}")
    return [i for i, stage in enumerate(found) if stages is None or stage in stages]


def matched(width: int, bottleneck: int, cells: int) -> int:
    """The r with which one shared adapter comes nearest to the parameters of MHVA's cells * cells adapters.

    g^2 (2 C r + r + C) = 2 C r' + r' + C with g = cells: a little more than g^2 r, for the cells' own biases.
    """
    parameters = cells**2 * (2 * width * bottleneck + bottleneck + width)
    return round((parameters - width) / (2 * width + 1))


def map_sides(backbone: nn.Module, clip: tuple[int, int, int]) -> list[tuple[int, int]]:
    """(H, W) of the token map that each block reads, for clips of (T, H, W) pixels. Runs no block."""
    sides = []
    with at_rest(backbone):
        x = embed_nothing(backbone, clip)
        for i in range(len(backbone.blocks)):
            x = backbone.advance(i, x)
            sides.append(tuple(backbone.split(x)[0].shape[2:4]))
    return sides


def class_tokens(backbone: nn.Module, clip: tuple[int, int, int]) -> int:
    """How many tokens beside the map the blocks pass on, for clips of (T, H, W) pixels."""
    extra = backbone.split(embed_nothing(backbone, clip))[1]
    return 0 if extra is None else extra.shape[1]


def cells_of(backbone: nn.Module, cells: int, clip: tuple[int, int, int]) -> list[int]:
    """MHVA's cells per side in each block: `cells` where it divides the map's sides, else 1.

    Raises ValueError, with the nearest clip that would do, where that would leave no block with more than one cell.
    """
    if cells == 1:
        return [1] * len(backbone.blocks)
    sides = map_sides(backbone, clip)
    chosen = [cells if cells in admissible_cells(*side) else 1 for side in sides]
    if max(chosen) == 1:
        maps = "; ".join(f"{h} x {w} by {admissible_cells(h, w)}" for h, w in dict.fromkeys(sides))
        remedy = "give cells=1"
        if patch := getattr(backbone, "patch", None):  # the nearest map that is divided, and the pixels under it
            h, w = (max(1, round(n / cells)) * cells * p for n, p in zip(sides[0], patch[1:], strict=True))
            remedy += f", or clip=({clip[0]}, {h}, {w})" + (f" (to a run, size={h})" if h == w else "")
        raise ValueError(f"cells={cells} divides no token map of {backbone.name}; they divide so: {maps}; {remedy}")
    return chosen


def could_take(backbone: nn.Module, spec: AdapterSpec | None, clip: tuple[int, int, int]) -> bool:
    """Could a model on this backbone be built for clips of (T, H, W) pixels: do patches and cells divide them?"""
    try:
        with at_rest(backbone):
            plane = backbone.split(embed_nothing(backbone, clip))[0]
        cells_of(backbone, spec.match_cells or spec.cells if spec else 1, clip)
    except ValueError:
        return False
    return spec is None or plane.shape[1] % spec.time_cells == 0
