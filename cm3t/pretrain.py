"""Pretraining of a mini backbone on the source set: `python -m cm3t.pretrain --backbone video_swin_mini`.

The paper's backbones come pretrained on Kinetics-400 with labels; ours learn the source set the same way, or, in the
place of CLIP's, by captions (`--protocol contrastive`). The result is a safetensors file, a JSON record (curves,
accuracy by kind of class) and a model card. Stopped at any point, the same command goes on from at most two minutes
before it, to the same weights.
"""

import argparse
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from cm3t import contrastive, records
from cm3t.backbones import NAMES, backbone, clip_of
from cm3t.backbones import weights as weights_file
from cm3t.config import ROOT, RunConfig
from cm3t.data.clip import normalise
from cm3t.data.source import SourceSet
from cm3t.model_card import model_card

SAVE_EVERY = 120.0  # seconds
# Choice: plain transformers take a smaller rate, and more of their epochs at the small size, where one costs a third.
DEFAULTS = {
    "vivit_mini": {"epochs": 30, "lr": 1e-3, "small": 0.7},
    "clip_mini": {"epochs": 24, "lr": 1e-3, "small": 0.75},
}


@dataclass(frozen=True)
class Recipe:
    """How to pretrain. Choice throughout: the paper takes its backbones as they come."""

    backbone: str = "video_swin_mini"
    protocol: str = "supervised"  # or contrastive, with captions
    epochs: int = 20
    batch: int = 32
    lr: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: float = 0.05  # share of all steps
    smoothing: float = 0.1  # of the labels
    small: float = 0.6  # share of the epochs that see two thirds of the side: most of the learning, half of the cost
    crop: float = 0.5  # smallest area of a random crop
    frames: int = 8
    seed: int = 0

    @property
    def stem(self) -> str:
        """Name of what is made: the backbone's, and the protocol's where it is not the usual one."""
        return self.backbone if self.protocol == "supervised" else f"{self.backbone}-{self.protocol}"


def augment(clips: Tensor, recipe: Recipe, side: int, rng: torch.Generator) -> Tensor:
    """uint8 (B, T', H, W, 3) -> uint8 (B, 3, T, side, side): frames, crop, brightness and contrast drawn per clip.

    No flips: left and right tell some classes apart.
    """
    out = []
    for clip in clips:
        area, ratio, top, left, stretch, offset, gain, lift = torch.rand(8, generator=rng).tolist()
        span = recipe.frames + stretch * (len(clip) - recipe.frames)
        first = offset * (len(clip) - span)
        step = torch.arange(recipe.frames) * (span - 1) / (recipe.frames - 1)
        clip = clip[(first + step).round().long()].permute(0, 3, 1, 2)
        scale = (recipe.crop + (1 - recipe.crop) * area) ** 0.5
        h, w = clip.shape[-2:]
        ch, cw = (min(int(s * scale * a), s) for s, a in ((h, 0.9 + 0.2 * ratio), (w, 1.1 - 0.2 * ratio)))
        clip = TF.resized_crop(clip, int(top * (h - ch)), int(left * (w - cw)), ch, cw, [side, side], antialias=True)
        out.append((clip * (0.7 + 0.6 * gain) + 40 * (lift - 0.5)).clamp(0, 255).to(torch.uint8))
    return torch.stack(out).transpose(1, 2)


def centre(clips: Tensor, frames: int, side: int) -> Tensor:
    """uint8 (B, T', H, W, 3) -> uint8 (B, 3, T, side, side): frames spread over the whole clip, no augmentation."""
    index = torch.linspace(0, clips.shape[1] - 1, frames).round().long()
    video = clips[:, index].permute(0, 1, 4, 2, 3)
    if video.shape[-1] != side:
        video = TF.resize(video.flatten(0, 1), [side, side], antialias=True).unflatten(0, video.shape[:2])
    return video.transpose(1, 2)


@torch.no_grad()
def predict(model: nn.Module, data: SourceSet, index: Tensor, recipe: Recipe) -> Tensor:
    """Predicted classes (m,) of the clips at `index`."""
    model.eval()
    side = model.clip[1]
    if not len(index):  # a trial with --limit may hold none out
        return torch.empty(0, dtype=torch.long)
    batches = index.split(64)
    return torch.cat([model(normalise(centre(data.frames[i], recipe.frames, side))).argmax(1) for i in batches])


def score(predicted: Tensor, data: SourceSet, index: Tensor) -> dict[str, float]:
    """Top-1 over all clips at `index`, and over each kind of class (manipulation, mocap, person)."""
    right = (predicted == data.labels[index]).float()
    kinds = data.annotations["kind"].to_numpy()[index.numpy()]
    return {"all": right.mean().item()} | {
        kind: right[torch.from_numpy(kinds == kind)].mean().item() for kind in sorted(set(kinds))
    }


def start(recipe: Recipe, data: SourceSet) -> nn.Module:
    """What is trained: the backbone with a classifier, or with a text tower beside it."""
    if recipe.protocol == "contrastive":
        return contrastive.Towers(recipe.backbone)
    return backbone(recipe.backbone, num_classes=len(data.classes))


def classifier(model: nn.Module, data: SourceSet) -> nn.Module:
    """The backbone with a classifier of the source's classes, the trained one or one of text: to score, to publish."""
    if not isinstance(model, contrastive.Towers):
        return model
    kinds = data.annotations.drop_duplicates("label").sort_values("label")["kind"]
    return contrastive.zero_shot(model, data.classes, list(kinds))


def objective(
    model: nn.Module, video: Tensor, batch: Tensor, data: SourceSet, recipe: Recipe, rng: torch.Generator
) -> tuple[Tensor, int]:
    """(loss, how many clips were told right) of videos (B, 3, T, H, W), the clips `batch` (B,) of the source set."""
    label = data.labels[batch]
    if recipe.protocol == "contrastive":
        rows = data.annotations.iloc[batch.numpy()]
        choices = [contrastive.captions(*pair) for pair in zip(rows["class"], rows["kind"], strict=True)]
        drawn = torch.randint(2**31, (len(choices),), generator=rng).tolist()
        similar = model(video, [texts[n % len(texts)] for texts, n in zip(choices, drawn, strict=True)])
        return contrastive.symmetric_loss(similar, label), int((label[similar.argmax(1)] == label).sum())
    logits = model(video)
    loss = F.cross_entropy(logits, label, label_smoothing=recipe.smoothing)
    return loss, int((logits.argmax(1) == label).sum())


def train_epoch(
    model, optimiser, schedule, data: SourceSet, index: Tensor, recipe: Recipe, epoch: int, within=None, save=None
) -> dict:
    """One pass over the clips at `index`; returns mean loss and training top-1.

    `save` is called every two minutes with what `within` must be for the pass to go on from there.
    """
    rng = torch.Generator().manual_seed(recipe.seed * 10_000 + epoch)
    torch.manual_seed(rng.initial_seed())  # stochastic depth draws from the global generator
    side = clip_of(recipe.backbone)[1]
    if epoch < recipe.small * recipe.epochs:
        side = side * 2 // 3
    model.train()
    batches = index[torch.randperm(len(index), generator=rng)].split(recipe.batch)
    first, loss_sum, right = 0, 0.0, 0
    if within:
        first, loss_sum, right = within["step"], within["loss_sum"], within["right"]
        rng.set_state(within["rng"])
        torch.set_rng_state(within["torch"])
    saved = time.monotonic()
    for step, batch in enumerate(batches[first:], start=first + 1):
        video = normalise(augment(data.frames[batch], recipe, side, rng))
        loss, hits = objective(model, video, batch, data, recipe, rng)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} in epoch {epoch}; lower --lr (now {recipe.lr})")
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        loss_sum += loss.item() * len(batch)
        right += hits
        if save and time.monotonic() - saved >= SAVE_EVERY:
            states = {"rng": rng.get_state(), "torch": torch.get_rng_state()}
            save({"step": step, "loss_sum": loss_sum, "right": right} | states)
            saved = time.monotonic()
    return {"loss": loss_sum / len(index), "train_top1": right / len(index)}


def optimisation(model: nn.Module, recipe: Recipe, steps: int):
    """AdamW without decay on vectors, linear warm-up, then a cosine to zero over `steps`."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98))
    warm = max(1, int(recipe.warmup * steps))

    def factor(step: int) -> float:
        return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / max(1, steps - warm))))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def pretrain(recipe: Recipe, data: SourceSet, out: Path, *, log=print) -> dict:
    """Train to the end, resuming from the checkpoint in `out`; returns the classifier as "model", and the history."""
    torch.manual_seed(recipe.seed)
    model = start(recipe, data)
    train, held_out = data.split("train"), data.split("validation")
    optimiser, schedule = optimisation(model, recipe, recipe.epochs * math.ceil(len(train) / recipe.batch))
    parts = {"model": model, "optimiser": optimiser, "schedule": schedule}
    checkpoint, history, within = out / f"{recipe.stem}.checkpoint.pt", [], None
    if checkpoint.is_file():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["recipe"] != asdict(recipe):
            raise ValueError(f"{checkpoint} belongs to another recipe; remove it or choose another --out")
        history, within = saved["history"], saved["within"]
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        log(f"resuming after epoch {len(history)}" + (f" and {within['step']} steps" if within else ""))

    def save(within: dict | None) -> None:
        state = {name: part.state_dict() for name, part in parts.items()}
        unfinished = checkpoint.with_suffix(".tmp")
        torch.save(state | {"history": history, "within": within, "recipe": asdict(recipe)}, unfinished)
        unfinished.replace(checkpoint)

    for epoch in range(len(history), recipe.epochs):
        began = time.monotonic() - (within["seconds"] if within else 0)

        def save_within(found: dict, began=began) -> None:
            save(found | {"seconds": time.monotonic() - began})

        row = {"epoch": epoch + 1}
        row |= train_epoch(model, optimiser, schedule, data, train, recipe, epoch, within, save_within)
        if (epoch + 1) % 5 == 0 or epoch + 1 == recipe.epochs:
            row["validation"] = score(predict(classifier(model, data), data, held_out, recipe), data, held_out)
        row |= {"seconds": time.monotonic() - began, "finished": datetime.now(UTC).isoformat(timespec="seconds")}
        history.append(row)
        within = None
        save(None)
        log(_line(row, recipe))
    return {"model": classifier(model, data), "history": history}


def _line(row: dict, recipe: Recipe) -> str:
    """What is printed of an epoch."""
    left = row["seconds"] * (recipe.epochs - row["epoch"]) / 60
    held = f"  held out {row['validation']['all']:.3f}" if "validation" in row else ""
    return (
        f"epoch {row['epoch']}/{recipe.epochs}  loss {row['loss']:.3f}  train {row['train_top1']:.3f}{held}"
        f"  {row['seconds']:.0f} s  ETA {left:.0f} min"
    )


def publish(recipe: Recipe, result: dict, data: SourceSet, out: Path) -> Path:
    """Write weights (float16), record and model card of a finished run into `out`; returns the weights' path.

    The record scores the weights as they were written, read back from the file.
    """
    path = out / f"{recipe.stem}.safetensors"
    model, history = result["model"], result["history"]
    about = {"backbone": recipe.backbone, "protocol": recipe.protocol, "classes": data.classes}
    digest = weights_file.save(model, path, metadata=about)
    check = backbone(recipe.backbone, num_classes=len(data.classes), weights=path)
    held_out = data.split("validation")
    predicted = predict(check, data, held_out, recipe)
    run_info = {"created_at": history[-1]["finished"], "study": "pretrain", "config": asdict(recipe)}
    train_info = {
        "status": "ok",
        "epochs": history,
        "seconds": sum(row["seconds"] for row in history),
        "threads": torch.get_num_threads(),
        "clips": {name: len(data.split(name)) for name in ("train", "validation")},
        "metrics": {"validation": {"top1": score(predicted, data, held_out)}},
        "classes": per_class(predicted, data, held_out),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    meta_info = records.provenance(data=data.digest, weights=digest) | {"weights": check.loaded.brief()}
    record = records.Record(f"pretrain--{recipe.stem}", run_info, train_info, meta_info)
    records.save_record(record, out)
    path.with_suffix(".md").write_text(model_card(record), encoding="utf-8")
    return path


def per_class(predicted: Tensor, data: SourceSet, index: Tensor) -> dict[str, float]:
    """Held-out top-1 of every class."""
    labels = data.labels[index]
    right = (predicted == labels).float()
    return {name: round(right[labels == k].mean().item(), 4) for k, name in enumerate(data.classes)}


def ready(configs: Iterable[RunConfig], *, untrained: bool = False) -> tuple[list[RunConfig], dict[str, str]]:
    """(the runs whose weights are there, {weights: what to do} for the others).

    `untrained` keeps the others as well, on random weights: that shows that they run, and nothing about methods.
    """
    found, waiting = [], {}
    for config in configs:
        try:
            if config.weights:
                weights_file.resolve(config.backbone, config.weights)
            found.append(config)
        except weights_file.WeightsError as error:
            waiting[f"{config.backbone}, {config.weights}"] = str(error)
            found += [replace(config, weights=None)] if untrained else []
    return found, waiting


def main(argv: list[str] | None = None) -> None:
    """Command line of `python -m cm3t.pretrain`."""
    parser = argparse.ArgumentParser(prog="python -m cm3t.pretrain", description=__doc__.split("\n")[0])
    parser.add_argument("--backbone", default="video_swin_mini", choices=[n for n in NAMES if n.endswith("mini")])
    parser.add_argument("--protocol", default="supervised", choices=["supervised", "contrastive"])
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "source", help="the generated source set")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "local" / "pretrain")
    parser.add_argument("--limit", type=int, help="at most this many clips a class (to try the recipe)")
    for field in fields(Recipe):
        if field.name not in ("backbone", "protocol"):
            words = f"{field.default}, unless the backbone has its own"
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), help=words)
    given = vars(parser.parse_args(argv))
    chosen = {field.name: value for field in fields(Recipe) if (value := given[field.name]) is not None}
    recipe = Recipe(**DEFAULTS.get(given["backbone"], {}) | chosen)
    given["out"].mkdir(parents=True, exist_ok=True)
    data = SourceSet(given["data"], limit=given["limit"])
    print(f"{len(data.labels)} clips of {len(data.classes)} classes", flush=True)
    result = pretrain(recipe, data, given["out"], log=partial(print, flush=True))
    print(f"wrote {publish(recipe, result, data, given['out'])}")


if __name__ == "__main__":
    main()
