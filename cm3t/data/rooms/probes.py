"""Difficulty probes: how far one frame, the sound alone or the motion alone gets on a data set in EPIC's layout.

``python -m cm3t.data.rooms.probes [--data DIR] [--seeds 5] [--out DIR]`` writes one record per probe and seed, which
the data card shows beside the linear probe, training from scratch and full fine-tuning. Small networks of our own, the
same recipe for each: they bound what a cue gives away, they are not tuned against each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from cm3t.data.epic import EpicKitchens
from cm3t.data.rooms import probing
from cm3t.data.rooms.probing import Recipe
from cm3t.metrics import subset_scores

RECIPE = Recipe(epochs=12, weight_decay=0.02)
FRAMES, HALVED = 8, 2  # pictures are averaged over 2 x 2 pixels: enough for a bound, four times cheaper


class TwoHeads(nn.Module):
    """``body`` (B, ...) -> (B, width), then a classifier for verbs and one for nouns."""

    def __init__(self, body: nn.Module, width: int, classes: dict[str, int]):
        super().__init__()
        self.body = body
        self.heads = nn.ModuleDict({name: nn.Linear(width, count) for name, count in classes.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """{head: scores (B, classes)}."""
        features = self.body(x)
        return {name: head(features) for name, head in self.heads.items()}


class Frame(nn.Module):
    """One frame, uint8 (B, 3, H, W) -> (B, 96 * 9): a small 2-D convolutional network with a 3 x 3 map."""

    width = 96 * 9

    def __init__(self):
        super().__init__()
        widths = (3, 24, 48, 96, 96)
        layers = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(0.3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, width)."""
        return self.net(x.float() / 127.5 - 1)


class Frames(nn.Module):
    """All frames, uint8 (B, 3, T, H, W) -> (B, 96 * 9): the same per frame, with convolutions over time between."""

    width = 96 * 9

    def __init__(self):
        super().__init__()
        widths = (3, 24, 48, 96, 96)
        layers = []
        for k, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
            layers += [
                nn.Conv3d(before, after, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
                nn.BatchNorm3d(after),
                nn.ReLU(),
            ]
            if k:
                layers += [nn.Conv3d(after, after, (3, 1, 1), padding=(1, 0, 0)), nn.BatchNorm3d(after), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool3d((1, 3, 3)), nn.Flatten(), nn.Dropout(0.3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) uint8 -> (B, width)."""
        return self.net(x.float() / 127.5 - 1)


class Tokens(nn.Module):
    """A sequence float (B, L, d) -> (B, 128): convolutions over time, then mean and maximum."""

    width = 256

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.net = nn.Sequential(
            nn.Conv1d(channels, 128, 3, padding=1), nn.BatchNorm1d(128), nn.ReLU(),
            nn.Conv1d(128, 128, 3, padding=1), nn.BatchNorm1d(128), nn.ReLU(),
        )  # fmt: skip
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, d) -> (B, width)."""
        y = self.net(self.norm(rearrange(x.float(), "b l d -> b d l")))
        return self.drop(torch.cat([reduce(y, "b c l -> b c", "mean"), reduce(y, "b c l -> b c", "max")], 1))


def pooled_sound(tokens: Tensor, parts: int = 40) -> Tensor:
    """Log-mel (n, L, d) -> (n, parts, d), averaged over equal spans."""
    return rearrange(nn.functional.adaptive_avg_pool1d(rearrange(tokens, "n l d -> n d l"), parts), "n d l -> n l d")


def shifted(x: Tensor, generator: torch.Generator, most: int = 3) -> Tensor:
    """Pictures (B, ..., H, W), all moved by one random offset of up to ``most`` pixels (edges repeat)."""
    down, right = (int(v) for v in torch.randint(-most, most + 1, (2,), generator=generator))
    h = (torch.arange(x.shape[-2]) + down).clamp(0, x.shape[-2] - 1)
    w = (torch.arange(x.shape[-1]) + right).clamp(0, x.shape[-1] - 1)
    return x[..., h, :][..., w]


def fit(
    body: nn.Module, inputs: Tensor, targets: dict[str, Tensor], classes: dict[str, int], *, seed: int, pictures: bool
):
    """Train a probe with AdamW and a one-cycle rate on ``inputs`` (n, ...); returns it in eval mode."""
    torch.manual_seed(seed)
    model = TwoHeads(body, body.width, classes)

    def loss(rows: Tensor, generator: torch.Generator) -> Tensor:
        x = shifted(inputs[rows], generator) if pictures else inputs[rows]
        smooth = dict(label_smoothing=0.05)
        return sum(nn.functional.cross_entropy(s, targets[h][rows], **smooth) for h, s in model(x).items())

    return probing.fit(model, len(inputs), loss, RECIPE, seed=seed)


@torch.no_grad()
def scores_of(model: TwoHeads, inputs: Tensor) -> dict[str, np.ndarray]:
    """{head: scores (n, classes)} of all inputs."""
    parts = [model(x) for x in inputs.split(64)]
    return {head: torch.cat([p[head] for p in parts]).numpy() for head in parts[0]}


def _inputs(data: EpicKitchens, probe: str) -> Tensor:
    if probe == "sound":
        return pooled_sound(data.decode_side("audio")[0])
    if probe == "flow":
        return data.decode_side("flow")[0]
    videos = data.decode_all()
    if probe == "frame":
        videos = videos[:, :, FRAMES // 2 : FRAMES // 2 + 1]
    small = torch.cat(
        [
            reduce(v.float(), "b c t (h i) (w j) -> b c t h w", "mean", i=HALVED, j=HALVED).byte()
            for v in videos.split(64)
        ]
    )
    return small[:, :, 0] if probe == "frame" else small


BODIES: dict[str, Callable[[Tensor], nn.Module]] = {
    "frame": lambda x: Frame(),
    "frames": lambda x: Frames(),
    "sound": lambda x: Tokens(x.shape[2]),
    "flow": lambda x: Tokens(x.shape[2]),
}


def majority(train: EpicKitchens, splits: dict[str, EpicKitchens]) -> dict:
    """Metrics of always saying the most frequent verb and noun of ``train``."""
    best = {head: int(torch.as_tensor(train.targets[head]).mode().values) for head in ("verb", "noun")}
    metrics = {}
    for name, data in splits.items():
        scores = {h: np.eye(data.classes[h])[[best[h]] * len(data)] for h in best}
        metrics[name] = _scored(data, scores)
    return metrics


def _scored(data: EpicKitchens, scores: dict[str, np.ndarray]) -> dict:
    targets = {head: np.asarray(data.targets[head]) for head in ("verb", "noun")}
    return subset_scores(scores, targets, {name: np.asarray(mask) for name, mask in data.subsets.items()})


def open_splits(root: Path, probe: str) -> dict[str, EpicKitchens]:
    """train, tune, validation and, for pictures and flow, the gap levels that are there."""
    splits = {name: EpicKitchens(root, split=name, frames=FRAMES) for name in ("train", "tune", "validation")}
    level = 1
    while probe != "sound" and (root / f"gap{level}").is_dir():
        splits[f"gap{level}"] = EpicKitchens(root, split="validation", frames=FRAMES, gap=level)
        level += 1
    return splits


def write_record(folder: Path, probe: str, seed: int, metrics: dict, data: EpicKitchens, seconds: float) -> Path:
    """The record of one probe and seed."""
    about = dict(study="card", room="rooms-kitchen", command="probes", frames=FRAMES, recipe=asdict(RECIPE))
    return probing.write_record(folder, probe, seed, metrics=metrics, digest=data.digest, seconds=seconds, **about)


def measure(root: Path, out: Path, *, probes: tuple[str, ...], seeds: int, log: Callable = print) -> None:
    """Fit every probe with every seed on train, score tune, validation and gaps; records go into ``out``.

    A seed whose record is there is left out.
    """
    for probe in probes:
        splits = open_splits(root, probe)
        train = splits["train"]
        if probe == "majority":
            metrics = majority(train, {k: v for k, v in splits.items() if k != "train"})
            write_record(out, probe, 0, metrics, train, 0.0)
            log(f"majority: {metrics['validation']['all']}")
            continue
        inputs = {name: _inputs(data, probe) for name, data in splits.items()}
        targets = {head: torch.as_tensor(train.targets[head]) for head in ("verb", "noun")}
        for seed in (seed for seed in range(seeds) if not (out / f"{probe}-s{seed}.json").is_file()):
            begin = time.perf_counter()
            torch.manual_seed(seed)
            body = BODIES[probe](inputs["train"])
            model = fit(body, inputs["train"], targets, train.classes, seed=seed, pictures=probe in ("frame", "frames"))
            metrics = {k: _scored(splits[k], scores_of(model, inputs[k])) for k in splits if k != "train"}
            write_record(out, probe, seed, metrics, train, time.perf_counter() - begin)
            top = {k: round(metrics["validation"]["all"][f"{k}_top1"], 1) for k in ("verb", "noun", "action")}
            log(f"{probe} seed {seed}: validation {top}, {time.perf_counter() - begin:.0f} s")


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    return probing.command("kitchen", argv, known=("majority", *BODIES), measure=measure, about=__doc__.splitlines()[0])


if __name__ == "__main__":
    raise SystemExit(main())
