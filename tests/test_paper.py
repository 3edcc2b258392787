"""The paper's tables agree with its own prose, and each claim says where it stands and what tests it."""

import math
import re

import pytest

from cm3t import paper, published
from cm3t import study as plan
from cm3t.claims import UNITS
from cm3t.config import resolve
from cm3t.pages import ledger
from cm3t.pages.ledger import judge
from cm3t.paper import CLAIMS, TABLE_1, TABLE_4, TABLE_6, claim
from cm3t.plans import STUDIES
from cm3t.records import results, save_record
from cm3t.stats import Interval


class Everything(dict):
    """A sweep that has tuned whatever is asked for."""

    def __contains__(self, key):
        return True

    def __missing__(self, key):
        return {"lr": 1e-3}


@pytest.fixture(autouse=True)
def swept(monkeypatch):
    monkeypatch.setattr(plan, "released", Everything)


def test_the_tables_agree_with_the_sentences_about_them():
    top1 = {(method, backbone): value for _, method, backbone, value, *_ in TABLE_1}
    mhva, adaptformer = top1["MHVA + PT", "Video Swin-B"], top1["AdaptFormer + PT", "Video Swin-B"]
    assert mhva - adaptformer == pytest.approx(claim("mhva-beats-adaptformer").size)
    cm3t = top1["CM3T", "Video Swin-B"]
    assert top1["M&M Mix", "ViViT"] - cm3t == pytest.approx(claim("close-to-mm-mix").size)
    assert cm3t - mhva == pytest.approx(paper.PROSE["CM3T's gain from flow and audio (points)"][0])
    assert top1["CM3T", "CLIP-B"] - top1["M&M Mix", "ViViT"] == pytest.approx(claim("state-of-the-art-with-clip").size)
    table4 = {(data, given, method): value for data, given, method, _, value, *_ in TABLE_4}
    assert table4["EK-100", "RGB", "MHVA + PT"] == mhva and table4["EK-100", "multimodal", "CM3T"] == cm3t
    assert table4["EK-100", "RGB", "Full finetuning"] - mhva == pytest.approx(claim("close-to-full-finetuning").size)
    assert TABLE_6[1][2] - TABLE_6[0][2] == pytest.approx(claim("model-agnostic").size)
    assert TABLE_6[2][2] - TABLE_6[1][2] == pytest.approx(claim("modalities-help-on-vivit").size)


def test_epochs_and_shares_stand_in_both_tables():
    epochs = {method: epochs for _, method, backbone, _, epochs, _ in TABLE_1 if backbone == "Video Swin-B"}
    ek100 = {row[2]: row for row in TABLE_4 if row[0] == "EK-100"}
    assert ek100["MHVA + PT"][5] == epochs["MHVA + PT"] and ek100["CM3T"][5] == epochs["CM3T"]
    assert {row[6] for row in TABLE_4} == {12.8, 22.3, 28.9, 100.0, 109.5, 116.1}
    assert ek100["Full finetuning"][5] - ek100["MHVA + PT"][5] == claim("converges-in-fewer-epochs").size


def test_missing_tables_stay_missing():
    assert paper.MISSING_TABLES == (2, 3, 5)
    assert not any(hasattr(paper, f"TABLE_{number}") for number in paper.MISSING_TABLES)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_a_claim_is_complete(claim):
    assert claim.says and claim.where and claim.direction in (-1, 0, 1) and claim.notebook.isdigit()
    if claim.ours is None:
        assert claim.why_not and claim.against is None
    else:
        ours, against = (
            resolve(**{k: v for k, v in side.items() if k != "init"}) for side in (claim.ours, claim.against)
        )
        assert ours != against or "init" in claim.ours
        assert claim.direction or claim.margin, "an equality needs a margin"


def test_ids_are_unique_and_an_unknown_one_lists_them():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    with pytest.raises(KeyError, match="mhva-beats-adaptformer"):
        claim("mhva")


@pytest.mark.parametrize(
    "ours, seeds, status",
    [
        (40.0, 5, ledger.REPRODUCED),
        (40.0, 2, ledger.UNDECIDED),
        (30.2, 5, ledger.UNDECIDED),
        (29.0, 5, ledger.UNDECIDED),
        (20.0, 5, ledger.CONTRADICTED),
    ],
)
def test_a_status_follows_from_the_paired_interval(study, make_record, ours, seeds, status):
    from cm3t.config import records_dir

    study("full", [])
    for seed in range(seeds):
        wobble = (-1) ** seed * 2.0
        for method, score in (("mhva+pt", ours + wobble), ("adaptformer+pt", 30.0 + seed / 10)):
            save_record(make_record("full", method=method, seed=seed, score=score), records_dir("full"))
    verdict = judge(claim("mhva-beats-adaptformer"), results("full"), "full")
    assert verdict.status == status and verdict.difference.n == seeds


def test_a_claim_must_hold_at_both_of_two_rates_that_are_as_good(study, monkeypatch):
    tuned = {"rooms-kitchen/video_swin_mini/adaptformer+pt": {"lr": 1e-2, "tied": [3e-2]}}
    monkeypatch.setattr(ledger, "released", lambda: tuned)
    study("full", [("mhva+pt", 50.0), ("adaptformer+pt", 30.0)])
    study("full", [("adaptformer+pt", 31.0)], lr=3e-2)
    assert judge(claim("mhva-beats-adaptformer"), results("full"), "full").status == ledger.REPRODUCED
    study("full", [("adaptformer+pt", 50.0)], lr=3e-2)
    found = judge(claim("mhva-beats-adaptformer"), results("full"), "full")
    assert found.status == ledger.UNDECIDED and "adaptformer+pt at 0.03, as good on tune: 0.00" in found.note


def test_a_gain_that_rests_on_fixed_cameras(study):
    equal = paper.EQUAL | {"study": "02"}
    equal.pop("method")
    for anchored, gain in ((True, 6.0), (False, 1.0)):
        study("full", [("mhva", 30.0 + gain)], anchored=anchored)
        study("full", [("adaptformer+scale+norm", 30.0)], anchored=anchored, **equal)
    verdict = judge(claim("cells-need-fixed-cameras"), results("full"), "full")
    assert verdict.status == ledger.REPRODUCED and verdict.difference.mean == pytest.approx(5.0)


@pytest.mark.parametrize("notebook", [name for name in STUDIES if name != "06"])  # 06's weights may be still to make
def test_claims_of_a_notebook_are_tested_by_the_runs_it_plans(notebook):
    asked = {id for config in plan.configs(notebook, "full") for id in config.claims}
    assert {claim.id for claim in CLAIMS if claim.notebook == notebook and claim.ours} <= asked


def test_slightly_below_is_not_far_below(study):
    study("full", [("full", 50.0), ("mhva+pt", 48.0)])
    assert judge(claim("close-to-full-finetuning"), results("full"), "full").status == ledger.REPRODUCED
    study("full", [("mhva+pt", 20.0)])
    assert judge(claim("close-to-full-finetuning"), results("full"), "full").status == ledger.CONTRADICTED


def test_a_claim_is_judged_by_the_largest_profile_that_ran_both_its_sides(study):
    study("quick", [("full", 50.0), ("mhva+pt", 48.0), ("mhva", 47.0)])
    study("full", [("full", 50.0), ("mhva+pt", 48.0)])
    found = {each.claim.id: each for each in ledger.verdicts()}
    assert found["close-to-full-finetuning"].profile == "full"
    assert found["prefix-helps-mhva"].profile == "quick" and found["prefix-helps-mhva"].status == ledger.UNDECIDED
    assert found["caa-beats-mmca"].status == ledger.NOT_RUN
    table = ledger.ledger().set_index("claim")["ours (synthetic), paired"]
    assert table[claim("prefix-helps-mhva").says].endswith("points (n=2, quick)")
    named = {each.claim.id: each for each in ledger.verdicts("full")}
    assert named["prefix-helps-mhva"].status == ledger.NOT_RUN


def test_a_side_no_better_than_a_constant_decides_nothing(study, make_record, tmp_path):
    place = tmp_path / "results" / "records" / "card"
    save_record(make_record("full", score=45.0), place).rename(place / "majority-s0.json")
    study("full", [("full", 44.0), ("mhva+pt", 47.0)])
    found = judge(claim("close-to-full-finetuning"), results("full"), "full")
    assert found.status == ledger.UNDECIDED
    assert found.note.startswith("no better than a constant answer: full fine-tuning;")


def test_a_further_opponent_no_better_than_a_constant_is_named(study, make_record, tmp_path):
    place = tmp_path / "results" / "records" / "card"
    save_record(make_record("full", score=45.0), place).rename(place / "majority-s0.json")
    study("full", [("mhva+pt", 50.0)], stretch=2)
    study("full", [("mhva+pt+caa", 60.0)], side=("audio", "flow"))
    study("full", [("mhva+pt+caa", 44.0)], side=("audio", "flow"), exchanged=True)
    found = judge(claim("modalities-help"), results("full"), "full")
    assert found.status == ledger.REPRODUCED
    assert found.note.startswith("no better than a constant answer: CM3T, always another clip's;")


def test_what_a_claim_says_of_our_counts_is_what_was_counted():
    known = {figure.what: published.counted(figure, published.recorded()) for figure in published.PAPER}
    rows = published.recorded()
    plain, ours = (rows["video_swin_b", method]["trainable"] for method in ("adaptformer+pt", "mhva+pt"))
    assert f"{ours / plain:.1f} times" in claim("cells-add-few-parameters").why_not
    first = rows["video_swin_b", "mhva+pt+caa, 1"]["trainable"] - ours
    assert (
        first > known["one more modality"]
        and "the first brings the fusion too" in claim("parameters-of-a-modality").why_not
    )


def test_a_claim_says_which_differences_agree_with_it():
    regions = {
        id: claim(id).region for id in ("caa-beats-mmca", "close-to-full-finetuning", "multilabel-close-to-full")
    }
    assert list(regions.values()) == [(0.0, math.inf), (-5.0, 0.0), (-2.0, 2.0)]


def test_a_note_holds_what_weakens_a_claim_and_a_rate_that_was_never_swept_decides_nothing(study, monkeypatch):
    study("full", [("pt", 30.0), ("mhva", 50.0), ("linear", 29.9)])
    found = judge(claim("prefix-alone-is-weak"), results("full"), "full")
    assert found.status == ledger.REPRODUCED and "rate" not in found.note
    pt = {"rooms-kitchen/video_swin_mini/pt": {"lr": 0.1, "due": [0.3]}}
    monkeypatch.setattr(plan, "released", lambda: pt)
    found = judge(claim("prefix-alone-is-weak"), results("full"), "full")
    assert found.status == ledger.UNDECIDED
    assert found.note.startswith("PT against MHVA; over the linear probe: +") and "points (n=5)" in found.note
    assert found.note.endswith("rate of the first side: sweep not finished; rate of the second side: never swept")


def test_a_gain_must_hold_against_every_opponent(study):
    sound = {"side": ("audio", "flow")}
    study("full", [("mhva+pt", 50.0)], stretch=2)
    study("full", [("mhva+pt+caa", 60.0)], **sound)
    found = judge(claim("modalities-help"), results("full"), "full")
    assert found.status == ledger.UNDECIDED and "always has another clip's, as long: not run yet" in found.note
    for score, status in ((50.0, ledger.REPRODUCED), (60.0, ledger.UNDECIDED)):
        study("full", [("mhva+pt+caa", score)], exchanged=True, **sound)
        found = judge(claim("modalities-help"), results("full"), "full")
        assert found.status == status and f"{60 - score:.2f} ± 0.00 points (n=5)" in found.note


def test_differences_have_the_unit_of_their_claim():
    assert plan.verdict(Interval(-0.1214, 0.01, 5), "MSE") == "-0.121 ± 0.010 MSE (n=5): lower"


def test_the_ledger_without_runs_claims_nothing(study):
    study("full", [])
    table = ledger.ledger()
    assert len(table) == len(CLAIMS) and set(table["status"]) <= {ledger.NOT_RUN, ledger.NOT_TESTABLE}
    assert not any("paper" in name and "ours" in name for name in table)


def test_sizes_are_counted_beside_what_the_paper_says():
    counted = {found.claim.id: found for found in ledger.verdicts() if found.claim.counted}
    assert {id: (found.status, round(found.count, 1)) for id, found in counted.items()} == {
        "share-of-mhva-pt": (ledger.AGREES, 12.8),
        "share-of-cm3t": (ledger.DIFFERS, 28.9),
        "share-of-full-with-caa": (ledger.DIFFERS, 116.1),
        "parameters-of-a-modality": (ledger.AGREES, 5.8),
        "mmca-does-not-grow": (ledger.AGREES, 0.3),
    }


@pytest.mark.slow
def test_every_number_of_the_ledger_has_its_unit_and_each_kind_its_column():
    table = ledger.ledger()
    numbers = table[[name for name in table if name.startswith(("paper", "ours", "counted"))]].to_numpy()
    assert numbers.shape == (len(CLAIMS), 3) and not any(ours and count for _, ours, count in numbers)
    for cell in filter(None, numbers.ravel()):
        assert re.sub(r" \(n=\d+, \w+\)$", "", cell).split(" ", 1)[1].endswith(tuple(UNITS.values())), cell
