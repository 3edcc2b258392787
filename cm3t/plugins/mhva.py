"""The multi-head vision adapter (MHVA), Eq. 6: a bottleneck of its own for every spatial cell of the map."""

import torch
from einops import rearrange
from torch import Tensor

from cm3t.plugins.adapter import ParallelAdapter, to_tokens

_JOIN = "(i j k) (b t h w) c -> b (k t) (i h) (j w) c"


def admissible_cells(height: int, width: int) -> list[int]:
    """The cells per side that divide a map of height x width tokens, smallest first."""
    return [g for g in range(1, min(height, width) + 1) if height % g == 0 and width % g == 0]


class MultiHeadVisionAdapter(ParallelAdapter):
    """Parallel adapters, one for each of g x g spatial cells of the map; their outputs are put back in place.

    Eq. (6)   y = F(x) + s * Concat_i A_i(x_i),   A_i(x_i) = ReLU(x_i W_down^i) W_up^i,   i = 1 ... g * g

    Shapes: x (B, T, H, W, C) -> (B, T, H, W, C); weights (g * g, C, r) and (g * g, r, C). Cells are in raster
    order (row by row) and hold all frames: cell (i, j) is rows i * H/g ... and columns j * W/g ... of every
    frame.

    Paper: Sec. 3.2.2, "different linear layers for different sets of windows/patches", concatenated "before
    scaling and addition", with a learned scale.
    Choice: equation 6 is blank in the public text; this form is reconstructed from the sentences around it. Cells are
    spatial and lie on the *unshifted* map, which is what the MLP branch sees: under the cyclic shift a token would
    change its adapter every other block. There is one scale an adapter, not one a cell. All cells run in one
    grouped einsum over split tokens, which costs exactly what one shared adapter of the same r costs. With g = 1, a
    fixed scale and the un-normalised input this is AdaptFormer, by the same code. `time_cells` splits the frames as
    well (the paper argues for space only). Class tokens have a cell of their own, built where the backbone has such
    tokens.

    Raises ValueError in forward when the cells do not divide the map, naming its sides and the values that
    do.
    """

    def __init__(
        self,
        width: int,
        bottleneck: int,
        *,
        cells: int = 2,
        time_cells: int = 1,
        class_tokens: bool = False,
        scale: float = 0.1,
        learnable_scale: bool = True,
        dropout: float = 0.0,
    ):
        for name, value in {"cells": cells, "time_cells": time_cells}.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"MultiHeadVisionAdapter: {name} must be an integer of at least 1; got {value!r}")
        self.cells, self.time_cells = cells, time_cells
        super().__init__(
            width,
            bottleneck,
            cells=cells * cells * time_cells + class_tokens,
            scale=scale,
            learnable_scale=learnable_scale,
            dropout=dropout,
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, H, W, C) -> s * Concat(A_i(x_i)) (B, T, H, W, C)."""
        split, axes = self._split(x)
        return self.scale * rearrange(self.adapt(split), _JOIN, **axes)

    def branch(self, x: Tensor, extra: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor]:
        """The outputs for a map (B, T, H, W, C) and class tokens (B, E, C), and the bottleneck (B, N, r).

        The cells' bottlenecks are concatenated on the token axis, each token in its place, class tokens last.
        """
        split, axes = self._split(x)
        hidden = self.squeeze(split, self._map)
        out = self.scale * rearrange(self.expand(hidden, self._map), _JOIN, **axes)
        bottleneck = to_tokens(rearrange(hidden, _JOIN, **axes))
        if extra is None:
            return out, None, bottleneck
        if self._map.stop == len(self.down):
            raise ValueError("MultiHeadVisionAdapter: class tokens came; build it with class_tokens=True")
        own = slice(self._map.stop, None)
        z = self.squeeze(rearrange(extra, "b e c -> 1 (b e) c"), own)
        extra_out = rearrange(self.scale * self.expand(z, own), "1 (b e) c -> b e c", b=len(x))
        return out, extra_out, torch.cat([bottleneck, rearrange(z, "1 (b e) r -> b e r", b=len(x))], dim=1)

    @property
    def _map(self) -> slice:
        """The weights of the map's cells; one more may follow, for class tokens."""
        return slice(0, self.cells**2 * self.time_cells)

    def _split(self, x: Tensor) -> tuple[Tensor, dict[str, int]]:
        """The map's cells (cells, n, C), and the axes with which `_JOIN` puts them back in place."""
        b, t, height, width, _ = x.shape
        self.check_sides(height, width)
        if t % self.time_cells:
            raise ValueError(f"time_cells={self.time_cells} does not divide the {t} frames of the token map")
        sizes = dict(i=self.cells, j=self.cells, k=self.time_cells)
        axes = sizes | dict(b=b, t=t // self.time_cells, h=height // self.cells)
        return rearrange(x, "b (k t) (i h) (j w) c -> (i j k) (b t h w) c", **sizes), axes

    def check_sides(self, height: int, width: int) -> None:
        """Raise ValueError unless g divides both sides of a map of height x width tokens."""
        if height % self.cells or width % self.cells:
            use = ", ".join(map(str, admissible_cells(height, width)))
            raise ValueError(
                f"cells={self.cells} does not divide the {height} x {width} token map into equal cells; "
                f"use one of {use} per side"
            )

    def cell_map(self, height: int, width: int) -> Tensor:
        """Index (height, width) of the cell that holds each token of a map, for pictures."""
        self.check_sides(height, width)
        index = torch.arange(self.cells**2).reshape(self.cells, self.cells)
        return index.repeat_interleave(height // self.cells, 0).repeat_interleave(width // self.cells, 1)


MHVA = MultiHeadVisionAdapter
