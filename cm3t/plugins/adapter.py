"""The scaled parallel adapter, Eq. 1-2: a bottleneck beside a frozen layer, as in AdaptFormer."""

import math

import torch
import torch.nn.functional as F
from einops import einsum, pack, rearrange, unpack
from torch import Tensor, nn


class ParallelAdapter(nn.Module):
    """Down-projection, ReLU, up-projection, scaled; the caller adds the output to the frozen layer's.

    Eq. (1)   y = F(x) + s * A(x)           (F is the frozen layer that the adapter runs beside)
    Eq. (2)   A(x) = ReLU(x W_down) W_up    (+ biases)

    Shapes: x (..., C) -> s * A(x) (..., C). Weights (cells, C, r) and (cells, r, C): here there is one cell,
    the whole input; `MultiHeadVisionAdapter` has more and differs in nothing else.

    Paper: Sec. 3.2.1, "in parallel instead of sequential".
    Choice: equations 1 and 2 are blank in the public text; their form is that of the work it takes them from (He et
    al., "Towards a unified view of parameter-efficient transfer learning", 2022). W_down is Kaiming uniform (a =
    sqrt 5) and W_up and the biases are zero, as AdaptFormer's, so that step 0 is the frozen backbone exactly. The
    scale starts at 0.1, AdaptFormer's value; the paper's fixed value is blank.

    Raises ValueError for a width, a bottleneck, a cell count or a dropout that no adapter can have.
    """

    def __init__(
        self,
        width: int,
        bottleneck: int,
        *,
        cells: int = 1,
        scale: float = 0.1,
        learnable_scale: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        for name, value in {"width": width, "bottleneck": bottleneck, "cells": cells}.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{type(self).__name__}: {name} must be an integer of at least 1; got {value!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"{type(self).__name__}: dropout must be in [0, 1); got {dropout}")
        self.width, self.bottleneck, self.dropout = width, bottleneck, dropout
        self.down = nn.Parameter(torch.empty(cells, width, bottleneck))
        self.down_bias = nn.Parameter(torch.empty(cells, bottleneck))
        self.up = nn.Parameter(torch.empty(cells, bottleneck, width))
        self.up_bias = nn.Parameter(torch.empty(cells, width))
        self.initial_scale = scale
        self.scale = nn.Parameter(torch.empty(())) if learnable_scale else scale
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Kaiming uniform (a = sqrt 5, fan-in C) for the down-projection, zeros for the rest."""
        bound = 1 / math.sqrt(self.width)
        self.down.uniform_(-bound, bound)
        for zero in (self.down_bias, self.up, self.up_bias):
            zero.zero_()
        if isinstance(self.scale, nn.Parameter):
            self.scale.fill_(self.initial_scale)

    def adapt(self, cells: Tensor) -> Tensor:
        """A(x) of tokens split into cells, each by its own weights: (cells, n, C) -> (cells, n, C)."""
        own = slice(len(cells))
        return self.expand(self.squeeze(cells, own), own)

    def squeeze(self, cells: Tensor, of: slice = slice(None)) -> Tensor:
        """x W_down before the ReLU, (cells, n, C) -> (cells, n, r); `of` picks the cells' weights."""
        hidden = einsum(cells, self.down[of], "g n c, g c r -> g n r")
        return hidden + rearrange(self.down_bias[of], "g r -> g 1 r")

    def expand(self, hidden: Tensor, of: slice = slice(None)) -> Tensor:
        """ReLU(x W_down) W_up of the hidden state (cells, n, r) -> (cells, n, C)."""
        hidden = F.dropout(F.relu(hidden), self.dropout, self.training)
        return einsum(hidden, self.up[of], "g n r, g r c -> g n c") + rearrange(self.up_bias[of], "g c -> g 1 c")

    def forward(self, x: Tensor) -> Tensor:
        """x (..., C) -> s * A(x) (..., C)."""
        tokens, shape = pack([x], "* c")
        out = rearrange(self.adapt(rearrange(tokens, "n c -> 1 n c")), "1 n c -> n c")
        return self.scale * unpack(out, shape, "* c")[0]

    def branch(self, x: Tensor, extra: Tensor | None = None) -> tuple[Tensor, Tensor | None, Tensor]:
        """The adapter's output for a map (B, T, H, W, C) and its class tokens (B, E, C), and its bottleneck.

        Returns the outputs in the same shapes (None for no class tokens) and the bottleneck (B, N, r) before the
        ReLU, tokens in the map's order, class tokens last: what a cross-attention adapter reads.
        """
        tokens = to_tokens(x, extra)
        hidden = self.squeeze(rearrange(tokens, "b n c -> 1 (b n) c"))
        out = rearrange(self.scale * self.expand(hidden), "1 (b n) c -> b n c", b=len(x))
        return *from_tokens(out, x.shape), rearrange(hidden, "1 (b n) r -> b n r", b=len(x))

    def extra_repr(self) -> str:
        """Width, bottleneck, cells and the kind of scale, for `print(model)`."""
        kind = "learned" if isinstance(self.scale, nn.Parameter) else "fixed"
        return f"width={self.width}, bottleneck={self.bottleneck}, cells={len(self.down)}, scale={kind}"


def to_tokens(x: Tensor, extra: Tensor | None = None) -> Tensor:
    """A map (B, T, H, W, C) and class tokens (B, E, C) or None as one row of tokens (B, N, C), class tokens last."""
    tokens = rearrange(x, "b t h w c -> b (t h w) c")
    return tokens if extra is None else torch.cat([tokens, extra], dim=1)


def from_tokens(tokens: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor | None]:
    """The way back: tokens (B, N, C) as a map of `shape`'s (B, T, H, W) and what is left (B, E, C), or None."""
    _, t, h, w, _ = shape
    x = rearrange(tokens[:, : t * h * w], "b (t h w) c -> b t h w c", t=t, h=h)
    extra = tokens[:, t * h * w :]
    return x, extra if extra.shape[1] else None
