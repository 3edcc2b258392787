"""Training curves of recorded runs: what a final score hides. Figures in the house's style; no tensors here."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter

from cm3t import plans
from cm3t.pages.figures import CAA, MHVA, PREFIX, house, readable, say_if_empty, series
from cm3t.pages.show import variant_colour
from cm3t.plans import Variant
from cm3t.records import Record, to_frame
from cm3t.stats import SCORE, Interval, interval, over_first_step, paired, select
from cm3t.study import NOT_RUN

TANH = ((plans.ACTIVATION[0], plans.ACTIVATION[1]), (plans.ACTIVATION[2], plans.ACTIVATION[3]))  # ReLU, tanh


def epochs_of(records: list[Record]) -> pd.DataFrame:
    """One row an epoch: run_id, epoch, loss, lr, seconds, and the scores on `tune` by their names."""
    rows = []
    for record in records:
        for row in record.train_info["epochs"]:
            rows.append({"run_id": record.run_id} | {k: v for k, v in row.items() if k != "tune"} | row["tune"])
    return pd.DataFrame(rows)


def training_curves(
    records: list[Record], variants: tuple[Variant, ...], metrics=("loss", "action_top1"), title: str = ""
) -> plt.Figure:
    """Training loss, and scores on `tune`, by epoch: a panel each, a line a variant, its 95 % interval as a band."""
    frame, epochs = to_frame(records), epochs_of(records)
    with house():
        figure, panels = plt.subplots(1, len(metrics), figsize=(1.2 + 3.7 * len(metrics), 3.9), squeeze=False)
        drawn = [
            [_curve(axes, variant, frame, epochs, metric) for variant in variants]
            for axes, metric in zip(panels[0], metrics, strict=True)
        ]
        for axes, metric, lines in zip(panels[0], metrics, drawn, strict=True):
            words = "training loss" if metric == "loss" else f"{readable(metric)} on tune"
            axes.set(xlabel="epoch", ylabel=words)
            if metric == "loss":
                axes.set_yscale("log")  # small differences of small losses are seen beside large ones
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
                axes.yaxis.set_major_formatter("{x:g}")
                axes.yaxis.set_minor_formatter(NullFormatter())
            say_if_empty(axes, [line for line in lines if line])
        figure.suptitle(title, fontsize=10, x=0.02, ha="left")
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _curve(axes: plt.Axes, variant: Variant, frame: pd.DataFrame, epochs: pd.DataFrame, metric: str) -> bool:
    """One variant's mean over seeds by epoch; where it has not been run, the legend says so."""
    runs = select(frame, **variant.settings) if len(frame) else frame
    rows = epochs[epochs["run_id"].isin(runs["run_id"])].dropna(subset=[metric]) if len(runs) else None
    found = {} if rows is None else {epoch: interval(values) for epoch, values in rows.groupby("epoch")[metric]}
    look = dict(color=variant_colour(variant.label), linestyle="--" if "tanh" in variant.label else "-")
    note = f"n={len(runs)}" if found else NOT_RUN
    axes.plot(list(found), [f.mean for f in found.values()], label=f"{variant.label} ({note})", **look)
    if len(runs) > 1:
        low, high = ([getattr(f, end) for f in found.values()] for end in ("low", "high"))
        edge = dict(facecolor="none", edgecolor=look["color"], hatch="....", alpha=0.4, lw=0)
        filled = dict(color=look["color"], alpha=0.15, lw=0)
        axes.fill_between(list(found), low, high, **(edge if "tanh" in variant.label else filled))
    return bool(found)


def roughness(losses: Iterable[float]) -> float:
    """How a curve jumps: the mean distance of an epoch's loss from the middle of its two neighbours'; 0 for a line."""
    return float(np.abs(np.diff(list(losses), 2)).mean() / 2)


# What a curve is like, each from the rows of a run's epochs.
MEASURES = {
    "roughness of the loss": lambda rows: roughness(rows["loss"]),
    "roughness of its logarithm": lambda rows: roughness(np.log(rows["loss"])),
    "loss, mean of all epochs": lambda rows: rows["loss"].mean(),
    "loss, last epoch": lambda rows: rows["loss"].iloc[-1],
    "action top-1 on tune, last epoch (%)": lambda rows: (
        rows["action_top1"].iloc[-1] if "action_top1" in rows else None
    ),
}


def measured(records: list[Record]) -> pd.DataFrame:
    """The table of runs with MEASURES of their training curves as further columns."""
    frame, epochs = to_frame(records), epochs_of(records)
    runs = dict(list(epochs.groupby("run_id"))) if len(epochs) else {}
    each = {name: [of(runs[run]) if run in runs else None for run in frame["run_id"]] for name, of in MEASURES.items()}
    return frame.assign(**each)


def curves_table(records: list[Record], pairs=TANH) -> pd.DataFrame:
    """Rows for each pair of variants (ReLU, tanh): MEASURES of the training curve of each, and paired by seed."""
    frame, rows = measured(records), []
    for pair in pairs:
        for name in MEASURES:
            digits = 1 if name.endswith("(%)") else 3
            runs = [select(frame, **v.settings)[name].dropna() if len(frame) else () for v in pair]
            cells = [interval(values).text(digits) if len(values) else NOT_RUN for values in runs]
            found = paired(frame, *(v.settings for v in pair), name)
            row = {"": pair[0].label, "training curve": name} | dict(zip(("ReLU", "tanh"), cells, strict=True))
            told = found.text(digits, signed=True) if found else ""
            rows.append(row | {"ReLU - tanh": told, "n": found.n if found else ""})
    return pd.DataFrame(rows)


def against_length(frame: pd.DataFrame, title: str = "") -> plt.Figure:
    """Action accuracy against the prefix length l, of PT alone and beside MHVA; without (l = 0): linear probe, MHVA."""
    names = {place: str(length) for place, length in enumerate((0, *plans.LENGTHS))}
    with house():
        figure, axes = plt.subplots(figsize=(6.4, 3.6))
        drawn = []
        pairs = ((plans.PT, plans.MAIN[0], PREFIX), (plans.MHVA_PT, plans.MHVA, MHVA))
        for shift, (with_it, without, colour) in zip((-0.03, 0.03), pairs, strict=True):
            variants = (without, *(plans.longer(with_it, length) for length in plans.LENGTHS))
            drawn.append(series(axes, with_it.label, names, _scores(frame, enumerate(variants)), shift, color=colour))
        axes.set(xlabel="prefix length l (not to scale)", ylabel="action top-1 (%)", title=title)
        axes.set_xticks(list(names), [f"{words}: none" if words == "0" else words for words in names.values()])
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center")
        say_if_empty(axes, [each for each in drawn if each])
    return figure


def against_size(frame: pd.DataFrame, title: str = "") -> plt.Figure:
    """Action accuracy against the number of training clips: linear probe, MHVA + PT, CM3T, full fine-tuning."""
    colours = {plans.MAIN[0]: "#7F7F7F", plans.MHVA_PT: MHVA, plans.CM3T: CAA, plans.FULL: "#000000"}
    names = {clips: str(clips) for clips in (*plans.SIZES, plans.KITCHEN_CLIPS)}
    with house():
        figure, axes = plt.subplots(figsize=(6.4, 4.2))
        axes.set_xscale("log", base=2)
        axes.set_xlim(min(names) / 1.2, max(names) * 1.2)  # before there is a point: one alone has no width
        axes.set_xticks(list(names), list(names.values()))
        drawn = []
        for place, (variant, colour) in enumerate(colours.items()):
            found = _scores(frame, _by_size(variant).items())
            shift = 0.07 * (place - (len(colours) - 1) / 2)
            drawn.append(series(axes, variant.label, names, found, shift, color=colour))
        axes.set(xlabel="training clips", ylabel="action top-1 (%)", title=title)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center")
        say_if_empty(axes, [each for each in drawn if each])
    return figure


def size_table(frame: pd.DataFrame) -> pd.DataFrame:
    """What `against_size` draws, as differences paired by seed: a row each, a column a number of training clips."""
    heard, tuned = _by_size(plans.CM3T), _by_size(plans.FULL)
    questions = {
        f"{first.label} - {plans.FULL.label}": [
            paired(frame, v.settings, tuned[n].settings) for n, v in _by_size(first).items()
        ]
        for first in (plans.MHVA_PT, plans.CM3T)
    }
    questions[f"{plans.CM3T.label} - its own first step"] = [over_first_step(frame, v.settings) for v in heard.values()]
    texts = {words: [f.text(signed=True) if f else NOT_RUN for f in found] for words, found in questions.items()}
    table = pd.DataFrame.from_dict(texts, orient="index", columns=[f"{n} clips" for n in tuned])
    return table.rename_axis("action top-1 (points)").reset_index()


def _by_size(variant: Variant) -> dict[int, Variant]:
    """{training clips: the variant with so many}, of rooms-kitchen, up to all of them."""
    return {n: plans.fewer(variant, n) for n in plans.SIZES} | {plans.KITCHEN_CLIPS: variant}


def _scores(frame: pd.DataFrame, variants: Iterable[tuple[float, Variant]]) -> dict[float, Interval]:
    """{x: mean and interval} of those of (x, variant) that have run."""
    runs = {x: select(frame, **v.settings) if len(frame) else frame for x, v in variants}
    return {x: interval(own[SCORE].dropna()) for x, own in runs.items() if len(own)}
