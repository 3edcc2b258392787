"""Prefix tuning (PT), Eq. 3-5: learned tokens that every attention head may look at besides its own."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {"relu": F.relu, "tanh": torch.tanh}


class PrefixTuning(nn.Module):
    """Prefix keys and values of one attention block from one learned embedding.

    Eq. (3)   y = (1 - lambda(x)) Attn(x W_q, K, V) + lambda(x) Attn(x W_q, P_k, P_v)
    Eq. (4)   P_k = act(E W_k),   P_v = act(E W_v)            (W_k, W_v: the frozen projections of the block)
    Eq. (5)   lambda(x) = sum exp(x W_q P_k^T) / (sum exp(x W_q P_k^T) + sum exp(x W_q K^T))

    The gated addition of Eq. 3 and 5 *is* attention over concatenated keys [P_k; K] and values [P_v; V]: the
    attention only concatenates, and `prefix_gate` gives lambda where one wants to look at it.

    Shapes: E (l, C) -> P_k, P_v, each (l, C), projected once and shared by all windows; heads split the width
    C.

    Paper: Sec. 3.2.1-3.2.2; E "is a learned embedding which is randomly initialized", ReLU "in place of tanH
    with a lower dropout".
    Choice: equations 3-5 are blank in the public text; their form is that of the work it takes them from (He et al.,
    "Towards a unified view of parameter-efficient transfer learning", 2022). act(E W), not act(E) W, which would
    leave half of E without a gradient from the start; E ~ N(0, 0.02^2). Unlike the adapters a prefix is not a no-op
    at step 0: its logits are near zero, and lambda is l / (l + N) where the window's are too; in a pretrained block it
    varies with the token, from almost nothing to almost all.

    Raises ValueError for a length, an activation or a dropout that no prefix can have.
    """

    def __init__(
        self,
        width: int,
        length: int,
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        init_std: float = 0.02,
    ):
        super().__init__()
        if not isinstance(length, int) or length < 1:
            raise ValueError(f"PrefixTuning: length must be an integer of at least 1; got {length!r}")
        if activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"PrefixTuning: activation must be one of {known}; got {activation!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"PrefixTuning: dropout must be in [0, 1); got {dropout}")
        self.activation, self.dropout, self.init_std = activation, dropout, init_std
        self.embedding = nn.Parameter(torch.empty(length, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """E ~ N(0, init_std^2)."""
        nn.init.normal_(self.embedding, std=self.init_std)

    def forward(self, project: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """(P_k, P_v), each (l, C); `project` takes E (l, C) to (E W_k, E W_v), the block's frozen weights."""
        act = ACTIVATIONS[self.activation]
        p_k, p_v = (F.dropout(act(p), self.dropout, self.training) for p in project(self.embedding))
        return p_k, p_v

    def extra_repr(self) -> str:
        """Length, width and activation, for `print(model)`."""
        length, width = self.embedding.shape
        return f"width={width}, length={length}, activation={self.activation}"


def prefix_gate(query: Tensor, key: Tensor, prefix_key: Tensor, *, bias: Tensor | None = None) -> Tensor:
    """lambda(x) of Eq. 5: the share of a token's attention that goes to the prefix.

    Shapes: query (..., N, d), key (..., M, d), prefix_key (..., l, d), bias (..., N, M) or None -> (..., N,
    1), where d is the width of one head. Logits are q k^T / sqrt(d), the bias (relative positions, shift
    mask) on the self part only.
    """
    root = query.shape[-1] ** 0.5
    own = query @ key.transpose(-2, -1) / root
    own = torch.logsumexp(own if bias is None else own + bias, dim=-1, keepdim=True)
    prefix = torch.logsumexp(query @ prefix_key.transpose(-2, -1) / root, dim=-1, keepdim=True)
    return torch.sigmoid(prefix - own)
