"""What all difficulty probes share: what they are given, a recipe to fit a small network, records, the command line.

A probe reads a room as the study does (`training.sets.open_set`): what it hears is what the study hears, by `SOUNDS`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cm3t import config, records
from cm3t.data.rooms import cards
from cm3t.data.rooms.probe_nets import FRAMES, Frame, Probe, Tokens, halved, pooled_sound, shifted
from cm3t.sides import SOUNDS
from cm3t.training.controls import controls, drop, shuffled
from cm3t.training.sets import ClipSet, open_set, side_tokens
from cm3t.training.tasks import task_of

Loss = Callable[[Tensor, torch.Generator], Tensor]
Outputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a room's probes are trained: the same for each of them, never tuned against each other."""

    epochs: int
    lr: float = 2e-3
    weight_decay: float = 0.05
    batch_size: int = 32
    smoothing: float = 0.0  # of the labels of actions
    dropped: float = 0.0  # of the clips go without a modality, where there are pictures beside it
    kept: int | None = None  # numbers of a modality that meet the pictures in products: `Probe`


@dataclass(frozen=True)
class Design:
    """What one probe is given: a network for pictures, modalities, and whether these are other clips' throughout."""

    pictures: type[nn.Module] | None = None
    side: tuple[str, ...] = ()
    exchanged: bool = False


@dataclass(frozen=True)
class Room:
    """A room and its probes. trivial(train, clips) scores what no network is needed for, by the probe's name."""

    name: str  # kitchen | group
    recipe: Recipe
    designs: dict[str, Design]
    trivial: dict[str, Callable[[ClipSet, ClipSet, int], dict[str, np.ndarray]]]
    seeded: tuple[str, ...]  # probes that chance enters into
    size: int | None = None
    extra: Callable[[ClipSet, Mapping[str, np.ndarray]], dict] = lambda clips, outputs: {}


@lru_cache(maxsize=8)
def _pictures(data) -> Tensor:
    return halved(data.decode_all())


def clips_of(data, design: Design) -> ClipSet:
    """The clips of an opened split as a probe is given them: video (n, 3, [8,] h, w), or (n, 0) if it sees nothing."""
    found = {name: side_tokens(data, name) for name in design.side}
    side = {name: pooled_sound(own.tokens) if name == "audio" else own.tokens for name, own in found.items()}
    video = torch.empty(len(data), 0) if design.pictures is None else _pictures(data)
    if design.pictures is Frame:
        video = video[:, :, video.shape[2] // 2]
    present = {name: own.present for name, own in found.items()}
    clips = ClipSet(video, data.targets, data.subsets, side, present, task=task_of(data).name)
    return shuffled(clips, *design.side) if design.exchanged else clips


def build(design: Design, clips: ClipSet, classes: Mapping[str, int], recipe: Recipe) -> Probe:
    """An untrained network for a design; the clips tell the modalities' widths."""
    pictures = design.pictures() if design.pictures else None
    sides = {name: Tokens(tokens.shape[2]) for name, tokens in clips.side.items()}
    return Probe(dict(classes), pictures, sides, recipe.kept)


def fit(model: nn.Module, clips: int, loss: Loss, recipe: Recipe, *, seed: int) -> nn.Module:
    """Train with AdamW and a one-cycle rate; returns the model in eval mode.

    loss(rows, generator) is that of the clips `rows` (B,) out of `clips`; whatever is drawn for them comes from the
    generator, which draws the order too.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = recipe.epochs * -(-clips // recipe.batch_size)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.lr, total_steps=steps)
    for _ in range(recipe.epochs):
        model.train()
        for rows in torch.randperm(clips, generator=generator).split(recipe.batch_size):
            value = loss(rows, generator)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def fit_clips(model: Probe, clips: ClipSet, recipe: Recipe, *, seed: int) -> Probe:
    """Train a probe on clips; pictures are moved by chance, and modalities beside them dropped."""
    task = task_of(clips)

    def loss(rows: Tensor, generator: torch.Generator) -> Tensor:
        side, present = ({k: v[rows] for k, v in own.items()} for own in (clips.side, clips.present))
        pictures = clips.video[rows]
        if model.pictures is not None:
            pictures, present = shifted(pictures, generator), drop(present, recipe.dropped, generator)
        out, target = model(pictures, side, present), {head: values[rows] for head, values in clips.target.items()}
        if task.name != "actions":
            return task.loss(out, target)
        smooth = dict(label_smoothing=recipe.smoothing)
        return sum(nn.functional.cross_entropy(out[head], target[head], **smooth) for head in out)

    return fit(model, len(clips), loss, recipe, seed=seed)


@torch.no_grad()
def outputs_of(model: Probe, clips: ClipSet) -> dict[str, np.ndarray]:
    """{head: scores (n, classes)} of all clips."""
    parts = []
    for rows in torch.arange(len(clips)).split(64):
        side, present = ({k: v[rows] for k, v in own.items()} for own in (clips.side, clips.present))
        parts.append(model(clips.video[rows], side, present))
    return {head: torch.cat([part[head] for part in parts]).numpy() for head in parts[0]}


def scored(room: Room, clips: ClipSet, outputs: Mapping[str, np.ndarray]) -> dict:
    """Scores of every subset, and in "all" what is the room's own."""
    target, subsets = ({k: v.numpy() for k, v in own.items()} for own in (clips.target, clips.subsets))
    found = task_of(clips).scores(outputs, target, subsets, clips.groups)
    return found | {"all": found["all"] | room.extra(clips, outputs)}


def run(room: Room, probe: str, clips: dict[str, ClipSet], classes: Mapping[str, int], seed: int) -> dict:
    """{split: {subset or control: scores}} of one probe and seed on all splits but train.

    Controls are for a probe of pictures and its own modalities: `training.controls`.
    """
    train, held = clips["train"], {split: own for split, own in clips.items() if split != "train"}
    if probe in room.trivial:
        return {split: scored(room, own, room.trivial[probe](train, own, seed)) for split, own in held.items()}
    design = room.designs[probe]
    torch.manual_seed(seed)
    model = fit_clips(build(design, train, classes, room.recipe), train, room.recipe, seed=seed)
    found = {split: scored(room, own, outputs_of(model, own)) for split, own in held.items()}
    if design.pictures and design.side and not design.exchanged:
        for split, own in held.items():
            found[split] |= {
                name: scored(room, other, outputs_of(model, other))["all"] for name, other in controls(own)
            }
    return found


def splits_of(room: Room, root: Path, design: Design) -> dict:
    """train, tune, validation, opened; and validation's gap levels, which are silent, where no sound is asked for."""
    name = f"rooms-{room.name}"
    common = dict(name=name, root=root, frames=FRAMES, size=room.size, sound=SOUNDS[name])
    splits = {split: open_set(split=split, **common) for split in ("train", "tune", "validation")}
    if "audio" not in design.side:
        splits |= {f"gap{k}": open_set(split="validation", gap=k, **common) for k in splits["validation"].gaps}
    return splits


def measure(room: Room, root: Path, out: Path, *, probes: Sequence[str], seeds: int, log: Callable = print) -> None:
    """Fit every probe with every seed on train and score the other splits; records go into ``out``.

    A seed whose record is there is left out; one of other settings (`cards.settings_of`) is made again.
    """
    for probe in probes:
        todo = list(missing(out, probe, seeds if probe in room.seeded else 1))
        if not todo:
            continue
        design = room.designs.get(probe, Design())
        splits = splits_of(room, root, design)
        clips = {name: clips_of(data, design) for name, data in splits.items()}
        train, headline = splits["train"], task_of(clips["train"]).shown
        for seed in todo:
            begin = time.perf_counter()
            metrics = run(room, probe, clips, train.classes, seed)
            seconds = time.perf_counter() - begin
            write_record(
                out, probe, seed, room=room.name, recipe=asdict(room.recipe), metrics=metrics, digest=train.digest,
                seconds=seconds, frames=FRAMES,
            )  # fmt: skip
            shown = {k: round(metrics["validation"]["all"][k], 1) for k in headline}
            log(f"{probe} seed {seed}: validation {shown}, {seconds:.0f} s")


def missing(folder: Path, probe: str, seeds: int) -> Iterator[int]:
    """Seeds of a probe that have no record in a folder, or one that was made by other settings."""
    for seed in range(seeds):
        path = folder / f"{probe}-s{seed}.json"
        if not path.is_file() or not cards.is_current(json.loads(path.read_text(encoding="utf-8"))):
            yield seed


def write_record(
    folder: Path, probe: str, seed: int, *, room: str, frames: int, recipe: dict, metrics: dict, digest: str,
    seconds: float,
) -> Path:  # fmt: skip
    """One record ``<probe>-s<seed>.json`` with the four blocks every record has."""
    prefix, suffix = _words(room)
    about = {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "study": f"card{suffix}",
        "command": f"python -m cm3t.data.rooms {prefix}probes --probes {probe}",
        "config": {"data": f"rooms-{room}", "method": probe, "seed": seed, "frames": frames}
        | cards.settings_of(f"rooms-{room}", probe),
    }
    train = {"status": "ok", "recipe": recipe, "metrics": metrics, "seconds": round(seconds, 1)}
    record = records.Record(f"{probe}-s{seed}", about, train, records.provenance("cpu", data=digest))
    return records.save_record(record, folder)


def _words(room: str) -> tuple[str, str]:
    """How a room's command begins and its folder of records ends."""
    return ("", "") if room == "kitchen" else (f"{room}-", f"-{room}")


def command(name: str, argv: list[str] | None, *, known: Sequence[str], measure: Callable, about: str) -> int:
    """The command line of the probes of ``rooms-<name>``: measure(root, folder, probes=, seeds=, log=)."""
    prefix, suffix = _words(name)
    parser = argparse.ArgumentParser(prog=f"python -m cm3t.data.rooms {prefix}probes", description=about)
    parser.add_argument("--data", type=Path, default=config.data_dir() / f"rooms-{name}")
    parser.add_argument("--out", type=Path, default=config.results_dir() / "records" / f"card{suffix}")
    parser.add_argument("--probes", nargs="+", default=list(known), choices=known)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    measure(given.data, given.out, probes=tuple(given.probes), seeds=given.seeds, log=partial(print, flush=True))
    return 0
