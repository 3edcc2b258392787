"""Sequential cross-attention (MMCA): one module a block, all modalities in turn; the rigid alternative to the CAA."""

from einops import rearrange
from torch import Tensor, nn

from cm3t.plugins.caa import cross_attention


class SequentialCrossAttention(nn.Module):
    """Cross-attention from all vision tokens to one modality, used for each modality in a fixed order.

        x <- x + XAttn(x, s_1),   x <- x + XAttn(x, s_2),   ...
        XAttn(x, s) = softmax(LN(x) W_q (LN(s) W_k)^T / sqrt(a)) LN(s) W_v W_o      (W_o starts at zero)

    Shapes: x (B, N, C), side (B, L, d) -> XAttn(x, s) (B, N, C).

    Paper: Sec. 3.3 swaps its adapters for "the cross-attention module proposed by [2]", because otherwise "model size
    keeps increasing with more modalities"; the module is defined neither there nor in public code.
    Choice: an INTERPRETATION. What is known of it is that vision attends to one modality after the other. For the size
    not to grow, the modalities share one module a block; each has only a projection to the common width d, the inner
    width of the widest block. Hence its rigidity: a modality that is added, removed or moved changes what all later
    ones see. It stands behind the block, MLP and adapter included, where the chain can read what each link wrote; its
    inner width a is the adapters' (C / 4 by default), so that it differs from the CAA in form and not in room.
    """

    def __init__(self, width: int, inner: int, *, side_width: int):
        super().__init__()
        self.norm, self.norm_side = nn.LayerNorm(width), nn.LayerNorm(side_width)
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(side_width, inner)
        self.value = nn.Linear(side_width, inner)
        self.up = nn.Linear(inner, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Zeros for the last projection and all biases, Xavier uniform for the other projections."""
        for layer in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, side: Tensor) -> Tensor:
        """x (B, N, C), side (B, L, d) -> XAttn(x, s) (B, N, C)."""
        side = self.norm_side(side)
        return self.up(cross_attention(self.query(self.norm(x)), self.key(side), self.value(side), "standard"))


MMCA = SequentialCrossAttention


def pool_tokens(side: Tensor) -> Tensor:
    """Mean over the tokens of a modality (B, L, d) -> (B, d): all that late fusion knows of it."""
    return rearrange(side, "b l d -> l b d").mean(0)
