"""Figures in the house's colours, the same in every plot and diagram, and the same bytes from the same records.

Each function takes a table from `records.results`, draws on a new figure and returns it; none shows or saves it.
"""

from collections.abc import Mapping, Sized
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.legend import Legend
from matplotlib.ticker import FixedFormatter, FuncFormatter

from cm3t.stats import SCORE, Interval, interval, select
from cm3t.study import NOT_RUN

# Figure 2 of the paper, in colour-blind-safe forms: MHVA blue, prefix tuning vermilion, CAA green.
MHVA, PREFIX, CAA, FULL = "#0072B2", "#D55E00", "#009E73", "#000000"
GREYS = {"scratch": "#4D4D4D", "adaptformer": "#7F7F7F", "linear": "#B3B3B3"}
LABELS = {"mhva": "MHVA", "pt": "PT", "adaptformer": "AdaptFormer", "full": "Full fine-tuning"}
LABELS |= {"linear": "Linear probe", "scratch": "From scratch"}

STYLE = {
    "figure.figsize": (6.4, 3.6),
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "svg.hashsalt": "cm3t",
}
ALTERNATIVE = 600  # characters of a description at most


@contextmanager
def house():
    """Matplotlib in the house's style, for as long as the context lasts.

    What is drawn in it carries its description: a notebook stores that as the picture's alternative text.
    """
    before = set(plt.get_fignums())
    with mpl.rc_context(STYLE):
        yield
    for number in set(plt.get_fignums()) - before:
        figure = plt.figure(number)
        figure._repr_mimebundle_ = partial(_alternative, figure)


def describe(figure: plt.Figure) -> str:
    """A figure in words, for who does not see it: its own label, or its titles, axes, categories, legends and texts."""
    if figure.get_label():
        return figure.get_label()
    pictures = sum(bool(axes.images) for axes in figure.axes)
    said = [figure.get_suptitle(), *(_words(axes) for axes in figure.axes), f"Pictures: {pictures}" if pictures else ""]
    said += [figure.get_supxlabel(), *(_drawn(legend) for legend in figure.legends)]
    text = " ".join(". ".join(part for part in dict.fromkeys(said) if part).split())
    return text if len(text) <= ALTERNATIVE else text[: ALTERNATIVE - 3] + "..."


def _words(axes: Axes) -> str:
    """Title, labels, categories, legend and texts of one plot."""
    said = [axes.get_title(loc=place) for place in ("left", "center", "right")]
    for way, axis in (("Across", axes.xaxis), ("Up", axes.yaxis)) if axes.axison else ():
        label = ": ".join(filter(None, (axis.get_label_text(), ", ".join(_names(axis)))))
        said.append(f"{way}: {label}" if label else "")
    said.append(_drawn(axes.get_legend()))
    said.append("; ".join(text.get_text() for text in axes.texts))
    return ". ".join(part for part in said if part)


def _drawn(legend: Legend | None) -> str:
    return "Drawn: " + ", ".join(text.get_text() for text in legend.get_texts()) if legend else ""


def _names(axis: Axis) -> list[str]:
    """The ticks' labels where they are categories, not numbers."""
    given = isinstance(axis.get_major_formatter(), FixedFormatter | FuncFormatter)
    names = [label.get_text() for label in axis.get_ticklabels()] if given else []
    return names if any(letter.isalpha() for name in names for letter in name) else []


def _alternative(figure: plt.Figure, include=None, exclude=None) -> tuple[dict, dict]:
    """What Jupyter asks for: no data of its own, and a picture's metadata."""
    return {}, {"image/png": {"alt": describe(figure)}}


def colour(method: str) -> str:
    """The colour of a method: that of its leading idea."""
    words = method.split("+")
    if "mhva" in words:
        return MHVA
    if words[0] == "pt":
        return PREFIX
    if "caa" in words:
        return CAA
    return FULL if words[0] == "full" else GREYS.get(words[0], "#999999")


def label(method: str) -> str:
    """A method as the paper writes it."""
    return " + ".join(LABELS.get(word, word) for word in method.split("+"))


def methods_plot(frame: pd.DataFrame, metric: str = SCORE, title: str = "") -> plt.Figure:
    """One row a method, best on top: the mean with its 95 % interval, and below it every run as a dot.

    Without the one from random weights, whose rate is not tuned: it has a table of its own.
    """
    runs = select(frame)
    runs = runs[runs["method"] != "scratch"]
    order = runs.groupby("method")[metric].mean().sort_values().index
    with house():
        figure, axes = plt.subplots(figsize=(6.4, 0.8 + 0.36 * max(len(order), 2)))
        for row, method in enumerate(order):
            values = runs.loc[runs["method"] == method, metric].dropna()
            found = interval(values)
            axes.errorbar(found.mean, row, xerr=found.half, fmt="|", ms=12, capsize=3, color=colour(method))
            axes.plot(values, [row - 0.25] * len(values), "o", ms=3.5, alpha=0.5, mew=0, color=colour(method))
        axes.set(yticks=range(len(order)), yticklabels=[label(m) for m in order], xlabel=readable(metric), title=title)
        if "(%)" in readable(metric):
            low, high = axes.get_xlim()  # of percents, however wide an interval of two runs is
            axes.set_xlim(max(low, 0), min(high, 100))
        figure.supxlabel("tick: mean; bar: 95 % interval; dots: seeds", fontsize=8, color="#555555")
        axes.grid(axis="y", visible=False)
    return figure


def say_if_empty(axes: Axes, drawn: Sized) -> None:
    """Write into axes without ticks that there is nothing yet, if nothing was drawn."""
    if not drawn:
        place = dict(ha="center", va="center", transform=axes.transAxes, color="#555555")
        axes.text(0.5, 0.5, "no published runs yet", **place)
        axes.tick_params(which="both", bottom=False, left=False, labelbottom=False, labelleft=False)


def series(
    axes: Axes, name: str, planned: Mapping[float, str], found: Mapping[float, Interval], shift: float = 0.0, **look
) -> bool:
    """Means with 95 % bars at x, joined where none that was planned lacks; is anything drawn?

    planned {x: how the legend calls it}, found {x: interval}. The legend names what has not been run.
    shift: what x is moved by, to stand beside others: added, or on a log axis the power of two it is multiplied with.
    """
    missing = [words for x, words in planned.items() if x not in found]
    note = "n=" + ", ".join(map(str, sorted({f.n for f in found.values()}))) if found else NOT_RUN
    note += f"; {NOT_RUN}: {', '.join(missing)}" if found and missing else ""
    places = [x for x in planned if x in found]
    halves = [0 if pd.isna(found[x].half) else found[x].half for x in places]
    look = dict(marker="o", ms=4, capsize=3, linestyle="none" if missing else "-") | look
    log = axes.get_xscale() == "log"
    means, places = [found[x].mean for x in places], [x * 2**shift if log else x + shift for x in places]
    axes.errorbar(places, means, yerr=halves, label=f"{name} ({note})", **look)
    return bool(found)


def readable(metric: str) -> str:
    """A column name as an axis says it: `validation.all.action_top1` is "action top-1 (%)"."""
    *place, name = metric.split(".")
    words = name.replace("_top1", " top-1 (%)").replace("_top5", " top-5 (%)").replace("_", " ")
    subset = place[-1] if place and place[-1] != "all" else ""
    return f"{words}, {subset}" if subset else words


def save_figure(figure: plt.Figure, path: Path) -> list[Path]:
    """Write `path`.png and `path`.svg, without dates or versions inside, and close the figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [path.with_name(path.name + ".png"), path.with_name(path.name + ".svg")]
    with house():
        figure.savefig(made[0], metadata={"Software": None})
        figure.savefig(made[1], metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return made
