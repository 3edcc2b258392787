"""The multi-head vision adapter (MHVA), Eq. 6: a bottleneck of its own for every spatial cell of the map."""

import torch
from einops import rearrange
from torch import Tensor

from cm3t.plugins.adapter import ParallelAdapter


def admissible_cells(height: int, width: int) -> list[int]:
    """The cells per side that divide a map of height x width tokens, smallest first."""
    return [g for g in range(1, min(height, width) + 1) if height % g == 0 and width % g == 0]


class MultiHeadVisionAdapter(ParallelAdapter):
    """Parallel adapters, one for each of g x g spatial cells of the map; their outputs are put back in place.

    Eq. (6)   y = F(x) + s * Concat(A_1(x_1), ..., A_h(x_h)),   A_i(x_i) = ReLU(x_i W_down^i) W_up^i,   h = g
    * g

    Shapes: x (B, T, H, W, C) -> (B, T, H, W, C); weights (g * g, C, r) and (g * g, r, C). Cells are in raster
    order (row by row) and hold all frames: cell (i, j) is rows i * H/g ... and columns j * W/g ... of every
    frame.

    Paper: Sec. 3.2.2, "different linear layers for different sets of windows/patches", concatenated "before
    scaling and addition", with a learned scale.
    Choice: cells are spatial and lie on the *unshifted* map, which is what the MLP branch sees: under the
    cyclic shift a token would change its adapter every other block. There is one scale an adapter, not one a
    cell. All cells run in one grouped einsum over split tokens, which costs exactly what one shared adapter
    of the same r costs. With g = 1, a fixed scale and the un-normalised input this is AdaptFormer, by the
    same code.

    Raises ValueError in forward when the cells do not divide the map, naming its sides and the values that
    do.
    """

    def __init__(
        self,
        width: int,
        bottleneck: int,
        *,
        cells: int = 2,
        scale: float = 0.1,
        learnable_scale: bool = True,
        dropout: float = 0.0,
    ):
        if not isinstance(cells, int) or cells < 1:
            raise ValueError(f"MultiHeadVisionAdapter: cells must be an integer of at least 1; got {cells!r}")
        super().__init__(
            width,
            bottleneck,
            cells=cells * cells,
            scale=scale,
            learnable_scale=learnable_scale,
            dropout=dropout,
        )
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, H, W, C) -> s * Concat(A_i(x_i)) (B, T, H, W, C)."""
        b, t, height, width, _ = x.shape
        self.check_sides(height, width)
        cells = rearrange(x, "b t (i h) (j w) c -> (i j) (b t h w) c", i=self.cells, j=self.cells)
        axes = dict(b=b, t=t, i=self.cells, j=self.cells, h=height // self.cells)
        return self.scale * rearrange(self.adapt(cells), "(i j) (b t h w) c -> b t (i h) (j w) c", **axes)

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
