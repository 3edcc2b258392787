"""Costs: published counts of parameters and multiply-accumulates, and formulas for what the plugins add."""

import json

import pytest

from cm3t.config import records_dir
from cm3t.cost import SIZED, budget, cost_of, fvcore_macs, macs_of, main
from cm3t.model import create


@pytest.mark.parametrize(
    "method, trainable, share, gmacs",
    [
        pytest.param("linear", 0, "0.0", 281.33, marks=pytest.mark.slow),
        pytest.param("adaptformer+pt", 1_553_664 + 385_024, "2.2", 291.34, marks=pytest.mark.slow),
        ("mhva+pt", 10_865_944 + 385_024, "12.8", 294.83),
    ],
)
def test_video_swin_b(method, trainable, share, gmacs):
    cost = cost_of("video_swin_b", method=method, clip=(3, 32, 224, 224))
    assert cost.params == 87_638_984 + trainable and cost.trainable == trainable
    assert cost.reference == 88_048_984 and f"{100 * cost.share:.1f}" == share
    assert cost.denominator == "video_swin_b with its 400-class head"
    assert cost.macs / 1e9 == pytest.approx(gmacs, abs=0.005)


@pytest.mark.slow
def test_cells_cost_parameters_but_no_computation():
    one, four = (cost_of("video_swin_mini", method="mhva", cells=g, bottleneck=16) for g in (1, 2))
    assert one.macs == four.macs and one.trainable < four.trainable


@pytest.mark.slow
def test_macs_are_linear_in_frames_and_adapters_add_two_products_a_token():
    short, long = (cost_of("video_swin_t", clip=(frames, 224, 224)).macs for frames in (16, 32))
    assert long == 2 * short
    extra = cost_of("video_swin_t", method="adaptformer", bottleneck=8, clip=(16, 224, 224)).macs - short
    tokens = [(8 * 56**2, 96, 2), (8 * 28**2, 192, 2), (8 * 14**2, 384, 6), (8 * 7**2, 768, 2)]
    assert extra == sum(2 * n * c * 8 * blocks for n, c, blocks in tokens)


@pytest.mark.slow
def test_full_fine_tuning_is_all_of_it():
    assert cost_of("video_swin_mini", method="full").share == 1


@pytest.mark.slow
def test_command_prints_json(capsys, monkeypatch):
    monkeypatch.setattr("cm3t.cost.METHODS", ("mhva+pt", "full"))
    main(["--backbone", "video_swin_mini", "--json"])
    assert {row["method"] for row in json.loads(capsys.readouterr().out)} == {"mhva+pt", "full"}


def test_the_command_takes_methods_a_clip_and_modalities(capsys):
    words = "--backbone video_swin_mini --clip 4,96,96 --method".split()
    main([*words, "linear", "mhva+caa"])
    plain, bare = capsys.readouterr().out.splitlines()
    assert plain.startswith("video_swin_mini, linear: ") and plain.endswith(" GMACs at 4 x 96 x 96, one clip, one view")
    assert bare.startswith("video_swin_mini, mhva+caa, no modality (side=...): ")
    main([*words, "mhva+caa", "--side", "audio=5,24", "flow=3,16"])
    assert "mhva+caa with audio, flow: " in capsys.readouterr().out
    main([*words, "mhva+pt+caa", "--side", "audio=5,24", "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    cost = cost_of("video_swin_mini", method="mhva+pt+caa", clip=(4, 96, 96), side={"audio": (5, 24)})
    assert row["macs"] == cost.macs and row["counted"] == "one clip, one view" and row["modalities"] == ["audio"]


@pytest.mark.parametrize(
    "words, told",
    [
        ("--side audio=1024 --method mhva+pt+caa", "side={'audio': (1024,)}: give (L, d)"),
        ("--side audio --method mhva+pt+caa", "side={'audio': ()}: give (L, d)"),
        ("--side audio=1,x --method mhva+pt+caa", "--side audio='1,x' is not of type"),
        ("--side audio=5,24 --method mhva", "method 'mhva' takes no modality; write mhva+caa"),
        ("--clip 8,96", "clip=(8, 96): give (frames, height, width)"),
        ("--method mvha", "did you mean 'mhva'"),
    ],
)
def test_the_command_explains_mistakes(words, told, capsys):
    with pytest.raises(SystemExit):
        main(["--backbone", "video_swin_mini", *words.split()])
    assert told in capsys.readouterr().err


def test_side_tokens_that_are_no_pair_are_refused_with_an_example():
    for shape in (1024, (1024,), (32, 0), "32", (32, 1024.0)):
        with pytest.raises(ValueError, match=r"give \(L, d\), .*side={'audio': \(32, 1024\)}"):
            cost_of("video_swin_mini", method="mhva+pt+caa", side={"audio": shape})


def test_a_row_of_the_records_is_as_it_was(monkeypatch):
    monkeypatch.setattr("cm3t.cost.SIZED", {"clip_b": SIZED["clip_b"]})
    monkeypatch.setattr("cm3t.cost.METHODS", ("linear",))
    monkeypatch.setattr("cm3t.cost.JOINED", ())
    recorded = json.loads((records_dir("cost") / "budget.json").read_text())["rows"]
    kept = {(row["name"], row["label"]): json.dumps(row) for row in recorded}
    made = json.loads(json.dumps(budget()))
    assert [json.dumps(row) for row in made] == [kept["clip_b", "frozen"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, clip, method, options",
    [
        ("video_swin_mini", (8, 32, 32), "mhva+pt", {}),
        ("video_swin_t", (8, 64, 64), "mhva+pt", {}),
        ("clip_mini", (2, 96, 96), "mhva+pt", {}),
        ("vivit_mini", (4, 96, 96), "mhva+pt", {}),
        ("video_swin_mini", (8, 32, 32), "mhva+pt+mmca", {}),
        ("video_swin_mini", (8, 32, 32), "mhva+pt+late", {}),
        *(("video_swin_mini", (8, 32, 32), "mhva+pt+caa", {"caa_form": form}) for form in ("standard", "token_gate")),
    ],
)
def test_fvcore_with_our_handlers_counts_the_same(name, clip, method, options):
    model = create(name, method=method, clip=clip, weights=None, **options).eval()
    side = {"audio": (5, 24), "flow": (3, 16)} if model.method.cross else {}
    for modality, (_, width) in side.items():
        model.add_modality(modality, width=width, encoder=None)
    found = fvcore_macs(model, clip, side)
    assert sum(found.values()) == macs_of(model, clip, side)
    assert {"linear", "conv", "scaled_dot_product_attention"} <= set(found)


@pytest.mark.slow
def test_fvcore_as_it_comes_counts_something_else():
    model = create("video_swin_mini", method="mhva+pt", clip=(8, 32, 32), weights=None).eval()
    plain, corrected = (fvcore_macs(model, (8, 32, 32), corrected=by_us) for by_us in (False, True))
    assert "scaled_dot_product_attention" not in plain and any(name.endswith("_norm") for name in plain)
    assert plain["linear"] == corrected["linear"] and sum(plain.values()) != sum(corrected.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    "method, modalities, share",
    [("mhva+pt+caa", 1, "22.3"), ("mhva+pt+caa", 2, "28.9"), ("full+caa", 1, "109.5"), ("full+caa", 2, "116.1")],
)
def test_modalities_bring_the_published_shares(method, modalities, share):
    """Side embeddings 1024 wide; which of the two shares belongs to which data set, text and table disagree on."""
    side = dict(list({"audio": (32, 1024), "flow": (32, 1024)}.items())[:modalities])
    assert f"{100 * cost_of('video_swin_b', method=method, side=side).share:.1f}" == share


@pytest.mark.slow
def test_side_tokens_are_counted_by_both_counters_alike():
    model = create("video_swin_mini", method="mhva+pt+caa", weights=None).eval()
    clip, side = (8, 96, 96), {"audio": (5, 24), "flow": (3, 16)}
    for name, (_, width) in side.items():
        model.add_modality(name, width=width, encoder=None)
    assert sum(fvcore_macs(model, clip, side).values()) == macs_of(model, clip, side) > macs_of(model, clip)
