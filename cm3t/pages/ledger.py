"""The claims ledger: each claim of the paper beside what our runs say of it, in words that can be wrong.

A status is a pure function of published records. It speaks of direction, never of the paper's size: our numbers come
from another data set.
"""

from dataclasses import dataclass

import pandas as pd

from cm3t.config import PROFILES, RunConfig, results_dir
from cm3t.paper import CLAIMS, LATER, Claim
from cm3t.plans import LOWER
from cm3t.published import PAPER, agrees, derived, recorded
from cm3t.records import largest_profile, load_run, results
from cm3t.stats import Interval, paired, select
from cm3t.study import Variant, interaction

REPRODUCED, SAME, NOT_SEEN = "reproduced", "same direction", "not seen"
AGREES, DIFFERS = "counted, agrees", "counted, differs"
NOT_TESTABLE, NOT_RUN = "not testable here", "not run yet"
STATUSES = (REPRODUCED, SAME, NOT_SEEN, AGREES, DIFFERS, NOT_TESTABLE, NOT_RUN)
DIRECTION = "in direction; the size is of other data"
# Where the answer that looks at nothing was scored: two that are no better than it are not close, but both wrong.
TRIVIAL = {"rooms-kitchen": "card/majority", "rooms-group": "card-group/chance", "rooms-dyad": "card-dyad/mean"}


@dataclass(frozen=True)
class Verdict:
    """What the runs of one profile, or a count, say of one claim; `difference` is ours - against, paired by seed."""

    claim: Claim
    status: str
    difference: Interval | None = None
    profile: str | None = None
    count: float | None = None  # in the claim's unit


def judge(claim: Claim, frame: pd.DataFrame, profile: str | None) -> Verdict:
    """Hold a claim against a table of runs (`records.results`).

    Reproduced: all seeds of the profile ran, at least three, and the whole 95 % interval lies where the claim says.
    Same direction: the mean does. Not seen: it does not, or two are close that are no better than a constant answer.
    A claim about a size is counted: that agrees with the paper as printed, or differs. One that nothing here can test
    says so.
    """
    if claim.counted:
        return _count(claim)
    if claim.ours is None:
        return Verdict(claim, NOT_RUN if claim.why_not == LATER else NOT_TESTABLE)
    difference = difference_of(claim, frame) if profile else None
    if difference is None:
        return Verdict(claim, NOT_RUN)
    if claim.margin and not _beats_trivial(claim, frame):
        return Verdict(claim, NOT_SEEN, difference, profile)
    enough = difference.n >= max(3, len(PROFILES[profile].seeds))
    if enough and _holds(claim, difference.low) and _holds(claim, difference.high):
        status = REPRODUCED
    else:
        status = SAME if _holds(claim, difference.mean) else NOT_SEEN
    return Verdict(claim, status, difference, profile)


def _count(claim: Claim) -> Verdict:
    """A published size against the count in the cost records, which ship with the study."""
    (figure,) = (figure for figure in PAPER if figure.what == claim.counted)
    try:
        costs = recorded()
    except FileNotFoundError:
        return Verdict(claim, NOT_RUN)
    return Verdict(claim, AGREES if agrees(figure, costs) else DIFFERS, count=derived(figure, costs))


def difference_of(claim: Claim, frame: pd.DataFrame) -> Interval | None:
    """`ours` - `against`, paired by seed, less the same of the pair `beyond` if there is one; None if not run."""
    if claim.beyond is None:
        return paired(frame, claim.ours, claim.against, claim.metric)
    ours, against, *beyond = (Variant("", side) for side in (claim.ours, claim.against, *claim.beyond))
    return interaction(frame, (ours, against), tuple(beyond), claim.metric)


def _holds(claim: Claim, value: float) -> bool:
    """Does a difference of this value agree with the claim's direction, and with its margin if it has one?"""
    right_side = claim.direction * value > 0 or claim.direction == 0
    return right_side and (abs(value) <= claim.margin or not claim.margin)


def _beats_trivial(claim: Claim, frame: pd.DataFrame) -> bool:
    """Are both sides, on average, better than the constant answer that the data's difficulty records hold?"""
    data, metric = claim.ours.get("data", RunConfig.data), claim.metric.rpartition(".")[2]
    paths = sorted((results_dir() / "records").glob(f"{TRIVIAL[data]}-s*.json"))
    found = [load_run(path).train_info["metrics"]["validation"]["all"][metric] for path in paths]
    if not found:
        return True
    constant = sum(found) / len(found)
    means = [select(frame, **side)[claim.metric].mean() for side in (claim.ours, claim.against)]
    return max(means) < constant if metric in LOWER else min(means) > constant


def verdicts(profile: str | None = None) -> list[Verdict]:
    """All claims judged by the published runs of a profile, by default the largest complete one."""
    profile = profile or largest_profile()
    frame = results(profile)
    return [judge(claim, frame, profile) for claim in CLAIMS]


def ledger(profile: str | None = None) -> pd.DataFrame:
    """The ledger as a table of text, each number with its unit: what the paper has, and what is found here.

    The paper's numbers are of its data, differences of our runs of synthetic data, counts of the paper's own backbone:
    each has a column of its own.
    """
    rows = []
    for verdict in verdicts(profile):
        claim, found, count = verdict.claim, verdict.difference, verdict.count
        digits = 3 if claim.unit == "MSE" else 1
        rows.append(
            {
                "claim": claim.says,
                "where": claim.where,
                "paper's size (its data)": "" if claim.size is None else f"{claim.size:g} {claim.unit}",
                "ours (synthetic), paired": f"{found.text(digits, signed=True)} {claim.unit} (n={found.n})"
                if found
                else "",
                "counted here (Video Swin-B)": "" if count is None else f"{count:.1f} {claim.unit}",
                "status": verdict.status,
                "note": claim.why_not or (DIRECTION if claim.size and verdict.status == REPRODUCED else ""),
                "notebook": claim.notebook,
            }
        )
    return pd.DataFrame(rows)
