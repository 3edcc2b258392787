"""Difficulty probes of rooms-dyad: how far words, sound, pictures and all together get, and what the cues would allow.

``python -m cm3t.data.rooms dyad-probes [--data DIR] [--seeds 5] [--out DIR]`` writes one record per probe and seed,
which the data card shows. Ridge regressions on simple numbers, and small networks from scratch with one recipe: they
show what at least is to be had of a cue. All scores are squared errors over participants (`metrics.trait_scores`).
A shuffled input is another person's, as in the study's own control: a person's other clips would tell of him.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from einops import reduce
from torch import Tensor, nn

from cm3t.data.rooms import probing
from cm3t.data.rooms.cards import EXCHANGING
from cm3t.data.rooms.dyad_script import session_cues
from cm3t.data.rooms.dyad_world import Dials, make_people, make_sessions
from cm3t.data.rooms.probe_nets import FRAMES, HALVED, Tokens, pooled_sound
from cm3t.data.rooms.probing import Recipe
from cm3t.data.udiva import Udiva
from cm3t.metrics import trait_scores
from cm3t.training.controls import others
from cm3t.training.sets import ClipSet

RECIPE = Recipe(epochs=15)
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)
PARTS, CELLS, BANDS = 80, 14, 32
SPLITS = ("train", "tune", "validation", "test")
# Ridge regressions: the blocks of numbers they see. Networks: the one input they see.
REGRESSIONS = {
    "words": ("words",), "sound": ("levels",), "motion": ("motion",), "words+sound": ("words", "levels"),
    "words+motion": ("words", "motion"), "sound+motion": ("levels", "motion"), "joint": ("words", "levels", "motion"),
}  # fmt: skip
SHUFFLED = {"words_shuffled": "words", "joint_shuffled": "joint"}  # the same on others' words, in training too
NETWORKS = {"sound_network": "sound", "frame_network": "frame", "frames_network": "frames"}
PROBES = ("mean", *SHUFFLED, *REGRESSIONS, "oracle", *NETWORKS)
Inputs = dict[str, Tensor]


class Pictures(nn.Module):
    """Maps float (B, c, H, W) in 0..1 -> (B, 5): a small 2-D convolutional network."""

    def __init__(self, channels: int):
        super().__init__()
        widths, layers = (channels, 24, 48, 64, 64), []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.4), nn.Linear(256, 5))

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, 5)."""
        return self.net(4 * x - 2)


class Sound(nn.Module):
    """Log-mel (B, L, d) -> (B, 5): the kitchen's probe of sound with another head."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = Tokens(channels)
        self.head = nn.Linear(self.body.width, 5)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, d) -> (B, 5)."""
        return self.head(self.body(x))


def mean_words(tokens: Tensor) -> Tensor:
    """Utterances (n, L, d) -> (n, d): the mean of those that are there."""
    count = (tokens.abs().sum(-1, keepdim=True) > 0).sum(1).clamp(min=1)
    return reduce(tokens, "n l d -> n d", "sum") / count


def levels_of(sound: Tensor) -> Tensor:
    """Log-mel (n, L, d) -> (n, 102): mean, deviation and change over time of 32 bands, and quantiles of the level."""
    bands = nn.functional.adaptive_avg_pool1d(sound, BANDS)
    level = bands.mean(-1)
    parts = [bands.mean(1), bands.std(1), bands.diff(dim=1).abs().mean(1)]
    places = torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
    return torch.cat([*parts, torch.quantile(level, places, dim=1).T], 1)


def motion_of(video: Tensor) -> Tensor:
    """Pictures float (n, 3, T, H, W) in 0..1 -> (n, 196): how much 14 x 14 cells change from frame to frame, logarithm.

    Nothing of the looks is left but where they move.
    """
    change = video.mean(1).diff(dim=1).abs().mean(1, keepdim=True)
    return torch.log(0.01 + nn.functional.adaptive_avg_pool2d(change, CELLS)).flatten(1)


def read_inputs(data: Udiva, names: set[str]) -> Inputs:
    """What the probes see of a split: words (n, d), levels (n, k), motion (n, k), sound (n, L, d), frame (n, 3, h, w),
    and frames (n, 6, h, w), the mean and the deviation of the clip's pictures over time. What a clip lacks is zero.
    """
    found: Inputs = {}
    if "words" in names:
        found["words"] = mean_words(data.decode_side("transcript")[0])
    if names & {"sound", "levels"}:
        sound = data.decode_side("audio")[0]
        found["sound"], found["levels"] = pooled_sound(sound, PARTS), levels_of(pooled_sound(sound, 200))
    if names & {"frame", "frames", "motion"}:
        small = torch.cat([
            reduce(part.float() / 255, "n c t (h i) (w j) -> n c t h w", "mean", i=HALVED, j=HALVED)
            for part in data.decode_all().split(64)
        ])  # fmt: skip
        found["frame"], found["motion"] = small[:, :, FRAMES // 2], motion_of(small)
        found["frames"] = torch.cat([small.mean(2), (4 * small.std(2)).clamp(max=1)], 1)
    return found


def fit(name: str, x: Tensor, target: Tensor, seed: int) -> nn.Module:
    """Train a network on one input (n, ...) with AdamW and a one-cycle rate; pictures are mirrored by a coin."""
    torch.manual_seed(seed)
    model = Sound(x.shape[-1]) if name == "sound" else Pictures(x.shape[1])

    def loss(rows: Tensor, generator: torch.Generator) -> Tensor:
        mirror = name != "sound" and torch.rand((), generator=generator) < 0.5
        return nn.functional.mse_loss(model(x[rows].flip(-1) if mirror else x[rows]), target[rows])

    return probing.fit(model, len(target), loss, RECIPE, seed=seed)


@torch.no_grad()
def outputs(model: nn.Module, x: Tensor) -> np.ndarray:
    """Predictions (n, 5) for inputs (n, ...)."""
    return torch.cat([model(part) for part in x.split(128)]).numpy()


def scaled(inputs: dict[str, Inputs], name: str) -> dict[str, np.ndarray]:
    """One block of all splits (n, k): centred and scaled by train, every block as large as the next.

    Words keep the proportions of their places, other numbers are brought to one deviation.
    """
    train = inputs["train"][name].double()
    deviation = train.std() if name == "words" else train.std(0) + 1e-6
    return {
        s: ((x[name].double() - train.mean(0)) / deviation / train.shape[1] ** 0.5).numpy() for s, x in inputs.items()
    }


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> Callable[[np.ndarray], np.ndarray]:
    """Ridge regression (n, d) -> (n, k), the mean not penalised: a function of new inputs."""
    centre, mean = x.mean(0), y.mean(0)
    inner = (x - centre).T @ (x - centre) + strength * len(x) * np.eye(x.shape[1]) / 10_000
    weights = np.linalg.solve(inner, (x - centre).T @ (y - mean))
    return lambda new: (new - centre) @ weights + mean


def best_ridge(inputs: dict[str, np.ndarray], splits: dict[str, Udiva]) -> Callable[[np.ndarray], np.ndarray]:
    """The ridge regression that is best on tune."""
    target = {name: np.asarray(splits[name].targets["traits"], np.float64) for name in ("train", "tune")}
    tried = []
    for strength in RIDGES:
        predict = ridge(inputs["train"], target["train"], strength)
        score = trait_scores(predict(inputs["tune"]), target["tune"], splits["tune"].units)["mse"]
        tried.append((score, strength, predict))
    return min(tried, key=lambda one: one[:2])[2]


def cues_of(data: Udiva) -> np.ndarray:
    """The generator's own cues (n, 7) of every clip's person in its session: what nobody can beat by much."""
    dials = Dials(**{
        name: tuple(value) if isinstance(value, list) else value
        for name, value in json.loads((data.root / "rooms.json").read_text())["dials"].items()
    })  # fmt: skip
    sessions = {s.name: s for s in make_sessions(dials, make_people(dials))}
    rows = []
    for row in data.annotations.itertuples():
        session = sessions[row.session]
        rows.append(list(session_cues(session.people[row.part - 1], session.seed, dials).values()))
    return np.array(rows)


def scored(data: Udiva, predictions: np.ndarray) -> dict:
    """Scores of all clips and of every task."""
    target, groups = np.asarray(data.targets["traits"]), np.array(data.units, object)
    return {
        name: trait_scores(predictions[mask], target[mask], list(groups[mask]))
        for name, mask in ((k, np.asarray(v)) for k, v in data.subsets.items())
        if mask.any()
    }


def of_another(data: Udiva, seed: int) -> np.ndarray:
    """For every clip one of another person (n,), as in `training.controls.others`; the seed draws who gets whose."""
    return others(ClipSet(torch.arange(len(data)), {}, {}, {}, {}, tuple(data.groups), "traits"), seed).numpy()


def measured(probe: str, seed: int, inputs: dict[str, Inputs], splits: dict[str, Udiva]) -> dict:
    """{split: {subset or control: scores}} of one probe; ``seed`` starts networks and exchanges clips."""
    held = [s for s in SPLITS if s != "train"]
    if probe == "mean":
        mean = np.asarray(splits["train"].targets["traits"]).mean(0)
        return {s: scored(splits[s], np.tile(mean, (len(splits[s]), 1))) for s in held}
    if probe in NETWORKS:
        name = NETWORKS[probe]
        model = fit(name, inputs["train"][name], splits["train"].targets["traits"], seed)
        return {s: scored(splits[s], outputs(model, inputs[s][name])) for s in held}
    if probe == "oracle":
        blocks = [{s: cues_of(data) for s, data in splits.items()}]
    else:
        blocks = [scaled(inputs, name) for name in REGRESSIONS[SHUFFLED.get(probe, probe)]]
    donors = {s: of_another(data, seed) for s, data in splits.items()} if probe in EXCHANGING else {}
    if probe in SHUFFLED:  # words are the first block
        blocks[0] = {s: x[donors[s]] for s, x in blocks[0].items()}
    whole = {s: np.concatenate([block[s] for block in blocks], 1) for s in SPLITS}
    predict = best_ridge(whole, splits)
    metrics = {s: scored(splits[s], predict(whole[s])) for s in held}
    for place, name in enumerate(REGRESSIONS[probe] if probe == "joint" else ()):
        for s in held:
            x = blocks[place][s]
            for control, other in (("shuffled", x[donors[s]]), ("muted", np.zeros_like(x))):
                changed = [other if k == place else block[s] for k, block in enumerate(blocks)]
                metrics[s][f"{control}_{name}"] = scored(splits[s], predict(np.concatenate(changed, 1)))["all"]
    return metrics


def write_record(folder: Path, probe: str, seed: int, metrics: dict, data: Udiva, seconds: float) -> Path:
    """The record of one probe and seed."""
    recipe = asdict(RECIPE) if probe in NETWORKS else {"ridge": list(RIDGES)}
    about = dict(room="dyad", frames=FRAMES, recipe=recipe)
    return probing.write_record(folder, probe, seed, metrics=metrics, digest=data.digest, seconds=seconds, **about)


def measure(root: Path, out: Path, *, probes: tuple[str, ...], seeds: int, log: Callable = print) -> None:
    """Every probe with every seed whose record is not in ``out`` (`probing.missing`); those without chance, once."""
    splits = {name: Udiva(root, split=name, frames=FRAMES) for name in SPLITS}
    seen = [*(REGRESSIONS.get(SHUFFLED.get(p, p), ()) for p in probes), [NETWORKS[p] for p in probes if p in NETWORKS]]
    wanted = {name for names in seen for name in names}
    inputs = {name: read_inputs(data, wanted) for name, data in splits.items()}
    for probe in probes:
        for seed in probing.missing(out, probe, seeds if probe in (*NETWORKS, *EXCHANGING) else 1):
            begin = time.perf_counter()
            metrics = measured(probe, seed, inputs, splits)
            write_record(out, probe, seed, metrics, splits["train"], time.perf_counter() - begin)
            shown = [f"{v:.2f}" for k, v in metrics["validation"]["all"].items() if k.startswith("mse")]
            log(f"{probe} seed {seed}: O C E A N and mean on validation: {' '.join(shown)}")


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    return probing.command("dyad", argv, known=PROBES, measure=measure, about=__doc__.splitlines()[0])


if __name__ == "__main__":
    raise SystemExit(main())
