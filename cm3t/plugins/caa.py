"""The cross-attention adapter (CAA), Sec. 3.3: a side modality speaks to the vision adapter's bottleneck."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

FORMS = ("double", "standard", "token_gate")


class CrossOutput(NamedTuple):
    """What a cross-attention adapter makes of one modality."""

    query: Tensor  # Q (B, N, a), shared with the fusion
    hidden: Tensor  # O (B, N, a)
    out: Tensor | None  # s * O W_up (B, N, C); None where the fusion holds the only up-projection


class CrossAttentionAdapter(nn.Module):
    """An adapter whose linear layers are replaced by cross-attention between vision tokens and one modality.

        u = norm(z),   Q = u W_q,   V = u W_v,   K = LN(m) W_k,   S = Q K^T / sqrt(a)
        double       O = softmax_L(S) [softmax_N(S^T) V]      (N x L times L x a: any L >= 1)
        token_gate   O = sigmoid(mean_L S) * V
        standard     O = softmax_L(S) V   with V = LN(m) W_v
        y = s * O W_up                                        (W_up starts at zero: a fresh one changes nothing)

    Shapes: source (B, N, c) and side tokens m (B, L, d_m) -> `CrossOutput`: Q and O (B, N, a), y (B, N, C).

    width       C of the block
    inner       a, the width of the attention
    side_width  d_m
    affine      whether the norm of z has a gain and a shift of its own
    source      c, where the source is the bottleneck z (B, N, r) of the vision adapter (c = r); None: the source is
                the normed input (B, N, C), and a down-projection z = x W_down + b of its own comes first (c = C)

    Paper: Sec. 3.3. Query and value come from "the bottleneck hidden state in the multi-head vision adapter", the key
    from "the feature embedding from the new modality"; "two linear layers ... replaced with a cross-attention module".
    Choice: the paper has no equation for it; these are ours. With Q and V of N tokens and K of L, softmax(Q K^T) V has
    no shapes that fit. `double` keeps the roles: each side token gathers vision by S^T, each vision token takes
    back what the side tokens gathered. z is taken before the ReLU and normed token by token, as attention's inputs
    are; the norm has no weights, which W_q and W_v could take over, so that the published counts stay. Without it S
    is as wide as training has made z: both softmaxes soon pick one token, and what they give is too large to learn
    from. The logits are divided by sqrt(a) and the projections start as Xavier's, so that
    S starts about as wide at any width. s starts at 1. One attention head. With L = 1
    `double` gives every vision token the same vector, a pooling that the side conditions.

    Raises ValueError for an unknown form, and for a z of one number, of which the norm leaves nothing.
    """

    def __init__(
        self,
        width: int,
        inner: int,
        *,
        side_width: int,
        source: int | None,
        form: str = "double",
        up: bool = True,
        output: bool = False,
        affine: bool = False,
        scale: float = 1.0,
    ):
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"CrossAttentionAdapter: form must be one of {', '.join(FORMS)}; got {form!r}")
        self.form = form
        self.down = nn.Linear(width, inner) if source is None else None
        z = inner if source is None else source
        if z < 2:
            raise ValueError(f"CrossAttentionAdapter: z is normed and must be at least 2 wide; got {z}")
        self.norm_source = nn.LayerNorm(z, elementwise_affine=affine)
        self.norm = nn.LayerNorm(side_width)
        self.query = nn.Linear(z, inner)
        self.key = nn.Linear(side_width, inner)
        self.value = nn.Linear(side_width if form == "standard" else z, inner)
        self.output = nn.Linear(inner, inner) if output else None
        self.up = nn.Linear(inner, width) if up else None
        self.initial_scale = scale
        self.scale = nn.Parameter(torch.empty(()))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Xavier uniform for what goes in, zeros for the up-projection and all biases."""
        self.scale.fill_(self.initial_scale)
        for layer in (self.down, self.query, self.key, self.value, self.output, self.up):
            if layer is not None:
                (nn.init.zeros_ if layer is self.up else nn.init.xavier_uniform_)(layer.weight)
                nn.init.zeros_(layer.bias)

    def project(self, source: Tensor, side: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q (B, N, a), K (B, L, a) and V (B, N, a), of the form `standard` (B, L, a)."""
        z = source if self.down is None else self.down(source)
        z, side = self.norm_source(z), self.norm(side)
        return self.query(z), self.key(side), self.value(side if self.form == "standard" else z)

    def forward(self, source: Tensor, side: Tensor) -> CrossOutput:
        """source (B, N, c), side tokens (B, L, d_m) -> Q (B, N, a), O (B, N, a), s * O W_up (B, N, C)."""
        q, k, v = self.project(source, side)
        hidden = cross_attention(q, k, v, self.form)
        hidden = hidden if self.output is None else self.output(hidden)
        if self.up is None:
            return CrossOutput(q, self.scale * hidden, None)
        return CrossOutput(q, hidden, self.scale * self.up(hidden))

    def extra_repr(self) -> str:
        """The form, for `print(model)`."""
        return f"form={self.form}"


def cross_attention(q: Tensor, k: Tensor, v: Tensor, form: str = "double") -> Tensor:
    """O (B, N, a) of Q (B, N, a), K (B, L, a) and V (B, N, a); for `standard` V is (B, L, a)."""
    logits = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if form == "token_gate":
        return torch.sigmoid(logits.mean(-1, keepdim=True)) * v
    take = logits.softmax(-1)  # every vision token over the side tokens
    if form == "standard":
        return take @ v
    gather = logits.transpose(-2, -1).softmax(-1)  # every side token over the vision tokens
    return take @ (gather @ v)


CAA = CrossAttentionAdapter
