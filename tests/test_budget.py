"""Parameters against the paper's figures, and the figures that do not agree with one another, as they are."""

from functools import cache

import pytest
import torch

import cm3t
from cm3t.methods import PRESETS

SIDES = ("audio", "flow")
MHVA_PT, FUSION = 10_865_944 + 385_024, 2_635_392


@cache
def summaries(method: str, *, width: int = 1024, **overrides) -> list:
    """Summaries with no, one and two side modalities whose tokens are `width` wide, on Video Swin-B."""
    with torch.device("meta"):
        model = cm3t.create("video_swin_b", method=method, heads={"verb": 97, "noun": 300}, **overrides)
    found = [model.summary()]
    for name in SIDES:
        model.add_modality(name, width)
        found.append(model.summary())
    return found


@pytest.mark.parametrize(
    "preset, one_modality, shares",
    [
        ("default", 5_767_768, ("12.778", "22.322", "28.872")),
        pytest.param("eight", 5_770_776, ("12.798", "22.346", "28.900"), marks=pytest.mark.slow),
        pytest.param("decoupled", 5_764_760, ("12.778", "22.318", "28.866"), marks=pytest.mark.slow),
    ],
)
def test_three_presets_print_the_papers_percentages(preset, one_modality, shares):
    found = summaries("mhva+pt+caa", preset=preset)
    assert [f"{100 * summary.share:.3f}" for summary in found] == list(shares)
    assert [f"{100 * summary.share:.1f}" for summary in found] == ["12.8", "22.3", "28.9"]
    parts = found[2].parts
    assert parts["cross-attention (audio)"] == parts["cross-attention (flow)"] == one_modality
    assert f"{one_modality / 1e6:.1f}" == "5.8" and parts["fusion"] == FUSION
    assert found[0].heads == found[2].heads == 397 * 1025


@pytest.mark.slow
def test_full_fine_tuning_with_cross_attention_is_a_model_that_can_be_built():
    none, one, two = summaries("full+caa")
    assert [f"{100 * s.share:.3f}" for s in (none, one, two)] == ["100.000", "109.540", "116.088"]
    assert [f"{100 * s.share:.1f}" for s in (one, two)] == ["109.5", "116.1"]
    assert one.parts["cross-attention (audio)"] == 5_764_760


@pytest.mark.slow
def test_the_growth_with_each_modality_is_the_adapters_and_almost_none_with_sequential_attention():
    caa, turn = (summaries(f"mhva+pt+{word}") for word in ("caa", "mmca"))
    assert caa[1].trainable - caa[0].trainable == 5_767_768 + FUSION
    assert caa[2].trainable - caa[1].trainable == 5_767_768
    assert turn[2].trainable - turn[1].trainable == 2 * 1024 + 1024 * 256 + 256
    assert turn[1].trainable - turn[0].trainable < 5_767_768


@pytest.mark.slow
def test_the_papers_percentages_contradict_its_datasets_and_we_keep_ours():
    """EPIC has two side modalities (9.5 % published), MPIIGI one (16.1 %): per-modality costs give the opposite."""
    none, one, two = (100 * summary.share for summary in summaries("mhva+pt+caa"))
    assert f"{one - none:.1f}" == "9.5" and f"{two - none:.1f}" == "16.1"


@pytest.mark.slow
@pytest.mark.parametrize("width, millions", [(128, "3.03"), (768, "4.99")])
def test_what_a_modality_costs_depends_on_the_width_of_its_tokens(width, millions):
    one = summaries("mhva+pt+caa", width=width)[1].parts["cross-attention (audio)"]
    assert f"{one / 1e6:.2f}" == millions


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides, one_modality, fusion",
    [
        ({"caa_join": "add"}, 5_767_768, None),
        ({"caa_source": "generic"}, 5_767_768 + 1_747_904, FUSION),  # its own W_down: sum of C^2 / 4 + C / 4
        ({"caa_stages": (4,)}, 2 * 659_201, 2 * 394_752),
    ],
)
def test_what_the_switches_cost(overrides, one_modality, fusion):
    parts = summaries("mhva+pt+caa", **overrides)[1].parts
    assert parts["cross-attention (audio)"] == one_modality and parts.get("fusion") == fusion


@pytest.mark.slow
def test_the_summary_prints_a_line_a_part_encoders_apart():
    with torch.device("meta"):
        model = cm3t.create("video_swin_b", method="mhva+pt+caa", heads={"verb": 97})
    model.add_modality("audio", 128, length=400, encoder="transformer", embed=1024)
    text = str(model.summary())
    lines = [line.split("  ")[1] for line in text.splitlines()[1:]]
    assert lines == [
        "MHVA", "prefix tuning", "cross-attention (audio)", "side encoder (audio)", "fusion",
        "trained, without heads", "heads",
    ]  # fmt: skip
    assert "5,767,768    6.6 %" in text


def test_the_default_preset_is_the_default():
    assert set(PRESETS) == {"default", "eight", "decoupled"} and PRESETS["default"] == {}
