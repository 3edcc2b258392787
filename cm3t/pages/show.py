"""Pictures for people who would rather look than read: clips, cells, Figure 2, and rows and curves with intervals.

Each function draws on a new figure in the house's style and returns it, as those of `figures`; no tensors here.
"""

import ast
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.ticker import LogLocator

from cm3t.config import ROOT
from cm3t.pages import figures
from cm3t.pages.figures import CAA, MHVA, PREFIX, house, say_if_empty
from cm3t.records import provenance
from cm3t.stats import Interval
from cm3t.study import NOT_RUN

FROZEN = "#F0F0F0"
WIDE = 84  # characters of a title that go across a figure
CELL_BLUES = ("#0072B2", "#56B4E9", "#003F63", "#A6D4F2")  # MHVA's blue and its neighbours, one a cell


def clip_strip(clips: np.ndarray, titles: list[str], note: str = "") -> plt.Figure:
    """Clips as rows of frames, oldest left: uint8 (n, T, H, W, 3), a title above each row."""
    n, frames = clips.shape[:2]
    with house():
        figure, rows = plt.subplots(n, frames, figsize=(8.6, 1.32 * n + 0.2), squeeze=False)
        for clip, row, title in zip(clips, rows, titles, strict=True):
            for frame, axes in zip(clip, row, strict=True):
                axes.imshow(frame, interpolation="nearest")
                axes.set_axis_off()
            row[0].set_title(title, fontsize=9)
        figure.get_layout_engine().set(h_pad=0.02, w_pad=0.02, hspace=0, wspace=0.02)
        if note:
            figure.supxlabel(note, fontsize=8, color="#555555")
    return figure


def cell_map(index: np.ndarray, frame: np.ndarray | None = None, title: str = "") -> plt.Figure:
    """Which of MHVA's cells holds each token: index (h, w) as tinted tiles, over a frame (H, W, 3) if there is one."""
    height, width = index.shape
    with house():
        figure, axes = plt.subplots(figsize=(3.2, 3.4))
        if frame is not None:
            axes.imshow(frame, extent=(0, width, height, 0), interpolation="nearest")
        for row in range(height):
            for column in range(width):
                colour = CELL_BLUES[int(index[row, column]) % len(CELL_BLUES)]
                edge = dict(facecolor=colour, alpha=0.5 if frame is None else 0.16, edgecolor="white", linewidth=0.6)
                axes.add_patch(Rectangle((column, row), 1, 1, **edge))
        for row, column in zip(*np.nonzero(np.diff(index, axis=0)), strict=True):  # where one cell ends
            axes.plot([column, column + 1], [row + 1, row + 1], color="white", lw=3)
        for row, column in zip(*np.nonzero(np.diff(index, axis=1)), strict=True):
            axes.plot([column + 1, column + 1], [row, row + 1], color="white", lw=3)
        for cell in np.unique(index):
            rows, columns = np.nonzero(index == cell)
            place = columns.mean() + 0.5, rows.mean() + 0.5
            text = axes.text(*place, f"$A_{{{cell + 1}}}$", ha="center", va="center", color="white", fontsize=16)
            text.set_bbox(dict(facecolor="black", alpha=0.35, edgecolor="none", boxstyle="round,pad=0.2"))
        axes.set(xlim=(0, width), ylim=(height, 0), xlabel=f"{width} tokens", ylabel=f"{height} tokens", title=title)
        axes.set(xticks=[], yticks=[])
        axes.grid(visible=False)
    return figure


def figure_2() -> plt.Figure:
    """One block with its plugins, after Figure 2 of the paper: grey is frozen, colour is trained."""
    with house():
        figure, axes = plt.subplots(figsize=(8.6, 3.7))
        figure.set_label(
            "One frozen block, left to right: norm, window attention, norm, MLP, each pair inside a residual. Trained: "
            "prefix tuning feeds the attention; MHVA stands beside the MLP, scaled by s, and its bottleneck z meets "
            "the side tokens m in the CAA, whose fused output is added after the MLP too."
        )
        axes.set(xlim=(0, 17.2), ylim=(0, 7.4))
        axes.set_axis_off()
        y = 4.2
        for x, words in {1.5: "norm 1", 4.2: "window\nattention", 8.3: "norm 2", 11.2: "MLP"}.items():
            _box(axes, x, y, words)
        for x in (6.6, 13.5):
            axes.text(x, y, "+", ha="center", va="center", fontsize=13, zorder=4)
            axes.plot(x, y, "o", ms=15, mfc="white", mec="black", zorder=3)
        steps = [(0, 0.75), (2.25, 3.3), (5.1, 6.3), (6.9, 7.55), (9.05, 10.45), (11.95, 13.2), (13.8, 15.15)]
        for start, stop in steps:
            _arrow(axes, (start, y), (stop, y))
        for start, stop in [(0.35, 6.6), (7.15, 13.5)]:  # the residual stream passes each branch
            axes.plot([start, start, stop, stop], [y, 5.5, 5.5, y + 0.35], color="#999999", lw=1.1)
        _box(axes, 4.2, 1.6, "PT:  $E$\n$P_k, P_v$", PREFIX)
        _arrow(axes, (4.2, 2.2), (4.2, 3.55), PREFIX)
        _box(axes, 10.9, 1.9, "MHVA\n$A_1 \\ldots A_{g^2}$", MHVA)
        axes.plot([9.45, 9.45, 10.0], [y, 1.9, 1.9], color=MHVA, lw=1.6)
        axes.plot([11.8, 13.5], [1.9, 1.9], color=MHVA, lw=1.6)
        _arrow(axes, (13.5, 1.9), (13.5, 3.75), MHVA)
        axes.text(12.7, 2.1, "$\\times\\, s$", ha="center", color=MHVA, fontsize=11)
        _box(axes, 10.9, 0.45, "CAA, fusion", CAA, flat=True)
        axes.plot([11.95, 13.5, 13.5], [0.45, 0.45, 1.9], color=CAA, lw=1.6)
        _arrow(axes, (10.9, 1.3), (10.9, 0.8), MHVA)
        axes.text(11.05, 1.05, "$z$", color=MHVA, fontsize=9, va="center")
        _arrow(axes, (8.9, 0.45), (9.85, 0.45), CAA)
        _box(axes, 15.9, y, "next\nblock")
        axes.text(0.0, 6.75, "Frozen (grey) and trained (colour), in every block", fontsize=10, va="center")
        named = {"Eq. 3-5": (2.9, 1.6, PREFIX), "Eq. 1, 2, 6": (8.6, 2.2, MHVA), "Eq. 7-10": (13.2, 0.12, CAA)}
        for words, (*place, colour) in named.items():
            axes.text(*place, words, color=colour, ha="right", va="center", fontsize=8)
        axes.text(8.8, 0.45, "side tokens $m$", color=CAA, fontsize=9, ha="right", va="center")
        axes.text(3.5, 5.75, "residual", color="#777777", fontsize=8, ha="center")
    return figure


def _box(axes: Axes, x: float, y: float, words: str, colour: str = "", flat: bool = False) -> None:
    width, height = (1.5, 1.2) if len(words) < 7 or "next" in words else (1.8, 1.2)
    width, height = (2.1, 0.7) if flat else (width, height)
    face, edge = ("white", colour) if colour else (FROZEN, "#8C8C8C")
    shape = "round,pad=0.02,rounding_size=0.12"
    style = dict(boxstyle=shape, fc=face, ec=edge, lw=1.8 if colour else 1.0, zorder=2)
    axes.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, **style))
    axes.text(x, y, words, ha="center", va="center", fontsize=9, color=colour or "black", zorder=3)


def _arrow(axes: Axes, start: tuple, stop: tuple, colour: str = "#444444") -> None:
    axes.add_patch(FancyArrowPatch(start, stop, arrowstyle="-|>", mutation_scale=9, color=colour, lw=1.4, zorder=1))


def interval_rows(table: pd.DataFrame, column: str, xlabel: str, title: str = "") -> plt.Figure:
    """One row a variant, top down as in the table: the mean of `column` with its 95 % interval; a line at 0 for a
    difference, which xlabel then calls by that name. What has not been run (no score) says so."""
    scores = table["score"] if "score" in table else table[column]
    found = zip(table["method"], table[column], scores, strict=True)
    rows = [(name, value) for name, value, score in found if value is not None or score is None]
    with house():
        figure, axes = plt.subplots(figsize=(6.4, 0.9 + 0.34 * max(len(rows), 2)))
        for place, (name, found) in enumerate(rows):
            if found is None:
                side = axes.get_yaxis_transform()
                look = dict(transform=side, va="center", fontsize=9, color="#777777")
                axes.text(0.02, -place, NOT_RUN, bbox=dict(fc="white", ec="none", pad=1), **look)
                continue
            half = 0 if np.isnan(found.half) else found.half
            axes.errorbar(found.mean, -place, xerr=half, fmt="o", ms=5, capsize=3, color=variant_colour(name))
        if column != "score":
            axes.axvline(0, color="#999999", lw=1)
        if not any(value for _, value in rows):
            axes.set_xticks([])
        say_if_empty(axes, rows)
        axes.set(yticks=[-place for place in range(len(rows))], yticklabels=[name for name, _ in rows])
        axes.set(xlabel=xlabel, ylim=(-max(len(rows), 1) + 0.4, 0.6))
        figure.suptitle(fill(title, WIDE), fontsize=10, x=0.02, ha="left")
        axes.grid(axis="y", visible=False)
    return figure


def against_parameters(families: dict[str, pd.DataFrame], ylabel: str, title: str = "") -> plt.Figure:
    """Accuracy against trained parameters (log scale): a line a family of variants, 95 % bars, labels at the points.

    Equal sizes stand a little beside each other. The legend names what has not been run (no score).
    """
    with house():
        figure, axes = plt.subplots(figsize=(6.4, 4.1))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter("")
        drawn = [int(size) for table in families.values() for size in table["trainable"].dropna()]
        low, high = (min(drawn) / 1.8, max(drawn) * 1.8) if drawn else axes.get_xlim()  # room for the labels
        axes.set_xlim(low, high)
        for (name, table), below in zip(families.items(), (True, False) * len(families), strict=False):
            missing = ", ".join(words.split(", ")[-1] for words in table.loc[table["score"].isna(), "method"])
            missing = f" ({NOT_RUN}: {missing})" if missing else ""
            table = table.dropna(subset=["score"]).sort_values("trainable")
            halves = [0 if np.isnan(found.half) else found.half for found in table["score"]]
            means = [found.mean for found in table["score"]]
            sizes = [int(size) * (high / low) ** (0.011 if below else -0.011) for size in table["trainable"]]
            look = dict(fmt="o-", ms=5, capsize=3, color=variant_colour(name))
            axes.errorbar(sizes, means, yerr=halves, label=name + missing, **look)
            for x, y, words in zip(sizes, means, table["method"], strict=True):
                place = dict(xytext=(5, -11), ha="left") if below else dict(xytext=(-5, 6), ha="right")
                text = dict(textcoords="offset points", fontsize=8.5, color=look["color"]) | place
                axes.annotate(words.split(", ")[-1], (x, y), **text)
        say_if_empty(axes, drawn)
        axes.set(xlabel="trained parameters, heads not counted", ylabel=ylabel, title=title)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center")
    return figure


def variant_colour(name: str) -> str:
    """The colour of a variant by the words of its label: MHVA blue, PT vermilion, full black, the rest grey."""
    if "MHVA" in name or "cells" in name:
        return MHVA
    if name.startswith("PT"):
        return PREFIX
    return figures.FULL if name.startswith("full") else figures.GREYS["adaptformer"]


# How a headline is called in a table, and its digits behind the point if they are not `Interval.text`'s.
HEADLINES = {"action_top1": ("action top-1 (%)", None), "map": ("macro mAP (%)", None), "mse": ("mean MSE", 3)}


def in_words(table: pd.DataFrame, headline: str = "action_top1") -> pd.DataFrame:
    """A table of `study.compare` as text: intervals as `41.7 ± 0.9`, differences signed, parameters with commas."""
    heading, digits = HEADLINES[headline]
    shown = table.copy()
    for name in table.columns:
        if name == "trainable":
            shown[name] = ["" if pd.isna(value) else f"{int(value):,}" for value in table[name]]
        elif name != "method":
            signed = name != "score"
            shown[name] = [v.text(digits, signed) if isinstance(v, Interval) else "" for v in table[name]]
    if "score" in table:
        shown["n"] = [found.n for found in table["score"]]
    return shown.rename(columns={"trainable": "trained parameters, heads apart", "score": heading})


# What the paper numbers, where it lives in the code, the test that holds a naive twin to it, and where it is shown.
EQUATIONS = (
    ("1, 2", "scaled parallel adapter", "plugins/adapter.py", "ParallelAdapter", "test_eq_1_and_2", "01"),
    ("3, 5", "gate between prefix and self-attention", "plugins/prefix.py", "prefix_gate", "test_eq_3_and_5", "01"),
    ("4", "prefix keys and values", "plugins/prefix.py", "PrefixTuning", "test_eq_4", "01"),
    ("6", "one adapter a cell (MHVA)", "plugins/mhva.py", "MultiHeadVisionAdapter", "test_eq_6", "01, 02"),
    ("Sec. 3.3", "cross-attention adapter (CAA)", "plugins/caa.py", "cross_attention", "test_every_form_equals", "04"),
    ("7-10", "AdapterFusion", "plugins/fusion.py", "AdapterFusion", "test_eq_7_to_10", "04"),
    ("Sec. 3.3", "MMCA, an interpretation", "plugins/mmca.py", "SequentialCrossAttention", "test_sequential", "05"),
)


def equation_map() -> pd.DataFrame:
    """Equation, what it is, module and object, test, notebook; LookupError where the code has moved away."""
    files = sorted((ROOT / "tests").glob("test_*.py"))  # none where the package is installed without its tests
    known = [function for path in files for function in _defined(path)] if files else None
    rows = []
    for number, what, file, name, test, notebook in EQUATIONS:
        if name not in _defined(Path(__file__).parents[1] / file):
            raise LookupError(f"cm3t/{file} has no {name}: bring show.EQUATIONS up to date")
        found = [function for function in known or [] if function.startswith(test)]
        if known is not None and not found:
            raise LookupError(f"tests/ have no test {test}...: bring show.EQUATIONS up to date")
        where = f"`cm3t/{file}`: `{name}`"
        rows.append({"Eq.": number, "what": what, "code": where, "naive twin": f"`{test}...`", "notebook": notebook})
    return pd.DataFrame(rows)


def _defined(path: Path) -> list[str]:
    """Names of the functions and classes of a Python file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def stamp(device: str = "cpu") -> str:
    """What this page was made by, in three lines: commit, versions, machine."""
    found = provenance(device)
    commit = (found["git"]["commit"] or "")[:12] or "unknown, not a checkout"
    commit += " with changes" if found["git"]["dirty"] else ""
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in ("python", "cm3t", "torch", "torchvision"))
    hardware = found["hardware"]
    memory = f"{hardware['memory_gb'] * 2**30 / 1e9:.1f} GB"  # recorded in units of 2^30 bytes
    machine = f"{hardware['cpu']}, {hardware['cores']} cores, {memory}; device {hardware['device']}"
    return f"commit {commit}\n{versions}\n{machine}"


def shares_plot(shares: dict[str, float], title: str = "") -> plt.Figure:
    """Trained share of the backbone (a fraction) by method, as bars in the methods' colours, the number at each end."""
    with house():
        figure, axes = plt.subplots(figsize=(6.4, 0.8 + 0.34 * len(shares)))
        for place, (method, share) in enumerate(shares.items()):
            axes.barh(-place, 100 * share, height=0.62, color=figures.colour(method))
            axes.text(100 * share + 1, -place, f"{100 * share:.1f} %", va="center", fontsize=9)
        axes.set(yticks=[-place for place in range(len(shares))], yticklabels=[figures.label(m) for m in shares])
        axes.set(xlim=(0, 112), xlabel="trained parameters (% of the backbone, heads not counted)", title=title)
        axes.grid(axis="y", visible=False)
    return figure
