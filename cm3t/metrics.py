"""EPIC-KITCHENS-100's measures: top-1 and top-5 accuracy of verb, noun and action, in percent.

An action is a pair of verb and noun; its score is softmax(verb) * softmax(noun), the product of two heads that know
nothing of each other. Accuracies are plain means over segments: a frequent class weighs more than a rare one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

TOP = (1, 5)
NAMES = tuple(f"{task}_top{k}" for task in ("verb", "noun", "action") for k in TOP)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """log(softmax) of every row, exact where softmax itself would underflow. Shapes: (n, c) -> float64 (n, c)."""
    scores = np.asarray(scores, np.float64)
    scores = scores - scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def ranks(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """How many classes come before the right one. Of equal scores the lower class number comes first.

    Shapes: scores (n, c), target (n,) -> int (n,), 0 where the right class is the first.
    """
    own = scores[np.arange(len(scores)), target][:, None]
    before = np.arange(scores.shape[1]) < target[:, None]
    return ((scores > own) | ((scores == own) & before)).sum(axis=1)


def action_scores(logits: Mapping[str, np.ndarray], target: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Accuracies in percent over segments, and their number: {verb_top1, verb_top5, noun_.., action_.., n}.

    Shapes: logits {"verb": (n, V), "noun": (n, N)} before the softmax; target {"verb": (n,), "noun": (n,)}.
    Without segments n is 0 and every accuracy None. Action ties go to the lower verb, then the lower noun.
    Errors: ValueError for scores that are not finite, for a target outside the classes, for unequal lengths.
    """
    verb, noun, v, n = _checked(logits, target)
    if not len(v):
        return {**dict.fromkeys(NAMES), "n": 0}
    verb, noun = log_softmax(verb), log_softmax(noun)
    place = {"verb": ranks(verb, v), "noun": ranks(noun, n), "action": _action_ranks(verb, noun, v, n)}
    scores = {f"{task}_top{k}": 100.0 * float(np.mean(place[task] < k)) for task in place for k in TOP}
    return {**scores, "n": len(v)}


def subset_scores(
    logits: Mapping[str, np.ndarray], target: Mapping[str, np.ndarray], subsets: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float | None]]:
    """`action_scores` of every subset, {subset: {..}}, by the rules of the official evaluation.

    Shapes: logits and targets as in `action_scores`; subsets {name: bool (n,)}, as `EpicKitchens.subsets` has them.
    The tail has a rule of its own: verbs are scored where the verb is rare (subset "tail_verb"), nouns where the noun
    is ("tail_noun"), actions where either is ("tail"). So "tail" takes its verb and noun accuracies from the other
    two, and they are not listed.
    """
    scores = {}
    for name, members in subsets.items():
        kept = np.asarray(members, bool)
        parts = ({head: np.asarray(values[head])[kept] for head in ("verb", "noun")} for values in (logits, target))
        scores[name] = action_scores(*parts)
    for task in ("verb", "noun"):
        rare = scores.pop(f"tail_{task}", None)
        if rare is not None and "tail" in scores:
            scores["tail"] |= {f"{task}_top{k}": rare[f"{task}_top{k}"] for k in TOP} | {f"n_{task}": rare["n"]}
    return scores


def _action_ranks(verb: np.ndarray, noun: np.ndarray, v: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Ranks of the right pairs among all pairs; a pair that cannot come before the right one is never formed."""
    place = np.empty(len(v), np.int64)
    for i, (verb_row, noun_row) in enumerate(zip(verb, noun, strict=True)):
        own = verb_row[v[i]] + noun_row[n[i]]
        verbs = np.flatnonzero(verb_row + noun_row.max() >= own)
        nouns = np.flatnonzero(noun_row + verb_row.max() >= own)
        pairs = verb_row[verbs, None] + noun_row[nouns]
        before = (verbs < v[i])[:, None] | ((verbs == v[i])[:, None] & (nouns < n[i]))
        place[i] = ((pairs > own) | ((pairs == own) & before)).sum()
    return place


def _checked(logits, target) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    verb, noun = (np.asarray(logits[head]) for head in ("verb", "noun"))
    v, n = (np.asarray(target[head]).astype(np.int64) for head in ("verb", "noun"))
    if not len(verb) == len(noun) == len(v) == len(n):
        raise ValueError(f"{len(verb)} verb and {len(noun)} noun scores for {len(v)} verbs and {len(n)} nouns")
    for head, scores, classes in (("verb", verb, v), ("noun", noun, n)):
        bad = ~np.isfinite(scores).all(axis=1)
        if bad.any():
            raise ValueError(
                f"{head} scores of {bad.sum()} segments are not finite (first: {int(np.flatnonzero(bad)[0])}): "
                "the model has diverged, or its input holds values that are no numbers"
            )
        if len(classes) and not (0 <= classes.min() and classes.max() < scores.shape[1]):
            raise ValueError(f"a {head} class lies outside 0..{scores.shape[1] - 1}")
    return verb, noun, v, n
