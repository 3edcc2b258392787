"""Difficulty probes of rooms-dyad: how far words, sound, pictures and all together get, and what the cues would allow.

``python -m cm3t.data.rooms dyad-probes [--data DIR] [--seeds 5] [--out DIR]`` writes one record per probe and seed,
which the data card shows. Small networks of our own with one recipe: they bound what a cue gives away, they are not
tuned against each other. All scores are squared errors over participants (`metrics.trait_scores`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from einops import reduce
from torch import Tensor, nn

from cm3t import config, records
from cm3t.data.rooms.dyad_script import session_cues
from cm3t.data.rooms.dyad_world import Dials, make_people, make_sessions
from cm3t.data.rooms.probes import Tokens, pooled_sound
from cm3t.data.udiva import Udiva
from cm3t.metrics import trait_scores

EPOCHS, BATCH, RATE, DECAY = 15, 32, 2e-3, 0.05
RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
FRAMES, HALVED, PARTS = 8, 2, 80
SPLITS = ("train", "tune", "validation", "test")
INPUTS = {
    "words": ("words",), "sound": ("sound",), "frame": ("frame",), "frames": ("frames",),
    "words+sound": ("words", "sound"), "words+frames": ("words", "frames"), "joint": ("words", "sound", "frames"),
}  # fmt: skip
RIDGE = ("mean", "words_ridge", "words_shuffled", "oracle")
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


class Summed(nn.Module):
    """One branch an input; their outputs (B, 5) are added."""

    def __init__(self, inputs: Inputs, names: tuple[str, ...]):
        super().__init__()
        made = {
            "words": lambda x: nn.Linear(x.shape[-1], 5),
            "sound": lambda x: Sound(x.shape[-1]),
            "frame": lambda x: Pictures(x.shape[1]),
            "frames": lambda x: Pictures(x.shape[1]),
        }
        self.branches = nn.ModuleDict({name: made[name](inputs[name]) for name in names})

    def forward(self, inputs: Inputs) -> Tensor:
        """{name: (B, ...)} -> (B, 5)."""
        return sum(branch(inputs[name]) for name, branch in self.branches.items())


def mean_words(tokens: Tensor) -> Tensor:
    """Utterances (n, L, d) -> (n, d): the mean of those that are there, as long as sqrt(d) at most."""
    count = (tokens.abs().sum(-1, keepdim=True) > 0).sum(1).clamp(min=1)
    return reduce(tokens, "n l d -> n d", "sum") / count * tokens.shape[-1] ** 0.5


def read_inputs(data: Udiva, names: set[str]) -> Inputs:
    """What the probes see of a split: words (n, d), sound (n, L, d), frame (n, 3, h, w), frames (n, 6, h, w).

    frames are the mean and the standard deviation of the clip's pictures over time. What a clip lacks is zero.
    """
    found: Inputs = {}
    if "words" in names:
        found["words"] = mean_words(data.decode_side("transcript")[0])
    if "sound" in names:
        found["sound"] = pooled_sound(data.decode_side("audio")[0], PARTS)
    if names & {"frame", "frames"}:
        small = torch.cat([
            reduce(part.float() / 255, "n c t (h i) (w j) -> n c t h w", "mean", i=HALVED, j=HALVED)
            for part in data.decode_all().split(64)
        ])  # fmt: skip
        found["frame"] = small[:, :, FRAMES // 2]
        found["frames"] = torch.cat([small.mean(2), (4 * small.std(2)).clamp(max=1)], 1)
    return found


def fit(inputs: Inputs, names: tuple[str, ...], target: Tensor, seed: int) -> Summed:
    """Train a probe with AdamW and a one-cycle rate; pictures are mirrored by a coin. In eval mode."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Summed(inputs, names)
    steps = EPOCHS * -(-len(target) // BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(target), generator=generator).split(BATCH):
            batch = {name: inputs[name][rows] for name in names}
            if torch.rand((), generator=generator) < 0.5:
                batch = {k: v.flip(-1) if k.startswith("frame") else v for k, v in batch.items()}
            loss = nn.functional.mse_loss(model(batch), target[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def outputs(model: Summed, inputs: Inputs, count: int) -> np.ndarray:
    """Predictions (n, 5)."""
    places = torch.arange(count).split(128)
    return torch.cat([model({name: inputs[name][rows] for name in model.branches}) for rows in places]).numpy()


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> Callable[[np.ndarray], np.ndarray]:
    """Ridge regression (n, d) -> (n, k), the mean not penalised: a function of new inputs."""
    centre, mean = x.mean(0), y.mean(0)
    inner = (x - centre).T @ (x - centre) + strength * len(x) * np.eye(x.shape[1]) / 100
    weights = np.linalg.solve(inner, (x - centre).T @ (y - mean))
    return lambda new: (new - centre) @ weights + mean


def best_ridge(inputs: dict[str, np.ndarray], splits: dict[str, Udiva]) -> dict[str, np.ndarray]:
    """Predictions {split: (n, 5)} of the ridge regression that is best on tune."""
    target = {name: np.asarray(data.targets["traits"], np.float64) for name, data in splits.items()}
    tried = []
    for strength in RIDGES:
        predict = ridge(inputs["train"], target["train"], strength)
        score = trait_scores(predict(inputs["tune"]), target["tune"], splits["tune"].units)["mse"]
        tried.append((score, strength, predict))
    predict = min(tried, key=lambda one: one[:2])[2]
    return {name: predict(x) for name, x in inputs.items()}


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


def measured(probe: str, seed: int, inputs: dict[str, Inputs], splits: dict[str, Udiva]) -> dict:
    """{split: {subset or control: scores}} of one probe; controls take one input away or exchange it between clips."""
    rng, held = np.random.default_rng([seed, 7]), [s for s in SPLITS if s != "train"]
    if probe in RIDGE:
        if probe == "mean":
            mean = np.asarray(splits["train"].targets["traits"]).mean(0)
            found = {s: np.tile(mean, (len(splits[s]), 1)) for s in held}
        else:
            x = {s: cues_of(splits[s]) if probe == "oracle" else inputs[s]["words"].double().numpy() for s in SPLITS}
            if probe == "words_shuffled":
                x = {s: v[rng.permutation(len(v))] for s, v in x.items()}
            found = best_ridge(x, splits)
        return {s: scored(splits[s], found[s]) for s in held}
    names = INPUTS[probe]
    model = fit(inputs["train"], names, splits["train"].targets["traits"], seed)
    metrics = {}
    for s in held:
        count = len(splits[s])
        metrics[s] = scored(splits[s], outputs(model, inputs[s], count))
        for name in names if len(names) > 1 else ():
            value = inputs[s][name]
            changed = {"shuffled": value[torch.from_numpy(rng.permutation(count))], "muted": torch.zeros_like(value)}
            for control, other in changed.items():
                result = outputs(model, inputs[s] | {name: other}, count)
                metrics[s][f"{control}_{name}"] = scored(splits[s], result)["all"]
    return metrics


def write_record(folder: Path, probe: str, seed: int, metrics: dict, data: Udiva, seconds: float) -> Path:
    """One record ``<probe>-s<seed>.json`` with the four blocks every record has."""
    run = {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "study": "card-dyad",
        "command": f"python -m cm3t.data.rooms dyad-probes --probes {probe}",
        "config": {"data": "rooms-dyad", "method": probe, "seed": seed, "frames": FRAMES},
    }
    recipe = {"epochs": EPOCHS, "batch_size": BATCH, "lr": RATE, "weight_decay": DECAY}
    recipe = {"ridge": list(RIDGES)} if probe in RIDGE else recipe
    train = {"status": "ok", "recipe": recipe, "metrics": metrics, "seconds": round(seconds, 1)}
    record = records.Record(f"{probe}-s{seed}", run, train, records.provenance("cpu", data=data.digest))
    return records.save_record(record, folder)


def measure(root: Path, out: Path, *, probes: tuple[str, ...], seeds: int, log: Callable = print) -> None:
    """Every probe with every seed whose record is not in ``out``; ridge regressions without chance, once."""
    splits = {name: Udiva(root, split=name, frames=FRAMES) for name in SPLITS}
    wanted = {name for probe in probes for name in INPUTS.get(probe, ("words",))}
    inputs = {name: read_inputs(data, wanted) for name, data in splits.items()}
    for probe in probes:
        for seed in range(1 if probe in ("mean", "words_ridge", "oracle") else seeds):
            if (out / f"{probe}-s{seed}.json").is_file():
                continue
            begin = time.perf_counter()
            metrics = measured(probe, seed, inputs, splits)
            write_record(out, probe, seed, metrics, splits["train"], time.perf_counter() - begin)
            shown = [f"{v:.2f}" for k, v in metrics["validation"]["all"].items() if k.startswith("mse")]
            log(f"{probe} seed {seed}: O C E A N and mean on validation: {' '.join(shown)}")


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    known = (*RIDGE, *INPUTS)
    parser = argparse.ArgumentParser(prog="python -m cm3t.data.rooms dyad-probes", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=config.data_dir() / "rooms-dyad")
    parser.add_argument("--out", type=Path, default=config.results_dir() / "records" / "card-dyad")
    parser.add_argument("--probes", nargs="+", default=list(known), choices=known)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    log = lambda line: print(line, flush=True)  # noqa: E731
    measure(options.data, options.out, probes=tuple(options.probes), seeds=options.seeds, log=log)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
