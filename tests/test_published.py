"""Published sizes against the recorded counts, and the records against the code that wrote them."""

import pytest

from cm3t import published
from cm3t.cost import SIZED, by_stage, cost_of

COSTS = published.recorded()


@pytest.mark.parametrize("figure", published.NETWORKS, ids=lambda figure: figure.what)
def test_known_networks_have_their_published_sizes_or_a_reason(figure):
    assert published.agrees(figure, COSTS) or figure.note


@pytest.mark.parametrize("figure", published.PAPER, ids=lambda figure: f"{figure.what} {figure.unit}")
def test_where_the_papers_budget_and_ours_part_there_is_a_reason(figure):
    assert published.agrees(figure, COSTS) or figure.note


def test_counts_that_were_verified_by_hand():
    exact = {
        ("video_swin_b", "frozen", "reference"): 88_048_984,
        ("vivit_b", "frozen", "reference"): 88_954_000,
        ("clip_b", "frozen", "reference"): 86_193_152 + 8 * 768,  # and positions of 8 frames
        ("vit_b", "adaptformer", "trainable"): 1_189_632,
        ("video_swin_b", "adaptformer", "trainable"): 1_553_664,
        ("video_swin_b", "mhva+pt", "trainable"): 11_250_968,
    }
    for (name, label, field), count in exact.items():
        assert COSTS[name, label][field] == count, (name, label, field)
    assert COSTS["clip_b", "frozen"]["macs"] / 8e9 == pytest.approx(17.563, abs=5e-4)
    assert COSTS["video_swin_b", "frozen"]["macs"] / 1e9 == pytest.approx(281.33, abs=5e-3)


@pytest.mark.slow
def test_the_record_is_what_the_code_counts():
    backbone, clip = SIZED["vit_b"]
    cost = cost_of(backbone, method="mhva+pt", clip=clip)
    row = COSTS["vit_b", "mhva+pt"]
    assert (cost.params, cost.trainable, cost.macs) == (row["params"], row["trainable"], row["macs"])


@pytest.mark.slow
def test_parameters_by_stage_add_up_to_the_recorded_ones():
    rows = by_stage("video_swin_b", method="mhva+pt+caa", side={"audio": (32, 1024), "flow": (32, 1024)})
    assert [(row["width"], row["blocks"]) for row in rows] == [(128, 2), (256, 2), (512, 18), (1024, 2)]
    trained = sum(row[part] for row in rows for part in ("MHVA", "PT", "audio", "flow", "fusion"))
    assert trained == COSTS["video_swin_b", "mhva+pt+caa, 2"]["trainable"]
    assert rows[2]["MHVA"] == 18 * 526_849 and rows[3]["PT"] == 2 * 32_768
    assert sum(row["backbone"] for row in rows) < COSTS["video_swin_b", "frozen"]["params"]


def test_a_plain_transformer_has_one_stage():
    (row,) = by_stage("vivit_mini", method="mhva")
    assert row["blocks"] == 5 and row["PT"] == 0 and "fusion" not in row
