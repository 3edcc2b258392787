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
    "AdaptFormer-64 on ViT-B, its own paper": (1_266_532, False),
    "AdaptFormer-64 on ViT-B, SSv2": (1_323_438, None),
    "ST-Adapter, 12 x 384": (7_110_144, False),
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
    "DualPath, 4 adapters of 128 a block": (9_480_192, False),
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


def test_agreement_is_half_a_percent_or_the_digits_that_are_printed():
    """A number printed to the million says no more than that, and no row has a looser rule of its own."""
    assert all(figure.off <= 0.005 for figure in FIGURES)
    for count, printed, agree in (
        (10_500_001, 11, True), (10_499_999, 11, False), (9_480_192, 10, False), (28_050_000, 28.2, False),
        (28_070_000, 28.2, True), (1_266_532, 1.26, False), (1_264_999, 1.26, True),
    ):  # fmt: skip
        figure = published.Figure("it", printed, "M parameters", "", ("net", "frozen"), "params")
        assert published.agrees(figure, {("net", "frozen"): {"params": count}}) == agree


def note(what):
    return next(figure.note for figure in FIGURES if figure.what == what)


@pytest.mark.parametrize("frames, giga", [(8, "147.5"), (16, "294.5"), (24, "441.5"), (32, "588.5")])
def test_longer_prefixes_explain_the_rest_of_the_paper_s_589(frames, giga):
    """586.4 with the default 16; every prefix token is projected once and attended to by all 197 tokens of a frame."""
    more = 12 * 16 * (2 * 768**2 + frames * 197 * 2 * 768)
    row = "clip_b" if frames == 8 else f"clip_b, {frames} frames"
    assert f"{(COSTS[row, 'mhva+pt']['macs'] + more) / 1e9:.1f}" == giga
    assert giga in note(f"MHVA + PT, CLIP-B, {frames} frames")


STAGES = ((16 * 56 * 56, 32, 2), (16 * 28 * 28, 64, 2), (16 * 14 * 14, 128, 18), (16 * 7 * 7, 256, 2))  # of Swin-B


@pytest.mark.parametrize(
    "row, stages, longer, giga",
    [
        ("video_swin_b", STAGES, 0, "322.1"),
        ("clip_b, 32 frames", [(32 * 197, 192, 12)], 12 * 16 * (2 * 768**2 + 32 * 197 * 2 * 768), "647.2"),
    ],
)
def test_where_the_fusions_value_is_applied_explains_what_else_could_be_counted(row, stages, longer, giga):
    """Applied to each of two modalities, W_v would be N x a x a a block once more than applied to their mixture."""
    more = sum(tokens * inner**2 * blocks for tokens, inner, blocks in stages) + longer
    assert f"{(COSTS[row, 'mhva+pt+caa, 2']['macs'] + more) / 1e9:.1f}" == giga
    what = "CM3T, Video Swin-B" if row == "video_swin_b" else "CM3T, CLIP-B, 32 frames"
    assert note(what).endswith(f"it is {giga}")


def test_no_frames_views_and_unit_give_the_papers_three_rows_of_swin():
    """The frozen network alone, as often as AdaptFormer + PT leaves room for, and what ours would be then."""
    rows = [COSTS["video_swin_b", label]["macs"] / 1e9 for label in ("frozen", "mhva+pt", "mhva+pt+caa, 2")]
    most = 357 / rows[0]
    assert f"{most:.2f}" == "1.27" in note("AdaptFormer + PT, Video Swin-B")
    assert [f"{most * row:.0f}" for row in rows[1:]] == ["374", "407"]
    assert "374" in note("MHVA + PT, Video Swin-B") and "407" in note("CM3T, Video Swin-B")
    assert f"{616 - rows[0]:.0f}" == "335" and f"{rows[2] - rows[0]:.1f}" == "39.5"
    assert "adds 335" in note("CM3T, Video Swin-B") and "ours 39.5" in note("CM3T, Video Swin-B")
    clip = [COSTS["clip_b, 32 frames", label]["macs"] / 1e9 for label in ("mhva+pt", "mhva+pt+caa, 2")]
    assert f"add {754 - 589}" in note("CM3T, CLIP-B, 32 frames")
    assert f"ours {clip[1] - clip[0]:.0f}." in note("CM3T, CLIP-B, 32 frames")


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
