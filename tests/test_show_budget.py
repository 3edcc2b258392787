"""The budget's tables say what the records say, and its pictures draw them."""

import json

import matplotlib.pyplot as plt
import pytest

from cm3t import published
from cm3t.pages import show_budget
from cm3t.report import markdown

COSTS = published.recorded()


def test_every_network_and_method_of_the_pictures_is_recorded():
    assert {(name, label) for name in show_budget.NETWORKS for label in show_budget.LABELS} <= set(COSTS)


def test_the_table_of_methods_prints_the_papers_shares():
    table = show_budget.methods_table(COSTS, "video_swin_b").set_index("method")
    assert table.loc["MHVA + PT", "share (%)"] == "12.78" and table.loc["MHVA + PT", "GMACs"] == "294.8"
    assert table.loc["CM3T, two modalities", "share (%)"] == "28.87"
    assert table.loc["full fine-tuning", "added (%)"] == "0.0"


def test_published_and_counted_have_columns_of_their_own_and_every_no_has_a_reason():
    for known in (published.NETWORKS, published.METHODS, published.PAPER):
        table = show_budget.published_table(known, COSTS)
        assert list(table.columns[2:4]) == ["published", "counted here"] and len(table) == len(known)
        assert table.loc[table["agree"] == "no", "why they part, or what to know"].str.len().gt(0).all()
    assert "| MHVA + PT | % | 12.8 | 12.8 | yes |" in markdown(table)


def test_a_frozen_network_says_which_clip_is_counted():
    table = show_budget.networks_table(COSTS)
    assert list(table[table["network"] == "clip_b"]["clip"]) == [f"{frames} x 224 x 224" for frames in (8, 16, 24, 32)]


def test_what_cannot_be_compared_is_neither_yes_nor_no():
    table = show_budget.published_table((*published.METHODS, *published.PAPER), COSTS).set_index("what")
    assert list(table.loc["M&M Mix", ["counted here", "agree"]]) == ["not derived", ""]
    assert list(table.loc["ST-Adapter, 24 x 384", ["published", "counted here", "agree"]]) == [
        "none found",
        "14.22",
        "",
    ]


def test_counters_stand_beside_each_other_with_a_blank_where_one_is_blind():
    two = 2_000_000
    found = {"one": {"linear": two, "norm": 10_000}, "other": {"linear": two}, "whole": {"all": two}}
    rows = show_budget.counters_table(found).to_numpy().tolist()
    assert rows == [["linear", "2.00", "2.00", ""], ["norm", "0.01", "", ""], ["sum", "2.01", "2.00", "2.00"]]


def test_all_networks_and_methods_stand_in_a_table_of_shares_and_one_of_arithmetic():
    for head, column, wanted in (("share (%)", "share", "12.8"), ("GMACs", "macs", "294.8")):
        table = show_budget.everywhere_table(COSTS, column).set_index(head)
        assert {"video_swin_b_ssv2", "mtv_b", "clip_b"} < set(table.columns) and "vit_b" not in table
        assert table.loc["MHVA + PT", "video_swin_b"] == wanted
        assert "sequential (MMCA), two" in table.index and table.notna().all().all()


def test_the_network_that_has_no_column_costs_what_its_neighbour_does():
    for label in ("mhva+pt", "mhva+pt+caa, 2"):
        ours, other = COSTS["vit_b", label], COSTS["clip_b", label]
        assert ours["macs"] == other["macs"] and ours["trainable"] == other["trainable"]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_shares_are_drawn_on_a_log_axis_a_mark_a_network():
    axes = show_budget.shares(COSTS).axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlabel()
    assert len(axes.lines) == len(show_budget.NETWORKS) * len(show_budget.LABELS) + 1
    words = [text.get_text() for text in axes.texts]
    assert "12.8 %" in words and "0.44 %" in words


def test_stacked_arithmetic_ends_where_the_record_ends():
    axes = show_budget.added_macs(COSTS).axes[0]
    ends = [patch.get_x() + patch.get_width() for patch in axes.patches]
    frozen, both = (COSTS["video_swin_b", label]["macs"] for label in ("frozen", "mhva+pt+caa, 2"))
    assert any(end == pytest.approx(100 * (both / frozen - 1)) for end in ends)
    assert "+39.5 on 281.3 GMACs" in [text.get_text() for text in axes.texts]


def test_stages_are_drawn_beside_each_other():
    rows = [
        {"width": 8, "blocks": 2, "backbone": 100, "MHVA": 5, "PT": 1},
        {"width": 16, "blocks": 2, "backbone": 400, "MHVA": 9, "PT": 2},
    ]
    left, right = show_budget.stages(rows).axes
    assert len(left.patches) == 2 and len(right.patches) == 4
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["MHVA", "PT"]


def test_speed_is_told_by_ratio_with_its_aim_and_machine(tmp_path):
    assert show_budget.speed_table(tmp_path).empty
    common = {"against": "torchvision", "ratio": 1.5, "low": 1.4, "high": 1.6, "reference": 3.0, "n": 7, "batch": 2}
    ratios = [
        common | {"what": "forward", "measure": "time", "ours": 2.0, "target": 1.2, "dtype": "float32"},
        common | {"what": "step", "measure": "peak memory", "ours": 2048.0, "target": None, "dtype": "float32"},
    ]
    about = {"device": "cpu", "threads": 2, "ratios": ratios, "meta_info": {"hardware": {"cpu": "Some CPU"}}}
    (tmp_path / "speed-cpu-models.json").write_text(json.dumps(about))
    rows = show_budget.speed_table(tmp_path).to_dict("records")
    assert [row["ours"] for row in rows] == ["2.00 s", "2.15 GB"] and [row["aim"] for row in rows] == ["1.20", ""]
    assert rows[0]["lowest to highest"] == "1.40 to 1.60 (n=7)" and rows[0]["on"] == "Some CPU, 2 threads, float32"


def test_what_was_not_measured_is_told_with_its_reason(tmp_path):
    assert show_budget.speed_left_out(tmp_path) == ""
    for part, reasons in (("compile", {"all": "no compiler"}), ("models", {"batch 4": "no room"}), ("attention", {})):
        (tmp_path / f"speed-cpu-{part}.json").write_text(json.dumps({"part": part, "left_out": reasons}))
    assert show_budget.speed_left_out(tmp_path) == "Left out: compile: no compiler; models, batch 4: no room."
