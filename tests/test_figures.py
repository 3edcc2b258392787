"""Figures tell in words what they show, and a notebook stores that beside the picture."""

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter

from cm3t import notebooks
from cm3t.pages import figures, show


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_chart_is_described_by_its_words_and_numbers():
    said = figures.describe(show.shares_plot({"mhva": 0.123, "full": 1.0}, title="Video Swin-B"))
    for words in ("Video Swin-B", "Across: trained parameters (% of the backbone", "MHVA, Full fine-tuning", "12.3 %"):
        assert words in said, said
    clips = np.zeros((2, 3, 4, 4, 3), dtype=np.uint8)
    said = figures.describe(show.clip_strip(clips, ["open · door", "wash · pan"], note="synthetic"))
    assert said == "open · door. wash · pan. Pictures: 6. synthetic"
    assert figures.describe(show.figure_2()).startswith("One frozen block, left to right: norm")


def test_a_notebook_gets_the_description_as_alternative_text_and_the_same_text_as_ever():
    drawn = show.shares_plot({"mhva": 0.123})
    data, metadata = DisplayFormatter().format(drawn)
    assert metadata["image/png"]["alt"] == figures.describe(drawn)
    assert data["text/plain"] == repr(drawn) == "<Figure size 640x114 with 1 Axes>"


def test_figures_of_others_are_left_alone():
    other = plt.figure()
    with figures.house():
        own = plt.figure()
    assert hasattr(own, "_repr_mimebundle_") and not hasattr(other, "_repr_mimebundle_")
    assert plt.gcf() is own


def test_cleaning_a_notebook_keeps_alternative_texts_and_nothing_else():
    metadata = {"image/png": {"alt": "a chart", "needs_background": "light"}, "needs": "nothing"}
    output = nbformat.v4.new_output("display_data", {"image/png": "AAAA"}, metadata=metadata)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("pass", outputs=[output])])
    assert notebooks.clean(book).cells[0].outputs[0].metadata == {"image/png": {"alt": "a chart"}}
