"""The clips of a run: which splits it reads, decoded once a process; side tokens, slow to make, are kept on disk."""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cm3t import backbones
from cm3t import data as readers
from cm3t.config import RunConfig, cache_dir
from cm3t.data import open_data
from cm3t.tasks import task_of


class AbsentModality(LookupError):
    """No clip of a split has the modality."""


@dataclass(frozen=True)
class ClipSet:
    """Decoded clips in memory, n of them.

    video uint8 (n, 3, T, H, W); target {head: (n,) or (n, c)}; subsets {name: bool (n,)}; side {modality: float32
    (n, L, d)} and present {modality: bool (n,)}, False where a clip has none; groups: n participants; task: a name of
    `tasks.TASKS`.
    """

    video: Tensor
    target: dict[str, Tensor]
    subsets: dict[str, Tensor]
    side: dict[str, Tensor] = field(default_factory=dict)
    present: dict[str, Tensor] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    task: str = "actions"

    def __len__(self) -> int:
        return len(self.video)

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


def clip_of(config: RunConfig) -> tuple[int, int, int]:
    """(T, H, W) of a run's clips: the backbone's own where the settings leave it open."""
    frames, height, width = backbones.clip_of(config.backbone)
    return config.frames or frames, config.size or height, config.size or width


def open_sets(config: RunConfig) -> dict:
    """The data sets that a run reads: train, tune, and validation as filmed and refilmed where it is to be scored."""
    frames, size, _ = clip_of(config)
    common = dict(name=config.data, root=config.root, frames=frames, size=size)
    sets = {"train": open_set(split="train", limit=config.train_clips, **common)}
    sets["tune"] = open_set(split="tune", limit=config.eval_clips, **common)
    if config.score_split == "validation":
        common |= {"split": "validation", "limit": config.eval_clips}
        sets["validation"] = open_set(**common, gap=config.gap)
        for gap in sets["validation"].gaps if not config.gap else ():
            sets[f"gap{gap}"] = open_set(**common, gap=gap)
    return sets


def open_set(*, gap: int = 0, **options):
    """One split, opened (not decoded) once for all runs of this process."""
    return _open_set(**options, **({"gap": gap} if gap else {}))  # not every data set was filmed again


@lru_cache(maxsize=32)
def _open_set(*, name: str, split: str, **options):
    opened = open_data(name, split=split, **options)
    if not len(opened):
        raise ValueError(f"the {split} split of {name} is empty: {options}")
    opened.opened_as = {"name": name, "split": split} | {k: v for k, v in options.items() if k != "root"}
    return opened


def decode(data, side: tuple[str, ...] = ()) -> ClipSet:
    """All clips of a data set in memory, with the modalities `side`; runs of one process share them.

    Raises ValueError for targets that are no numbers, for tokens that are none (it names clip and modality) and for
    an unknown modality; AbsentModality for one that no clip of the split has.
    """
    target = _checked_targets(data)
    found = {name: side_tokens(data, name) for name in side}
    return ClipSet(
        video=_video(data),
        target=target,
        subsets=data.subsets,
        side={name: tokens for name, (tokens, _) in found.items()},
        present={name: present for name, (_, present) in found.items()},
        groups=_groups(data),
        task=task_of(data).name,
    )


@lru_cache(maxsize=16)
def _video(data) -> Tensor:
    return data.decode_all()


def _checked_targets(data) -> dict[str, Tensor]:
    """Targets of all clips, every one known."""
    split = getattr(data, "split", "this")
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
def side_tokens(data, name: str) -> tuple[Tensor, Tensor]:
    """One modality of all clips, checked: float32 (n, L, d) and bool (n,). From the disk where it was made before."""
    path = _cache_path(data, name)
    found = _read(path) if path else None
    if found is None:
        found = _decoded(data, name)
        if path:
            _write(path, *found)
    tokens, present = found
    bad = present & ~tokens.isfinite().flatten(1).all(1)
    if bad.any():
        first = _named(data, int(bad.nonzero()[0]))
        raise ValueError(f"{name} of {int(bad.sum())} clips holds values that are no numbers; the first is {first}")
    return tokens, present


def _decoded(data, name: str) -> tuple[Tensor, Tensor]:
    absent = f"no clip of the {getattr(data, 'split', 'opened')} split has {name}; leave the modality out"
    try:
        tokens, present = data.decode_side(name)
    except LookupError as error:
        if type(error) is not LookupError:  # a key or an index: a mistake, not an absence
            raise
        raise AbsentModality(f"{absent} ({error})") from error
    if not present.any():
        raise AbsentModality(absent)
    return tokens, present


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


def _read(path: Path) -> tuple[Tensor, Tensor] | None:
    """What `_write` left, or None: a file that cannot be read is as good as none."""
    try:
        found = load_file(path)
        return found["tokens"], found["present"]
    except (OSError, SafetensorError, KeyError):
        return None


def _write(path: Path, tokens: Tensor, present: Tensor) -> None:
    """Keep tokens for the next process, whole or not at all. A full disk costs time then, nothing else."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with suppress(OSError, SafetensorError):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"tokens": tokens.contiguous(), "present": present.contiguous()}, partial)
        os.replace(partial, path)
    partial.unlink(missing_ok=True)
