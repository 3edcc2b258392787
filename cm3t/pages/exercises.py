"""What the notebooks' exercises are checked with: right numbers, models with a planted fault, tests of functions.

Right answers stand here, not beside their exercises: there each is folded away (`<details>`), and a test tries it.
Each fault is one that a real implementation has had or could have. A detector is right if it says True for its fault
and False for a healthy model and for every other fault.
"""

from collections.abc import Callable
from dataclasses import replace
from numbers import Real

import torch
from einops import rearrange
from torch import Tensor, nn

from cm3t.config import PROFILES, resolve
from cm3t.model import CM3T, create
from cm3t.plugins import MultiHeadVisionAdapter
from cm3t.records import Record, new_record
from cm3t.stats import interval

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
        model = create("video_swin_mini", method="mhva", heads={"verb": 4}, weights=None)
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


# By notebook and exercise; a function where the answer depends on what the notebook holds.
RIGHT = {
    "00.1": 385_024,
    "00.2": lambda: PROFILES["quick"].train_clips * PROFILES["quick"].epochs,
    "00.3": lambda clips: int(clips.unseen.sum()),
    "02.1": 10_909,
    "03.1": 392,
    "03.2": 385_024,
    "04.1": 1,
    "05.1": 52_144,
    "05.2": 44_496,
    "06.1": 96_256,
    "07.2": 1,
    "09.1": 59_568,
    "09.2": 100,
    "12.1": 193,
    "12.2": 28,
}


def check(exercise: str, answer, *given) -> str:
    """Compare the answer to an exercise, "00.1", with the right whole number; `given` is what that depends on.

    KeyError for an exercise whose answer is no number.
    """
    right = RIGHT[exercise]
    return check_number(answer, right(*given) if callable(right) else right)


def check_number(answer, right: int) -> str:
    """Compare a whole number with the right one, without giving it away."""
    if answer is None:
        return "not yet: write your answer in place of None"
    if isinstance(answer, bool) or not isinstance(answer, Real) or answer != answer // 1:
        return f"not yet: write a whole number, not {answer!r}"
    return "right" if answer == right else f"not yet: {int(answer):,} is too {'low' if answer < right else 'high'}"


# Invented scores, {seed: score}: seeds differ far more than methods do, and each side lacks a seed of the other.
OURS = {0: 41.0, 1: 47.5, 2: 36.5, 3: 44.0, 5: 39.0}
AGAINST = {3: 41.5, 2: 35.0, 1: 45.0, 0: 39.5, 4: 52.0}


def check_paired(function: Callable[[dict, dict], tuple[float, float]]) -> str:
    """Try a function of two {seed: score} that returns the mean paired difference and its 95 % half width."""
    common = sorted(set(OURS) & set(AGAINST))
    right = interval(OURS[seed] - AGAINST[seed] for seed in common)
    answer = function(OURS, AGAINST)
    if answer is None:
        return "not yet: return the mean difference and its half width"
    mean, half = answer
    if abs(mean - right.mean) > 0.01:
        return f"not yet: the mean is {mean:.2f}; only seeds that both sides ran can be paired, each with itself"
    if abs(half - right.half) > 0.01:
        return f"not yet: the mean is right, the half width is {half:.2f}; take that of the differences"
    return f"right: {right.text(digits=2, signed=True)}"


def invented_records() -> list[Record]:
    """Five records of one configuration, invented: one of them was trained on other data than the rest."""
    records = []
    for seed, score in enumerate((41.0, 42.5, 40.5, 55.0, 41.5)):
        scores = {"validation": {"all": {"action_top1": score, "n": 400}}}
        info = {"status": "ok", "epochs": [], "epochs_to_converge": 9, "metrics": scores, "seconds": 60.0}
        digest = "9f2c51d07a3e" if seed == 2 else "4b7de8810c66"  # the odd one does not stand out by its score
        record = new_record(resolve("full", method="mhva", seed=seed), info, {"digests": {"data": digest}})
        records.append(replace(record, run_info=record.run_info | {"created_at": "2026-01-01T00:00:00+00:00"}))
    return records


def check_stale(function: Callable[[list[Record]], str]) -> str:
    """Try a function that takes records and returns the run id of the one that does not belong with the others."""
    records = invented_records()
    answer = function(records)
    if answer == records[2].run_id:
        return "found: it was trained on other data, so it cannot be averaged with the rest"
    if answer == records[3].run_id:
        return "not yet: a high score is no reason to throw a run away"
    return "not yet: what must be equal in all runs of an average?"


def check_dead(function: Callable[[Tensor, Tensor], tuple[float, float]]) -> str:
    """Try a function of E (l, C) and W (C, C) that returns the dead fractions of E under ReLU(E) W and ReLU(E W)."""
    rng = torch.Generator().manual_seed(0)
    embedding, weight = torch.randn(8, 64, generator=rng), torch.randn(64, 64, generator=rng)
    answer = function(embedding, weight)
    if answer is None:
        return "not yet: return two fractions"
    first, second = answer
    if abs(first - (embedding <= 0).float().mean().item()) > 1e-6:
        return f"not yet: {first:.2f} of E without gradient under ReLU(E) W? Which entries does ReLU stop?"
    return "right: half of E would never move" if second == 0 else "not yet: the second fraction is too high"


def check_order(function: Callable[..., bool], model: CM3T, video: Tensor, side: dict[str, Tensor]) -> str:
    """Try a function that says whether logits stay when a model holds its modalities in another order.

    They stay in `model`; in a chain of cross-attentions (MMCA), on which it is tried too, they do not.
    """
    said = function(model, video, side)
    if said is None:
        return "not yet: return True or False"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        chain = create("video_swin_mini", method="mhva+pt+mmca", heads={"verb": 4}, weights=None).eval()
        for name, tokens in side.items():
            chain.add_modality(name, width=tokens.shape[-1])
        for p in chain.parameters():
            if p.requires_grad and p.ndim > 1:
                nn.init.normal_(p, std=0.1)
    of_chain = bool(function(chain, video, side))
    if not said or of_chain:
        return f"not yet: it says {bool(said)} for CM3T, whose order is free, and {of_chain} for MMCA, a chain"
    return "right: a softmax has no first and no last; a chain has"


def check_person_mse(function: Callable[[list, list, list], float]) -> str:
    """Try a function of predictions, true values and persons (a row a clip) that returns the MSE over people."""
    predicted, truth, person = [1.0, 3.0, 0.0, 0.5, 1.0, 0.0], [1.0, 1.0, 0.5, 0.5, 0.5, 0.5], list("aabbbb")
    answer = function(predicted, truth, person)
    if answer is None:
        return "not yet: return one number"
    if abs(answer - 0.5078125) < 1e-9:
        return "right: two people count as two, however many clips they have"
    return f"not yet: {answer:.3f}. Average each person's predictions before you square"
