"""Training curves of recorded runs: what a final score hides. Figures in the house's style; no tensors here."""

import matplotlib.pyplot as plt
import pandas as pd

from cm3t import plans
from cm3t.pages.figures import house, readable, say_if_empty
from cm3t.plans import Variant
from cm3t.records import Record, to_frame
from cm3t.stats import SCORE, interval, select

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7F7F7F", "#000000")  # readable by the colour-blind


def epochs_of(records: list[Record]) -> pd.DataFrame:
    """One row an epoch: run_id, epoch, loss, lr, seconds, and the scores on `tune` by their names."""
    rows = []
    for record in records:
        for row in record.train_info["epochs"]:
            rows.append({"run_id": record.run_id} | {k: v for k, v in row.items() if k != "tune"} | row["tune"])
    return pd.DataFrame(rows)


def training_curves(
    records: list[Record], variants: tuple[Variant, ...], metric: str = "action_top1", title: str = ""
) -> plt.Figure:
    """`metric` on `tune` by epoch: a line a variant, the 95 % interval over seeds as a band."""
    frame, epochs = to_frame(records), epochs_of(records)
    with house():
        figure, axes = plt.subplots(figsize=(6.4, 3.6))
        for variant, colour in zip(variants, COLOURS, strict=False):
            runs = select(frame, **variant.settings) if len(frame) else frame
            if not len(runs):
                continue
            rows = epochs[epochs["run_id"].isin(runs["run_id"])].dropna(subset=[metric])
            found = {epoch: interval(values) for epoch, values in rows.groupby("epoch")[metric]}
            dashes = "--" if "tanh" in variant.label else "-"
            label = f"{variant.label} (n={len(runs)})"
            axes.plot(list(found), [f.mean for f in found.values()], dashes, color=colour, label=label)
            if len(runs) > 1:
                low, high = ([getattr(f, end) for f in found.values()] for end in ("low", "high"))
                axes.fill_between(list(found), low, high, color=colour, alpha=0.15, lw=0)
        axes.set(xlabel="epoch", ylabel=f"{readable(metric)} on tune", title=title)
        say_if_empty(axes, axes.lines)
        if axes.lines:
            axes.legend()
    return figure


def against_size(frame: pd.DataFrame, title: str = "") -> plt.Figure:
    """Action accuracy against the number of training clips: linear probe, MHVA + PT, full fine-tuning; 95 % bars."""
    with house():
        figure, axes = plt.subplots(figsize=(6.4, 3.6))
        for variant, colour in ((plans.MAIN[0], "#7F7F7F"), (plans.MHVA_PT, "#0072B2"), (plans.FULL, "#000000")):
            points = {}
            for clips in (*plans.SIZES, None):
                settings = variant.settings | (plans.sized(clips) if clips else {})
                runs = select(frame, **settings) if len(frame) else frame
                if len(runs):
                    points[clips or plans.KITCHEN_CLIPS] = interval(runs[SCORE])
            halves = [0 if pd.isna(f.half) else f.half for f in points.values()]
            means = [f.mean for f in points.values()]
            if points:
                axes.errorbar(
                    list(points), means, yerr=halves, fmt="-o", ms=4, capsize=3, color=colour, label=variant.label
                )
        axes.set(xlabel="training clips", ylabel="action top-1 (%)", title=title)
        if axes.containers:
            axes.set_xscale("log", base=2)
            axes.set_xticks([*plans.SIZES, plans.KITCHEN_CLIPS], [str(n) for n in (*plans.SIZES, plans.KITCHEN_CLIPS)])
            axes.legend()
        say_if_empty(axes, axes.containers)
    return figure
