"""The claims ledger: each claim of the paper beside what our runs say of it, in words that can be wrong.

A status is a pure function of published records. It speaks of direction, never of the paper's size: our numbers come
from another data set.
"""

from dataclasses import dataclass

import pandas as pd

from cm3t.paper import CLAIMS, LATER, Claim
from cm3t.records import largest_profile, results
from cm3t.stats import Interval, paired
from cm3t.study import Variant, interaction

REPRODUCED, SAME, NOT_SEEN = "reproduced", "same direction", "not seen"
NOT_TESTABLE, NOT_RUN = "not testable here", "not run yet"
STATUSES = (REPRODUCED, SAME, NOT_SEEN, NOT_TESTABLE, NOT_RUN)
ENOUGH_SEEDS = 3  # fewer give an interval too wide, or none: such runs show a direction at most


@dataclass(frozen=True)
class Verdict:
    """What the runs of one profile say of one claim; `difference` is ours - against, paired by seed."""

    claim: Claim
    status: str
    difference: Interval | None = None
    profile: str | None = None


def judge(claim: Claim, frame: pd.DataFrame, profile: str | None) -> Verdict:
    """Hold a claim against a table of runs (`records.results`).

    Reproduced: at least three seeds, and the whole 95 % interval lies where the claim says. Same direction: the mean
    does. Not seen: it does not. A claim that no comparison here can test says so.
    """
    if claim.ours is None:
        return Verdict(claim, NOT_RUN if claim.why_not == LATER else NOT_TESTABLE)
    difference = difference_of(claim, frame) if profile else None
    if difference is None:
        return Verdict(claim, NOT_RUN)
    if difference.n >= ENOUGH_SEEDS and _holds(claim, difference.low) and _holds(claim, difference.high):
        status = REPRODUCED
    else:
        status = SAME if _holds(claim, difference.mean) else NOT_SEEN
    return Verdict(claim, status, difference, profile)


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


def verdicts(profile: str | None = None) -> list[Verdict]:
    """All claims judged by the published runs of a profile, by default the largest complete one."""
    profile = profile or largest_profile()
    frame = results(profile)
    return [judge(claim, frame, profile) for claim in CLAIMS]


def ledger(profile: str | None = None) -> pd.DataFrame:
    """The ledger as a table of text: claim, place, the paper's size (its data), ours (synthetic), status, notebook."""
    rows = []
    for verdict in verdicts(profile):
        claim, found = verdict.claim, verdict.difference
        rows.append(
            {
                "claim": claim.says,
                "where": claim.where,
                "paper's size (its data)": "" if claim.size is None else f"{claim.size:g}",
                "ours (synthetic), paired": f"{found.text(signed=True)} (n={found.n})" if found else "",
                "status": verdict.status,
                "note": claim.why_not,
                "notebook": claim.notebook,
            }
        )
    return pd.DataFrame(rows)
