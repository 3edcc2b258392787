"""Pictures of a folder of labelled videos and of what was learned from it: clips by class, learning curves, confusions.

As in `show`: each function draws on a new figure in the house's style and returns it; no tensors here.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from cm3t.pages import figures
from cm3t.pages.figures import CAA, house
from cm3t.records import Record

NAMED = 20  # classes whose counts are written into a confusion matrix; of more, the colours speak
FRAME = "#8C8C8C"
LINES = ("-", "--", ":", "-.")  # of runs of one colour


def contact_sheet(
    frames: Mapping[str, np.ndarray], captions: Mapping[str, Sequence[str]], title: str = ""
) -> plt.Figure:
    """A row a class: {class: uint8 (n, H, W, 3)}, and a caption under each picture. Rows may differ in length."""
    columns = max(len(row) for row in frames.values())
    with house():
        size = (0.6 + 1.5 * columns, 0.4 + 1.75 * len(frames))
        figure, grid = plt.subplots(len(frames), columns, figsize=size, dpi=72, squeeze=False)
        for (name, pictures), axes_of_row in zip(frames.items(), grid, strict=True):
            for axes in axes_of_row:
                axes.set(xticks=[], yticks=[])
                axes.grid(visible=False)
                axes.spines[:].set_visible(False)
            for axes, picture, caption in zip(axes_of_row, pictures, captions[name], strict=False):
                axes.imshow(picture)
                axes.set_xlabel(caption, fontsize=9, color="#555555", labelpad=2)
            axes_of_row[0].set_ylabel(name, fontsize=12, fontweight="bold", labelpad=8)
        figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    return figure


def learning_curves(records: Mapping[str, Record], whose: str = "participants") -> plt.Figure:
    """Training loss, and top-1 (or mAP) on tune, by epoch: {label: record}, a line a run, its stages in turn.

    whose: what no split shares with another, participants or videos (`VideoFolder.whose`).
    """
    colours = [_colour(record) for record in records.values()]
    with house():
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.2))
        for place, (name, record) in enumerate(records.items()):
            rows, again = record.train_info["epochs"], colours[:place].count(colours[place])
            look = dict(color=colours[place], linestyle=LINES[again % len(LINES)], marker="o", ms=4)
            places = range(1, len(rows) + 1)
            left.plot(places, [row["loss"] for row in rows], label=name, **look)
            metric = "top1" if "top1" in rows[0]["tune"] else "map"
            right.plot(places, [row["tune"].get(metric, np.nan) for row in rows], **look)
        longest = max(len(record.train_info["epochs"]) for record in records.values())
        highest = max(row["loss"] for record in records.values() for row in record.train_info["epochs"])
        for axes in (left, right):
            axes.set(xlabel="epoch", xlim=(0.8, longest + 0.2))
            axes.xaxis.get_major_locator().set_params(integer=True)
        left.set(ylabel="training loss", title="training clips", ylim=(0, 1.1 * highest))
        words = {"top1": "top-1 accuracy (%)", "map": "mean average precision (%)"}[metric]
        right.set(ylabel=words, title=f"tune: {whose} kept out of training", ylim=(0, 102))
        left.legend()
    return figure


def _colour(record: Record) -> str:
    """A run with modalities is green, whatever it does to the pictures; else its method's colour."""
    given = record.run_info["config"]
    return CAA if given["side"] else figures.colour(given["method"])


def confusion(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """How often each class (rows) was taken for each (columns), from a table with the columns label and predicted."""
    counts = pd.crosstab(table["label"], table["predicted"])
    return counts.reindex(index=list(names), columns=list(names), fill_value=0)


def confusion_matrix(counts: pd.DataFrame, title: str = "") -> plt.Figure:
    """Counts of `confusion` as a matrix: shades are shares of a row, so a rare class is as dark as a frequent one."""
    values = counts.to_numpy()
    shares = values / np.maximum(values.sum(axis=1, keepdims=True), 1)
    side = min(9.0, 2.4 + 0.42 * len(counts))
    with house():
        figure, axes = plt.subplots(figsize=(side + 0.8, side))
        shown = axes.imshow(100 * shares, vmin=0, vmax=100, cmap="Blues")
        for row, column in np.ndindex(*values.shape) if len(counts) <= NAMED else ():
            colour = "white" if shares[row, column] > 0.6 else "black" if values[row, column] else "#B3B3B3"
            axes.text(column, row, str(values[row, column]), ha="center", va="center", fontsize=9, color=colour)
        ticks = {"fontsize": 9 if len(counts) <= NAMED else 5}
        axes.set_xticks(range(len(counts)), counts.columns, rotation=40, ha="right", rotation_mode="anchor", **ticks)
        axes.set_yticks(range(len(counts)), counts.index, **ticks)
        axes.set(xlabel="predicted", ylabel="labelled", title=title)
        axes.grid(visible=False)
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color(FRAME)
        figure.colorbar(shown, ax=axes, label="share of the labelled class (%)", shrink=0.85)
    return figure


def per_class(table: pd.DataFrame, names: Sequence[str], trained: Mapping[str, int]) -> pd.DataFrame:
    """One row a class: number, name, clips trained on and scored, how many are found and how many findings are right.

    table: label and predicted of each scored clip; trained: {name: training clips}. Shares as text, "" for none.
    """
    counts = confusion(table, names)
    rows = []
    for number, name in enumerate(names):
        hits, own, said = counts.at[name, name], counts.loc[name].sum(), counts[name].sum()
        shares = {"recall (%)": f"{100 * hits / own:.0f}" if own else ""}
        shares["precision (%)"] = f"{100 * hits / said:.0f}" if said else ""
        row = {"class": number, "name": name, "trained on": trained.get(name, 0), "scored": int(own)}
        rows.append(row | shares)
    return pd.DataFrame(rows)
