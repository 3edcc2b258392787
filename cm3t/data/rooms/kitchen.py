"""Generate rooms-kitchen: ``python -m cm3t.data.rooms kitchen [--out DIR] [--workers 2] [--pilot]``.

Recordings are rendered one after another; a run that is stopped goes on where it was, as long as the dials and the
generator's version are the same. ``rooms.json`` is written last: a folder without it is incomplete.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cm3t.data.rooms import files, kitchen_files
from cm3t.data.rooms.assets import package_version
from cm3t.data.rooms.kitchen_script import Script, plan
from cm3t.data.rooms.kitchen_sound import sound_of
from cm3t.data.rooms.kitchen_world import Dials, gap_look, make_participants
from cm3t.data.rooms.recorder import write_recording

VERSION = 1  # of the generator: higher when equal dials give other files
MARGIN = 0.25  # seconds shown before and after a segment in a gap rendering
STAMP = ".generation.json"


@dataclass(frozen=True)
class Job:
    """One file to render: a recording (level 0) or its validation segments seen at a gap level."""

    script: Script
    dials: Dials
    root: Path
    level: int = 0
    keep: int = 0  # gap: how many of its segments, from the first

    @property
    def path(self) -> Path:
        """``[gap<level>/]PXX/videos/PXX_YY.MP4`` under the root."""
        base = self.root / f"gap{self.level}" if self.level else self.root
        return base / self.script.participant.name / "videos" / f"{self.script.video}.MP4"


def gap_times(job: Job) -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    """For a gap job: the script's times that are shown (n,), and each kept segment's start and stop in the new file."""
    shown, spans, fps = [], {}, job.dials.fps
    for number, motion in enumerate(job.script.segments[: job.keep]):
        start, stop = motion.annotation
        first = max(0, int(np.floor((start - MARGIN) * fps)))
        last = min(int(job.script.duration * fps) - 1, int(np.ceil((stop + MARGIN) * fps)))
        moved = (len(shown) - first) / fps
        spans[f"{job.script.video}_{number}"] = (round(start + moved, 2), round(stop + moved, 2))
        shown += [k / fps for k in range(first, last + 1)]
    return np.array(shown), spans


def render(job: Job) -> tuple[str, int, float]:
    """Write one file; returns its name, bytes and seconds taken. A file that is there is left alone."""
    from cm3t.data.rooms.kitchen_stage import Stage

    begin, dials, script = time.perf_counter(), job.dials, job.script
    name = job.path.relative_to(job.root).as_posix()
    if job.path.exists():
        return name, job.path.stat().st_size, 0.0
    if job.level:
        times, sound = gap_times(job)[0], None
    else:
        times, sound = np.arange(round(script.duration * dials.fps)) / dials.fps, sound_of(script, dials)
    with Stage(script, dials, gap_look(script.participant, job.level, dials)) as stage:
        write_recording(
            job.path, stage.frames(times), dials.fps, sound=sound, rate=dials.sound_rate, crf=dials.crf, gop=dials.gop,
            sound_bitrate=dials.sound_bitrate,
        )  # fmt: skip
    return name, job.path.stat().st_size, time.perf_counter() - begin


def jobs_of(dials: Dials, scripts: list[Script], root: Path) -> list[Job]:
    """Recordings first, then the gap levels of the validation recordings."""
    jobs = [Job(s, dials, root) for s in scripts]
    validation = [s for s in scripts if s.split == "validation"]
    total = sum(len(s.segments) for s in validation)
    share = min(1.0, dials.gap_segments / max(1, total))
    for level in range(1, dials.gap_levels + 1):
        jobs += [Job(s, dials, root, level, max(1, round(share * len(s.segments)))) for s in validation]
    return jobs


def _begin(root: Path, dials: Dials, share: float) -> None:
    """Refuse to mix two generations in one folder."""
    stamp = {"version": VERSION, "share": share, "dials": json.loads(json.dumps(dials.as_dict()))}
    path = root / STAMP
    if path.exists() and json.loads(path.read_text()) != stamp:
        raise SystemExit(f"{root}: holds recordings of other dials or another version; remove it or choose --out")
    if not path.exists() and files.data_files(root):
        raise SystemExit(f"{root}: holds finished recordings; remove it or choose another --out")
    root.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stamp))


def _results(jobs: list[Job], workers: int) -> Iterator[tuple[str, int, float]]:
    if workers < 2:
        yield from map(render, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap_unordered(render, jobs)


def generate(root: Path, dials: Dials, *, share: float = 1.0, workers: int = 1, only: tuple[str, ...] = ()) -> dict:
    """Render everything under ``root`` and write annotations and ``rooms.json``, whose content is returned.

    ``share`` < 1: a pilot with that share of the segments. ``only``: these participants' recordings, and then no
    ``rooms.json`` (the folder stays incomplete). Raises SystemExit when the folder holds something else.
    """
    root, people = Path(root), make_participants(dials)
    unknown = set(only) - {p.name for p in people}
    if unknown:
        raise SystemExit(f"no participant {', '.join(sorted(unknown))}; there are {', '.join(p.name for p in people)}")
    _begin(root, dials, share)
    scripts = plan(dials, people, share)
    jobs = [j for j in jobs_of(dials, scripts, root) if not only or j.script.participant.name in only]
    kitchen_files.write_annotations(root, dials, people, scripts)
    for level in range(1, dials.gap_levels + 1):
        rows = [r for j in jobs if j.level == level for r in kitchen_files.rows_of(j.script, gap_times(j)[1])]
        kitchen_files.write_gap_annotations(root, level, rows)
    begin, written = time.perf_counter(), 0
    for done, (name, size, seconds) in enumerate(_results(jobs, workers), 1):
        written += size
        left = (time.perf_counter() - begin) / done * (len(jobs) - done)
        line = f"{done:3d}/{len(jobs)} {name:32s} {size / 1024:7.0f} KiB {seconds:6.1f} s"
        print(f"{line}, {left / 60:4.1f} min left", flush=True)
    if only:
        return {}
    facts = _facts(root, dials, scripts, people, share)
    (root / "rooms.json").write_text(json.dumps(facts, indent=1) + "\n")
    (root / STAMP).unlink()
    print(f"{root}: {facts['bytes']['total'] / 1e6:.1f} MB, digest {facts['digest'][:12]}")
    return facts


def _facts(root: Path, dials: Dials, scripts: list[Script], people, share: float) -> dict:
    tune = {p.name for p in people if p.role == "tune"}
    found = files.data_files(root)
    gap = [f for f in found if f.relative_to(root).parts[0].startswith("gap")]
    tables = {split: kitchen_files.action_counts(scripts, split, tune) for split in ("train", "tune", "validation")}
    return {
        "name": "rooms-kitchen",
        "generator": VERSION,
        "digest": files.digest(root),
        "share": share,
        "dials": dials.as_dict(),
        "participants": {p.name: p.role for p in people},
        "segments": {split: sum(table.values()) for split, table in tables.items()},
        "actions": tables,
        "recordings": len(scripts),
        "seconds": round(sum(s.duration for s in scripts), 1),
        "bytes": {"total": sum(f.stat().st_size for f in found), "gap": sum(f.stat().st_size for f in gap)},
        "versions": {name: package_version(name) for name in ("mujoco", "gymnasium-robotics", "av", "numpy")},
    }


def main(argv: list[str] | None = None) -> int:
    """Command line of ``python -m cm3t.data.rooms kitchen``."""
    parser = argparse.ArgumentParser(prog="python -m cm3t.data.rooms kitchen", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, help="folder (default: data/rooms-kitchen, a pilot: data/rooms-kitchen-pilot)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes; each renders one recording at a time")
    parser.add_argument("--pilot", action="store_true", help="a tenth of the segments, to look at")
    parser.add_argument("--participants", nargs="*", default=[], help="only these, as P01 (leaves it incomplete)")
    options = parser.parse_args(argv)
    folder = options.out
    if folder is None:
        from cm3t import config

        folder = config.data_dir() / ("rooms-kitchen-pilot" if options.pilot else "rooms-kitchen")
    share = 0.1 if options.pilot else 1.0
    generate(folder, Dials(), share=share, workers=options.workers, only=tuple(options.participants))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
