"""The command that scores files, and the official validation file through the whole path, against another reading."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_epic import copy, kitchen  # noqa: F401
from test_epic_annotations import table
from test_udiva import dyads  # noqa: F401

from cm3t.challenge import ScoreError, read_submission, write_scores
from cm3t.data.epic import EpicKitchens
from cm3t.data.epic_labels import action_classes, action_pairs, read_labels
from cm3t.evaluate import _predictions, main


def scores_of(data, seed=0):
    rng = np.random.default_rng(seed)
    n = len(data)
    return {"verb": rng.normal(size=(n, 97)), "noun": rng.normal(size=(n, 300))}


def printed(capsys, *words):
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.filterwarnings("ignore:1 segments of validation")
def test_epic(kitchen, tmp_path, capsys):  # noqa: F811
    data = EpicKitchens(kitchen, split="validation")
    outputs, ids = scores_of(data), data.annotations.narration_id.tolist()
    for i, (v, n) in enumerate(zip(data.targets["verb"], data.targets["noun"], strict=True)):
        outputs["verb"][i, v] += 9.0 * (i != 1)
        outputs["noun"][i, n] += 9.0 * (i != 2)
    path = write_scores(tmp_path / "s.npz", {h: x[::-1] for h, x in outputs.items()}, ids[::-1])
    got = printed(capsys, "epic", "--scores", path, "--root", kitchen)
    assert set(got) == {"all", "unseen", "tail"}
    assert (got["all"]["verb_top1"], got["all"]["noun_top1"], got["all"]["action_top1"]) == (75, 75, 50)
    assert (got["unseen"]["action_top1"], got["unseen"]["n"]) == (50, 2)
    assert main(["epic", "--scores", str(path), "--root", str(kitchen)]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["all", "unseen", "tail"] and table[1].split()[:3] == ["verb_top1", "75.000", "100.000"]


@pytest.mark.filterwarnings("ignore:1 segments of validation")
def test_a_head_over_actions(kitchen, tmp_path, capsys):  # noqa: F811
    data = EpicKitchens(kitchen, split="validation", head="action")
    assert data.classes == {"action": len(data.pairs)} and list(data.targets) == ["action"]
    assert data.pairs[data.targets["action"]].tolist() == [[0, 2], [0, 9], [10, 2], [1, 299]]
    train = EpicKitchens(kitchen, head="action")
    assert (train.pairs == data.pairs).all() and train.pairs[train.targets["action"][1]].tolist() == [3, 4]
    assert EpicKitchens(kitchen, split="test", head="action").targets == {}
    actions = torch.nn.functional.one_hot(data.targets["action"], len(data.pairs)).numpy() * 9.0
    path = write_scores(tmp_path / "s.safetensors", {"action": actions}, data.annotations.narration_id)
    got = printed(capsys, "epic", "--scores", path, "--root", kitchen)
    assert got["all"]["action_top1"] == got["all"]["verb_top1"] == got["tail"]["noun_top1"] == 100
    path = write_scores(tmp_path / "t.npz", {"action": actions[:, :-1]}, data.annotations.narration_id)
    assert main(["epic", "--scores", str(path), "--root", str(kitchen)]) == 1
    assert f"{len(data.pairs) - 1} action classes" in capsys.readouterr().err


def test_pairs_of_one_file_alone_and_unknown_pairs(kitchen, tmp_path):  # noqa: F811
    name = "EPIC_100_validation.csv"
    (tmp_path / name).write_bytes((kitchen / "annotations" / name).read_bytes())
    pairs = action_pairs(tmp_path)
    assert pairs.tolist() == [[0, 2], [0, 9], [1, 299], [10, 2]] and len(action_pairs(kitchen / "annotations")) > 4
    with pytest.raises(ValueError, match=r"1 segments show pairs that are no action class \(first: \(5, 5\)\)"):
        action_classes({"verb": torch.tensor([0, 5]), "noun": torch.tensor([2, 5])}, pairs)
    with pytest.raises(FileNotFoundError, match="EPIC_100_train.csv"):
        action_pairs(tmp_path / "nowhere")


def test_epic_submission_of_the_test_split(kitchen, tmp_path, capsys):  # noqa: F811
    data = EpicKitchens(kitchen, split="test")
    ids = data.annotations.narration_id.tolist()
    path = write_scores(tmp_path / "s.npz", scores_of(data), ids)
    words = ["epic", "--scores", str(path), "--root", str(kitchen), "--split", "test"]
    assert main([*words, "--submission", str(tmp_path / "out.zip"), "--supervision", "2,3,3"]) == 0
    outputs, kept, about = read_submission(tmp_path / "out.zip")
    assert kept == ids and (about["sls_pt"], about["sls_tl"], about["sls_td"]) == (2, 3, 3)
    assert np.allclose(outputs["verb"], scores_of(data)["verb"], atol=1e-5)
    capsys.readouterr()
    assert main([*words, "--submission", str(tmp_path / "out.zip")]) == 1
    assert "--supervision PT,TL,TD" in capsys.readouterr().err


def test_no_recording_is_needed(copy, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("CM3T_EPIC_ANNOTATIONS", str(copy / "annotations"))
    labels = read_labels(tmp_path, "validation")
    assert len(labels.rows) == 4 and labels.unseen.tolist() == [False, False, True, True]
    assert labels.subsets["tail"].tolist() == [False, False, True, True]
    table(copy / "annotations/EPIC_100_unseen_participant_ids_test.csv", [("P01",)], ("participant_id",))
    assert read_labels(tmp_path, "test").unseen.all()  # each split by its own list
    assert labels.unseen.tolist() == read_labels(tmp_path, "validation").unseen.tolist()


def test_errors_are_said_in_one_line(kitchen, tmp_path, capsys):  # noqa: F811
    for words in (
        ["--scores", tmp_path / "nowhere.npz", "--root", kitchen],
        ["--scores", kitchen / "annotations/EPIC_100_train.csv", "--root", kitchen],
        ["--scores", tmp_path / "nowhere.npz", "--root", tmp_path / "nowhere"],
    ):
        assert main(["epic", *map(str, words)]) == 1
        said = capsys.readouterr()
        assert said.out == "" and "Traceback" not in said.err and said.err.strip()
    data = EpicKitchens(kitchen, split="train")
    path = write_scores(tmp_path / "s.npz", scores_of(data), data.annotations.narration_id)
    assert main(["epic", "--scores", str(path), "--root", str(kitchen)]) == 1
    assert "4 segments are missing (first: P01_02_0)" in capsys.readouterr().err


def test_group_predictions(tmp_path, capsys):
    from cm3t.data.mpiigi_samples import BEHAVIOURS, COLUMNS, write_predictions

    (tmp_path / "bbr").mkdir()
    labels = np.zeros((4, 14), int)
    labels[:2, 0] = labels[1:3, 5] = 1
    with open(tmp_path / "bbr/val_samples.csv", "w", newline="") as file:
        rows = [[i, 8, 1, 1000.0 * i, 1000.0 * i + 2133.0, *labels[i]] for i in range(4)]
        csv.writer(file).writerows([(*COLUMNS, *BEHAVIOURS), *rows])
    path = write_predictions(tmp_path / "p.csv", range(4), labels + 0.0)
    got = printed(capsys, "mpiigi", "--scores", path, "--root", tmp_path)["all"]
    assert (got["map"], got["classes_averaged"], got["ap Settle"], got["ap Groom"]) == (100, 2, 100, None)
    text = path.read_text()
    for content, message in (
        (text.rsplit("\n", 2)[0] + "\n", "1 segments are missing (first: 3)"),
        (text + text.splitlines()[1] + "\n", "line 6: sample 0 is there twice"),
        (text.replace("\n3,", "\nx,"), "line 5: a whole sample_id and 14 numbers"),
        (text.replace("Groom", "Gloom"), "line 1: the columns ['Groom'] are missing"),
    ):
        path.write_text(content)
        assert main(["mpiigi", "--scores", str(path), "--root", str(tmp_path)]) == 1
        assert message in capsys.readouterr().err


def test_dyad_predictions(dyads, tmp_path, capsys):  # noqa: F811
    """The official rule, read anew: mean squared errors of each trait over participants, and the mean of the five."""
    answers = {"11": [0.5, 1.0, -1.0, 2.0, 3.0], "10": [1.5, 2.0, 3.0, 4.0, 5.0]}
    errors = np.mean([(np.array(answers[p]) - (int(p) / 10 + np.arange(5))) ** 2 for p in answers], axis=0)
    header = "Participant ID,O,C,E,A,N"  # the first line is skipped: the order of the columns is what counts
    lines = [header, *(",".join([p, *map(str, traits)]) for p, traits in answers.items())]
    path = tmp_path / "predictions.csv"
    path.write_text("\n".join(lines) + "\n")
    got = printed(capsys, "udiva", "--scores", path, "--root", dyads)["all"]
    assert got["mse"] == pytest.approx(errors.mean()) and got["n"] == 2
    assert [got[f"mse_{t}"] for t in ("openmindedness", "negativeemotionality")] == pytest.approx(errors[[0, 4]])
    for content, message in (
        (lines[:2], "1 segments are missing (first: 10)"),
        ([*lines, lines[1]], "line 4: participant 11 was on line 2 already"),
        ([*lines, "12,1,2,3,4,5"], "(first: 12)"),
        ([*lines[:2], "10,1,2,3,4"], "line 3: has 5 fields"),
        ([*lines[:2], "10,1,2,3,4,nan"], "line 3: NEGATIVEEMOTIONALITY_Z 'nan' is no number"),
        ([*lines[:2], "../10,1,2,3,4,5"], "participant '../10' must be letters and digits"),
    ):
        path.write_text("\n".join(content) + "\n")
        assert main(["udiva", "--scores", str(path), "--root", str(dyads)]) == 1
        said = capsys.readouterr().err
        assert message in said and "Traceback" not in said


ROWS = st.text(max_size=99).map(lambda text: b"sample_id,a\n" + text.encode("utf8", "replace"))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=99) | ROWS)
def test_any_bytes_are_predictions_or_one_error_with_file(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed_predictions.csv"
    path.write_bytes(content)
    try:
        assert _predictions(path, ("a",))
    except ScoreError as error:
        assert "fuzzed_predictions.csv: line " in str(error)


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    if not os.environ.get("CM3T_EPIC_ANNOTATIONS"):
        pytest.skip("CM3T_EPIC_ANNOTATIONS names no folder with the official annotation files")
    return Path(os.environ["CM3T_EPIC_ANNOTATIONS"])


def by_the_official_rule(verb, noun, v, n, batch=200):
    """Places of the right classes as the challenge's code finds them: the 100 best verbs and nouns, softmax, the 100
    best pairs. (n,) each; 100 where the right pair is not among them."""

    def place(scores, own):
        return (np.argsort(-scores, axis=1, kind="stable") == own[:, None]).argmax(1)

    def softmax(scores):
        powers = np.exp(scores - scores.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    action = []
    for at in range(0, len(v), batch):
        rows = slice(at, at + batch)
        best_n = np.argsort(-noun[rows], axis=1, kind="stable")[:, :100]
        chance = np.einsum("bv,bn->bvn", softmax(verb[rows]), softmax(np.take_along_axis(noun[rows], best_n, 1)))
        flat = chance.reshape(len(chance), -1)
        best = np.argpartition(-flat, 100, axis=1)[:, :100]
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(flat, best, 1), axis=1), 1)
        right = (best // 100 == v[rows, None]) & (np.take_along_axis(best_n, best % 100, 1) == n[rows, None])
        action.append(np.where(right.any(1), right.argmax(1), 100))
    return {"verb": place(verb, v), "noun": place(noun, n), "action": np.concatenate(action)}


def test_the_official_validation_file_through_the_whole_path(official, tmp_path, capsys):
    labels = read_labels(tmp_path, "validation")
    outputs, (v, n) = scores_of(labels.rows), (labels.targets[h].numpy() for h in ("verb", "noun"))
    rng, every = np.random.default_rng(1), np.arange(len(v))
    outputs["verb"][every, v] += 3 * rng.random(len(v))
    outputs["noun"][every, n] += 4 * rng.random(len(v))
    outputs = {head: values.astype("f4").astype("f8") for head, values in outputs.items()}
    path = write_scores(tmp_path / "s.safetensors", outputs, labels.rows.narration_id)
    got = printed(capsys, "epic", "--scores", path, "--root", tmp_path)
    place = by_the_official_rule(outputs["verb"], outputs["noun"], v, n)
    rows = labels.rows
    unseen = rows.participant_id.isin(["P18", "P32"]).to_numpy()
    tails = {h: set(np.loadtxt(official / f"EPIC_100_tail_{h}s.csv", skiprows=1, dtype=int)) for h in ("verb", "noun")}
    rare = {h: np.array([c in tails[h] for c in rows[f"{h}_class"]]) for h in tails}
    rare["action"] = rare["verb"] | rare["noun"]
    for task, where in place.items():
        for k in (1, 5):
            assert got["all"][f"{task}_top{k}"] == pytest.approx(100 * np.mean(where < k))
            assert got["unseen"][f"{task}_top{k}"] == pytest.approx(100 * np.mean(where[unseen] < k))
            assert got["tail"][f"{task}_top{k}"] == pytest.approx(100 * np.mean(where[rare[task]] < k))
    assert (got["all"]["n"], got["unseen"]["n"], got["tail"]["n"]) == (9668, 1065, 3105)


def test_official_action_classes(official):
    validation = read_labels(official, "validation")
    both = (official / "EPIC_100_train.csv").is_file()
    pairs = action_pairs(official)
    assert len(pairs) == (3806 if both else 1352) and (np.unique(pairs, axis=0) == pairs).all()
    own = action_classes(validation.targets, pairs)
    assert (pairs[own, 0] == validation.targets["verb"].numpy()).all() and len(own.unique()) == 1352
