"""EPIC's exchange files there and back, what is refused in them, and a head over actions."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch

from cm3t.challenge import (
    ScoreError,
    action_head_scores,
    in_order,
    marginal_scores,
    read_scores,
    read_submission,
    write_scores,
    write_submission,
)
from cm3t.metrics import action_scores

N = 7
IDS = [f"P01_101_{i}" for i in range(N)]


def random(n=N, seed=0):
    rng = np.random.default_rng(seed)
    return {"verb": rng.normal(size=(n, 97)).astype("f4"), "noun": rng.normal(size=(n, 300)).astype("f4")}


def official(outputs, ids=IDS):
    return {"verb_output": outputs["verb"], "noun_output": outputs["noun"], "narration_id": ids}


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_scores_there_and_back(tmp_path, suffix):
    path = write_scores(tmp_path / "new" / f"scores.{suffix}", random(), IDS)
    outputs, ids = read_scores(path)
    assert ids == IDS and all((outputs[head] == random()[head]).all() for head in ("verb", "noun"))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("form", ["tensors", "arrays", "list of dicts", "list of batches"])
def test_files_of_the_official_code(tmp_path, form):
    whole = official(random())
    content = {
        "tensors": {k: torch.tensor(v) if k != "narration_id" else v for k, v in whole.items()},
        "arrays": {**whole, "narration_id": np.array(IDS)},
        "list of dicts": [{k: v[i] for k, v in whole.items()} for i in range(N)],
        "list of batches": [{k: v[i : i + 3] for k, v in whole.items()} for i in range(0, N, 3)],
    }[form]
    torch.save(content, tmp_path / "results.pt")
    outputs, ids = read_scores(tmp_path / "results.pt")
    assert ids == IDS and (outputs["noun"] == random()["noun"]).all()


class Runs:
    def __reduce__(self):
        return (print, ("a pickle ran code",))


def test_nothing_in_a_file_is_run(tmp_path, capsys):
    (tmp_path / "results.pkl").write_bytes(pickle.dumps(official(random())))
    with pytest.raises(ScoreError, match=r"results\.pkl: scores are read from .*a pickle can run code"):
        read_scores(tmp_path / "results.pkl")
    torch.save({**official(random()), "more": Runs()}, tmp_path / "results.pt")
    with pytest.raises(ScoreError, match=r"results\.pt: "):
        read_scores(tmp_path / "results.pt")
    np.savez(tmp_path / "results.npz", **{**official(random()), "narration_id": np.array([Runs()] * N, object)})
    with pytest.raises(ScoreError, match=r"results\.npz: cannot be read"):
        read_scores(tmp_path / "results.npz")
    assert "ran code" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"narration_id": IDS[:-1]}, r"verb_output is float32 \(7, 97\); numbers \(6, 97\)"),
        ({"narration_id": ["../../etc", *IDS[1:]]}, "narration_id '../../etc' must look like"),
        ({"verb_output": np.zeros((N, 96))}, r"numbers \(7, 97\) are expected"),
        ({"noun_output": np.full((N, 300), np.nan)}, "noun scores of P01_101_0 are not finite"),
        ({"noun_output": np.zeros((N, 300), bool)}, "noun_output is bool"),
        ({"verb_output": None}, r"holds \['narration_id', 'noun_output'\]"),
    ],
)
def test_what_cannot_be_used(tmp_path, changes, message):
    content = {k: v for k, v in {**official(random()), **changes}.items() if v is not None}
    np.savez(tmp_path / "scores.npz", **content)
    with pytest.raises(ScoreError, match=rf"scores\.npz: .*{message}"):
        read_scores(tmp_path / "scores.npz")


def test_order_and_completeness():
    outputs, shuffled = random(), IDS[::-1]
    back = in_order({k: v[::-1] for k, v in outputs.items()}, shuffled, IDS, "here")
    assert all((back[head] == outputs[head]).all() for head in back)
    with pytest.raises(ScoreError, match=r"here: of 8 segments.*1 segments are missing \(first: P01_101_9\)"):
        in_order(outputs, IDS, [*IDS, "P01_101_9"], "here")
    with pytest.raises(ScoreError, match=r"1 segments are not of this split \(first: P01_101_6\)"):
        in_order(outputs, IDS, IDS[:-1], "here")
    with pytest.raises(ScoreError, match=r"1 segments are there twice \(first: P01_101_0\)"):
        in_order(outputs, [IDS[0], *IDS[:-1]], IDS[:-1], "here")


def test_submission(tmp_path):
    path = write_submission(tmp_path / "out" / "submission.zip", random(), IDS, (2, 3, 4))
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["test.json"]
        raw = json.loads(archive.read("test.json"))
    assert {k: v for k, v in raw.items() if k != "results"} == {
        "version": "0.2", "challenge": "action_recognition", "sls_pt": 2, "sls_tl": 3, "sls_td": 4,
    }  # fmt: skip
    assert list(raw["results"]) == IDS and set(raw["results"][IDS[0]]) == {"verb", "noun"}
    assert list(raw["results"][IDS[0]]["noun"]) == [str(i) for i in range(300)]
    assert raw["results"][IDS[3]]["verb"]["96"] == pytest.approx(float(random()["verb"][3, 96]))
    outputs, ids, about = read_submission(path)
    assert ids == IDS and about["sls_td"] == 4 and np.allclose(outputs["noun"], random()["noun"], atol=1e-5)


@pytest.mark.parametrize("levels", [(0, 0, 6), (0, -1, 0), (0.5, 0, 0), (True, 0, 0)])
def test_supervision_levels(tmp_path, levels):
    with pytest.raises(ValueError, match=r"must be whole numbers 0\.\.5"):
        write_submission(tmp_path / "a.zip", random(), IDS, levels)


def test_a_submission_is_checked_before_it_is_written(tmp_path):
    with pytest.raises(ScoreError, match="1 segments are there twice"):
        write_submission(tmp_path / "a.zip", random(), [*IDS[:-1], IDS[0]], (0, 0, 0))
    with pytest.raises(ScoreError, match="verb_output is float64"):
        write_submission(tmp_path / "a.zip", {**random(), "verb": np.zeros((N, 3))}, IDS, (0, 0, 0))
    assert list(tmp_path.iterdir()) == []


def zipped(path, content, name="test.json"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    return path


GOOD = {"version": "0.2", "challenge": "action_recognition", "sls_pt": 0, "sls_tl": 0, "sls_td": 0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"version":\n "0.2",\n oops', "test.json: line 3"),
        ("[]", "no test.json of version 0.2"),
        (json.dumps({**GOOD, "version": "0.1", "results": {}}), "no test.json of version 0.2"),
        (json.dumps({**GOOD, "sls_tl": "3", "results": {}}), "sls_tl is '3'"),
        (
            json.dumps({**GOOD, "results": {"P01_101_0": {"verb": {"0": 1}}}}),
            "'P01_101_0' needs verb scores '0' to '96'",
        ),
        (json.dumps({**GOOD, "results": {"../x": {"verb": {}}}}), "segment '../x' needs verb"),
    ],
)
def test_bad_submissions(tmp_path, content, message):
    with pytest.raises(ScoreError, match=r"a\.zip: ") as error:
        read_submission(zipped(tmp_path / "a.zip", content))
    assert message in str(error.value)


def test_archives_that_lead_elsewhere(tmp_path):
    with pytest.raises(ScoreError, match="must hold test.json alone"):
        read_submission(zipped(tmp_path / "a.zip", "{}", "../test.json"))
    (tmp_path / "b.zip").write_bytes(b"PK not really")
    with pytest.raises(ScoreError, match=r"b\.zip: is no whole zip archive"):
        read_submission(tmp_path / "b.zip")
    with pytest.raises(FileNotFoundError):
        read_submission(tmp_path / "c.zip")


@pytest.mark.parametrize("suffix", ["zip", "npz", "safetensors", "pt"])
def test_any_bytes_are_read_or_one_clear_error(tmp_path, suffix):
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    path, read = tmp_path / f"fuzz.{suffix}", read_submission if suffix == "zip" else read_scores
    if suffix == "zip":
        write_submission(path, random(1), IDS[:1], (0, 0, 0))
    elif suffix == "pt":
        torch.save(official(random(1), IDS[:1]), path)
    else:
        write_scores(path, random(1), IDS[:1])
    whole = path.read_bytes()
    splice = st.tuples(st.integers(0, len(whole)), st.integers(0, 40), st.binary(max_size=12)).map(
        lambda cut: whole[: cut[0]] + cut[2] + whole[cut[0] + cut[1] :]
    )

    @hypothesis.settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @hypothesis.given(st.one_of(st.binary(max_size=60), splice))
    def check(content):
        path.write_bytes(content)
        try:
            outputs, ids, *_ = read(path)
        except ScoreError as error:
            assert str(path) in str(error)
        else:
            assert all(len(values) == len(ids) and np.isfinite(values).all() for values in outputs.values())

    check()


def test_a_head_over_actions_against_a_loop():
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, (97, 300), (40, 2)), axis=0)
    actions, own = rng.normal(size=(30, len(pairs))), rng.integers(0, len(pairs), 30)
    actions[np.arange(30), own] += 2.0
    target = {"verb": pairs[own, 0], "noun": pairs[own, 1]}
    got, marginal = action_head_scores(actions, target, pairs), marginal_scores(actions, pairs)
    hits = dict.fromkeys(("verb", "noun", "action_top1", "action_top5"), 0)
    for i, row in enumerate(actions):
        chance = np.exp(row) / np.exp(row).sum()
        order = np.argsort(-row, kind="stable")
        hits["action_top1"] += own[i] == order[0]
        hits["action_top5"] += own[i] in order[:5]
        for column, (head, width) in enumerate((("verb", 97), ("noun", 300))):
            sums = np.array([chance[pairs[:, column] == c].sum() for c in range(width)])
            assert np.allclose(np.exp(marginal[head][i]), sums)
            hits[head] += int(np.argmax(sums)) == target[head][i]
    assert got["n"] == 30 and got["action_top5"] == pytest.approx(100 * hits["action_top5"] / 30)
    assert [got["verb_top1"], got["noun_top1"], got["action_top1"]] == pytest.approx(
        [100 * hits[name] / 30 for name in ("verb", "noun", "action_top1")]
    )
    missed = action_head_scores(actions, {"verb": np.full(30, 96), "noun": np.full(30, 299)}, pairs)
    assert missed["action_top5"] == 0  # a pair that is no class is a miss
    none = action_head_scores(actions[:0], {h: t[:0] for h, t in target.items()}, pairs)
    assert none["n"] == 0 and none["action_top1"] is None


def test_two_heads_and_one_agree_where_they_must():
    """If every pair is a class, the product of two heads is a head over actions with the same ranking."""
    rng = np.random.default_rng(1)
    pairs = np.array([(v, n) for v in range(97) for n in range(300)])
    outputs, target = random(3, 2), {"verb": rng.integers(0, 97, 3), "noun": rng.integers(0, 300, 3)}
    actions = outputs["verb"][:, pairs[:, 0]].astype("f8") + outputs["noun"][:, pairs[:, 1]]
    assert action_head_scores(actions, target, pairs) == pytest.approx(action_scores(outputs, target))
