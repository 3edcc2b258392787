"""Tables of a page: published runs, each table from the largest profile that has its rows, and one's own runs."""

from collections.abc import Iterable, Mapping

import pandas as pd

from cm3t import study
from cm3t.config import PROFILES, RunConfig
from cm3t.pages import show, show_side
from cm3t.plans import HEADLINES, NETWORKS, PLAN, STUDIES, Variant
from cm3t.records import published, to_frame
from cm3t.stats import interval, rounded, select

SYNTHETIC = (
    "Measured on *rooms*, a synthetic benchmark of rendered scenes: "
    "comparable among themselves, not with the paper's numbers."
)
BUDGET = ("trained, heads apart (%)", "epochs to converge")
EPOCHS = "Epochs to converge: all runs anneal their rate over the same epochs, so that these say nothing of speed."
TOO_FEW = "Too few clips to say anything: from `quick` upwards your own runs stand here."
Frames = dict[str, pd.DataFrame]


def markdown(table: pd.DataFrame) -> str:
    """A table as GitHub markdown, numbers as they are, nothing for what is missing; no line breaks in an interval."""
    cells = [[str(name) for name in table.columns]]
    cells += [["" if pd.isna(value) else str(value) for value in row] for row in table.itertuples(index=False)]
    cells = [[cell.replace(" ± ", "\u00a0±\u00a0") for cell in row] for row in cells]
    rule = ["---"] * len(table.columns)
    lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in (cells[0], rule, *cells[1:]))
    return "\n".join(f"| {line} |" for line in lines)


def frames() -> Frames:
    """The published runs of every profile that has some on validation, the largest profile first."""
    found = {profile: to_frame(published(profile)) for profile in reversed(PROFILES)}
    return {profile: frame for profile, frame in found.items() if "validation" in set(frame.get("score_split", ()))}


def pick(found: Frames, variants: Iterable[Variant]) -> tuple[str | None, pd.DataFrame]:
    """The largest profile with at least two of these rows, each with all its seeds; else with one; else the largest.

    A table is of one profile, so that its rows can be compared. (None, an empty frame) where nothing is published.
    """
    variants = list(variants)
    rows = {profile: sum(_is_whole(frame, v, profile) for v in variants) for profile, frame in found.items()}
    for least in (2, 1, 0):
        for profile, frame in found.items():
            if rows[profile] >= least:
                return profile, frame
    return None, to_frame([])


def _is_whole(frame: pd.DataFrame, variant: Variant, profile: str) -> bool:
    return set(PROFILES[profile].seeds) <= set(select(frame, **variant.settings)["seed"])


def note(profile: str | None, frame: pd.DataFrame, variants: Iterable[Variant]) -> str:
    """What stands under a table: synthetic, the profile, where the rows' learning rates come from, what has no row."""
    variants = list(variants)
    ran = [v for v in variants if _ran(frame, v)]
    found = [SYNTHETIC, f"Profile `{profile}`."] if profile else [SYNTHETIC]
    found += [f"Learning rates, {study.rates_in_words(ran)}."] if ran else []
    waiting = study.NOT_RUN.capitalize() + (f" at `{profile}`" if profile else "")
    if missing := [v for v in variants if v not in ran]:
        found.append(f"{waiting}: {'; '.join(_with_commands(missing, profile))}.")
    return " ".join(found)


def _with_commands(missing: Iterable[Variant], profile: str | None) -> list[str]:
    """Labels of variants, and in brackets the command that runs them: at this profile, or the least that plans them."""
    commands: dict[str, list[str]] = {}
    for v in missing:
        profiles = [profile] * bool(profile) + [name for name in PROFILES if name != profile]
        planned = ((number, name) for name in profiles for number in PLAN if v in _planned(number, name, ()))
        place = next(planned, None)
        command = f" (`python -m cm3t.run {place[0]} --profile {place[1]}`)" if place else ""
        commands.setdefault(command, []).append(v.label)
    return [f"{'; '.join(labels)}{command}" for command, labels in commands.items()]


def _ran(frame: pd.DataFrame, variant: Variant) -> bool:
    return bool(len(frame)) and bool(len(select(frame, **variant.settings)))


def recorded(
    found: Frames,
    variants: Iterable[Variant],
    against: Iterable[Variant] = (),
    headline: str = "action_top1",
    *,
    epochs: bool = False,
) -> str:
    """Published runs of variants as markdown: a row each, differences to `against` paired by seed, and the `note`.

    What has not run has no row, and no column where it is run against: the note tells of it.
    `epochs` puts trained shares and the epochs to converge, of all steps together, in the place of parameters.
    """
    variants = list(variants)
    profile, frame = pick(found, variants)
    told = note(profile, frame, variants) + other_start(frame, variants, headline)
    if not any(_ran(frame, v) for v in variants):
        return told
    table = _rows(frame, variants, against, headline)
    if epochs:
        costs = budgets(frame, variants)
        table = table.drop(columns="trained parameters, heads apart").merge(costs, on="method", how="left")
        table["n"] = table.pop("n")  # last, as everywhere
        told = f"{told} {EPOCHS}"
    return f"{markdown(table)}\n\n{told}"


# Where runs are scored: {column of the records, before the metric: its words}.
SCORED = {
    "validation.all": "validation",
    "validation.unseen": "its unseen people",
    "validation.tail": "its tail classes",
    **{f"validation.gap{level}": f"gap {level}" for level in (1, 2, 3)},
    "tune.end": "tune, last epoch",
}


def by_split(
    found: Frames, variants: Iterable[Variant], pairs: Iterable[tuple[Variant, Variant]], headline: str = "action_top1"
) -> str:
    """The same runs as `recorded` by where they are scored, as markdown: a row a variant, then differences of pairs,
    paired by seed; `tune` is what the sweep chose the learning rates on.
    """
    variants = list(variants)
    _, frame = pick(found, variants)
    columns = {f"{place}.{headline}": words for place, words in SCORED.items()}
    held = {c: words for c, words in columns.items() if c in frame and any(_holds(frame, v, c) for v in variants)}
    digits = show.HEADLINES[headline][1]
    rows = show_side.scores_table(frame, variants, held, digits), show_side.difference_rows(frame, pairs, held, digits)
    table = (
        pd.concat(rows)
        .replace(study.NOT_RUN, "")
        .rename(columns={"design": f"{show.HEADLINES[headline][0]}, scored on"})
    )
    return markdown(table) if len(table) else f"{study.NOT_RUN.capitalize()}."


def _holds(frame: pd.DataFrame, variant: Variant, column: str) -> bool:
    return bool(select(frame, **variant.settings)[column].notna().any())


def budgets(frame: pd.DataFrame, variants) -> pd.DataFrame:
    """One row a variant that has run: trained share (% of the backbone), mean epochs to converge (of all); as text."""
    rows = []
    for v in variants:
        runs = select(frame, **v.settings) if len(frame) else frame
        if len(runs):
            found, planned = runs["epochs_to_converge"].astype(float).mean(), int(runs["epochs_trained"].max())
            cells = f"{100 * runs['share'].iloc[0]:.1f}", f"{found:.1f} of {planned}"
            rows.append({"method": v.label} | dict(zip(BUDGET, cells, strict=True)))
    return pd.DataFrame(rows, columns=["method", *BUDGET])


def by_seed(found: Frames, variants: Iterable[Variant], headline: str = "action_top1") -> str:
    """The scores behind the means of `recorded`, as markdown: a row a variant that has run, a column a seed."""
    variants = list(variants)
    _, frame = pick(found, variants)
    heading, digits = show.HEADLINES[headline]
    rows = []
    for v in (v for v in variants if _ran(frame, v)):
        scores = select(frame, **v.settings).set_index("seed")[f"validation.all.{headline}"].sort_index()
        rows.append(
            {heading: v.label} | {f"seed {seed}": rounded(score, digits or 1) for seed, score in scores.items()}
        )
    return markdown(pd.DataFrame(rows)) if rows else f"{study.NOT_RUN.capitalize()}."


def other_start(frame: pd.DataFrame, variants: list[Variant], headline: str) -> str:
    """A sentence where modalities were joined to other runs of vision than the row of vision has; else nothing."""
    plain = {"method", "data", "backbone", "weights"}
    vision = next((v for v in variants if v.settings["method"] == "mhva+pt" and v.settings.keys() <= plain), None)
    metric = f"validation.all.{headline}"
    heard = [v for v in variants if v.settings["method"].startswith("mhva+pt+") and "regime" not in v.settings]
    joined = [v for v in heard if vision and show_side.falls_back(frame, vision, v, metric) is False]
    if not joined:
        return ""
    return (
        f" Joined to a second execution of {vision.label}, made later with the same settings and seeds, which scores "
        f"{without_side(frame, joined, headline)}: {'; '.join(v.label for v in joined)}. "
        f"Two executions of the same seed lie points apart: only *{study.FIRST}* compares a run with its own vision."
    )


def without_side(frame: pd.DataFrame, variants: Iterable[Variant], headline: str = "action_top1") -> str:
    """What runs with modalities score where none is present: the vision that the modalities were joined to."""
    metric = f"validation.no_side.{headline}"
    scores = (interval(select(frame, **v.settings)[metric]) for v in variants)
    return " or ".join(dict.fromkeys(score.text(show.HEADLINES[headline][1]) for score in scores))


def _rows(frame: pd.DataFrame, variants, against: Iterable[Variant], headline: str) -> pd.DataFrame:
    columns = {f"minus {_short(v)}": v for v in against if _ran(frame, v)}
    table = study.compare(frame, variants, columns, f"validation.all.{headline}")
    return show.in_words(table, headline)


def _short(variant: Variant) -> str:
    """A label without the data set or the network at its end, which a table of one of them says elsewhere."""
    head, _, tail = variant.label.rpartition(", ")
    return head if tail in (variant.settings.get("data"), *NETWORKS) and head else variant.label


def own_runs(
    runs: pd.DataFrame, number: str, profile: str, groups=(), against: Iterable[Variant] = (), roots=None
) -> str:
    """What the runs that a notebook has just made came to, as markdown: a table a data set, and CM3T's controls.

    Its rows are those planned variants that ran. Nothing of `smoke`, which proves that it runs.
    """
    if profile == "smoke":
        return TOO_FEW
    tables = {}
    for v in _planned(number, profile, groups, roots):
        if _ran(runs, v):
            tables.setdefault(_data(v, runs), []).append(v)
    against = study.placed(against, profile, roots)
    parts = [_own(runs, data, variants, against) for data, variants in tables.items()]
    return "\n\n".join(parts) or "None of these runs was scored on validation."


def _planned(number: str, profile: str, groups, roots: Mapping | None = None) -> list[Variant]:
    """The variants of a study's groups, each once."""
    named = [name for name in study.groups_for(number, profile, groups) if name != "tuning"]
    return list(dict.fromkeys(v for name in named for v in study.placed(STUDIES[number][name], profile, roots)))


def _data(variant: Variant, runs: pd.DataFrame) -> str:
    """The data set of a variant's runs: its own, or, where it names none, the only one that there is."""
    only = runs["data"].iloc[0] if runs["data"].nunique() == 1 else RunConfig.data
    return variant.settings.get("data", only)


def _own(runs: pd.DataFrame, data: str, variants: list[Variant], against: Iterable[Variant]) -> str:
    own = [v for v in against if _data(v, runs) == data]
    parts = [f"**Your own runs, {data}**", markdown(_rows(runs, variants, own, HEADLINES[data]))]
    heard = next(
        (v for v in variants if v.settings["method"].endswith("caa") and not v.settings.get("exchanged")), None
    )
    if heard:
        parts += [f"{heard.label} on changed clips, what is left of its gain:"]
        parts += [markdown(show_side.controls_table(runs, heard, heard.settings["side"], HEADLINES[data]))]
    return "\n\n".join(parts)
