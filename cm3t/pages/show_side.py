"""Pictures of side modalities: spectrograms and flow beside frames, who is listened to, and what is lost without them.

As in `show`: each function draws on a new figure in the house's style and returns it; no tensors here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from cm3t.pages.figures import CAA, house, say_if_empty, series
from cm3t.pages.show import HEADLINES
from cm3t.plans import Variant
from cm3t.records import Record, to_frame
from cm3t.stats import SCORE, Interval, interval, over_first_step, paired, select
from cm3t.study import FIRST, NOT_RUN

COLOURS = {
    "audio": "#CC79A7",
    "flow": "#E69F00",
    "transcript": "#56B4E9",
}  # of modalities, readable by the colour-blind
DARK, LIGHT = "#4D4D4D", "#A6A6A6"  # of what CM3T is compared with
# Of designs by their label.
LOOKS = {
    "CM3T": dict(color=CAA),
    "CM3T, modality dropout": dict(color=CAA, marker="D", mfc="white"),
    "MMCA": dict(color=DARK, marker="s"),
    "late fusion": dict(color=LIGHT, marker="^"),
}
TAKEN = {"all": "with both", "no_audio": "without sound", "no_flow": "without motion", "no_side": "with neither"}
LOST = {"no_audio": "sound", "no_flow": "motion", "no_side": "both"}
LEAST = 0.1  # distance from equal weights that the colours reach at least: less is noise, and looks like it
SHARES = (0, 25, 50, 75, 100)  # percent of the clips; `training.controls` scores what lies between
CHANGE = "minus as it is"
CONTROLS = {"": "as it is", "no_{}": "without", "shuffled_{}": "another's", "muted_{}": "silent, still or wordless"}


def gallery(
    frames: np.ndarray,
    mels: np.ndarray,
    flows: np.ndarray,
    titles: list[str],
    note: str = "",
    seconds: float = 2.0,
    kilohertz: Mapping[int, float] | None = None,
) -> plt.Figure:
    """A row a clip: a frame, its motion as arrows (the longest is a cell long), its sound as a spectrogram.

    frames uint8 (n, H, W, 3); mels (n, L, mels), natural logarithms, of so many seconds; flows (n, g, g, 2), to the
    right and down, in pixels in 0.1 s. `kilohertz` names bands by their middle frequency: {band, from 1: kHz}.
    """
    ticks = dict(kilohertz or {1: 1, mels.shape[2]: mels.shape[2]})
    bands = list(ticks), [f"{value:g}" for value in ticks.values()]
    n, cells = len(frames), flows.shape[1]
    extent, loudness = (0, seconds, 0.5, mels.shape[2] + 0.5), dict(vmin=mels.min(), vmax=mels.max())
    with house():
        figure, rows = plt.subplots(n, 3, figsize=(8.6, 2.1 * n + 0.4), dpi=80, squeeze=False, width_ratios=(1, 1, 1.6))
        for frame, mel, flow, title, (left, middle, right) in zip(frames, mels, flows, titles, rows, strict=True):
            left.imshow(frame)
            left.set_title(title, fontsize=9)
            middle.imshow(frame, alpha=0.35)
            step = frame.shape[0] / cells
            centre = (np.arange(cells) + 0.5) * step
            long = max(float(np.hypot(flow[..., 0], flow[..., 1]).max()), 1e-6)
            arrows = dict(color=COLOURS["flow"], width=0.014, angles="xy", scale_units="xy", scale=long / step)
            middle.quiver(centre, centre, flow[..., 0], flow[..., 1], **arrows)
            mel = mel[: len(mel) // 4 * 4].reshape(-1, 4, mel.shape[1]).mean(1)  # finer than the picture's pixels
            shown = right.imshow(mel.T, origin="lower", aspect="auto", cmap="magma", extent=extent, **loudness)
            for axes in (left, middle):
                axes.set(xticks=[], yticks=[])
            for axes in (left, middle, right):
                axes.grid(visible=False)
            middle.set_xlabel(f"longest: {long:.1f} pixels", fontsize=8)
            right.set_yticks(*bands)
            right.set_ylabel("mel band (kHz)" if kilohertz else "mel band", fontsize=8)
            right.tick_params(labelsize=8)
        rows[0][1].set_title("motion in 0.1 s", fontsize=9)
        rows[0][2].set_title("sound", fontsize=9)
        rows[-1][2].set_xlabel("time (s)", fontsize=8)
        bar = figure.colorbar(shown, ax=rows[:, 2], label="log of the mel magnitude (bright: loud)", aspect=40)
        bar.ax.tick_params(labelsize=8)
        if note:
            figure.supxlabel(note, fontsize=8, color="#555555")
    return figure


def fusion_over_clip(weights: Mapping[str, np.ndarray], title: str = "") -> plt.Figure:
    """Who is listened to, block by block and moment by moment: weights {modality: (blocks, T)}, a panel a modality.

    White is the weight that all modalities have where none is preferred; colours reach as far as the weights do. At
    the right end of each row stands its mean.
    """
    equal = 1 / len(weights)
    reach = max(LEAST, *(float(np.abs(values - equal).max()) for values in weights.values()))
    look = dict(vmin=equal - reach, vmax=equal + reach, cmap="PuOr_r", aspect="auto", origin="upper")
    with house():
        size = 1.6 + 2.8 * len(weights), 1.3 + 0.2 * max(8, *map(len, weights.values()))
        figure, panels = plt.subplots(1, len(weights), figsize=size, squeeze=False)
        for (name, values), axes in zip(weights.items(), panels[0], strict=True):
            shown = axes.imshow(values, **look)
            axes.set(title=name, xlabel="time (token frames)", xticks=range(values.shape[1]))
            axes.set(yticks=range(len(values)), yticklabels=[i + 1 for i in range(len(values))])
            axes.grid(visible=False)
            for row, mean in enumerate(values.mean(1)):
                axes.annotate(f"{mean:.3f}", (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=8)
            axes.annotate("mean", (1.02, 1.03), xycoords="axes fraction", fontsize=8)
        panels[0][0].set_ylabel("block")
        figure.colorbar(shown, ax=panels[0], label=f"fusion weight (white: {equal:.3g}, equal)", shrink=0.9)
        figure.suptitle(title, fontsize=10, x=0.02, ha="left")
    return figure


def fusion_by_block(records: list[Record], variant: Variant, title: str = "") -> plt.Figure:
    """Mean fusion weight of each modality by block, over validation clips and tokens, of a variant's runs: 95 % bars.

    The line is the weight that all modalities have where none is preferred, as a fresh fusion gives.
    """
    frame = to_frame(records)
    names = set(select(frame, **variant.settings)["run_id"]) if len(frame) else ()
    found = [r.train_info["fusion"] for r in records if r.run_id in names and r.train_info.get("fusion")]
    with house():
        figure, axes = plt.subplots(figsize=(6.4, 3.2))
        for place, name in enumerate(variant.settings["side"]):
            each = (
                {int(block): [np.mean(run[name][block]) for run in found] for block in found[0][name]} if found else {}
            )
            shares = {block: interval(values) for block, values in each.items()}
            shift = 0.12 * (place - (len(variant.settings["side"]) - 1) / 2)
            series(axes, name, {block: str(block) for block in each}, shares, shift, color=COLOURS[name])
        axes.axhline(1 / len(variant.settings["side"]), color="#555555", lw=1)
        axes.set(xlabel="block", ylabel="fusion weight (line: equal)", title=title)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        say_if_empty(axes, found)
    return figure


def controls_table(
    frame: pd.DataFrame, variant: Variant, modalities: tuple[str, ...], metric: str = "action_top1"
) -> pd.DataFrame:
    """Two rows a modality, a column a control: mean ± 95 % of the same trained models on changed clips, and what each
    control changes, paired by run; as text.
    """
    heading, digits = HEADLINES[metric]
    rows = []
    for name in modalities:
        columns = {f"validation.{subset.format(name) or 'all'}.{metric}": words for subset, words in CONTROLS.items()}
        whole, *others = columns
        rows.append({f"{heading}, by modality": name} | _cells(_found(frame, variant, columns), columns, digits))
        if changes := _changes(frame, variant, dict.fromkeys(others, whole)):
            shown = _cells(changes, {other: columns[other] for other in others}, digits, signed=True)
            rows.append({f"{heading}, by modality": f"{name}, {CHANGE}", columns[whole]: ""} | shown)
    return pd.DataFrame(rows)


def by_control(
    frame: pd.DataFrame, variant: Variant, modality: str, metrics: Mapping[str, str], digits: int | None = None
) -> pd.DataFrame:
    """One row a control of one modality, a column a metric {its name: its words}: mean ± 95 %, and below, what each
    control changes, paired by run; as text.
    """
    head = f"{variant.label.split(',')[0]}, {modality}"
    means, changes = [], []
    for subset, words in CONTROLS.items():
        part = subset.format(modality) or "all"
        columns = {f"validation.{part}.{metric}": shown for metric, shown in metrics.items()}
        means.append({head: words} | _cells(_found(frame, variant, columns), columns, digits))
        whole = {column: column.replace(f".{part}.", ".all.") for column in columns}
        if subset and (found := _changes(frame, variant, whole)):
            changes.append({head: f"{words}, {CHANGE}"} | _cells(found, columns, digits, signed=True))
    return pd.DataFrame(means + changes)


def exchanges(frame: pd.DataFrame, variant: Variant, modality: str) -> str:
    """In words: how often, for "another's", clips were exchanged, which no interval over seeds tells."""
    column = f"validation.shuffled_{modality}.draws"
    drawn = select(frame, **variant.settings)[column].dropna() if len(frame) and column in frame else ()
    if len(drawn):
        return f"*Another's* is the mean of {int(min(drawn))} exchanges, the same ones for every run."
    return "*Another's* is one exchange, the same one for every run: its luck is in no interval."


def falls_back(frame: pd.DataFrame, vision: Variant, joined: Variant, metric: str = SCORE) -> bool | None:
    """Do models without their modalities score what their vision alone scored, in each seed? None if not both ran."""
    alone, without = metric, metric.replace(".all.", ".no_side.")
    if not len(frame) or not {alone, without} <= set(frame):
        return None
    found = [select(frame, **v.settings).set_index("seed") for v in (vision, joined)]
    both = pd.concat([found[0][alone], found[1][without]], axis=1, join="inner").dropna()
    return bool((both[alone] == both[without]).all()) if len(both) else None


def scores_table(
    frame: pd.DataFrame, variants: tuple[Variant, ...], columns: Mapping[str, str], digits: int | None = None
) -> pd.DataFrame:
    """One row a variant that has run, a column a score {column of the records: its words}: mean ± 95 %; as text."""
    rows = []
    for variant in variants:
        if found := _found(frame, variant, columns):
            rows.append(_row(variant.label, found, columns, digits))
    return pd.DataFrame(rows, columns=["design", *columns.values(), "n"])


def over_first_step_row(
    frame: pd.DataFrame, variant: Variant, columns: Mapping[str, str], digits: int | None = None
) -> pd.DataFrame:
    """A row for `scores_table`, of the same columns: what modalities changed of each score of the very run of vision
    that they were joined to. No row where nothing was joined or has run.
    """
    found = {column: over_first_step(frame, variant.settings, column) for column in columns} if len(frame) else {}
    found = {column: each for column, each in found.items() if each}
    if not found:
        return pd.DataFrame(columns=["design", *columns.values(), "n"])
    return pd.DataFrame([_row(f"{variant.label}, {FIRST}", found, columns, digits, signed=True)])


def difference_rows(
    frame: pd.DataFrame,
    pairs: Iterable[tuple[Variant, Variant]],
    columns: Mapping[str, str],
    digits: int | None = None,
) -> pd.DataFrame:
    """Rows for `scores_table`, of the same columns: a variant minus another, paired by seed, where both ran."""
    rows = []
    for ours, against in pairs if len(frame) else ():
        each = {column: paired(frame, ours.settings, against.settings, column) for column in columns}
        if found := {column: difference for column, difference in each.items() if difference}:
            rows.append(_row(f"{ours.label} minus {against.label}", found, columns, digits, signed=True))
    return pd.DataFrame(rows, columns=["design", *columns.values(), "n"])


def losses_table(
    frame: pd.DataFrame, variants: tuple[Variant, ...], against: Variant, metric: str = "action_top1"
) -> pd.DataFrame:
    """One row a design that has run: what it loses without one modality, paired by run, and what it then has more than
    `against`, paired by seed; mean ± 95 %, as text.
    """
    lost = {f"validation.{part}.{metric}": words for part, words in LOST.items() if part != "no_side"}
    whole, digits = f"validation.all.{metric}", HEADLINES[metric][1]
    rows = []
    for variant in variants:
        row = {"design": variant.label}
        changes = _changes(frame, variant, dict.fromkeys(lost, whole))
        row |= _cells(changes, {column: f"without {words}, {CHANGE}" for column, words in lost.items()}, digits, True)
        for column, words in lost.items():
            other = None if variant == against else paired(frame, variant.settings, against.settings, column)
            row[f"without {words}, minus {against.label}"] = other.text(digits, True) if other else ""
        rows += [row] if changes else []
    return pd.DataFrame(rows)


def _changes(frame: pd.DataFrame, variant: Variant, less: Mapping[str, str]) -> dict[str, Interval]:
    """Mean and interval of each column less another one of the same run, {column: less which}, where runs hold both."""
    runs = select(frame, **variant.settings) if len(frame) else frame
    changes = {column: (runs[column] - runs[other]).dropna() for column, other in less.items() if column in runs}
    return {column: interval(values) for column, values in changes.items() if len(values)}


def _found(frame: pd.DataFrame, variant: Variant, columns: Iterable[str]) -> dict[str, Interval]:
    """Mean and interval of each column that a variant's runs hold, over the runs that hold all of these."""
    runs = select(frame, **variant.settings) if len(frame) else frame
    held = [column for column in columns if column in runs and runs[column].notna().any()]
    runs = runs.dropna(subset=held)
    return {column: interval(runs[column]) for column in held if len(runs)}


def _row(
    label: str, found: Mapping[str, Interval], columns: Mapping[str, str], digits: int | None, signed: bool = False
) -> dict:
    n = max(each.n for each in found.values())
    return {"design": label} | _cells(found, columns, digits, signed) | {"n": n}


def _cells(
    found: Mapping[str, Interval], columns: Mapping[str, str], digits: int | None, signed: bool = False
) -> dict[str, str]:
    told = {column: each.text(digits, signed) for column, each in found.items()}
    return {words: told.get(column, NOT_RUN) for column, words in columns.items()}


def part(control: str, percent: int) -> str:
    """The subset of a run's scores where so many of a hundred clips are under a control: all, no_audio_25, no_audio."""
    return {0: "all", 100: control}.get(percent, f"{control}_{percent}")


def as_clips_lose(
    frame: pd.DataFrame, variants: tuple[Variant, ...], metric: str = "action_top1", title: str = ""
) -> plt.Figure:
    """Scores of the same models as more and more test clips lose sound, motion, or both: a column of panels each.

    Above the means, below what each design has more than the first one, paired by seed, with 95 % bars: the designs
    share their seeds' luck, so that bars around the means would overlap where differences are clear.
    """
    first, *others = variants
    shifts = {v: 2.5 * (place - (len(others) - 1) / 2) for place, v in enumerate(others)}
    with house():
        figure, panels = plt.subplots(2, len(LOST), figsize=(8.6, 5.6), sharex=True, sharey="row")
        for (upper, lower), (control, words) in zip(panels.T, LOST.items(), strict=True):
            columns = {percent: f"validation.{part(control, percent)}.{metric}" for percent in SHARES}
            drawn = [_means(upper, frame, v, columns) for v in variants]
            for v in others:
                pairs = {at: paired(frame, v.settings, first.settings, c) for at, c in columns.items() if c in frame}
                found = {at: each for at, each in pairs.items() if each}
                series(
                    lower,
                    v.label,
                    dict.fromkeys(columns, ""),
                    found,
                    shifts[v],
                    **LOOKS[v.label] | {"linestyle": "none"},
                )
            upper.set(title=f"without {words}", xticks=SHARES)
            lower.axhline(0, color=LOOKS[first.label]["color"], lw=1)
            say_if_empty(upper, [each for each in drawn if each])
        panels[0, 0].set_ylabel(HEADLINES[metric][0])
        panels[1, 0].set_ylabel(f"minus {first.label}, paired (points)")
        panels[1, 1].set_xlabel("share of the test clips that lost it (%)")
        figure.suptitle(title, fontsize=10, x=0.02, ha="left")
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _means(axes: plt.Axes, frame: pd.DataFrame, variant: Variant, columns: Mapping[int, str]) -> bool:
    """A line through the means of those of {x: column} that a variant's runs hold; is anything drawn?"""
    found = _found(frame, variant, columns.values())
    means = {at: replace(found[column], half=float("nan")) for at, column in columns.items() if column in found}
    return series(axes, variant.label, {at: f"{at} %" for at in columns}, means, **LOOKS[variant.label])


def growth(sizes: Mapping[str, list[int]], title: str = "") -> plt.Figure:
    """Trained parameters, classifiers not among them, by number of modalities: {design: counts for 0, 1, ..}."""
    with house():
        figure, axes = plt.subplots(figsize=(6.4, 3.4))
        for (name, counts), colour in zip(sizes.items(), (CAA, DARK, LIGHT, "#000000"), strict=False):
            axes.plot(range(len(counts)), [count / 1e3 for count in counts], "-o", ms=4, color=colour, label=name)
        axes.set(
            xlabel="side modalities", ylabel="trained parameters (thousands),\nclassifiers not counted", title=title
        )
        axes.set(xticks=range(max(map(len, sizes.values()))), ylim=(0, None))
        axes.legend()
    return figure
