"""From the plans of `plans.py` to runs, and from records back to their tables.

A notebook asks for `configs("02", profile)` and hands them to `train.run_all`; `compare` makes a table of what was
recorded. No tensors here.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from statistics import fmean

import pandas as pd

from cm3t.coerce import ConfigError, nearest
from cm3t.config import (
    OVERRIDES,
    PROFILES,
    RunConfig,
    config_hash,
    released,
    resolve,
    results_dir,
    run_id,
    seeds_for,
)
from cm3t.methods import parse_method
from cm3t.paper import CLAIMS
from cm3t.plans import CONSTANT, HEADLINES, LOWER, PLAN, RATES, ROOMS, STAND_INS, STUDIES, Variant
from cm3t.rates import released_key, tuning_key
from cm3t.records import write_json
from cm3t.settings import epochs_of
from cm3t.stats import PLAIN, SCORE, USUAL, Interval, interval, over_first_step, paired, select, settings_of

FIRST = "minus its own first step"  # a column of tables, of runs that modalities were joined to
NOT_RUN = "not run yet"  # what pages say of a planned run that no record is there of
NEVER = "never swept"  # of a learning rate that is a default


def groups_for(study: str, profile: str, groups=()) -> tuple[str, ...]:
    """The groups asked for, or the profile's own when none are; ConfigError for an unknown one."""
    if study not in STUDIES:
        raise ConfigError(f"study {study!r} plans no runs; {nearest(study, STUDIES)}")
    for name in groups:
        if name not in STUDIES[study]:
            raise ConfigError(f"study {study} has no group {name!r}; {nearest(name, STUDIES[study])}")
    return tuple(groups) or PLAN[study][profile]


def configs(study: str, profile: str, *, groups=(), seeds=(), roots=None, **common) -> list[RunConfig]:
    """The runs of a study at a profile, each once, all variants of a seed before the next seed.

    So whatever is done when a night ends can be paired. `common` goes to `resolve`: root, weights, backbone, ...
    roots: {"epic", "mpiigi", "udiva": folder}, for studies that span several data sets: see `placed`.
    """
    found, roots = [], dict(roots or {})
    for name in groups_for(study, profile, groups):
        variants = placed(STUDIES[study][name], profile, roots)
        if name == "tuning":
            found += _sweep(study, profile, variants, common, roots)
            continue
        for seed in seeds_for(profile, seeds):
            for variant in variants:
                found.append(_config(study, profile, variant, common | {"seed": seed}, roots))
    once = {}
    for config in found:
        once.setdefault(config_hash(config), config)
    return sorted(once.values(), key=lambda config: config.seed)


def placed(variants: Iterable[Variant], profile: str, roots: Mapping[str, str] | None = None) -> tuple[Variant, ...]:
    """The variants on the data sets that they run on.

    With folders of real sets (roots) those of a room run on the set that it stands for, where its folder is given, and
    are left out where it is not. Without folders all stay where they are, but for a profile of real data, `paper`.
    Errors: ConfigError for the name of no such set.
    """
    roots = roots or {}
    for name in roots:
        if name not in STAND_INS.values():
            raise ConfigError(f"roots: {name!r} is no real data set; {nearest(name, STAND_INS.values())}")
    found = (_placed(v, roots, all_real=PROFILES[profile].data is not None) for v in variants)
    return tuple(v for v in found if v is not None)


def _placed(variant: Variant, roots: Mapping[str, str], all_real: bool) -> Variant | None:
    settings, room = variant.settings, variant.settings.get("data", ROOMS[0])
    real = STAND_INS[room]
    if roots and real not in roots:
        return None
    if roots or (all_real and "data" in settings):
        settings = settings | {"data": real}
    if donor := settings.get("init"):
        donor = _placed(Variant("", donor), roots, all_real)
        if donor is None:
            return None
        settings = settings | {"init": donor.settings}
    return variant if settings == variant.settings else Variant(variant.label.replace(room, real), settings)


def _config(study: str, profile: str, variant: Variant, given: dict, roots: Mapping[str, str]) -> RunConfig:
    """One run: the variant's settings, the released learning rate, and the run it starts from where it names one."""
    settings = variant.settings
    if donor := settings.get("init"):
        started = _config(study, profile, Variant("", donor), given, roots)
        settings = settings | {"init": run_id(started)}
    if roots:
        given = given | {"root": roots[settings["data"]]}
    named = given | settings
    return resolve(profile, study=study, claims=list(claims_of(variant.settings)), **named)


def _sweep(study: str, profile: str, variants: Iterable[Variant], common: dict, roots: Mapping) -> list[RunConfig]:
    """Every tuned variant at every rate, seed 0, for half the epochs, scored on the participants of `tune`.

    Where the best of the released rates is the outermost one, or no better than a constant answer, the next half decade
    is tried as well.
    """
    given = common | {"seed": 0, "score_split": "tune"}
    found = []
    for v in variants:
        half = max(1, epochs_of(profile, v.settings.get("data", ROOMS[0])) // 2)
        own = {"epochs": half * v.settings.get("stretch", 1)} | given
        key = tuning_key(vars(_config(study, profile, v, own, roots)))
        tried = {float(lr): score for lr, score in released().get(key, {}).get("tried", {}).items()}
        rates = sorted({*RATES, *tried, *(_further(key, tried) if tried else ())})
        found += [_config(study, profile, v, own | {"lr": lr}, roots) for lr in rates]
    return found


def _plugins(settings: dict) -> str:
    given = {name: settings.get(name) for name in OVERRIDES}
    method = parse_method(settings["method"], preset=settings.get("preset", RunConfig.preset), **given)
    return f"{method.trains} {method.adapter} {method.prefix} {method.cross}"


def claims_of(settings: dict) -> tuple[str, ...]:
    """Ids of the paper's claims that a run with these settings is evidence for."""
    own = _conditions(settings)
    found = [id for id, conditions in _claimed() if conditions == own]
    if settings.get("anchored") is False:
        found.append("cells-need-fixed-cameras")
    return tuple(dict.fromkeys(found))


@cache
def _claimed() -> list[tuple[str, tuple]]:
    """Each claim's id, with the conditions of each of its sides."""
    all_sides = ((c.id, side) for c in CLAIMS for side in (c.ours, c.against, *dict(c.also).values()))
    sides = [(id, side) for id, side in all_sides if side]
    return [(id, _conditions(side)) for id, side in sides]


def _conditions(settings: dict) -> tuple:
    """What makes two variants one: the same plugins under the same conditions."""
    plain = {name: value for name, value in (PLAIN | USUAL).items() if name not in OVERRIDES}
    return _plugins(settings), settings.get("lr"), *(str(settings.get(name, value)) for name, value in plain.items())


def label_of(settings: dict) -> str:
    """What the tables call the variant with these settings; the method where none has them."""
    return _labels().get(_conditions(settings), settings["method"])


@cache
def _labels() -> dict[tuple, str]:
    found = {}
    for groups in STUDIES.values():
        for v in (v for name, own in groups.items() if name != "tuning" for v in own):
            found.setdefault(_conditions(v.settings), v.label)
    return found


def variant(study: str, label: str) -> Variant:
    """A variant by its label; ConfigError names the nearest one."""
    known = {v.label: v for group in STUDIES[study].values() for v in group}
    if label not in known:
        raise ConfigError(f"study {study} has no variant {label!r}; {nearest(label, known)}")
    return known[label]


def compare(
    frame: pd.DataFrame, variants, against: dict[str, Variant], metric: str = SCORE, *, absent: bool = False
) -> pd.DataFrame:
    """One row a variant: trained parameters, mean and half width of the score, n, and paired differences.

    `against` names the columns of differences, {title: variant}; where runs were joined to a first step, `FIRST` is
    the difference to that very run. Numbers stay numbers: intervals are `stats.Interval`s (None where a side has not
    been run), for `report` to print. A variant that has not been run has no row, or with `absent` one of None.
    """
    rows = []
    for v in variants:
        runs = select(frame, **v.settings) if len(frame) else frame
        if not len(runs):
            rows += [{"method": v.label} | dict.fromkeys(("trainable", "score", *against))] if absent else []
            continue
        row = {"method": v.label, "trainable": int(runs["trainable"].iloc[0]), "score": interval(runs[metric])}
        row[FIRST] = over_first_step(frame, v.settings, metric)
        for title, other in against.items():
            same = _conditions(v.settings) == _conditions(other.settings)
            row[title] = None if same else paired(frame, v.settings, other.settings, metric)
        rows.append(row)
    first = [FIRST] * any(row.get(FIRST) for row in rows)
    columns = ["method", "trainable", "score", *first, *against]
    return pd.DataFrame(rows, columns=columns, dtype=object if absent else None)


def rate_source(settings: dict) -> str:
    """Where a variant's learning rate comes from: given, swept (or the sweep is not finished), inherited, or NEVER."""
    if settings.get("lr"):
        return "given"
    full = vars(_config("", "full", Variant("", settings), {}, {}))
    key = released_key(full, released())
    if key is None:
        return NEVER
    if released()[key].get("due"):
        return "sweep not finished"
    return "swept" if key == tuning_key(full) and _conditions(settings) in _swept() else "inherited"


@cache
def _swept() -> set[tuple]:
    """What the sweep trains, by conditions: what else has the same entry of the tuning inherits."""
    return {_conditions(v.settings) for groups in STUDIES.values() for v in groups.get("tuning", ())}


def rates_in_words(variants: Iterable[Variant]) -> str:
    """The learning rates of a table's rows and where they come from: `swept: 0.03 (MHVA), 0.001 (CM3T; MMCA)`."""
    found: dict[str, dict[str, list[str]]] = {}
    for v in variants:
        lr = _config("", "full", v, {}, {}).lr
        found.setdefault(rate_source(v.settings), {}).setdefault(f"{lr:g}", []).append(v.label)
    parts = (
        f"{source}: " + ", ".join(f"{lr} ({'; '.join(labels)})" for lr, labels in rates.items())
        for source, rates in found.items()
    )
    return "; ".join(parts)


def interaction(frame: pd.DataFrame, first: tuple, second: tuple, metric: str = SCORE) -> Interval | None:
    """Difference of differences, (a - b) - (c - d) for pairs of variants (a, b) and (c, d), over seeds all four ran.

    With MHVA - shared when anchored and when not: how much of MHVA's gain rests on things keeping their places.
    """
    columns = []
    for v in (*first, *second):
        runs = select(frame, **v.settings) if len(frame) else frame
        if runs.empty or metric not in runs:
            return None
        columns.append(runs.drop_duplicates("seed").set_index("seed")[metric])
    table = pd.concat(columns, axis=1, keys=list("abcd"), join="inner").dropna()
    return interval((table["a"] - table["b"]) - (table["c"] - table["d"])) if len(table) else None


def sized(found: Interval, unit: str = "points") -> str:
    """A difference with its unit, signed: `+1.20 ± 0.50 points`, `-0.121 ± 0.057 MSE`."""
    return f"{found.text(3 if unit == 'MSE' else 2, signed=True)} {unit}"


def verdict(found: Interval | None, unit: str = "points") -> str:
    """What a difference says: higher or lower if the whole 95 % interval does, else undecided; with n."""
    if found is None:
        return NOT_RUN
    words = f"{sized(found, unit)} (n={found.n})"
    if found.n < 2:
        return f"{words}: one seed decides nothing"
    if not found.decided:
        return f"{words}: undecided, the interval holds 0"
    return f"{words}: {'higher' if found.mean > 0 else 'lower'}"


def best_rates(frame: pd.DataFrame) -> dict[str, dict]:
    """The sweep's winners from its records: {key: {lr, score, tried: {lr: score}, tied, due}}; means over seeds.

    Of rates that are equally good the lowest wins; the others are `tied`. Those still to be tried are `due`.
    """
    tuned = frame[frame["score_split"] == "tune"] if len(frame) else frame
    found = {}
    for row in tuned.to_dict("records"):
        key = tuning_key(settings_of(row))
        by_seed = found.setdefault(key, {}).setdefault(row["lr"], {})
        if row["seed"] in by_seed:
            raise ValueError(f"two runs of {key} at {row['lr']:g} with seed {row['seed']}: remove the stale record")
        by_seed[row["seed"]] = row[f"tune.all.{HEADLINES[row['data']]}"]
    found = {key: {lr: fmean(tried[lr].values()) for lr in tried} for key, tried in found.items()}
    _check_equal_effort(found)
    winners = {}
    for key, tried in sorted(found.items()):
        lr = _best(key, tried)
        winners[key] = {
            "lr": lr,
            "score": tried[lr],
            "tried": {f"{rate:g}": tried[rate] for rate in sorted(tried)},
            "tied": [rate for rate in sorted(tried) if rate != lr and tried[rate] == tried[lr]],
            "due": sorted(_further(key, tried)),
        }
    return winners


def _best(key: str, tried: Mapping[float, float]) -> float:
    """The rate with the best score; of equally good ones the lowest."""
    return (min if HEADLINES[key.split("/")[0]] in LOWER else max)(sorted(tried), key=tried.get)


def _further(key: str, tried: Mapping[float, float]) -> tuple[float, ...]:
    """The next half decade, 1 or 3 times a power of ten, beyond the best rate where that is the outermost one; and
    below them all where the best is no better than a constant answer.
    """
    lr = _best(key, tried)
    found = [lr * 3] if lr == max(tried) else []
    found += [min(tried) / 3] if lr == min(tried) or not _beats_a_constant(key, tried[lr]) else []
    return tuple(float(f"{rate:.0e}".replace("9e", "10e")) for rate in found)


def _beats_a_constant(key: str, score: float) -> bool:
    metric = HEADLINES[key.split("/")[0]]
    return metric not in CONSTANT or score < CONSTANT[metric]


def _check_equal_effort(found: dict[str, dict[float, float]]) -> None:
    """ValueError unless every method tried the same rates, and more where these end at its best alone: else the
    comparison is of tuning, not of methods.
    """
    if not found:
        raise ValueError("no runs were scored on `tune`; run the sweep (the group `tuning`) first")
    wrong = []
    for key, tried in found.items():
        due = set(RATES)
        while due <= tried.keys() and (more := set(_further(key, {lr: tried[lr] for lr in due})) & tried.keys() - due):
            due |= more
        wrong += [f"{key}: {rate:g} is missing" for rate in sorted(due - tried.keys())]
        wrong += [f"{key}: {rate:g} is one too many" for rate in sorted(tried.keys() - due)]
    if wrong:
        raise ValueError(f"unequal tuning: {'; '.join(wrong)}. Run the sweep again, and publish all of it")


def release_rates(frame: pd.DataFrame) -> dict[str, dict]:
    """Write the winners of a sweep into results/tuning.json, beside what other sweeps left there."""
    winners = best_rates(frame)
    write_json(results_dir() / "tuning.json", released() | winners)
    return winners
