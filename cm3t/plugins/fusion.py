"""AdapterFusion, Eq. 7-10: attention over the side modalities that are there, one vision token at a time."""

from collections.abc import Sequence

import torch
from einops import rearrange, reduce
from torch import Tensor, nn


class AdapterFusion(nn.Module):
    """What the cross-attention adapters of M modalities say, merged for every vision token.

    Eq. (7)    q = mean of the modalities' Q       (the query of the cross-attention, none of its own)
    Eq. (8)    k_m = O_m W_k
    Eq. (9)    v_m = O_m W_v
    Eq. (10)   w = softmax_m(q . k_m / sqrt(a)),   y = n (sum_m w_m y_m + [sum_m w_m v_m] W_up)

    with O_m the hidden state (width a) and y_m the output of modality m's adapter, n the modalities present, all by
    sample and token.

    Shapes: query and hidden of each of M modalities (B, N, a), out (B, N, C) of each or None, present (M, B) bool
    -> y (B, N, C), weights (M, B, N) that sum to 1 over the modalities present, per sample.

    Paper: Sec. 3.3, "each head has the same query as that of attention in cross-attention adapter".
    Choice: equations 7-10 are blank in the public text; their form is reconstructed from the sentences around them and
    from AdapterFusion, which they name. The fusion lives in the bottleneck (at width C its matrices alone are twice
    the published budget). W_k and W_up start at zero, so that the weights start equal and, with the factor n, a
    fresh fusion *is* plain addition of whichever modalities are present. Without the factor two modalities would
    start at half of what each learned alone. An absent modality drops out of mean and softmax by `where`, so that a
    NaN in its place reaches neither output nor gradient; with none present y is zero. With one, its weight is 1 and
    only the term behind W_up is left to learn. Where `out` is None that term is all there is.
    """

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.key = nn.Linear(inner, inner)
        self.value = nn.Linear(inner, inner)
        self.up = nn.Linear(inner, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Zeros for W_k and W_up, torch's own start for W_v."""
        for layer in (self.key, self.up):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, query: Sequence[Tensor], hidden: Sequence[Tensor], out: Sequence[Tensor] | None, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """query, hidden: M x (B, N, a), out: M x (B, N, C) or None, present (M, B) -> y (B, N, C), weights (M, B, N).

        W_v is applied once, to what was merged: the weights sum to 1, so that this is equation 10.
        """
        number = rearrange(reduce(present.to(hidden[0].dtype), "m b -> b", "sum"), "b -> b 1 1")
        query, hidden = heard(query, present), heard(hidden, present)
        weights = self.weigh(sum(query) / number.clamp(min=1), hidden, present)
        merged = self.up(self.value(blend(weights, hidden)))
        if out is not None:
            merged = merged + blend(weights, heard(out, present))
        return number * merged, weights

    def weigh(self, query: Tensor, hidden: Sequence[Tensor], present: Tensor) -> Tensor:
        """Weights (M, B, N) of query (B, N, a), hidden M x (B, N, a), present (M, B); zeros for what is absent."""
        logits = torch.stack([(query * self.key(one)).sum(-1) for one in hidden]) / query.shape[-1] ** 0.5
        there = rearrange(present, "m b -> m b 1")
        logits = torch.where(there, logits, torch.finfo(logits.dtype).min)  # finite: with none present no 0 / 0
        return torch.where(there, logits.softmax(0), 0)


def heard(values: Sequence[Tensor], present: Tensor) -> list[Tensor]:
    """M x (B, N, d) and present (M, B): zeros where a modality is absent, whatever stands there."""
    return [torch.where(there[:, None, None], one, 0) for one, there in zip(values, present, strict=True)]


def blend(weights: Tensor, values: Sequence[Tensor]) -> Tensor:
    """The sum over M of weights (M, B, N) times values M x (B, N, d): (B, N, d)."""
    return sum(share[..., None] * one for share, one in zip(weights, values, strict=True))


def add(out: Sequence[Tensor], present: Tensor) -> Tensor:
    """Plain addition: the outputs M x (B, N, C) of the modalities present (M, B), summed: (B, N, C)."""
    return sum(heard(out, present))
