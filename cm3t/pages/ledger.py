"""The claims ledger: each claim of the paper beside what our runs say of it, in words that can be wrong.

A status is a pure function of published records. It speaks of direction, never of the paper's size: our numbers come
from another data set. Each interval is a 95 % one of its own: of many claims a few would be decided by chance.
"""

from dataclasses import dataclass, replace

import pandas as pd

from cm3t.claims import Claim
from cm3t.config import PROFILES, RunConfig, released, resolve, results_dir
from cm3t.pages.tables import frames
from cm3t.paper import CLAIMS, LATER
from cm3t.plans import LOWER
from cm3t.published import PAPER, agrees, derived, recorded
from cm3t.rates import tuning_key
from cm3t.records import load_run, results, to_frame
from cm3t.stats import Interval, over_first_step, paired, select
from cm3t.study import NEVER, NOT_RUN, Variant, interaction, label_of, rate_source, sized, verdict

REPRODUCED, UNDECIDED, CONTRADICTED = "direction reproduced", "undecided", "contradicted"
AGREES, DIFFERS = "counted, a reading fits", "counted, differs"
NOT_TESTABLE = "not testable here"
STATUSES = (REPRODUCED, UNDECIDED, CONTRADICTED, AGREES, DIFFERS, NOT_TESTABLE, NOT_RUN)
# What the statuses mean, for who reads the table.
RULES = (
    "*Direction reproduced*: with all seeds the whole 95 % interval lies where the claim says, against every "
    "opponent of its note. *Contradicted*: it lies elsewhere. *Undecided*: part of it does, an opponent or seeds "
    "have not run, a rate as good says otherwise or was never swept, or of two that should be close one is no "
    "better than a constant answer. *Counted*: the size of our default preset, one reading of the paper, fits the "
    "printed one or differs. Each interval is of its own: of so many claims a few would be decided by chance. "
    "Seeds are all that it is over: held-out people are few (kitchen 12, of whom 10 also train; group 20, in five "
    "sessions; dyad 15)."
)
# Where the answer that looks at nothing was scored: of two that are close, one that is no better decides nothing.
TRIVIAL = {"rooms-kitchen": "card/majority", "rooms-group": "card-group/chance", "rooms-dyad": "card-dyad/mean"}


@dataclass(frozen=True)
class Verdict:
    """What the runs of one profile, or a count, say of one claim; `difference` is ours - against, paired by seed."""

    claim: Claim
    status: str
    difference: Interval | None = None
    profile: str | None = None
    count: float | None = None  # in the claim's unit
    note: str = ""


def judge(claim: Claim, frame: pd.DataFrame, profile: str | None) -> Verdict:
    """Hold a claim against a table of runs (`records.results`).

    Direction reproduced: all seeds of the profile ran, at least three, and the whole 95 % interval lies where the claim
    says. Contradicted: it lies elsewhere. Undecided: part of it does, seeds are missing, a learning rate as good as the
    other side's says otherwise (`tied`), a further opponent does or has not run (`also`), a rate was never swept nor
    inherited, or two are close of which one is no better than a constant answer. A claim about a size is counted: a
    reading of the paper, our default, gives it as printed, which supports the reading and not the paper's results; or
    it differs. One that nothing here can test says so.
    """
    if claim.counted:
        return _count(claim)
    if claim.ours is None:
        return Verdict(claim, NOT_RUN if claim.why_not == LATER else NOT_TESTABLE)
    difference = difference_of(claim, frame) if profile else None
    if difference is None:
        return Verdict(claim, NOT_RUN)
    further = _at_tied_rates(claim, frame) | _over_others(claim, frame)
    found = Verdict(claim, UNDECIDED, difference, profile, note=_note(claim, frame, further))
    failed = _no_better_than_constant(claim, frame)
    if failed:
        words = f"no better than a constant answer: {' and '.join(failed)}"
        found = replace(found, note="; ".join(filter(None, (words, found.note))))
    if claim.margin and failed or NEVER in map(rate_source, _sides(claim)):
        return found
    said = {_decided(claim, each, len(PROFILES[profile].seeds)) for each in (difference, *further.values())}
    return replace(found, status=said.pop() if len(said) == 1 else UNDECIDED)


def _decided(claim: Claim, difference: Interval | None, seeds: int) -> str:
    """What the whole of an interval says of a claim, if it rests on all seeds and at least three."""
    low, high = claim.region
    if difference is None or difference.n < max(3, seeds):
        return UNDECIDED
    if low < difference.low and difference.high < high:
        return REPRODUCED
    return CONTRADICTED if difference.high <= low or difference.low >= high else UNDECIDED


def _note(claim: Claim, frame: pd.DataFrame, further: dict[str, Interval | None]) -> str:
    """What stands beside a claim: what was compared, further comparisons, and rates that were not swept."""
    pairs = {what: paired(frame, ours, against, claim.metric) for what, ours, against in claim.beside}
    found = (further | pairs).items()
    words = [] if claim.beyond else [f"{label_of(claim.ours)} against {label_of(claim.against)}"]
    words += [f"agrees where the whole interval lies within {_ends(claim)}"] if claim.margin else []
    told = ((what, difference) for what, difference in found if difference or what in dict(claim.also))
    words += [f"{what}: {verdict(difference, claim.unit)}" for what, difference in told]
    if gain := over_first_step(frame, claim.ours, claim.metric):
        words.append(f"over its own first step: {verdict(gain, claim.unit)}")
    places = ("first side", "second side", *(f"other side, {what}" for what, _ in claim.also))
    for place, side in zip(places, _sides(claim), strict=True):
        if (source := rate_source(side)) not in ("given", "swept"):
            words.append(f"rate of the {place}: {source}")
    return "; ".join(words)


def _sides(claim: Claim) -> list[dict]:
    """Settings of the runs that a claim is judged by: ours, what it is held against, further opponents."""
    return [claim.ours, claim.against, *(other for _, other in claim.also)]


def _ends(claim: Claim) -> str:
    """The differences that agree with a claim that has a margin: `-5 to 0 points`."""
    low, high = claim.region
    return f"{low:+g} to {high:+g} {claim.unit}".replace("+0 ", "0 ")


def _at_tied_rates(claim: Claim, frame: pd.DataFrame) -> dict[str, Interval]:
    """The claim's difference with either side at a learning rate as good on `tune` as its own, where that ran."""
    sides = {}
    for name, side in (("ours", claim.ours), ("against", claim.against)):
        for rate in _tuned(side).get("tied", ()):
            both = {"ours": claim.ours, "against": claim.against} | {name: side | {"lr": rate}}
            sides[f"{side['method']} at {rate:g}, as good on tune"] = paired(frame, **both, metric=claim.metric)
    return {what: found for what, found in sides.items() if found}


def _over_others(claim: Claim, frame: pd.DataFrame) -> dict[str, Interval | None]:
    """The claim's difference to its further opponents, of which the same must hold; None for one that has not run."""
    return {what: paired(frame, claim.ours, other, claim.metric) for what, other in claim.also}


def _tuned(side: dict) -> dict:
    """What the sweep found for one side of a claim; empty where it was not tuned."""
    return released().get(tuning_key(vars(resolve("full", **{k: v for k, v in side.items() if k != "init"}))), {})


def _count(claim: Claim) -> Verdict:
    """A published size against the count in the cost records, which ship with the study."""
    known = {figure.what: figure for figure in PAPER}
    try:
        costs = recorded()
    except FileNotFoundError:
        return Verdict(claim, NOT_RUN)
    figure, count = known[claim.counted], derived(known[claim.counted], costs)
    fits = count < derived(known[claim.less_than], costs) if claim.less_than else agrees(figure, costs)
    return Verdict(claim, AGREES if fits else DIFFERS, count=count)


def difference_of(claim: Claim, frame: pd.DataFrame) -> Interval | None:
    """`ours` - `against`, paired by seed, less the same of the pair `beyond` if there is one; None if not run."""
    if claim.beyond is None:
        return paired(frame, claim.ours, claim.against, claim.metric)
    ours, against, *beyond = (Variant("", side) for side in (claim.ours, claim.against, *claim.beyond))
    return interaction(frame, (ours, against), tuple(beyond), claim.metric)


def _no_better_than_constant(claim: Claim, frame: pd.DataFrame) -> list[str]:
    """Labels of the sides that, on average, do not beat the constant answer in the data's difficulty records."""
    data, metric = claim.ours.get("data", RunConfig.data), claim.metric.rpartition(".")[2]
    paths = sorted((results_dir() / "records").glob(f"{TRIVIAL[data]}-s*.json"))
    found = [load_run(path).train_info["metrics"]["validation"]["all"][metric] for path in paths]
    if not found:
        return []
    constant = sum(found) / len(found)
    means = {label_of(side): select(frame, **side)[claim.metric].mean() for side in _sides(claim)}
    return [name for name, mean in means.items() if (mean >= constant if metric in LOWER else mean <= constant)]


def verdicts(profile: str | None = None) -> list[Verdict]:
    """All claims judged by the published runs of a profile, by default each by the largest that ran both its sides."""
    found = {profile: results(profile)} if profile else frames()
    return [_largest(claim, found) for claim in CLAIMS]


def _largest(claim: Claim, found: dict[str, pd.DataFrame]) -> Verdict:
    """By the first of the profiles that has a difference to show; counts and what has not run need none."""
    judged = (judge(claim, frame, name) for name, frame in found.items() if claim.ours)
    return next((each for each in judged if each.difference), judge(claim, to_frame([]), None))


def ledger(profile: str | None = None) -> pd.DataFrame:
    """The ledger as a table of text, each number with its unit: what the paper has, and what is found here.

    The paper's numbers are of its data, differences of our runs of synthetic data, counts of the paper's own backbone:
    each has a column of its own.
    """
    rows = []
    for judged in verdicts(profile):
        claim, found, count = judged.claim, judged.difference, judged.count
        ours = f"{sized(found, claim.unit)} (n={found.n}, {judged.profile})" if found else ""
        rows.append(
            {
                "claim": claim.says,
                "where": claim.where,
                "paper's size (its data)": "" if claim.size is None else f"{claim.size:g} {claim.unit}",
                "ours (synthetic), paired": ours,
                "counted here (Video Swin-B)": "" if count is None else f"{count:.1f} {claim.unit}",
                "status": judged.status,
                "note": "; ".join(filter(None, (judged.note, claim.why_not))),
                "notebook": claim.notebook,
            }
        )
    return pd.DataFrame(rows)
