"""The training loop, in one piece, and the evaluation."""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from cm3t.config import RunConfig
from cm3t.controls import controls, drop
from cm3t.data.clip import MEAN, STD, augment, normalise, unanchor
from cm3t.sets import ClipSet
from cm3t.tasks import TASKS, Task, task_of

EVAL_BATCH = 32  # clips; the scores do not depend on it


class TrainingDiverged(ArithmeticError):
    """The loss stopped being a number; the message says where, and what to try."""


def fit(
    model: nn.Module,
    data: ClipSet,
    config: RunConfig,
    *,
    tune: ClipSet | None = None,
    history: list[dict] | None = None,
    log: Callable[[str], None] = print,
) -> list[dict]:
    """Train what trains, for `config.epochs`; one row {epoch, loss, lr, seconds, tune} an epoch.

    Rows are appended to `history` as they are made, so that an interrupted run keeps them.
    Raises TrainingDiverged when the loss is no longer finite.

    Paper: Sec. 4 has no recipe. Choice: AdamW, linear warm-up, then a cosine to zero; the loss of the clips' task;
    every method sees the same clips under the same augmentation in the same order. The last epoch's weights are the
    result: no epoch is selected. The linear probe could cache its features and does not: augmentation changes them.
    """
    history = [] if history is None else history
    task, device = task_of(data), next(model.parameters()).device
    # Two generators, so that modality dropout leaves the order of the clips and their augmentation as they are.
    rng, chance = (torch.Generator().manual_seed(config.seed + offset) for offset in (0, 2**31))
    optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.lr)
    steps = config.epochs * math.ceil(len(data) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate((step + 0.5) / steps, config.warmup))
    for epoch in range(1, config.epochs + 1):
        model.train()
        started, total = time.perf_counter(), 0.0
        for batch in torch.randperm(len(data), generator=rng).split(config.batch_size):
            video = augment(data.video[batch].to(device), rng, anchored=config.anchored)
            inputs = data.inputs(batch, device)
            if inputs and config.modality_dropout:
                inputs["present"] = drop(inputs["present"], config.modality_dropout, chance)
            outputs = model(normalise(video, *pixels_of(model)), **inputs)
            loss = task.loss(outputs, {name: data.target[name][batch].to(device) for name in outputs})
            if not math.isfinite(loss.item()):
                raise TrainingDiverged(
                    f"the loss is {loss.item()} in epoch {epoch} of {config.method} at lr {config.lr:g}; "
                    "try a smaller lr, or look for values that are not numbers in the data"
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        row = {"epoch": epoch, "loss": total / len(data), "lr": schedule.get_last_lr()[0]}
        row["tune"] = evaluate(model, tune, anchored=config.anchored)["all"] if tune else {}
        history.append(row | {"seconds": time.perf_counter() - started})
        log(epoch_line(history, config.epochs, task))
    return history


def evaluate(
    model: nn.Module, data: ClipSet, *, anchored: bool = True, controlled: bool = False
) -> dict[str, dict[str, float]]:
    """{subset: {metric: value, n}} of a model in eval mode, by the clips' task.

    `controlled` adds, as further subsets, the scores of `all` under every control: no_audio, shuffled_audio,
    muted_audio, .., no_side (`controls.controls`).
    """
    task = task_of(data)
    target, subsets = ({k: v.numpy() for k, v in tensors.items()} for tensors in (data.target, data.subsets))
    found = task.scores(predict(model, data, anchored=anchored), target, subsets, data.groups)
    for name, clips in controls(data) if controlled else ():
        everything = {"all": subsets["all"]}
        found[name] = task.scores(predict(model, clips, anchored=anchored), target, everything, data.groups)["all"]
    return {name: scores for name, scores in found.items() if scores["n"]}  # tune has no unseen participants


@torch.no_grad()
def predict(model: nn.Module, data: ClipSet, *, anchored: bool = True) -> dict[str, np.ndarray]:
    """What the heads say of all clips in eval mode: {head: float32 (n, c)}, before softmax or sigmoid.

    Without anchoring every clip is shifted (and flipped) once, the same way for every model.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    rng = torch.Generator().manual_seed(0)
    parts = []
    for batch in torch.arange(len(data)).split(EVAL_BATCH):
        video = data.video[batch].to(device)
        video = video if anchored else unanchor(video, rng)
        outputs = model(normalise(video, *pixels_of(model)), **data.inputs(batch, device))
        parts.append({name: out.cpu() for name, out in outputs.items()})
    model.train(training)
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def pixels_of(model: nn.Module) -> tuple:
    """(mean, std) per colour that a model's backbone wants its videos normalised by; ImageNet's where it is silent."""
    return getattr(getattr(model, "backbone", model), "pixels", (MEAN, STD))


def rate(progress: float, warmup: float) -> float:
    """Learning rate as a fraction of its peak, after a share `progress` of all steps: warm-up, then cosine to 0."""
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """What trains, in two groups: with weight decay, and without.

    Choice: only matrices that multiply activations decay. Biases, norms and the adapters' scales do not; nor do prefix
    embeddings and relative position biases, which are values themselves, not maps.
    """
    exempt = ("bias", "scale", "embedding", "bias_table")
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    decays = {name: p.ndim > 1 and not name.endswith(exempt) for name, p in trained.items()}
    return [
        {"params": [p for name, p in trained.items() if decays[name]], "weight_decay": weight_decay},
        {"params": [p for name, p in trained.items() if not decays[name]], "weight_decay": 0.0},
    ]


def epochs_to_converge(history: list[dict], task: Task = TASKS["actions"], *, tolerance: float = 0.01) -> int | None:
    """The first epoch within 1 % (relative) of the best headline score on `tune`; None where nothing was scored.

    Paper: Tables 1 and 4 count epochs without saying how; this is our definition.
    """
    scores = [row["tune"].get(task.headline) for row in history]
    if not scores or None in scores:
        return None
    best = task.best(scores)
    return next(row["epoch"] for row, score in zip(history, scores, strict=True) if task.within(score, best, tolerance))


def epoch_line(history: list[dict], epochs: int, task: Task = TASKS["actions"]) -> str:
    """One line on the newest epoch: loss, the task's scores on `tune`, seconds, and the time left."""
    row = history[-1]
    left = (epochs - row["epoch"]) * sum(r["seconds"] for r in history) / len(history)
    shown = {name: row["tune"][name] for name in task.shown if row["tune"].get(name) is not None}
    scores = "  ".join(f"{name.removesuffix('_top1')} {score:.{task.digits}f}" for name, score in shown.items())
    scores = f"  tune {scores}{task.unit}" if scores else ""
    return (
        f"epoch {row['epoch']:>3}/{epochs}  loss {row['loss']:.3f}{scores}  "
        f"{row['seconds']:.1f} s, {duration(left)} left"
    )


def duration(seconds: float) -> str:
    """Seconds in words: "42 s", "3.5 min", "2.1 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
