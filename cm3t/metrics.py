"""The three data sets' measures: accuracies of actions, average precisions of behaviours, errors of traits.

EPIC-KITCHENS-100: top-1 and top-5 accuracy of verb, noun and action, in percent. An action is a pair of verb and noun;
its score is softmax(verb) * softmax(noun), the product of two heads that know nothing of each other. Accuracies are
plain means over segments: a frequent class weighs more than a rare one.
MPIIGroupInteraction: average precision of each behaviour, in percent, and its mean over classes.
UDIVA: mean squared error of each trait over participants, and its mean over the five traits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

TOP = (1, 5)
NAMES = tuple(f"{task}_top{k}" for task in ("verb", "noun", "action") for k in TOP)
TRAITS = ("openmindedness", "conscientiousness", "extraversion", "agreeableness", "negativeemotionality")
TRAIT_WORDS = dict(zip(TRAITS, ("open-mindedness", *TRAITS[1:4], "negative emotionality"), strict=True))  # for tables


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


def label_scores(logits: np.ndarray, target: np.ndarray) -> dict[str, float | None]:
    """Accuracies in percent over clips with one label each: {top1, top5, mean_class_accuracy, n}.

    `mean_class_accuracy` is the plain mean of top-1 over the classes that occur: a rare class weighs as much as a
    frequent one. Without clips n is 0 and every accuracy None.
    Shapes: logits (n, c), target (n,). Errors: ValueError for scores that are not finite.
    """
    logits, target = np.asarray(logits, np.float64), np.asarray(target).astype(np.int64)
    if not len(target):
        return dict.fromkeys(("top1", "top5", "mean_class_accuracy")) | {"n": 0}
    if not np.isfinite(logits).all():
        raise ValueError("label scores are not finite: the model has diverged, or its input holds no numbers")
    place = ranks(logits, target)
    found = {f"top{k}": 100.0 * float(np.mean(place < k)) for k in TOP}
    each = [np.mean(place[target == c] == 0) for c in np.unique(target)]
    return found | {"mean_class_accuracy": 100.0 * float(np.mean(each)), "n": len(target)}


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


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Area under the precision-recall steps, 0..1; equal scores fall on one step. None without a positive label.

    AP = sum_k (R_k - R_k-1) P_k over the distinct scores, highest first. Shapes: scores (n,), labels (n,) of 0 and 1.
    """
    if not np.any(labels):
        return None
    order = np.argsort(-scores, kind="stable")
    step = np.append(np.diff(scores[order]) != 0, True)  # the last of each run of equal scores
    hits, seen = np.cumsum(labels[order])[step], np.flatnonzero(step) + 1
    return float(np.sum(np.diff(hits, prepend=0) / hits[-1] * hits / seen))


def behaviour_scores(scores: np.ndarray, labels: np.ndarray) -> dict[str, float | None]:
    """Average precisions in percent over several labels a clip: {map, map_micro, map_weighted, ap_0, .., n, ..}.

    `map` is the plain mean over the classes that have positives, `classes_averaged` their number; a class without
    positives has no average precision (None), and counts neither as 0 nor as 1. `map_micro` ranks all decisions
    together, `map_weighted` weighs classes by their positives. Without any positive all three are None.

    Shapes: scores (n, c), any monotone of the probability; labels (n, c) of 0 and 1.
    Errors: ValueError for scores that are not finite, for labels other than 0 and 1, for unequal shapes.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    _check_pair("behaviour", scores, labels)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("behaviour labels must be 0 or 1; a clip whose labels are not known must be left out")
    each = [average_precision(*columns) for columns in zip(scores.T, labels.T, strict=True)]
    known = [c for c, ap in enumerate(each) if ap is not None]
    found = {"map": None, "map_micro": None, "map_weighted": None}
    if known:
        aps = 100 * np.array([each[c] for c in known])
        found["map"] = float(aps.mean())
        found["map_micro"] = 100 * average_precision(scores.ravel(), labels.ravel())
        found["map_weighted"] = float(np.average(aps, weights=labels.sum(0)[known]))
    found |= {f"ap_{c}": None if ap is None else 100 * ap for c, ap in enumerate(each)}
    return found | {"classes_averaged": len(known), "n": len(labels)}


def participant_means(values: np.ndarray, groups: Sequence[str]) -> dict[str, np.ndarray]:
    """Means of clips per participant, {participant: (k,)}, in sorted order.

    A group is a participant, or a path "participant/session/task": clips are then averaged within each session and
    task before these are averaged, so that a long session weighs no more than a short one.
    Shapes: values (n, k), groups n strings.
    """
    units: dict[str, list] = {}
    for value, group in zip(values, groups, strict=True):
        units.setdefault(group, []).append(value)
    people: dict[str, list] = {}
    for group, found in sorted(units.items()):
        people.setdefault(group.split("/")[0], []).append(np.mean(found, axis=0))
    return {person: np.mean(found, axis=0) for person, found in people.items()}


def trait_scores(predictions: np.ndarray, target: np.ndarray, groups: Sequence[str]) -> dict[str, float | None]:
    """Squared errors over participants: {mse_openmindedness, .. in the order O C E A N, mse (their mean), n, n_clips}.

    A participant's prediction is the mean of his clips' (`participant_means`); n is the number of participants.
    Without clips every error is None.

    Shapes: predictions and target (n, 5), groups n strings. Errors: ValueError for values that are not finite, for
    unequal lengths, for a participant whose clips have different targets.
    """
    predictions, target = np.asarray(predictions, np.float64), np.asarray(target, np.float64)
    _check_pair("trait", predictions, target, columns=len(TRAITS))
    if len(groups) != len(target):
        raise ValueError(f"{len(groups)} groups for {len(target)} clips: traits are scored by participant")
    names = [f"mse_{trait}" for trait in TRAITS]
    if not len(target):
        return dict.fromkeys([*names, "mse"]) | {"n": 0, "n_clips": 0}
    own: dict[str, np.ndarray] = {}
    for group, row in zip(groups, target, strict=True):
        person = group.split("/")[0]
        if not np.array_equal(own.setdefault(person, row), row):
            raise ValueError(f"participant {person} has two different sets of traits: check the table of participants")
    means = participant_means(predictions, groups)
    errors = np.mean([(means[person] - own[person]) ** 2 for person in means], axis=0)
    found = {name: float(error) for name, error in zip(names, errors, strict=True)}
    return found | {"mse": float(errors.mean()), "n": len(means), "n_clips": len(target)}


def _check_pair(what: str, scores: np.ndarray, target: np.ndarray, columns: int | None = None) -> None:
    if scores.shape != target.shape or scores.ndim != 2 or scores.shape[1] != (columns or scores.shape[1]):
        raise ValueError(f"{what} scores {scores.shape} and targets {target.shape} must both be (n, {columns or 'c'})")
    for name, values in (("scores", scores), ("targets", target)):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            remedy = "the model has diverged" if name == "scores" else "leave clips without a known target out"
            raise ValueError(f"{what} {name} of {len(bad)} clips are not finite (first: {bad[0]}): {remedy}")
