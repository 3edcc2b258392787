"""The source set (the Kinetics role): about 75 actions, about 8000 short silent clips, split by rollout.

On disk: ``videos/<class>.mp4`` (the clips of a class one after another, each one group of pictures, so that a seek to
``start`` is cheap), ``annotations.csv`` and ``source.json``. A class is written whole or not at all, and skipped when
it is already there, so a run that was killed loses at most the classes it was working on.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from .recorder import write_recording
from .shots import Shot

VERSION = 1  # raise whenever the same seed would give other clips
KINDS = {"manipulation": "manipulation", "mocap": "mocap", "person": "people"}  # kind -> module of this package
COLUMNS = ("class", "label", "clip_id", "rollout", "camera", "split", "start", "stop", "kind")
VALIDATION_EVERY, VALIDATION_AT = 7, 3  # Choice: every seventh rollout is held out, 1/7 of the clips
PACKAGES = (  # what the pictures come from; nothing of it is copied but what was rendered
    {"package": "metaworld", "version": "3.1.1", "licence": "MIT", "gives": "50 tasks, scripted experts, meshes"},
    {"package": "mujoco", "version": "3.3.0", "licence": "Apache-2.0", "gives": "physics and rendering"},
    {
        "package": "pybullet",
        "version": "3.2.7",
        "licence": "zlib",
        "gives": "15 motion files (DeepMimic), joint offsets",
    },
    {"package": "fast-simplification", "version": "0.2.0", "licence": "MIT", "gives": "mesh simplification"},
    {"package": "trimesh", "version": "5.2.0", "licence": "MIT", "gives": "mesh reading"},
)


@dataclass(frozen=True)
class Recipe:
    """What decides the clips: ``clips`` a class, ``views`` (cameras) a rollout, ``size`` in px, ``frames`` a clip."""

    clips: int = 107
    views: int = 4
    size: int = 96
    frames: int = 12
    fps: int = 8
    crf: int = 24
    seed: int = 0
    version: int = VERSION

    @property
    def rollouts(self) -> int:
        """Number of performances of a class."""
        return -(-self.clips // self.views)

    @property
    def key(self) -> str:
        """12 hex digits over the recipe."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


def class_table() -> list[tuple[str, str]]:
    """All (class, kind), in label order: manipulation, mocap, people, each sorted by name."""
    table = []
    for kind, module in KINDS.items():
        names = importlib.import_module(f"{__package__}.{module}").class_names()
        table += [(name, kind) for name in names]
    if len({name for name, _ in table}) != len(table):
        raise ValueError("two source classes share a name; file names would clash")
    return table


def perform(name: str, kind: str, recipe: Recipe) -> Iterator[Shot]:
    """The clips of one class by its performer."""
    module = importlib.import_module(f"{__package__}.{KINDS[kind]}")
    return module.perform(
        name, seed=recipe.seed, rollouts=recipe.rollouts, views=recipe.views, size=recipe.size, frames=recipe.frames
    )


def split_of(rollout: int) -> str:
    """``"validation"`` for every seventh rollout, else ``"train"``: all views of a rollout are on one side."""
    return "validation" if rollout % VALIDATION_EVERY == VALIDATION_AT else "train"


def make_class(
    name: str, kind: str, label: int, recipe: Recipe, out: Path, perform: Callable[..., Iterator[Shot]] = perform
) -> dict:
    """Render, encode and annotate one class; returns its part (also ``parts/<class>.json``, written last).

    Returns a dict with ``recipe``, ``rows`` (list of annotation rows), ``bytes``, ``sha256`` and ``seconds``.
    """
    began, rows = time.monotonic(), []
    video = out / "videos" / f"{name}.mp4"
    length = recipe.frames / recipe.fps

    def pictures() -> Iterator:
        for shot in perform(name, kind, recipe):
            if len(rows) == recipe.clips:
                return
            k = len(rows)
            times = (f"{k * length:.3f}", f"{(k + 1) * length:.3f}")
            rows.append(
                [name, label, f"{name}_{k:04d}", shot.rollout, shot.camera, split_of(shot.rollout), *times, kind]
            )
            yield from shot.frames

    write_recording(video, pictures(), recipe.fps, crf=recipe.crf, gop=recipe.frames, preset="medium")
    part = {
        "recipe": recipe.key, "rows": rows, "bytes": video.stat().st_size,
        "sha256": hashlib.sha256(video.read_bytes()).hexdigest(), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    _write(out / "parts" / f"{name}.json", json.dumps(part))
    return part


def finished(name: str, recipe: Recipe, out: Path) -> dict | None:
    """The part of a class that is complete on disk with this recipe, else None."""
    try:
        part = json.loads((out / "parts" / f"{name}.json").read_text())
        whole = (out / "videos" / f"{name}.mp4").stat().st_size == part["bytes"]
    except (OSError, ValueError, KeyError):
        return None
    return part if whole and part["recipe"] == recipe.key else None


def digest(parts: dict[str, dict]) -> str:
    """Sixteen hex digits over all annotation rows and video contents; independent of the order of making."""
    state = hashlib.sha256()
    for name in sorted(parts):
        state.update(json.dumps([name, parts[name]["rows"], parts[name]["sha256"]]).encode())
    return state.hexdigest()[:16]


def write_tables(parts: dict[str, dict], recipe: Recipe, out: Path) -> dict:
    """Write ``annotations.csv`` and ``source.json`` for the given parts; returns what is in ``source.json``."""
    rows = [row for part in sorted(parts.values(), key=lambda p: p["rows"][0][1]) for row in part["rows"]]
    partial = out / ".annotations.partial"
    with partial.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    os.replace(partial, out / "annotations.csv")
    summary = {
        "digest": digest(parts), "classes": len(parts), "clips": len(rows),
        "train": sum(row[5] == "train" for row in rows), "validation": sum(row[5] == "validation" for row in rows),
        "bytes": sum(part["bytes"] for part in parts.values()), "recipe": asdict(recipe), "packages": list(PACKAGES),
    }  # fmt: skip
    _write(out / "source.json", json.dumps(summary, indent=2) + "\n")
    return summary


def generate(
    out: Path | str,
    recipe: Recipe | None = None,
    *,
    classes: list[tuple[str, str]] | None = None,
    limit: int | None = None,
    workers: int = 2,
    log: Callable[[str], None] = print,
    perform: Callable[..., Iterator[Shot]] = perform,
) -> dict:
    """Make the set in ``out``, class by class, resuming what is there; returns the summary of ``source.json``.

    Args:
        classes: (class, kind) in label order; default `class_table`.
        limit: only the first so many classes of every kind's share (a spread over the table), for trials.
        workers: processes; 1 works in this one.
        perform: replaces the renderers (tests).
    """
    recipe, out = recipe or Recipe(), Path(out)
    table = [(label, name, kind) for label, (name, kind) in enumerate(classes or class_table())]
    if limit is not None:
        table = [table[i * len(table) // limit] for i in range(min(limit, len(table)))]
    for folder in ("videos", "parts"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    parts = {name: part for _, name, _ in table if (part := finished(name, recipe, out))}
    todo = [entry for entry in table if entry[1] not in parts]
    log(f"source: {len(table)} classes x {recipe.clips} clips; {len(parts)} already there, {len(todo)} to make")
    began = time.monotonic()
    for name, part in _make_all(todo, recipe, out, workers, perform):
        parts[name] = part
        done = len(todo) - (len(table) - len(parts))
        left = (time.monotonic() - began) / done * (len(todo) - done)
        log(f"  [{len(parts)}/{len(table)}] {name}: {len(part['rows'])} clips, {part['bytes'] / 1e6:.2f} MB, "
            f"{part['seconds']:.0f} s; ETA {left / 60:.1f} min")  # fmt: skip
    summary = write_tables(parts, recipe, out)
    log(f"source: {summary['clips']} clips ({summary['validation']} held out) of {summary['classes']} classes, "
        f"{summary['bytes']} bytes, digest {summary['digest']}, {time.monotonic() - began:.0f} s")  # fmt: skip
    return summary


def _make_all(todo, recipe, out, workers, perform) -> Iterator[tuple[str, dict]]:
    if workers <= 1:
        for label, name, kind in todo:
            yield name, make_class(name, kind, label, recipe, out, perform)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = {pool.submit(make_class, name, kind, label, recipe, out): name for label, name, kind in todo}
        try:
            for job in as_completed(jobs):
                yield jobs[job], job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text)
    os.replace(partial, path)
