"""What a data set asks for: actions, behaviours, traits or labels. A task has a loss, scores and one headline."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cm3t.challenge import action_head_subset_scores
from cm3t.metrics import behaviour_scores, label_scores, subset_scores, trait_scores

Outputs = Mapping[str, Tensor]  # {head: (B, c)}
Arrays = Mapping[str, np.ndarray]
Scores = dict[str, dict[str, float | None]]  # {subset: {metric: value, "n": how many}}


@dataclass(frozen=True)
class Task:
    """How a data set's targets are learned and scored.

    loss(outputs, target) is a scalar; scores(outputs, target, subsets, groups) takes numpy arrays, {head: (n, c)},
    {head: (n,) or (n, c)}, {subset: bool (n,)} and n participants; constant(target) is the one output row a head that
    serves all clips best, {head: (1, c)}: what a model that looks at nothing would answer.
    """

    name: str
    heads: tuple[str, ...]
    headline: str  # the metric that decides
    higher_is_better: bool
    shown: tuple[str, ...]  # what a line of progress shows
    unit: str
    digits: int
    loss: Callable[[Outputs, Outputs], Tensor]
    scores: Callable[[Arrays, Arrays, Arrays, tuple[str, ...]], Scores]
    constant: Callable[[Outputs, Mapping[str, int]], dict[str, Tensor]]

    def within(self, score: float, best: float, tolerance: float) -> bool:
        """Is a score as good as `best`, but for a relative tolerance?"""
        return score >= (1 - tolerance) * best if self.higher_is_better else score <= (1 + tolerance) * best

    def best(self, scores: list[float]) -> float:
        """The best of some scores."""
        return max(scores) if self.higher_is_better else min(scores)

    def line(self, scores: Mapping[str, float | None]) -> str:
        """The scores that are shown: "map 35.3 over 10 of 14 classes  map_micro 41.0 %"; "" where there are none.

        A mean over classes says over how many, where some have no positive clip.
        """
        classes = sum(name.startswith("ap_") for name in scores)
        averaged = scores.get("classes_averaged", classes)
        over = {"map": f" over {averaged} of {classes} classes"} if averaged < classes else {}
        shown = {name: scores[name] for name in self.shown if scores.get(name) is not None}
        words = (f"{n.removesuffix('_top1')} {x:.{self.digits}f}{over.get(n, '')}" for n, x in shown.items())
        return "  ".join(words) + self.unit if shown else ""


def _cross_entropies(outputs: Outputs, target: Outputs) -> Tensor:
    """The sum of the heads' cross-entropies; target {head: int64 (B,)}."""
    return sum(F.cross_entropy(out, target[name]) for name, out in outputs.items())


def _binary_cross_entropy(outputs: Outputs, target: Outputs) -> Tensor:
    """Mean over clips and classes; target {head: 0 or 1, (B, c)}. Choice: classes are not weighted."""
    return sum(F.binary_cross_entropy_with_logits(out, target[name].float()) for name, out in outputs.items())


def _squared_error(outputs: Outputs, target: Outputs) -> Tensor:
    """Mean over clips and traits; target {head: (B, 5)}."""
    return sum(F.mse_loss(out, target[name].float()) for name, out in outputs.items())


def _action_scores(outputs: Arrays, target: Arrays, subsets: Arrays, groups: tuple[str, ...]) -> Scores:
    return subset_scores(outputs, target, subsets)


def _pair_scores(outputs: Arrays, target: Arrays, subsets: Arrays, groups: tuple[str, ...], *, pairs) -> Scores:
    return action_head_subset_scores(outputs["action"], pairs[target["action"]], subsets, pairs)


def _behaviour_scores(outputs: Arrays, target: Arrays, subsets: Arrays, groups: tuple[str, ...]) -> Scores:
    out, labels = outputs["behaviour"], target["behaviour"]
    return {name: behaviour_scores(out[kept], labels[kept]) for name, kept in subsets.items()}


def _trait_scores(outputs: Arrays, target: Arrays, subsets: Arrays, groups: tuple[str, ...]) -> Scores:
    out, traits, people = outputs["traits"], target["traits"], np.array(groups, object)
    return {name: trait_scores(out[kept], traits[kept], list(people[kept])) for name, kept in subsets.items()}


def _label_scores(outputs: Arrays, target: Arrays, subsets: Arrays, groups: tuple[str, ...]) -> Scores:
    return {name: label_scores(outputs["label"][kept], target["label"][kept]) for name, kept in subsets.items()}


def _frequencies(target: Outputs, classes: Mapping[str, int]) -> dict[str, Tensor]:
    """Log frequencies of the classes; one that never occurs comes last."""
    counts = {name: torch.bincount(values, minlength=classes[name]).float() for name, values in target.items()}
    return {name: (count / count.sum()).clamp(min=1e-12).log()[None] for name, count in counts.items()}


def _base_rates(target: Outputs, classes: Mapping[str, int]) -> dict[str, Tensor]:
    """Logits of each class's share of positives."""
    rates = {name: values.float().mean(0, keepdim=True) for name, values in target.items()}
    return {name: torch.logit(rate, eps=1e-6) for name, rate in rates.items()}


def _means(target: Outputs, classes: Mapping[str, int]) -> dict[str, Tensor]:
    return {name: values.float().mean(0, keepdim=True) for name, values in target.items()}


# Paper: Sec. 4 names the measures, not the losses. Choice: the plain loss of each kind of target.
_TASKS = (
    Task(
        name="actions", heads=("verb", "noun"), headline="action_top1", higher_is_better=True,
        shown=("verb_top1", "noun_top1", "action_top1"), unit=" %", digits=1,
        loss=_cross_entropies, scores=_action_scores, constant=_frequencies,
    ),
    Task(
        name="behaviours", heads=("behaviour",), headline="map", higher_is_better=True,
        shown=("map", "map_micro"), unit=" %", digits=1,
        loss=_binary_cross_entropy, scores=_behaviour_scores, constant=_base_rates,
    ),
    Task(
        name="traits", heads=("traits",), headline="mse", higher_is_better=False,
        shown=("mse",), unit="", digits=3,
        loss=_squared_error, scores=_trait_scores, constant=_means,
    ),
    Task(
        name="labels", heads=("label",), headline="top1", higher_is_better=True,
        shown=("top1", "mean_class_accuracy"), unit=" %", digits=1,
        loss=_cross_entropies, scores=_label_scores, constant=_frequencies,
    ),
    Task(
        name="pairs", heads=("action",), headline="action_top1", higher_is_better=True,
        shown=("verb_top1", "noun_top1", "action_top1"), unit=" %", digits=1,
        loss=_cross_entropies, scores=_pair_scores, constant=_frequencies,
    ),
)  # fmt: skip
TASKS = {task.name: task for task in _TASKS}


def never_shown(data) -> list[str]:
    """The classes of which no clip of a data set with several labels a clip is positive, by name or number.

    Of another data set none is told: its clips, with one label each, seldom have all.
    """
    if task_of(data).name != "behaviours" or not data.targets:
        return []
    (happens,) = data.targets.values()
    names = getattr(data, "names", [f"class {c}" for c in range(happens.shape[1])])
    return [name for name, shown in zip(names, happens.any(0).tolist(), strict=True) if not shown]


def task_of(data) -> Task:
    """The task of a data set (or a `ClipSet`), by its attribute `task`; a set without one asks for actions.

    That of a head for actions, "pairs", knows which verb and noun each class is: the set's `pairs`.
    """
    name = getattr(data, "task", "actions")
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; known are {', '.join(TASKS)}")
    task = TASKS[name]
    return replace(task, scores=partial(task.scores, pairs=data.pairs)) if name == "pairs" else task
