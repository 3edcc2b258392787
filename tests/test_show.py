"""Pictures draw with and without results, and the equation map points at what is there."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from cm3t import plans
from cm3t.pages import show
from cm3t.pages.figures import MHVA, PREFIX
from cm3t.stats import Interval
from cm3t.study import NOT_RUN


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def table(n=3):
    found = [(k, Interval(40.0 + k, 1.0, 5), Interval(1.0 * k, 0.5, 5)) for k in range(1, n + 1)]
    rows = [(f"shared, r = C/{k}", 1000 * k, score, gain) for k, score, gain in found]
    return pd.DataFrame(rows, columns=["method", "trainable", "score", "gain"])


def test_a_strip_has_a_row_a_clip_and_a_title_above_each():
    clips = np.zeros((2, 4, 8, 8, 3), dtype=np.uint8)
    figure = show.clip_strip(clips, ["open · door", "take · cup"])
    assert [axes.get_title(loc="left") for axes in figure.axes[::4]] == ["open · door", "take · cup"]


def test_a_cell_map_names_every_cell():
    index = np.arange(4).reshape(2, 2).repeat(3, 0).repeat(3, 1)
    figure = show.cell_map(index, np.zeros((12, 12, 3), dtype=np.uint8))
    assert [text.get_text() for text in figure.axes[0].texts] == [f"$A_{{{i}}}$" for i in (1, 2, 3, 4)]


@pytest.mark.slow
def test_plots_of_results_and_of_none():
    empty = table(0)
    for figure in (
        show.interval_rows(empty, "gain", "points"),
        show.against_parameters({"a": empty, "b": empty}, "top-1"),
    ):
        assert "no published runs yet" in [text.get_text() for text in figure.axes[0].texts]
    rows = show.interval_rows(table(), "gain", "points").axes[0]
    assert [tick.get_text() for tick in rows.get_yticklabels()] == list(table()["method"])
    curve = show.against_parameters({"one shared adapter": table()}, "top-1").axes[0]
    assert curve.get_xscale() == "log" and len(curve.texts) == 3


def test_a_long_title_of_rows_stays_inside_the_figure():
    title = "MHVA + PT minus full fine-tuning, by frozen network, " * 3
    figure = show.interval_rows(table(), "gain", "points", title)
    figure.draw_without_rendering()
    words = figure._suptitle.get_window_extent()
    assert words.x0 >= 0 and words.x1 <= figure.bbox.width and figure.get_suptitle().count("\n") == 1


@pytest.mark.filterwarnings("error")
def test_a_line_of_points_names_what_has_not_been_run():
    both = table(2).astype(object)
    both.loc[1, ["trainable", "score", "gain"]] = None
    axes = show.against_parameters({"one shared adapter": both}, "top-1").axes[0]
    assert [text.get_text() for text in axes.texts] == ["r = C/1"]
    (words,) = (text.get_text() for text in axes.figure.legends[0].get_texts())
    assert words == f"one shared adapter ({NOT_RUN}: r = C/2)"


def test_lines_of_equal_sizes_stand_beside_each_other():
    families = {"one shared adapter": table(1), "MHVA, 2 x 2 cells": table(1)}
    axes = show.against_parameters(families, "top-1").axes[0]
    (shared,), (cells,) = (bars.lines[0].get_xdata() for bars in axes.containers)
    assert cells < 1000 < shared and shared / cells < 1.1


def test_colours_follow_the_idea():
    assert show.variant_colour("MHVA, not anchored") == show.variant_colour("+ cells") == MHVA
    assert show.variant_colour("PT") == PREFIX
    assert show.variant_colour("AdaptFormer + PT") == show.variant_colour("linear probe")


def test_tables_in_words_sign_differences_only():
    shown = show.in_words(table(1))
    assert list(shown.iloc[0]) == ["shared, r = C/1", "1,000", "41.0 ± 1.0", "+1.00 ± 0.50", 5]


@pytest.mark.slow
def test_the_equation_map_is_true_and_notices_when_it_is_not(monkeypatch):
    assert len(show.equation_map()) == len(show.EQUATIONS)
    monkeypatch.setattr(show, "EQUATIONS", (("6", "cells", "plugins/mhva.py", "Gone", "test_eq_6", "02"),))
    with pytest.raises(LookupError, match="no Gone"):
        show.equation_map()


def test_every_planned_variant_has_a_colour_and_figure_2_draws():
    assert all(show.variant_colour(v.label) for group in plans.STUDIES["02"].values() for v in group)
    assert show.figure_2().axes
    assert "python" in show.stamp()
