"""What a claim of the paper is, in a form that records can be held against."""

import math
from dataclasses import dataclass

ACTION, MAP, MSE = (f"validation.all.{metric}" for metric in ("action_top1", "map", "mse"))
UNITS = {ACTION: "points", MAP: "points of mAP", MSE: "MSE", "share": "%", "parameters": "million", "epochs": "epochs"}


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper that can turn out true or false, and what would test it.

    `direction`: +1 `ours` is higher than `against`, -1 lower, 0 about equal; with a `margin` the two must lie no
    further apart than that. `size` is the paper's, on its data. Without `ours` no comparison of runs tests it: a count
    does (`counted`, of `published.PAPER`), or `why_not` says why nothing does, what does instead, or not all.
    """

    id: str
    where: str  # section and table
    says: str  # the claim in our words, close to the text
    metric: str  # a column of records.results, or a quantity
    direction: int
    size: float | None  # in the metric's unit; None where the paper gives none
    notebook: str  # the number of the notebook that tests it
    ours: dict | None = None  # settings of the runs on either side, for stats.paired
    against: dict | None = None
    margin: float = 0.0
    beyond: tuple[dict, dict] | None = None  # a second pair: the claim is that the first differs by more
    counted: str = ""  # the name of a published figure whose count here is held against it
    less_than: str = ""  # where it has no number of its own: the figure whose count must be larger
    why_not: str = ""
    also: tuple[tuple[str, dict], ...] = ()  # further opponents of `ours`, of whom the same must hold: what, settings
    beside: tuple[tuple[str, dict, dict], ...] = ()  # comparisons that the ledger prints with it: what, ours, against

    @property
    def region(self) -> tuple[float, float]:
        """The ends of the differences that agree with the claim: its direction, and its margin if it has one."""
        far = self.margin or math.inf
        return (0.0 if self.direction > 0 else -far), (0.0 if self.direction < 0 else far)

    @property
    def unit(self) -> str:
        """What sizes and differences are measured in."""
        return UNITS.get(self.metric, "")
