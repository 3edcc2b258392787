"""AdapterFusion, Eq. 7-10: attention over the side modalities that are there, one vision token at a time."""

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor, nn


class AdapterFusion(nn.Module):
    """What the cross-attention adapters of M modalities say, merged for every vision token.

    Eq. (7)    q = mean of the modalities' Q       (the query of the cross-attention, none of its own)
    Eq. (8)    k_m = O_m W_k
    Eq. (9)    v_m = O_m W_v
    Eq. (10)   w = softmax_m(q . k_m / sqrt(a)),   y = n (sum_m w_m y_m + [sum_m w_m v_m] W_up)

    with O_m the hidden state (width a) and y_m the output of modality m's adapter, n the modalities present, all by
    sample and token.

    Shapes: query and hidden (M, B, N, a), out (M, B, N, C) or None, present (M, B) bool -> y (B, N, C), weights
    (M, B, N) that sum to 1 over the modalities present, per sample.

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

    def forward(self, query: Tensor, hidden: Tensor, out: Tensor | None, present: Tensor) -> tuple[Tensor, Tensor]:
        """query, hidden (M, B, N, a), out (M, B, N, C) or None, present (M, B) -> y (B, N, C), weights (M, B, N)."""
        there = rearrange(present, "m b -> m b 1 1")
        number = rearrange(reduce(present.to(hidden.dtype), "m b -> b", "sum"), "b -> b 1 1")
        query, hidden = (torch.where(there, x, 0) for x in (query, hidden))
        weights = self.weigh(query.sum(0) / number.clamp(min=1), hidden, present)
        merged = self.up(self.value(einsum(weights, hidden, "m b n, m b n a -> b n a")))
        if out is not None:
            merged = merged + einsum(weights, torch.where(there, out, 0), "m b n, m b n c -> b n c")
        return torch.where(number > 0, number * merged, 0), weights

    def weigh(self, query: Tensor, hidden: Tensor, present: Tensor) -> Tensor:
        """Weights (M, B, N) of query (B, N, a), hidden (M, B, N, a) and present (M, B); zeros for what is absent."""
        logits = einsum(query, self.key(hidden), "b n a, m b n a -> m b n") / hidden.shape[-1] ** 0.5
        there = rearrange(present, "m b -> m b 1")
        logits = torch.where(there, logits, torch.finfo(logits.dtype).min)  # finite: with none present no 0 / 0
        return torch.where(there, logits.softmax(0), 0)


def add(out: Tensor, present: Tensor) -> Tensor:
    """Plain addition: the outputs (M, B, N, C) of the modalities present (M, B), summed: (B, N, C)."""
    return torch.where(rearrange(present, "m b -> m b 1 1"), out, 0).sum(0)
