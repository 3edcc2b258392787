"""How sure a number is: means with 95 % t-intervals, and differences paired by seed.

Every function here is pure: records in, numbers out.
"""

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import pandas as pd
from scipy.special import stdtrit

from cm3t.config import RunConfig, released
from cm3t.methods import OVERRIDES, parse_method
from cm3t.rates import tuned_lr

SCORE = "validation.all.action_top1"
# What a table means when it does not say otherwise: the method's own values, no side, validation as filmed.
PLAIN = dict.fromkeys(OVERRIDES) | {"anchored": True, "gap": 0, "score_split": "validation"}
PLAIN |= {
    name: getattr(RunConfig, name)
    for name in ("preset", "side", "regime", "modality_dropout", "exchanged", "init", "stretch")
}
# These too, where a frame holds several: the embedded kitchen, its own backbone and weights, and all training clips.
USUAL = {"data": RunConfig.data, "backbone": RunConfig.backbone, "weights": RunConfig.weights, "train_clips": None}

# What makes two runs rows of one table cell, and the settings that may tell them apart unseen.
SAME = ("method", *PLAIN, *USUAL)
UNNAMED = ("lr", "epochs", "batch_size", "eval_clips", "weight_decay", "warmup", "frames", "size", "sound")


@dataclass(frozen=True)
class Interval:
    """A mean with the half width of its 95 % t-interval over n runs; one run has none (half is nan)."""

    mean: float
    half: float
    n: int

    @property
    def low(self) -> float:
        """Lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """Upper end."""
        return self.mean + self.half

    @property
    def decided(self) -> bool:
        """Does a difference have its whole interval on one side of 0? One run decides nothing."""
        return self.low > 0 or self.high < 0

    def text(self, digits: int | None = None, signed: bool = False) -> str:
        """As a table prints it: `41.7 ± 0.9`, or `41.7` for a single run; differences are signed, with a digit more."""
        digits = 1 + signed if digits is None else digits
        mean = rounded(self.mean, digits, signed)
        return mean if math.isnan(self.half) else f"{mean} ± {rounded(self.half, digits)}"

    def ends(self, digits: int = 2) -> str:
        """Both ends of the interval of a difference: `-0.12 to +4.30`; nothing for a single run."""
        ends = (rounded(end, digits, True) for end in (self.low, self.high))
        return "" if math.isnan(self.half) else " to ".join(ends)


def rounded(value: float, digits: int, signed: bool = False) -> str:
    """A number as a table prints it: half goes up, in decimals (75.05 is 75.1), and zero has no sign."""
    found = Decimal(repr(round(value, 9))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{found or abs(found):{'+' if signed and found else ''}}"


def interval(values) -> Interval:
    """Mean and 95 % interval of a sample, by Student's t; ValueError if it is empty."""
    values = [float(value) for value in values]
    n = len(values)
    if n == 0:
        raise ValueError("no runs to take a mean of; run the study first: python -m cm3t.run --profile quick")
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, math.nan, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Interval(mean, float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n), n)


def select(frame: pd.DataFrame, **wanted) -> pd.DataFrame:
    """The runs of a configuration: what is named must match, what is not must be plain (see PLAIN, USUAL).

    Give `name=any` to let a setting vary; a method may be written in any order of its words. A run that started from
    another's plugins is found by any `init`. Of several learning rates the released one counts unless `lr` is named.
    ValueError if two of the runs are the same but for a setting that nobody named.
    """
    if "method" in wanted and wanted["method"] is not any:
        wanted["method"] = parse_method(wanted["method"]).name
    usual = {name: value for name, value in USUAL.items() if len(frame) and frame[name].nunique(dropna=False) > 1}
    for name, value in (usual | PLAIN | wanted).items():
        if value is not any and len(frame):
            frame = frame[_matches(frame[name], value)]
    if (PLAIN | wanted)["score_split"] == "validation":  # a sweep on `tune` has many runs of one seed, rightly
        frame = frame if "lr" in wanted else _at_released_rate(frame)
        _refuse_twins(frame)
    return frame


def _matches(column: pd.Series, value) -> pd.Series:
    """Which rows hold a wanted value; sequences stand in a frame as words, "audio,flow"."""
    if column.name == "init" and value is not None:
        return column.notna()
    if isinstance(value, tuple | list):
        value = ",".join(map(str, value))
    return column.isna() if value is None else column == value


def _same(frame: pd.DataFrame) -> list[str]:
    """The columns that make two runs twins: method, conditions and seed."""
    return [name for name in (*SAME, "seed") if name in frame]


def settings_of(row: dict) -> dict:
    """A row of a frame of runs as settings by name; in a frame None became not a number, and 2 became 2.0."""
    plain = {name: None if value is None or value != value else value for name, value in row.items()}
    return {n: int(v) if isinstance(v, float) and v.is_integer() else v for n, v in plain.items()}


def _at_released_rate(frame: pd.DataFrame) -> pd.DataFrame:
    """Of twins that differ in the learning rate, those at the released one, where it is among them."""
    if not frame[_same(frame)].duplicated().any():
        return frame
    entries = released()
    rates = [tuned_lr(settings_of(row), entries) for row in frame.to_dict("records")]
    own = frame["lr"] == rates
    return frame[own | ~own.groupby([frame[name] for name in _same(frame)], dropna=False).transform("any")]


def _refuse_twins(frame: pd.DataFrame) -> None:
    """ValueError if one method has two runs of one seed: an older setting's records were left among the newer."""
    twins = frame[frame[_same(frame)].duplicated(keep=False)]
    if len(twins):
        differ = [name for name in UNNAMED if name in twins and twins[name].nunique(dropna=False) > 1]
        raise ValueError(
            f"{len(twins)} runs of {', '.join(sorted(set(twins['method'])))} share their seeds and differ in "
            f"{', '.join(differ) or 'nothing'}: remove the stale ones, or select by {' or '.join(differ) or 'run_id'}"
        )


def paired(frame: pd.DataFrame, ours: dict, against: dict, metric: str = SCORE) -> Interval | None:
    """Difference `ours` - `against` over the seeds both ran, and its interval; None without such a seed."""
    sides = [select(frame, **side) for side in (ours, against)]
    if any(side.empty or metric not in side for side in sides):
        return None
    first, second = (side.set_index("seed")[metric].dropna() for side in sides)
    common = first.index.intersection(second.index)
    return interval(first[common] - second[common]) if len(common) else None


def over_first_step(frame: pd.DataFrame, settings: dict, metric: str = SCORE) -> Interval | None:
    """What modalities added to the very run of vision that they were joined to: each score less its own without them.

    Without its modalities a model that was trained in steps is its first step, bit for bit. None for what has no first
    step, and where nothing ran.
    """
    without = metric.replace(".all.", ".no_side.")
    if not settings.get("side") or settings.get("regime") == "joint" or without == metric or without not in frame:
        return None
    runs = select(frame, **settings)
    gains = (runs[metric] - runs[without]).dropna()
    return interval(gains) if len(gains) else None


def summary(frame: pd.DataFrame, by: list[str], metric: str = SCORE) -> pd.DataFrame:
    """One row a group: the `by` columns, mean, half width, n."""
    rows = []
    for key, runs in frame.groupby(by, dropna=False, sort=False):
        found = interval(runs[metric].dropna())
        rows.append(dict(zip(by, key, strict=True)) | {"mean": found.mean, "half": found.half, "n": found.n})
    return pd.DataFrame(rows, columns=[*by, "mean", "half", "n"])
