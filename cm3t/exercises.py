"""What the notebooks' exercises are checked with: models with a planted fault, and the tests of a fault's detector.

Each fault is one that a real implementation has had or could have. A detector is right if it says True for its fault
and False for a healthy model and for every other fault.
"""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from cm3t.model import CM3T, create
from cm3t.plugins import MultiHeadVisionAdapter

FAULTS = {
    "shared": "all cells use the first cell's adapter",
    "unscaled": "the learned scale s is never multiplied in",
    "unfrozen": "one weight of the backbone is trained along",
}


class _Shared(MultiHeadVisionAdapter):
    """MHVA in shape and size, but every cell goes through the first cell's weights."""

    def adapt(self, cells: Tensor) -> Tensor:
        tokens = rearrange(cells, "g n c -> (g n) c")
        hidden = torch.relu(tokens @ self.down[0] + self.down_bias[0])
        return rearrange(hidden @ self.up[0] + self.up_bias[0], "(g n) c -> g n c", g=len(cells))


class _Unscaled(MultiHeadVisionAdapter):
    """MHVA whose scale is a parameter that nothing reads."""

    def forward(self, x: Tensor) -> Tensor:
        scale, self.scale = self.scale, nn.Parameter(torch.ones(()))
        out = super().forward(x)
        self.scale = scale
        return out


def planted(fault: str | None = None, seed: int = 0) -> CM3T:
    """A small MHVA model with one of FAULTS, or a healthy one; every weight is random, so that faults can be seen.

    KeyError for an unknown fault.
    """
    if fault is not None and fault not in FAULTS:
        raise KeyError(f"no fault {fault!r}; known: {', '.join(FAULTS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = create("video_swin_mini", method="mhva", heads={"verb": 4})
        for p in model.adapters.parameters():
            nn.init.normal_(p, std=0.2)
    if fault == "unfrozen":
        model.backbone.blocks[3].norm1.weight.requires_grad_(True)
    for adapter in model.adapters if fault in ("shared", "unscaled") else ():
        if len(adapter.down) > 1:
            adapter.__class__ = {"shared": _Shared, "unscaled": _Unscaled}[fault]
    return model.eval()


def check_detector(detector: Callable[[CM3T], bool], fault: str) -> str:
    """Try a detector on a healthy model and on every fault; "found: ..." or the first thing it got wrong."""
    for kind in (fault, None, *(other for other in FAULTS if other != fault)):
        said, right = bool(detector(planted(kind))), kind == fault
        if said != right:
            about = "a healthy model" if kind is None else f"the model where {FAULTS[kind]}"
            return f"not yet: it says {said} for {about}"
    return f"found: {FAULTS[fault]}"


def check_number(answer, right: int) -> str:
    """Compare a whole number with the right one, without giving it away."""
    if answer is None:
        return "not yet: write your answer in place of None"
    return "right" if int(answer) == right else f"not yet: {int(answer):,} is too {'low' if answer < right else 'high'}"
