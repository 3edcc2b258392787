"""Difficulty probes of rooms-group: how far frames, sound, and both together get, with controls.

``python -m cm3t.data.rooms group-probes [--data DIR] [--seeds 5] [--out DIR]`` writes one record per probe and seed,
which the data card shows. Small networks of our own, trained from scratch by one recipe: they bound what a cue tells.
The joint network is scored again with the sound left out, silenced, and of another clip; "shuffled" is trained on
other clips' sound too, so that only chance remains of what it could add.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from einops import reduce
from torch import Tensor, nn

from cm3t.data.mpiigi import MpiiGroupInteraction
from cm3t.data.rooms import probing
from cm3t.data.rooms.probes import Frame, Tokens, pooled_sound, shifted
from cm3t.data.rooms.probing import Recipe
from cm3t.metrics import behaviour_scores

RECIPE = Recipe(epochs=25)
FRAMES, SIDE, HALVED = 8, 96, 2  # pictures of 96 x 96 pixels are averaged over 2 x 2
HIDDEN, HEARD = 64, 8  # widths where pictures and sound meet, and of what is kept of the sound
PROBES = ("chance", "sound", "frame", "frames", "joint", "shuffled")
CONTROLS = ("no_audio", "shuffled_audio", "muted_audio")
SPLITS = ("train", "tune", "validation")


class Stack(nn.Module):
    """All frames at once, uint8 (B, 3, T, H, W) -> (B, 96 * 9): what stays in colour, what moves in grey, then 2-D."""

    width = 96 * 9

    def __init__(self, frames: int = FRAMES):
        super().__init__()
        widths, layers = (3 + frames, 32, 64, 96, 96), []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(0.3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) uint8 -> (B, width)."""
        x = x.float() / 127.5 - 1
        still, grey = x.mean(2), x.mean(1)
        return self.net(torch.cat([still, 4 * (grey - grey.mean(1, keepdim=True))], 1))


class Probe(nn.Module):
    """Fourteen scores from pictures, sound or both; the two meet in sums of scores and products of features.

    Shapes: pictures uint8 (B, 3, [T,] H, W) or None, sound float (B, L, d) or None, present bool (B,) -> (B, classes).
    """

    def __init__(self, classes: int, *, pictures: nn.Module | None = None, sound: nn.Module | None = None):
        super().__init__()
        self.pictures, self.sound = pictures, sound
        if pictures is not None:
            self.by_sight = nn.Linear(pictures.width, classes)
        if sound is not None and pictures is None:
            self.narrow, self.by_ear = nn.Identity(), nn.Linear(sound.width, classes)
        elif sound is not None:  # few numbers: with many, the two together learn the training clips by heart
            self.narrow = nn.Sequential(nn.Linear(sound.width, HEARD), nn.Tanh(), nn.Dropout(0.2))
            self.by_ear = nn.Linear(HEARD, classes)
            self.see = nn.Sequential(nn.Linear(pictures.width, HIDDEN), nn.LayerNorm(HIDDEN), nn.ReLU())
            self.hear = nn.Linear(HEARD, HIDDEN)
            self.both = nn.Linear(HIDDEN, classes)

    def forward(self, pictures: Tensor | None, sound: Tensor | None, present: Tensor) -> Tensor:
        """Scores (B, classes); a clip without sound is scored by its pictures alone."""
        seen = None if self.pictures is None else self.pictures(pictures)
        scores = 0.0 if seen is None else self.by_sight(seen)
        if self.sound is None:
            return scores
        there = present[:, None].float()
        heard = self.narrow(self.sound(sound)) * there
        scores = scores + self.by_ear(heard)
        return scores if seen is None else scores + self.both(self.see(seen) * self.hear(heard)) * there


def fit(model: Probe, pictures, sound, present: Tensor, target: Tensor, seed: int) -> Probe:
    """Train with AdamW and a one-cycle rate; returns it in eval mode. Arguments as `Probe`, target (n, classes)."""

    def loss(rows: Tensor, generator: torch.Generator) -> Tensor:
        x = None if pictures is None else shifted(pictures[rows], generator)
        y = None if sound is None else sound[rows]
        return nn.functional.binary_cross_entropy_with_logits(model(x, y, present[rows]), target[rows])

    return probing.fit(model, len(target), loss, RECIPE, seed=seed)


@torch.no_grad()
def scores_of(model: Probe, pictures, sound, present: Tensor) -> np.ndarray:
    """Scores (n, classes) of all clips."""
    parts = []
    for rows in torch.arange(len(present)).split(64):
        x, y = (None if z is None else z[rows] for z in (pictures, sound))
        parts.append(model(x, y, present[rows]))
    return torch.cat(parts).numpy()


class Inputs:
    """A split's pictures (n, 3, T, H, W), sound (n, 40, mels), presence (n,) and labels (n, 14), in memory."""

    def __init__(self, root: Path, split: str, pictures: bool, sound: bool):
        self.data = MpiiGroupInteraction(root, split=split, frames=FRAMES, size=SIDE)
        self.target = self.data.targets["behaviour"]
        self.present = torch.ones(len(self.data), dtype=torch.bool)
        self.pictures = self.sound = None
        if pictures:
            videos = self.data.decode_all().split(64)
            halves = [reduce(v.float(), "b c t (h i) (w j) -> b c t h w", "mean", i=HALVED, j=HALVED) for v in videos]
            self.pictures = torch.cat([half.byte() for half in halves])
        if sound:
            tokens, self.present = self.data.decode_side("audio")
            self.sound = pooled_sound(tokens)

    def seen(self, probe: str) -> Tensor | None:
        """The pictures a probe is given."""
        if probe == "sound":
            return None
        return self.pictures[:, :, FRAMES // 2] if probe == "frame" else self.pictures

    def heard(self, probe: str) -> Tensor | None:
        """The sound a probe is given; that of another clip for "shuffled"."""
        if probe in ("frame", "frames"):
            return None
        return self.sound[permuted(self.present)] if probe == "shuffled" else self.sound

    def scored(self, scores: np.ndarray) -> dict:
        """Metrics of every subset."""
        target = self.target.numpy()
        return {name: behaviour_scores(scores[m.numpy()], target[m.numpy()]) for name, m in self.data.subsets.items()}


def permuted(present: Tensor) -> Tensor:
    """Indices (n,) that exchange the sound of the clips that have one, each for another's."""
    order = torch.arange(len(present))
    there = torch.nonzero(present)[:, 0]
    ring = there[torch.randperm(len(there), generator=torch.Generator().manual_seed(0))]
    order[ring] = ring.roll(1)
    return order


def controls(model: Probe, inputs: Inputs) -> dict:
    """The joint network without sound, with another clip's, and with silence."""
    nothing = torch.zeros_like(inputs.present)
    variants = {
        "no_audio": (inputs.sound, nothing),
        "shuffled_audio": (inputs.sound[permuted(inputs.present)], inputs.present),
        "muted_audio": (torch.zeros_like(inputs.sound), inputs.present),
    }
    return {
        name: inputs.scored(scores_of(model, inputs.pictures, sound, present))["all"]
        for name, (sound, present) in variants.items()
    }


def run(probe: str, inputs: dict[str, Inputs], seed: int) -> dict:
    """Metrics {split: {subset or control: {..}}} of one probe and seed."""
    train = inputs["train"]
    classes = train.target.shape[1]
    if probe == "chance":
        draw = np.random.default_rng(seed)
        return {split: inputs[split].scored(draw.random(inputs[split].target.shape)) for split in SPLITS[1:]}
    torch.manual_seed(seed)
    pictures = None if probe == "sound" else Frame() if probe == "frame" else Stack()
    sound = Tokens(train.sound.shape[2]) if probe not in ("frame", "frames") else None
    model = Probe(classes, pictures=pictures, sound=sound)
    fit(model, train.seen(probe), train.heard(probe), train.present, train.target, seed)
    found = {}
    for split in SPLITS[1:]:
        x = inputs[split]
        found[split] = x.scored(scores_of(model, x.seen(probe), x.heard(probe), x.present))
        if probe == "joint":
            found[split] |= controls(model, x)
    return found


def write_record(folder: Path, probe: str, seed: int, metrics: dict, digest: str, seconds: float) -> Path:
    """The record of one probe and seed."""
    about = dict(study="card-group", room="rooms-group", command="group-probes", frames=FRAMES, recipe=asdict(RECIPE))
    return probing.write_record(folder, probe, seed, metrics=metrics, digest=digest, seconds=seconds, **about)


def measure(root: Path, out: Path, *, probes: tuple[str, ...], seeds: int, log: Callable = print) -> None:
    """Fit every probe with every seed on train, score tune and validation; a seed whose record is there is left out."""
    pictures = bool({"frame", "frames", "joint", "shuffled"} & set(probes))
    inputs = {split: Inputs(root, split, pictures, sound=True) for split in SPLITS}
    digest = inputs["train"].data.digest
    for seed in range(seeds):
        for probe in (probe for probe in probes if not (out / f"{probe}-s{seed}.json").is_file()):
            begin = time.perf_counter()
            metrics = run(probe, inputs, seed)
            write_record(out, probe, seed, metrics, digest, time.perf_counter() - begin)
            shown = {k: round(v["map"], 1) for k, v in metrics["validation"].items()}
            log(f"{probe} seed {seed}: validation map {shown}, {time.perf_counter() - begin:.0f} s", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    return probing.command("group", argv, known=PROBES, measure=measure, about=__doc__.splitlines()[0])


if __name__ == "__main__":
    raise SystemExit(main())
