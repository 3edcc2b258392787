"""Published sizes against the recorded counts, digit by digit, and the records against the code that wrote them."""

import pytest

from cm3t import closed_forms, published
from cm3t.cost import BRIEF, JOINED, METHODS, SIDE, SIZED, budget, by_stage, cost_of

COSTS = published.recorded()
FIGURES = (*published.NETWORKS, *published.METHODS, *published.PAPER)
EXACT = {  # what -> our count in parameters, in GMACs as printed, or in %, and whether it agrees with the published one
    "Video Swin-T": (28_158_070, True),
    "Video Swin-S": (49_816_678, True),
    "Video Swin-B": (88_048_984, True),
    "Video Swin-T, 32 x 224 x 224": ("87.76", True),
    "Video Swin-S, 32 x 224 x 224": ("165.68", True),
    "Video Swin-B, 32 x 224 x 224": ("281.33", True),
    "Video Swin-B, window 16": ("320.36", True),
    "ViViT-B 16 x 2": (88_954_000, True),
    "ViViT-B 16 x 2, 32 x 224 x 224": ("451.52", False),
    "MTV-B, three views": (304_270_864, False),
    "MTV-B, three views, 32 x 224 x 224": ("374.60", False),
    "CLIP ViT-B/16, 8 frames, 3 views": ("421.51", True),
    "AdaptFormer-64 on ViT-B": (1_189_632, True),
    "AdaptFormer-64 on Video Swin-B": (1_553_664, True),
    "CLIP ViT-B/16 with its projection": (86_193_152, True),
    "CLIP ViT-B/16, one frame": ("17.56", None),
    "AdaptFormer-64 on ViT-B, its own paper": (1_266_532, True),
    "AdaptFormer-64 on ViT-B, SSv2": (1_323_438, None),
    "ST-Adapter, 12 x 384": (7_110_144, True),
    "ST-Adapter, 12 x 384, with classifier": (7_417_744, False),
    "ST-Adapter, 24 x 384": (14_220_288, None),
    "ST-Adapter, 8 frames, 3 views": ("454.87", True),
    "ST-Adapter, 16 frames, 3 views": ("909.75", True),
    "ST-Adapter, 32 frames, 3 views": ("1819.49", True),
    "AIM, adapters": (10_651_392, True),
    "AIM, all that trains on K400": (10_966_672, True),
    "AIM, 8 frames, 1 view": ("202.09", True),
    "AIM, 8 frames, 3 views": ("606.26", True),
    "AIM, 16 frames, 3 views": ("1213.92", True),
    "AIM, 32 frames, 3 views": ("2433.42", False),
    "DualPath, 4 adapters of 128 a block": (9_480_192, True),
    "DualPath, as released": (17_752_320, False),
    "MHVA + PT": ("12.778 %", True),
    "CM3T, EK-100 (two modalities)": ("28.872 %", False),
    "CM3T, UDIVA (two modalities)": ("28.872 %", True),
    "CM3T, MPIIGI (one modality)": ("22.322 %", False),
    "full fine-tuning + CAA, EK-100": ("116.088 %", False),
    "full fine-tuning + CAA, UDIVA": ("116.088 %", True),
    "full fine-tuning + CAA, MPIIGI": ("109.540 %", False),
    "one more modality": (5_767_768, True),
    "one more modality, by MMCA": (264_448, None),
    "AdaptFormer + PT, Video Swin-B": ("291.34", False),
    "MHVA + PT, Video Swin-B": ("294.83", False),
    "CM3T, Video Swin-B": ("320.85", False),
    "MHVA + PT, CLIP-B, 8 frames": ("146.77", False),
    "MHVA + PT, CLIP-B, 16 frames": ("293.32", False),
    "MHVA + PT, CLIP-B, 24 frames": ("439.87", False),
    "MHVA + PT, CLIP-B, 32 frames": ("586.41", False),
    "CM3T, CLIP-B, 32 frames": ("642.34", False),
    "ST-Adapter, ViT-B and CLIP-B": ("909.75", True),
    "DualPath, ViT-B and CLIP-B": (None, None),
    "M&M Mix": (None, None),
}


def test_every_figure_has_its_exact_count_here():
    assert [figure.what for figure in FIGURES if figure.what not in EXACT] == []
    assert len({figure.what for figure in FIGURES}) == len(FIGURES) == len(EXACT)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.what)
def test_a_figure_is_counted_exactly_and_parts_from_the_published_one_only_with_a_reason(figure):
    count, agreed = EXACT[figure.what]
    ours = published.counted(figure, COSTS)
    if isinstance(count, str):
        ours = f"{100 * ours:.3f} %" if figure.unit == "%" else f"{ours / 1e9:.2f}"
    assert ours == count
    assert published.agrees(figure, COSTS) == bool(agreed)
    assert (agreed is None) == (None in (count, figure.published))
    assert agreed or figure.note


def test_agreement_can_fail():
    """A twentieth more, and none of the known networks would agree."""
    more = {key: row | {field: 1.05 * row[field] for field in ("macs", "reference")} for key, row in COSTS.items()}
    sizes = [figure for figure in published.NETWORKS if figure.field != "trainable" and published.agrees(figure, COSTS)]
    assert len(sizes) > 8 and not any(published.agrees(figure, more) for figure in sizes)


def test_closed_forms_count_a_frame_and_adapters_as_the_code_does():
    """What the formulas and the built networks share: the image network, and AdaptFormer."""
    frozen = COSTS["vit_b", "frozen"]["macs"]
    assert closed_forms.frame_macs() * 8 == frozen
    assert closed_forms.adaptformer() == COSTS["vit_b", "adaptformer"]["trainable"]


def test_longer_prefixes_explain_the_rest_of_the_paper_s_589():
    """586.4 with the default 16; every prefix token is projected once and attended to by all 197 tokens of a frame."""
    more = 12 * 16 * (2 * 768**2 + 32 * 197 * 2 * 768)
    assert f"{(COSTS['clip_b, 32 frames', 'mhva+pt']['macs'] + more) / 1e9:.1f}" == "588.5"


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZED)
def test_the_records_of_frozen_networks_are_what_the_code_counts(name):
    backbone, clip = SIZED[name]
    cost, row = cost_of(backbone, clip=clip), COSTS[name, "frozen"]
    assert (cost.params, cost.reference, cost.macs) == (row["params"], row["reference"], row["macs"])
    assert list(cost.clip) == row["clip"] and row["trainable"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("label", ["mhva+pt", "mhva+pt+mmca, 2"])
def test_the_records_of_methods_are_what_the_code_counts(label):
    backbone, clip = SIZED["vit_b"]
    method, _, modalities = label.partition(", ")
    side = dict(list(SIDE.items())[: int(modalities or 0)])
    cost, row = cost_of(backbone, method=method, clip=clip, side=side), COSTS["vit_b", label]
    assert (cost.params, cost.trainable, cost.macs) == (row["params"], row["trainable"], row["macs"])


def test_the_record_has_every_row_of_the_budget(monkeypatch):
    asked = []
    monkeypatch.setattr("cm3t.cost.asdict", lambda cost: {})
    monkeypatch.setattr("cm3t.cost.cost_of", lambda *given, **more: asked.append(given))
    assert {(row["name"], row["label"]) for row in budget()} == set(COSTS)
    assert len(asked) == (len(SIZED) - len(BRIEF)) * (len(METHODS) + 2 * len(JOINED)) + 2 * len(BRIEF)


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
