"""The training loop, in one piece, and the evaluation."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cm3t.config import RunConfig
from cm3t.data.clip import augment, normalise, unanchor
from cm3t.metrics import subset_scores

EVAL_BATCH = 32  # clips; the scores do not depend on it


class TrainingDiverged(ArithmeticError):
    """The loss stopped being a number; the message says where, and what to try."""


@dataclass(frozen=True)
class ClipSet:
    """Decoded clips in memory: video uint8 (n, 3, T, H, W), target {head: (n,)}, subsets {name: bool (n,)}."""

    video: Tensor
    target: dict[str, Tensor]
    subsets: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.video)


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

    Paper: Sec. 4 has no recipe. Choice: AdamW, linear warm-up, then a cosine to zero; the sum of the heads'
    cross-entropies; every method sees the same clips under the same augmentation in the same order. The last
    epoch's weights are the result: no epoch is selected. The linear probe could cache its features and does not:
    augmentation changes them.
    """
    history = [] if history is None else history
    device = next(model.parameters()).device
    rng = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), lr=config.lr)
    steps = config.epochs * math.ceil(len(data) / config.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate((step + 0.5) / steps, config.warmup))
    for epoch in range(1, config.epochs + 1):
        model.train()
        started, total = time.perf_counter(), 0.0
        for batch in torch.randperm(len(data), generator=rng).split(config.batch_size):
            video = augment(data.video[batch].to(device), rng, anchored=config.anchored)
            logits = model(normalise(video))
            loss = sum(F.cross_entropy(out, data.target[name][batch].to(device)) for name, out in logits.items())
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
        log(epoch_line(history, config.epochs))
    return history


@torch.no_grad()
def evaluate(model: nn.Module, data: ClipSet, *, anchored: bool = True) -> dict[str, dict[str, float]]:
    """{subset: {verb_top1, noun_top1, action_top1, ..., n}} of a model with heads verb and noun, in eval mode.

    Without anchoring every clip is shifted (and flipped) once, the same way for every model.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    rng = torch.Generator().manual_seed(0)
    parts = []
    for batch in torch.arange(len(data)).split(EVAL_BATCH):
        video = data.video[batch].to(device)
        video = video if anchored else unanchor(video, rng)
        parts.append({name: out.cpu() for name, out in model(normalise(video)).items()})
    model.train(training)
    logits = {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}
    target, subsets = ({k: v.numpy() for k, v in tensors.items()} for tensors in (data.target, data.subsets))
    scores = subset_scores(logits, target, subsets)
    return {name: found for name, found in scores.items() if found["n"]}  # tune has no unseen participants


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


def epochs_to_converge(history: list[dict], tolerance: float = 0.01) -> int | None:
    """The first epoch within 1 % (relative) of the best action accuracy on `tune`; None where nothing was scored.

    Paper: Tables 1 and 4 count epochs without saying how; this is our definition.
    """
    scores = [row["tune"].get("action_top1") for row in history]
    if not scores or None in scores:
        return None
    return next(
        row["epoch"] for row, score in zip(history, scores, strict=True) if score >= (1 - tolerance) * max(scores)
    )


def epoch_line(history: list[dict], epochs: int) -> str:
    """One line on the newest epoch: loss, accuracies on `tune`, seconds, and the time left."""
    row = history[-1]
    left = (epochs - row["epoch"]) * sum(r["seconds"] for r in history) / len(history)
    scores = "  ".join(
        f"{name} {row['tune'][f'{name}_top1']:.1f}" for name in ("verb", "noun", "action") if row["tune"]
    )
    scores = f"  tune {scores} %" if scores else ""
    return (
        f"epoch {row['epoch']:>3}/{epochs}  loss {row['loss']:.3f}{scores}  "
        f"{row['seconds']:.1f} s, {duration(left)} left"
    )


def duration(seconds: float) -> str:
    """Seconds in words: "42 s", "3.5 min", "2.1 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
