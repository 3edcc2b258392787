"""Accuracies against a naive reading of the definition, on random scores, ties and extremes."""

import math

import numpy as np
import pytest

from cm3t.metrics import NAMES, TRAIT_WORDS, TRAITS, action_scores, log_softmax, ranks, subset_scores

VERBS, NOUNS = 97, 300


def naive(logits, target):
    """Every one of the 97 x 300 products, sorted; equal ones stay in the order of their numbers."""

    def softmax(scores):
        powers = [math.exp(s - max(scores)) for s in scores]
        return [p / sum(powers) for p in powers]

    hits = dict.fromkeys(NAMES, 0)
    for verb_row, noun_row, v, n in zip(logits["verb"], logits["noun"], target["verb"], target["noun"], strict=True):
        verb, noun = softmax(verb_row.tolist()), softmax(noun_row.tolist())
        pairs = [a * b for a in verb for b in noun]
        for task, scores, right in (
            ("verb", verb, v),
            ("noun", noun, n),
            ("action", pairs, v * len(noun) + n),
        ):
            order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
            for k in (1, 5):
                hits[f"{task}_top{k}"] += right in order[:k]
    return {**{name: 100 * h / len(target["verb"]) for name, h in hits.items()}, "n": len(target["verb"])}


def scores(n=60, seed=0, verbs=VERBS, nouns=NOUNS, lift=3.0):
    """Random scores in which the right classes stand out a little."""
    rng = np.random.default_rng(seed)
    target = {"verb": rng.integers(0, verbs, n), "noun": rng.integers(0, nouns, n)}
    logits = {"verb": rng.normal(size=(n, verbs)), "noun": rng.normal(size=(n, nouns))}
    for head, rows in logits.items():
        rows[np.arange(n), target[head]] += lift * rng.random(n)
    return logits, target


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_equals_the_naive_product(seed):
    logits, target = scores(25, seed=seed)
    got = action_scores(logits, target)
    assert got == pytest.approx(naive(logits, target)) and 0 < got["action_top1"] < got["action_top5"] < 100


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_naive_product_on_ties(seed):
    """Scores of few distinct values, all powers of two so that products tie exactly."""
    rng = np.random.default_rng(seed)
    logits = {"verb": rng.integers(0, 2, (40, 8)) * 1.0, "noun": rng.integers(0, 2, (40, 16)) * 1.0}
    target = {"verb": rng.integers(0, 8, 40), "noun": rng.integers(0, 16, 40)}
    assert action_scores(logits, target) == pytest.approx(naive(logits, target))


def test_a_constant_scorer_earns_nothing_by_ties():
    logits = {"verb": np.zeros((50, VERBS)), "noun": np.zeros((50, NOUNS))}
    target = {"verb": np.full(50, 3), "noun": np.full(50, 7)}
    got = action_scores(logits, target)
    assert (got["verb_top1"], got["verb_top5"], got["noun_top5"], got["action_top5"]) == (0, 100, 0, 0)
    target = {"verb": np.zeros(50, int), "noun": np.full(50, 4)}
    assert action_scores(logits, target)["action_top5"] == 100 and action_scores(logits, target)["action_top1"] == 0


def test_action_is_right_when_both_heads_are():
    logits, target = scores(200)
    both = (logits["verb"].argmax(1) == target["verb"]) & (logits["noun"].argmax(1) == target["noun"])
    assert action_scores(logits, target)["action_top1"] == pytest.approx(100 * both.mean())


def test_no_underflow():
    logits = {"verb": np.full((1, VERBS), -1e4), "noun": np.full((1, NOUNS), -1e4)}
    logits["verb"][0, 5] = logits["noun"][0, 9] = 1e4
    logits["noun"][0, 10] = 0.0
    got = action_scores(logits, {"verb": np.array([5]), "noun": np.array([10])})
    assert (got["noun_top1"], got["noun_top5"], got["action_top1"], got["action_top5"]) == (0, 100, 0, 100)


def test_log_softmax_and_ranks():
    values = log_softmax(np.array([[1.0, 2.0, 3.0], [1e3, 0.0, 0.0]]))
    assert np.exp(values).sum(1) == pytest.approx([1, 1]) and np.isfinite(values).all()
    assert ranks(np.array([[3.0, 1.0, 3.0, 2.0]] * 4), np.arange(4)).tolist() == [0, 3, 1, 2]


def test_no_segments_is_none_not_nan():
    empty = {"verb": np.zeros((0, VERBS)), "noun": np.zeros((0, NOUNS))}
    none = {"verb": np.zeros(0, int), "noun": np.zeros(0, int)}
    assert action_scores(empty, none) == {**dict.fromkeys(NAMES), "n": 0}


def test_subsets_by_the_official_rules():
    logits, target = scores(80)
    rng = np.random.default_rng(1)
    tail_verb, tail_noun, unseen = rng.random(80) < 0.2, rng.random(80) < 0.3, rng.random(80) < 0.1
    masks = {"all": np.ones(80, bool), "unseen": unseen, "tail": tail_verb | tail_noun}
    got = subset_scores(logits, target, {**masks, "tail_verb": tail_verb, "tail_noun": tail_noun})
    assert set(got) == {"all", "unseen", "tail"} and got["all"] == action_scores(logits, target)

    def part(mask):
        return action_scores({h: x[mask] for h, x in logits.items()}, {h: x[mask] for h, x in target.items()})

    assert got["unseen"] == part(unseen)
    assert got["tail"]["action_top1"] == part(tail_verb | tail_noun)["action_top1"]
    assert got["tail"]["verb_top1"] == part(tail_verb)["verb_top1"] and got["tail"]["n_verb"] == tail_verb.sum()
    assert got["tail"]["noun_top5"] == part(tail_noun)["noun_top5"] and got["tail"]["n_noun"] == tail_noun.sum()
    assert subset_scores(logits, target, {"unseen": np.zeros(80, bool)})["unseen"]["n"] == 0


def test_bad_scores_are_errors():
    logits, target = scores(5)
    logits["noun"][3, 0] = np.nan
    with pytest.raises(ValueError, match=r"noun scores of 1 segments are not finite \(first: 3\)"):
        action_scores(logits, target)
    logits, target = scores(5)
    with pytest.raises(ValueError, match=r"verb class lies outside 0\.\.96"):
        action_scores(logits, {**target, "verb": np.array([0, 1, 2, 3, 97])})
    with pytest.raises(ValueError, match="5 verb and 5 noun scores for 4 verbs"):
        action_scores(logits, {**target, "verb": target["verb"][:4]})


def test_traits_are_written_with_spaces_in_tables():
    assert list(TRAIT_WORDS) == list(TRAITS)
    assert [words.replace(" ", "").replace("-", "") for words in TRAIT_WORDS.values()] == list(TRAITS)
