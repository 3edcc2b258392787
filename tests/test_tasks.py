"""Behaviours and traits against naive readings of their definitions; losses, headlines and trivial answers of tasks."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cm3t.metrics import TRAITS, average_precision, behaviour_scores, participant_means, trait_scores
from cm3t.training.loop import epoch_line
from cm3t.training.tasks import TASKS, never_shown, task_of


def naive_ap(scores, labels):
    """Precision and recall at every threshold, by counting."""
    area, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [label for score, label in zip(scores, labels, strict=True) if score >= threshold]
        recall, precision = sum(chosen) / sum(labels), sum(chosen) / len(chosen)
        area, before = area + (recall - before) * precision, recall
    return area


def behaviours(n=60, classes=14, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, classes)) < rng.uniform(0.05, 0.5, classes)).astype(float)
    labels[0] = 1  # every class has a positive
    scores = rng.normal(size=(n, classes)) + labels
    return (np.round(scores) if ties else scores), labels


@pytest.mark.parametrize("seed, ties", list(itertools.product(range(3), (False, True))))
def test_average_precisions_equal_the_naive_count(seed, ties):
    scores, labels = behaviours(seed=seed, ties=ties)
    aps = [100 * naive_ap(s, y) for s, y in zip(scores.T.tolist(), labels.T.tolist(), strict=True)]
    found, weights = behaviour_scores(scores, labels), labels.sum(0)
    assert [found[f"ap_{c}"] for c in range(14)] == pytest.approx(aps)
    assert found["map"] == pytest.approx(sum(aps) / 14)
    assert found["map_weighted"] == pytest.approx(sum(aps * weights) / sum(weights))
    assert found["map_micro"] == pytest.approx(100 * naive_ap(scores.ravel().tolist(), labels.ravel().tolist()))
    assert (found["classes_averaged"], found["n"]) == (14, 60)


@pytest.mark.oracle
@pytest.mark.parametrize("ties", [False, True])
def test_average_precisions_equal_scikit_learn(ties):
    oracle = pytest.importorskip("sklearn.metrics").average_precision_score
    scores, labels = behaviours(200, seed=7, ties=ties)
    found = behaviour_scores(scores, labels)
    for name, average in (("map", "macro"), ("map_micro", "micro"), ("map_weighted", "weighted")):
        assert found[name] == pytest.approx(100 * oracle(labels, scores, average=average))


def test_extremes_of_average_precision():
    assert average_precision(np.array([3.0, 2.0, 1.0]), np.array([1, 1, 0])) == 1
    assert average_precision(np.array([3.0, 2.0, 1.0]), np.array([0, 0, 1])) == pytest.approx(1 / 3)
    assert average_precision(np.zeros(8), np.arange(8) < 2) == 0.25  # all equal: the share of positives
    assert average_precision(np.zeros(3), np.zeros(3)) is None


def test_a_class_without_positives_is_left_out_and_counted():
    scores, labels = behaviours()
    labels[:, 3] = 0
    found = behaviour_scores(scores, labels)
    rest = [c for c in range(14) if c != 3]
    assert found["ap_3"] is None and found["classes_averaged"] == 13
    assert found["map"] == pytest.approx(behaviour_scores(scores[:, rest], labels[:, rest])["map"])
    nothing = behaviour_scores(scores, np.zeros_like(labels))
    assert nothing["map"] is None and nothing["classes_averaged"] == 0 and nothing["n"] == 60
    assert behaviour_scores(scores[:0], labels[:0])["n"] == 0


def naive_traits(predictions, target, groups):
    """Clips -> session and task -> participant, by three loops."""
    errors = {trait: [] for trait in TRAITS}
    for person in sorted({group.split("/")[0] for group in groups}):
        for k, trait in enumerate(TRAITS):
            units = []
            for unit in sorted({group for group in groups if group.split("/")[0] == person}):
                clips = [p[k] for p, group in zip(predictions, groups, strict=True) if group == unit]
                units.append(sum(clips) / len(clips))
            truth = next(t[k] for t, group in zip(target, groups, strict=True) if group.split("/")[0] == person)
            errors[trait].append((sum(units) / len(units) - truth) ** 2)
    return {f"mse_{trait}": sum(found) / len(found) for trait, found in errors.items()}


def traits(clips=40, people=5, seed=0, paths=True):
    rng = np.random.default_rng(seed)
    own, who = rng.normal(size=(people, 5)), rng.integers(0, people, clips)
    groups = tuple(f"{p:03}/{rng.integers(3)}/T" if paths else f"{p:03}" for p in who)
    return rng.normal(size=(clips, 5)), own[who], groups


@pytest.mark.parametrize("seed, paths", list(itertools.product(range(3), (False, True))))
def test_trait_errors_equal_the_naive_loops(seed, paths):
    predictions, target, groups = traits(seed=seed, paths=paths)
    found, expected = trait_scores(predictions, target, groups), naive_traits(predictions, target, groups)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["mse"] == pytest.approx(sum(expected.values()) / 5)
    assert found["n"] == 5 and found["n_clips"] == 40
    assert list(expected) == [name for name in found if name.startswith("mse_")]  # the official order


def test_every_person_weighs_the_same_and_so_does_each_of_his_sessions():
    groups = ("A/1/T",) * 9 + ("A/2/T", "B/1/T")
    values = np.array([[1.0]] * 9 + [[3.0], [7.0]])
    assert {name: mean.tolist() for name, mean in participant_means(values, groups).items()} == {"A": [2.0], "B": [7.0]}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda p, t, g: (p, t * np.nan, g), "trait targets of 40 clips are not finite"),
        (lambda p, t, g: (p * np.inf, t, g), "trait scores .* diverged"),
        (lambda p, t, g: (p, t + np.arange(40)[:, None], g), "two different sets of traits"),
        (lambda p, t, g: (p[:, :4], t[:, :4], g), r"must both be \(n, 5\)"),
        (lambda p, t, g: (p, t, g[:-1]), "39 groups for 40 clips"),
    ],
)
def test_traits_that_cannot_be_scored(change, message):
    with pytest.raises(ValueError, match=message):
        trait_scores(*change(*traits()))


def test_behaviours_that_cannot_be_scored():
    scores, labels = behaviours()
    for wrong, message in ((labels - 1, "0 or 1"), (labels * np.nan, "not finite"), (labels[:, :3], "both be")):
        with pytest.raises(ValueError, match=message):
            behaviour_scores(scores, wrong)


def test_losses():
    torch.manual_seed(0)
    out, labels = torch.randn(6, 14), (torch.rand(6, 14) < 0.3).float()
    by_hand = -(labels * out.sigmoid().log() + (1 - labels) * (1 - out.sigmoid()).log()).mean()
    assert torch.allclose(TASKS["behaviours"].loss({"behaviour": out}, {"behaviour": labels}), by_hand, atol=1e-6)
    out, target = torch.randn(6, 5), torch.randn(6, 5)
    assert torch.allclose(TASKS["traits"].loss({"traits": out}, {"traits": target}), ((out - target) ** 2).mean())
    verb, noun = torch.zeros(4, 3), torch.zeros(4, 8)
    loss = TASKS["actions"].loss({"verb": verb, "noun": noun}, dict.fromkeys(("verb", "noun"), torch.arange(4) % 3))
    assert loss.item() == pytest.approx(math.log(3) + math.log(8))


def test_the_trivial_answer_is_the_best_constant():
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    logits = TASKS["behaviours"].constant({"behaviour": labels}, {"behaviour": 2})["behaviour"]
    assert torch.allclose(logits.sigmoid(), torch.tensor([[0.75, 0.25]]))
    mean = TASKS["traits"].constant({"traits": torch.tensor([[1.0] * 5, [3.0] * 5])}, {"traits": 5})["traits"]
    assert mean.tolist() == [[2.0] * 5]
    verb = TASKS["actions"].constant({"verb": torch.tensor([2, 2, 0])}, {"verb": 4})["verb"]
    assert verb.argsort(descending=True)[0, :2].tolist() == [2, 0] and verb.shape == (1, 4)


def test_subsets_and_directions():
    predictions, target, groups = traits()
    subsets = {"all": np.ones(40, bool), "first": np.arange(40) < 20}
    scores = TASKS["traits"].scores({"traits": predictions}, {"traits": target}, subsets, groups)
    assert scores["first"]["mse"] == trait_scores(predictions[:20], target[:20], groups[:20])["mse"]
    assert TASKS["traits"].best([2.0, 1.0]) == 1 and TASKS["behaviours"].best([2.0, 1.0]) == 2
    assert TASKS["traits"].within(1.009, 1.0, 0.01) and not TASKS["traits"].within(1.02, 1.0, 0.01)
    assert TASKS["actions"].within(39.7, 40.0, 0.01) and not TASKS["actions"].within(39.0, 40.0, 0.01)


def test_a_line_of_scores_tells_over_how_many_classes_a_mean_is():
    scores, labels = behaviours()
    task = TASKS["behaviours"]
    assert " over " not in task.line(behaviour_scores(scores, labels))
    labels[:, [3, 5]] = 0
    found = behaviour_scores(scores, labels)
    line = f"map {found['map']:.1f} over 12 of 14 classes  map_micro {found['map_micro']:.1f} %"
    assert task.line(found) == line
    row = {"epoch": 1, "loss": 0.5, "seconds": 1.0, "tune": found}
    assert f"loss 0.500  tune {line}  1.0 s" in epoch_line([row], 1, task)
    assert task.line(behaviour_scores(scores, labels * 0)) == "" == task.line({})
    assert TASKS["actions"].line({"verb_top1": 31.0, "noun_top1": 40.25}) == "verb 31.0  noun 40.2 %"


def test_classes_that_are_never_shown_are_named():
    happens = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    data = SimpleNamespace(task="behaviours", targets={"behaviour": happens}, names=["Shrug", "Settle", "Groom"])
    assert never_shown(data) == ["Settle", "Groom"]
    assert never_shown(SimpleNamespace(task="behaviours", targets=data.targets)) == ["class 1", "class 2"]
    assert never_shown(SimpleNamespace(task="behaviours", targets={})) == []  # a challenge's test split
    assert never_shown(SimpleNamespace(task="traits", targets={"traits": happens})) == []


def test_a_data_set_names_its_task():
    assert task_of(SimpleNamespace(task="traits")).headline == "mse"
    assert task_of(object()).name == "actions"
    with pytest.raises(ValueError, match="unknown task 'dance'; known are actions, behaviours, traits"):
        task_of(SimpleNamespace(task="dance"))
