"""Published sizes against the recorded counts, and the records against the code that wrote them."""

import json

import pytest

from cm3t import published
from cm3t.config import ROOT
from cm3t.cost import SIZED, cost_of

RECORD = json.loads((ROOT / "results" / "records" / "cost" / "budget.json").read_text())
COSTS = {(row["name"], row["label"]): row for row in RECORD["rows"]}


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


def test_the_record_is_what_the_code_counts():
    backbone, clip = SIZED["vit_b"]
    cost = cost_of(backbone, method="mhva+pt", clip=clip)
    row = COSTS["vit_b", "mhva+pt"]
    assert (cost.params, cost.trainable, cost.macs) == (row["params"], row["trainable"], row["macs"])
