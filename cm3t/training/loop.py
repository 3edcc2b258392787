"""The training loop, in one piece, and the evaluation."""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from einops import reduce
from torch import Tensor, nn

from cm3t.config import RunConfig
from cm3t.data.clip import MEAN, STD, augment, normalise, unanchor
from cm3t.training.controls import controls, drop, mean_of_draws, others, partly
from cm3t.training.sets import ClipSet, evenly
from cm3t.training.tasks import TASKS, Task, task_of

EVAL_BATCH = 32  # clips; the scores do not depend on it
SHOWN = 512  # clips that the fusion is watched on


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
    With `exchanged`, whose modalities a clip has is drawn anew each epoch, so that no clip is known by them.
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
        started, total, seen = time.perf_counter(), 0.0, 0
        draw = (config.seed, epoch) if config.jitter or config.transform else None
        order = torch.randperm(len(data), generator=rng).split(config.batch_size)
        heard = others(data, seed=epoch) if config.exchanged else torch.arange(len(data))
        for batch, video in data.batches(order, draw):
            video = augmented(video.to(device), rng, config)
            inputs = data.inputs(heard[batch], device)
            if inputs and config.modality_dropout:
                inputs["present"] = drop(inputs["present"], config.modality_dropout, chance)
            target = {name: values[batch].to(device) for name, values in data.target.items()}
            optimizer.zero_grad()
            loss = _descend(model, task, video, inputs, target, config.micro_batch or len(batch))
            if not math.isfinite(loss):
                raise TrainingDiverged(
                    f"the loss is {loss} in epoch {epoch} of {config.method} at lr {config.lr:g}; "
                    "try a smaller lr, or look for values that are not numbers in the data"
                )
            optimizer.step()
            schedule.step()
            total, seen = total + loss * len(batch), seen + len(batch)
        row = {"epoch": epoch, "loss": total / max(seen, 1), "lr": schedule.get_last_lr()[0]}
        row["tune"] = evaluate(model, tune, anchored=config.anchored)["all"] if tune else {}
        history.append(row | {"seconds": time.perf_counter() - started})
        log(epoch_line(history, config.epochs, task))
    return history


def _descend(model: nn.Module, task: Task, video: Tensor, inputs: dict, target: dict, most: int) -> float:
    """The loss of a batch, whose gradient is left in the parameters; so many clips go through the model at a time."""
    total = 0.0
    for part in (slice(start, start + most) for start in range(0, len(video), most)):
        some = {name: {key: tokens[part] for key, tokens in own.items()} for name, own in inputs.items()}
        outputs = model(normalise(video[part], *pixels_of(model)), **some)
        loss = task.loss(outputs, {name: target[name][part] for name in outputs}) * (len(video[part]) / len(video))
        loss.backward()
        total += loss.item()
    return total


def augmented(video: Tensor, rng: torch.Generator, config: RunConfig) -> Tensor:
    """Training clips (B, 3, T, H, W) as `augment` makes them; those that were transformed as they were read stay."""
    if not config.transform:
        return augment(video, rng, anchored=config.anchored)
    return video if config.anchored else unanchor(video, rng)


def evaluate(
    model: nn.Module, data: ClipSet, *, anchored: bool = True, controlled: bool = False, said: dict | None = None
) -> dict[str, dict[str, float]]:
    """{subset: {metric: value, n}} of a model in eval mode, by the clips' task; `said` is given what `predict` gives.

    `controlled` adds, as further subsets, the scores of `all` under every control: no_audio, shuffled_audio,
    muted_audio, .., no_side (`controls.controls`), and as a part of the clips loses a modality (`controls.partly`).
    """
    task = task_of(data)
    target, subsets = ({k: v.numpy() for k, v in tensors.items()} for tensors in (data.target, data.subsets))
    others = dict(controls(data)) if controlled else {}
    outputs = predict_all(model, {"": data} | others, anchored=anchored)
    own = outputs.pop("")
    found = task.scores(own, target, subsets, data.groups)
    if said is not None:
        said.update(own)
    under = {
        name: task.scores(heads, target, {"all": subsets["all"]}, data.groups)["all"]
        for name, heads in (*outputs.items(), *partly(own, outputs))
    }
    found |= mean_of_draws(under)
    return {name: scores for name, scores in found.items() if scores["n"]}  # tune has no unseen participants


def predict(model: nn.Module, data: ClipSet, *, anchored: bool = True) -> dict[str, np.ndarray]:
    """What the heads say of all clips in eval mode: {head: float32 (n, c)}, before softmax or sigmoid.

    Without anchoring every clip is shifted (and flipped) once, the same way for every model.
    Of a clip that cannot be read they say the mean of what they say of the others (`stream`).
    """
    return predict_all(model, {"": data}, anchored=anchored)[""]


@torch.no_grad()
def predict_all(
    model: nn.Module, variants: dict[str, ClipSet], *, anchored: bool = True
) -> dict[str, dict[str, np.ndarray]]:
    """As `predict`, of several sets of the same videos that differ in their modalities; every video is read once."""
    training, device = model.training, next(model.parameters()).device
    model.eval()
    rng = torch.Generator().manual_seed(0)
    data = next(iter(variants.values()))
    read, parts = [], {name: [] for name in variants}
    for batch, video in data.batches(torch.arange(len(data)).split(EVAL_BATCH)):
        video = video.to(device)
        video = normalise(video if anchored else unanchor(video, rng), *pixels_of(model))
        read.append(batch)
        for name, clips in variants.items():
            outputs = model(video, **clips.inputs(batch, device))
            parts[name].append({head: out.cpu() for head, out in outputs.items()})
    model.train(training)
    return {name: _whole(torch.cat(read), found, len(data)) for name, found in parts.items()}


@torch.no_grad()
def fusion_shares(model: nn.Module, data: ClipSet) -> dict[str, dict[str, list[float]]]:
    """Whom the fusion listens to: {modality: {block, from 1: mean weight over clips and tokens, a token frame each}}.

    Of clips that have every modality, SHOWN of them at most, evenly spread, in eval mode; {} where nothing is fused.
    """
    complete = torch.stack(list(data.present.values())).all(0)
    if len(data.side) < 2 or not complete.any():
        return {}
    chosen = evenly(complete, SHOWN)
    training, device = model.training, next(model.parameters()).device
    model.eval()
    found: dict[str, dict[str, list[Tensor]]] = {}
    for batch, video in data.batches(chosen.split(EVAL_BATCH)):
        weights = model.fusion_weights(normalise(video.to(device), *pixels_of(model)), **data.inputs(batch, device))
        for block, own in weights.items():
            for name, values in own.items():
                means = reduce(values, "b t h w -> b t", "mean").cpu()
                found.setdefault(name, {}).setdefault(str(block + 1), []).append(means)
    model.train(training)
    return {name: {block: torch.cat(m).mean(0).tolist() for block, m in own.items()} for name, own in found.items()}


def _whole(read: Tensor, parts: list[dict[str, Tensor]], count: int) -> dict[str, np.ndarray]:
    """Outputs of all clips, {head: (count, c)}, from those that were read: the others have the mean of these."""
    outputs = {head: torch.cat([part[head] for part in parts]) for head in parts[0]}
    if len(read) < count:
        for head, some in outputs.items():
            outputs[head] = some.mean(0, keepdim=True).repeat(count, 1)
            outputs[head][read] = some
    return {head: values.numpy() for head, values in outputs.items()}


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
    scores = task.line(row["tune"])
    scores = f"  tune {scores}" if scores else ""
    return (
        f"epoch {row['epoch']:>3}/{epochs}  loss {row['loss']:.3f}{scores}  "
        f"{row['seconds']:.1f} s, {duration(left)} left"
    )


def duration(seconds: float) -> str:
    """Seconds in words: "42 s", "3.5 min", "2.1 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
