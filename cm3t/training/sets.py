"""The clips of a run: which splits it reads; all in memory, decoded once a process, or read as they are needed.

Side tokens are small beside the pictures and slow to make: they are made once, kept on disk, and read from there.
"""

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cm3t import backbones
from cm3t import data as readers
from cm3t.config import RunConfig, cache_dir, features_of
from cm3t.data import open_data
from cm3t.data.mpiigi_samples import BEHAVIOURS_15
from cm3t.data.segments import TENTH
from cm3t.training.stream import Stream, UnreadableWarning, read_side
from cm3t.training.tasks import task_of

CHUNK = 4096  # clips whose tokens are looked at together


class AbsentModality(LookupError):
    """No clip of a split has the modality."""


class SideTokens(NamedTuple):
    """One modality of all clips: tokens float32 (n, L, d), present and unreadable bool (n,).

    counts: what the data set counted as they were made, {what: how often}: sound that was padded, say.
    """

    tokens: Tensor
    present: Tensor
    unreadable: Tensor
    counts: Mapping[str, int]


@dataclass(frozen=True)
class ClipSet:
    """The clips of a split, n of them; what they show is in memory, or read as it is needed.

    video: a tensor or a `Stream`, uint8 (n, 3, T, H, W); target {head: (n,) or (n, c)}; subsets {name: bool (n,)};
    side {modality: float32 (n, L, d)} and present {modality: bool (n,)}, False where a clip has none; groups: n
    participants; task: a name of `tasks.TASKS`; pairs int64 (A, 2): verb and noun of each class of a head for actions.
    """

    video: Tensor | Stream
    target: dict[str, Tensor]
    subsets: dict[str, Tensor]
    side: dict[str, Tensor] = field(default_factory=dict)
    present: dict[str, Tensor] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    task: str = "actions"
    pairs: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.video)

    def batches(self, parts: Iterable[Tensor], draw: Sequence[int] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """(clips, video) of each part, which lists clips by number; see `Stream.batches`.

        Shapes: parts int64 (B,) -> int64 (B,), uint8 (B, 3, T, H, W). In memory there is nothing to draw.
        """
        if isinstance(self.video, Stream):
            yield from self.video.batches(parts, draw)
        else:
            yield from ((part, self.video[part]) for part in parts)

    def inputs(self, clips: Tensor, device: torch.device) -> dict[str, dict[str, Tensor]]:
        """What the model takes beside the video for some of the clips: {} or {side, present}, by modality."""
        if not self.side:
            return {}
        parts = {"side": self.side, "present": self.present}
        return {part: {name: values[clips].to(device) for name, values in own.items()} for part, own in parts.items()}

    def only(self, *names: str) -> "ClipSet":
        """The same clips with no other modalities than these; the rest is absent."""
        side, present = ({name: own[name] for name in names} for own in (self.side, self.present))
        return replace(self, side=side, present=present)


def evenly(present: Tensor, most: int) -> Tensor:
    """Numbers of the clips that bool (n,) marks: all of them, or so many, evenly spread."""
    which = present.nonzero()[:, 0]
    return which if len(which) <= most else which[torch.arange(most) * len(which) // most]


def clip_of(config: RunConfig) -> tuple[int, int, int]:
    """(T, H, W) of a run's clips: the backbone's own where the settings leave it open."""
    frames, height, width = backbones.clip_of(config.backbone)
    return config.frames or frames, config.size or height, config.size or width


def open_sets(config: RunConfig) -> dict:
    """The data sets that a run reads: train, tune, and validation as filmed and refilmed where it is to be scored."""
    asked = set_options(config)
    sets = {split: open_set(**options) for split, options in asked.items()}
    for gap in sets["validation"].gaps if "validation" in sets and not config.gap else ():
        sets[f"gap{gap}"] = open_set(**asked["validation"] | {"gap": gap})
    return sets


def set_options(config: RunConfig) -> dict[str, dict]:
    """How each split that a run reads is opened: {split: arguments of `open_set`}."""
    frames, size, _ = clip_of(config)
    common = dict(name=config.data, root=config.root, frames=frames, size=size) | reader_options(config)
    held_out = _held_out(config)
    drawn = {"transform": config.transform} if config.transform else {}
    few = {"seed": config.seed} if config.train_clips else {}  # every seed draws its own
    asked = {"train": common | held_out | drawn | {"split": "train", "limit": config.train_clips} | few}
    asked["tune"] = common | held_out | {"split": "tune", "limit": config.eval_clips}
    if config.score_split == "validation":
        asked["validation"] = common | {"split": "validation", "limit": config.eval_clips, "gap": config.gap}
    return asked


def reader_options(config: RunConfig) -> dict:
    """What of the settings goes to the reader of the data set, as its arguments; {} where all is left to it."""
    plain = ("source", "flow", "flow_scale", "audio", "sound", "head", "view", "seconds", "windows", "sampling")
    options = {name: value for name in plain if (value := getattr(config, name)) is not None}
    if config.behaviours == len(BEHAVIOURS_15):
        options["behaviours"] = BEHAVIOURS_15
    if config.tasks:
        options["tasks"] = tuple(config.tasks.replace(",", "+").split("+"))
    if words := {k: v for k, v in (("encoder", config.sentences), ("encoding", config.encoding)) if v}:
        options["words"] = tuple(words.items())
    if config.features:
        given = (("length", config.feature_length), ("rate", config.feature_rate))
        how = tuple((name, value) for name, value in given if value)
        places = sorted(features_of(config).items())
        options["features"] = tuple((name, (path, how) if how else path) for name, path in places)
    return options


def _held_out(config: RunConfig) -> dict:
    """Who is kept out of training, for the reader: those given; of a real set, those it lists, or every tenth."""
    if config.tune:
        ids = tuple(word.strip() for word in config.tune.split(","))
        return {"tune": tuple(map(int, ids)) if config.data.endswith(("mpiigi", "group")) else ids}
    return {"tune": TENTH} if config.data in ("epic", "mpiigi", "udiva") else {}


def open_set(*, gap: int = 0, **options):
    """One split, opened (not decoded) once for all runs of this process."""
    return _open_set(**options, **({"gap": gap} if gap else {}))  # not every data set was filmed again


@lru_cache(maxsize=32)
def _open_set(*, name: str, split: str, **options):
    opened = open_data(name, split=split, **options)
    if not len(opened):
        raise ValueError(f"the {split} split of {name} is empty: {options}")
    moot = ("root", "head", "transform")  # of these no token depends
    opened.opened_as = {"name": name, "split": split} | {k: v for k, v in options.items() if k not in moot}
    return opened


def decode(data, side: tuple[str, ...] = (), workers: int | None = None) -> ClipSet:
    """All clips of a data set, with the modalities `side`; runs of one process share them.

    workers: None decodes everything into memory; else so many processes read clips as they are needed, 0 meaning this
    one.
    Raises ValueError for targets that are no numbers, for tokens that are none (it names clip and modality) and for
    an unknown modality; AbsentModality for one that no clip of the split has.
    """
    target = _checked_targets(data)
    found = {name: side_tokens(data, name, workers) for name in side}
    return ClipSet(
        video=_video(data) if workers is None else _stream(data, workers),
        target=target,
        subsets=data.subsets,
        side={name: own.tokens for name, own in found.items()},
        present={name: own.present for name, own in found.items()},
        groups=_groups(data),
        task=task_of(data).name,
        pairs=getattr(data, "pairs", None),
    )


@lru_cache(maxsize=16)
def _video(data) -> Tensor:
    return data.decode_all()


@lru_cache(maxsize=16)
def _stream(data, workers: int) -> Stream:
    return Stream(data, workers)


def _checked_targets(data) -> dict[str, Tensor]:
    """Targets of all clips, every one known."""
    split = getattr(data, "split", "this")
    if split == "test" and not data.targets:
        return {}  # known to the challenge alone
    missing = [head for head in task_of(data).heads if head not in data.targets]
    if missing:
        raise ValueError(f"the {split} split has no targets {', '.join(missing)}: it can be neither learned nor scored")
    for head, values in data.targets.items():
        if values.is_floating_point() and not values.isfinite().all():
            clip = int(torch.nonzero(~values.isfinite())[0][0])
            raise ValueError(f"target {head!r} of {_named(data, clip)} is no number: leave clips without a target out")
    return data.targets


def _groups(data) -> tuple[str, ...]:
    """Participant of every clip; where recordings have sessions and tasks, as participant/session/task."""
    return tuple(getattr(data, "units", getattr(data, "groups", ())))


def _named(data, clip: int) -> str:
    with suppress(Exception):  # a name is a courtesy
        return f"clip {data[clip].id} of the {data.split} split"
    return f"clip {clip}"


@lru_cache(maxsize=48)
def side_tokens(data, name: str, workers: int | None = None) -> SideTokens:
    """One modality of all clips, checked. From the disk where it was made before.

    With `workers` it is read by so many processes, a clip that cannot be read goes without it, and what lies on the
    disk is mapped into memory, from where the system may drop it: sound of EPIC-KITCHENS-100 is 14 GB.
    """
    path = _cache_path(data, name)
    found = _read(path) if path else None
    if found is None:
        found = _decoded(data, name, workers)
        if path:
            _write(path, found)
            found = found if workers is None else _read(path) or found
    elif unreadable := int(found.unreadable.sum()):
        said = f"{name} of {unreadable} clips of the {data.split} split could not be read when it was made"
        warnings.warn(f"{said}: absent from these clips; delete {path} to try again", UnreadableWarning, stacklevel=2)
    bad = found.present & ~torch.cat([part.isfinite().flatten(1).all(1) for part in found.tokens.split(CHUNK)])
    if bad.any():
        first = _named(data, int(bad.nonzero()[0]))
        raise ValueError(f"{name} of {int(bad.sum())} clips holds values that are no numbers; the first is {first}")
    return found


def side_counts(data, name: str, workers: int | None = None) -> dict[str, int]:
    """What happened as a modality was made, {what: how often}: clips without it, unreadable ones, padded sound, .."""
    found = side_tokens(data, name, workers)
    lacking = {f"without {name}": int((~found.present & ~found.unreadable).sum())}
    counts = lacking | {"unreadable": int(found.unreadable.sum())} | dict(found.counts)
    return {what: count for what, count in counts.items() if count}


def _decoded(data, name: str, workers: int | None) -> SideTokens:
    """A modality, made anew. What is counted then goes with it, not into the data set's own counts: who reads it from
    the disk shall know as much.
    """
    counts = getattr(data, "counts", Counter())
    before = Counter(counts)
    absent = f"no clip of the {getattr(data, 'split', 'opened')} split has {name}"
    try:
        if workers is None:
            tokens, present = data.decode_side(name)
            unreadable = torch.zeros_like(present)
        else:
            tokens, present, unreadable = read_side(data, name, workers)
    except LookupError as error:
        if type(error) is not LookupError:  # a key or an index: a mistake, not an absence
            raise
        raise AbsentModality(f"{absent}: {error}") from error
    if not present.any():
        raise AbsentModality(f"{absent}; leave the modality out")
    gained = dict(Counter(counts) - before)
    counts.clear()
    counts.update(before)
    return SideTokens(tokens, present, unreadable, gained)


def _cache_path(data, name: str) -> Path | None:
    """Where a modality of a data set is kept. In the name: all that its tokens depend on, the readers included."""
    opened = getattr(data, "opened_as", None)
    if opened is None:
        return None
    key = json.dumps([data.digest, name, opened, _readers()], sort_keys=True, default=str)
    stem = f"{opened['name']}-{opened['split']}-{name}"
    return cache_dir() / f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"


@cache
def _readers() -> str:
    """Digest of the code that reads data, and of the libraries it reads with."""
    digest = hashlib.sha256()
    for path in sorted(Path(readers.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    for package in ("av", "opencv-python-headless", "torch"):
        with suppress(metadata.PackageNotFoundError):
            digest.update(f"{package} {metadata.version(package)}".encode())
    return digest.hexdigest()


def _read(path: Path) -> SideTokens | None:
    """What `_write` left, or None: a file that cannot be read is as good as none. One of before there were counts has
    none.
    """
    try:
        with safe_open(path, "pt") as file:
            counts = json.loads((file.metadata() or {}).get("counts", "{}"))
            found = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        unreadable = found.get("unreadable", torch.zeros_like(found["present"]))
        return SideTokens(found["tokens"], found["present"], unreadable, counts)
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _write(path: Path, found: SideTokens) -> None:
    """Keep tokens for the next process, whole or not at all. A full disk costs time then, nothing else."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with suppress(OSError, SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: getattr(found, name).contiguous() for name in ("tokens", "present", "unreadable")}
        save_file(tensors, partial, {"counts": json.dumps(found.counts)})
        os.replace(partial, path)
    partial.unlink(missing_ok=True)
