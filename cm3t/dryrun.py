"""What runs need and what they would take, found without running them: `--dry-run` of cm3t.train and cm3t.run.

Everything is looked for before anything is said, so that the list of what is missing is whole.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch

from cm3t.backbones import names, weights
from cm3t.config import RunConfig, cache_dir, config_hash, has_first_step, local_dir, records_dir, vision_run
from cm3t.cost import cost_of
from cm3t.data.expected import TABLES, tables_missing
from cm3t.data.folder import VideoFolder
from cm3t.data.folder_check import check_folder
from cm3t.data.media import MediaError
from cm3t.data.tables import MissingFiles
from cm3t.model import create
from cm3t.records import find_record
from cm3t.training.loop import duration
from cm3t.training.sets import clip_of, open_set, set_options
from cm3t.words import counted, listed

TRIED = 4  # clips of a split whose pictures and modalities are read
TRIED_OWN = 32  # of somebody's own videos, which nobody else has looked at
WORKER = 0.6e9  # bytes of a process that reads
# Passes as dear as a forward one that a clip takes in training: forward, back to the inputs, back to all weights.
PASSES = {"head": 1, "plugins": 2, "all": 3, "scratch": 3}


@dataclass
class Found:
    """What was found: problems, each a line, and what the runs of each reading of a data set know of it."""

    missing: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    clips: dict[str, dict[str, int]] = field(default_factory=dict)  # {reading: {split: clips}}
    tokens: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)  # {reading: {modality: (L, d)}}
    rate: dict[str, float] = field(default_factory=dict)  # {reading: clips a second and process}

    def lacks(self, problem: object) -> None:
        """Note a problem, once."""
        if str(problem) not in self.missing:
            self.missing.append(str(problem))


def check(configs: Iterable[RunConfig], out: str | Path | None = None, log: Callable[[str], None] = print) -> int:
    """Say what the runs of `configs` need and would take; 0 where nothing is missing, else 2, and the list of it."""
    configs = list(configs)
    firsts = [vision_run(config) for config in configs if has_first_step(config)]
    configs = list({config_hash(config): config for config in (*firsts, *configs)}.values())
    found = Found()
    readings: dict[str, list[RunConfig]] = {}
    for config in configs:
        readings.setdefault(_reading(config), []).append(config)
    for reading, sharing in readings.items():
        _look(reading, sharing, found)
    for backbone, name in sorted({(c.backbone, c.weights) for c in configs if c.weights}):
        if problem := weights_missing(backbone, name):
            found.lacks(problem)
    _estimate(configs, Path(out) if out else local_dir(configs[0].profile), found)
    log(f"dry run of {counted(len(configs), 'run')}, first steps of runs with a side included")
    for line in found.said:
        log(line)
    log(f"missing ({len(found.missing)}):" if found.missing else "nothing is missing")
    for problem in found.missing:
        log("  - " + problem.replace("\n", "\n    "))
    return 2 if found.missing else 0


def _reading(config: RunConfig) -> str:
    """What is opened for a run; the seed and the limit choose among the same clips, and are left out."""
    splits = {
        split: {name: value for name, value in options.items() if name not in ("seed", "limit")}
        for split, options in set_options(config).items()
    }
    return json.dumps(splits, sort_keys=True, default=str)


def _most(limits: Iterable[int | None]) -> int | None:
    """The largest limit, None being none."""
    limits = list(limits)
    return None if None in limits else max(limits)


def _own(config: RunConfig, clips: dict[str, int]) -> dict[str, int]:
    """The clips of each split that a run takes of those that were found."""
    limits = {split: options["limit"] for split, options in set_options(config).items()}
    return {split: count if limits.get(split) is None else min(count, limits[split]) for split, count in clips.items()}


def _look(reading: str, configs: list[RunConfig], found: Found) -> None:
    """Open every split, read a few clips of each, and note what is missing."""
    first, sides = configs[0], sorted({name for config in configs for name in config.side})
    if first.data == "folder" and not _look_through(first, found):
        return
    there = first.root and Path(first.root).is_dir()  # where it is not, the reader tells what it expects
    absent = list(tables_missing(first.data, first.root)) if there else []
    for path in absent:
        found.lacks(f"{path} (a table of {first.data})")
    clips, tokens = found.clips.setdefault(reading, {}), found.tokens.setdefault(reading, {})
    asked = [set_options(config) for config in configs]
    for split, options in asked[0].items():
        options = options | {"limit": _most(each[split]["limit"] for each in asked)}
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                data = open_set(**options)
                clips[split] = len(data)
                found.rate[reading] = _try(data, sides, tokens, found)
        except MissingFiles as error:
            for path in error.paths:
                found.lacks(path)
            found.lacks(str(error))
        except (OSError, ValueError, ImportError) as error:
            if not any(path.name in str(error) for path in absent):
                found.lacks(error)
            continue
        found.said += [f"  {split}: {w.message}" for w in caught]
    counts = ", ".join(f"{split} {count:,}" for split, count in clips.items())
    place = first.root or ("no folder was given" if first.data in TABLES else "shipped with the study")
    line = f"{first.data} ({place}): {counts or 'no'} clips"
    if line not in found.said:  # another shift or size of the same clips
        found.said.append(line)


def _look_through(config: RunConfig, found: Found) -> bool:
    """Note all that is wrong with somebody's own folder; can its clips be read?"""
    try:
        folder = check_folder(config.root)
    except (OSError, ValueError) as error:
        found.lacks(error)
        return False
    for problem in folder.missing:
        found.lacks(problem)
    counts = ", ".join(f"{split} {count:,}" for split, count in folder.clips.items())
    found.said += [
        f"{folder.file}: {counted(sum(folder.clips.values()), 'clip')}, {counts}",
        *(f"  {r}" for r in folder.remarks),
    ]
    return folder.readable


def _try(data, sides: list[str], tokens: dict, found: Found) -> float:
    """Read a few clips, evenly spread; clips a second, modalities apart."""
    tried = TRIED_OWN if isinstance(data, VideoFolder) else TRIED
    which = sorted({i * (len(data) - 1) // (tried - 1) for i in range(tried)})
    seconds = 0.0
    for index in which:
        started = time.perf_counter()
        try:
            data.clip(index)
        except (MediaError, OSError, ValueError) as error:
            found.lacks(error)
        seconds += time.perf_counter() - started
    for name in sides:
        heard, before = [], Counter(data.counts)
        for index in which:
            try:
                heard.append(data.side_tokens(name, index))
            except (MediaError, OSError, ValueError, ImportError) as error:
                found.lacks(f"{name}: {error}")
        some = [t for t in heard if t is not None]
        if some:
            tokens[name] = tuple(some[0].shape)
        if heard and not some and len(heard) == len(data):
            found.lacks(data.lacking(name))
        elif heard and not some:
            found.said.append(f"  {data.split}: none of {len(heard)} clips that were tried has {name}")
        elif len(some) < len(heard):
            found.said.append(f"  {data.split}: {len(heard) - len(some)} of {len(heard)} clips tried lack {name}")
        if gained := Counter(data.counts) - before:
            found.said.append(f"  {data.split}, {name} of {counted(len(heard), 'clip')} tried: {listed(gained)}")
    return len(which) / max(seconds, 1e-6)


def weights_missing(backbone: str, name: str) -> str | None:
    """Why a run would not find its weights where they are, or None; nothing is downloaded."""
    name = names.called(backbone, name)
    named = name in names.NAMED.get(backbone, {})
    source = names.source_of(backbone, name) if named or not Path(name).exists() else None
    try:
        if source is None:
            path = weights.resolve(backbone, name)
            return None if path.is_file() else f"{path}: no such weights file, for {backbone}"
    except weights.WeightsError as error:
        return str(error)
    if names.local(backbone, name, source):
        return None
    place = names.place(backbone, name, source)
    return (
        f"weights {name!r} of {backbone} are not on this machine: a run downloads {source.address()}\n"
        f"(without a network put it into {place.parent} as {place.name}, or give --weights FILE)"
    )


def saved_bytes(config: RunConfig, tokens: dict[str, tuple[int, int]]) -> int:
    """Bytes that one clip leaves behind on the way forward, for the way back; counted on the meta device, so for free.

    With checkpointing these are computed again, and not counted.
    """
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        held.append(storage)  # else its number might be given to another
        return tensor

    held: list = []
    with torch.device("meta"):
        model = create(config.backbone, method=config.plugins, heads={"any": 2}, clip=clip_of(config))
        for name, (_, width) in tokens.items():
            model.add_modality(name, width=width, encoder=None)
        own = {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}
        side = {name: torch.zeros(1, *shape) for name, shape in tokens.items()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.checkpointing = config.checkpointing
            model.train()(torch.zeros(1, 3, *clip_of(config)), side)
    return sum(size for storage, size in kept.items() if storage not in own)


def _estimate(configs: list[RunConfig], out: Path, found: Found) -> None:
    """Time, memory and disk of all runs, and whether there is so much."""
    if not any(found.clips.values()):
        found.said.append("time, memory and disk are not told: there are no clips to count")
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    speed, computing, reading, disk, memory = _speed(device), [], 0.0, 0, 0
    before, counts = _before(configs), {}
    for config in configs:
        key = _reading(config)
        clips, shape = _own(config, found.clips.get(key, {})), clip_of(config)
        if not clips:
            continue
        tokens = {name: found.tokens[key][name] for name in config.side if name in found.tokens[key]}
        same = (config.backbone, repr(config.plugins), shape, repr(tokens), config.checkpointing)
        if same not in counts:
            macs = cost_of(config.backbone, method=config.plugins, clip=shape, side=tokens)
            counts[same] = macs, saved_bytes(config, tokens)
        cost, kept = counts[same]
        learned, glances = config.epochs * clips.get("train", 0), config.epochs * clips.get("tune", 0)
        scored, controls = clips.get("validation", 0), 1 + 3 * len(config.side) + bool(config.side)
        passes = PASSES[config.plugins.trains] * learned + glances + controls * scored
        if config_hash(config) not in before:
            computing.append(2 * cost.macs * passes / speed)
        if config.workers is not None:
            reading += (learned + glances + scored) / found.rate[key] / max(1, config.workers)
        side = max(1, len(config.side)) * 4 * cost.trainable
        disk += side + (scored * 1600 if config.data == "epic" else 0)
        pictures = 3 * shape[0] * shape[1] * shape[2]
        batch = min(config.micro_batch or config.batch_size, clips.get("train", 1))
        needed = 4 * cost.params + 12 * cost.trainable + batch * (kept + 4 * pictures)
        held = sum(clips.values()) * pictures if config.workers is None else config.workers * WORKER
        memory = max(memory, needed + (held if device.type == "cpu" else 0))
        if held > psutil.virtual_memory().total:
            found.lacks(f"memory for {held / 1e9:.0f} GB of clips: read them as they are needed, workers=0 or more")
    for key, tokens in found.tokens.items():
        disk += sum(4 * length * width for length, width in tokens.values()) * sum(found.clips[key].values())
    _judge(device, memory, disk, out, found)
    found.said += _times(before, computing, speed)
    if reading:
        by = "by the speed at which a few clips were read just now"
        found.said.append(f"      {duration(reading)} of reading, beside it: {by}")


def _before(configs: list[RunConfig]) -> dict[str, tuple[float, str]]:
    """{hash: seconds of the machine's, and the machine} of those runs that are published with these very settings."""
    known = {}
    for config in configs:
        record = find_record(records_dir(config.profile), config_hash(config))
        if record is not None:
            hardware = record.meta_info["hardware"]
            machine = hardware["device"]
            if machine == "cpu":
                machine = f"{hardware['cpu']}, {counted(hardware['cores'], 'core')}"
            known[config_hash(config)] = record.train_info["seconds"] / hardware.get("at_once", 1), machine
    return known


def _times(before: dict[str, tuple[float, str]], computing: list[float], speed: float) -> list[str]:
    """What was recorded, where it was; what else is to be computed, by counting."""
    lines = []
    if before:
        took, machines = sum(seconds for seconds, _ in before.values()), sorted({where for _, where in before.values()})
        lines.append(
            f"{duration(took)} for {counted(len(before), 'run')}, as published runs of the same settings took "
            f"on {'; '.join(machines)}"
        )
    if computing:
        lines.append(
            f"{duration(sum(computing))} of computing for {counted(len(computing), 'run')}: multiply-accumulates "
            f"counted, at the speed of a matrix product on this machine ({speed / 1e9:,.0f} GFLOP/s), of which real "
            "layers reach a part"
        )
    return [("time: " if place == 0 else "      ") + line for place, line in enumerate(lines)]


def _judge(device: torch.device, memory: int, disk: int, out: Path, found: Found) -> None:
    """Is there so much memory, and so much disk?"""
    there = torch.cuda.mem_get_info()[1] if device.type == "cuda" else psutil.virtual_memory().total
    found.said.append(
        f"memory: {memory / 1e9:.1f} GB of {there / 1e9:.1f} for the largest run: parameters, optimizer, what a batch "
        "keeps for the way back, and on a CPU the clips"
    )
    if memory > there:
        remedy = "a smaller micro_batch, or checkpointing"
        found.lacks(f"memory: {memory / 1e9:.1f} GB are needed, {there / 1e9:.1f} are there; {remedy} takes less")
    disks = {os.stat(folder).st_dev: folder for folder in map(_existing, (cache_dir(), out))}
    for folder in disks.values():
        free = shutil.disk_usage(folder).free
        found.said.append(
            f"disk: {disk / 1e9:.2f} GB for plugins, scores and side tokens; {free / 1e9:.1f} free at {folder}"
        )
        if disk > free:
            found.lacks(f"{folder}: {disk / 1e9:.1f} GB are needed, {free / 1e9:.1f} are free")


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


def _speed(device: torch.device, seconds: float = 0.2) -> float:
    """Floating-point operations a second of a matrix product."""
    size = 4096 if device.type == "cuda" else 1024
    matrix = torch.rand(size, size, device=device)
    matrix @ matrix
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize()
        done += 1
    return done * 2 * size**3 / (time.perf_counter() - started)
