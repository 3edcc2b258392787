"""Generate rooms-dyad: ``python -m cm3t.data.rooms dyad [--out DIR] [--sessions N]``.

Recordings are rendered one after another; a run that is stopped goes on where it was, as long as the dials and the
generator's version are the same. ``rooms.json`` is written last: a folder without it is incomplete.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cm3t.data.rooms import dyad_files, dyad_voice
from cm3t.data.rooms.assets import package_version
from cm3t.data.rooms.dyad_script import HOST, Script, write_script
from cm3t.data.rooms.dyad_world import TASKS, Dials, Session, folder_of, make_people, make_sessions
from cm3t.data.rooms.recorder import write_recording

VERSION = 1  # of the generator: higher when equal dials give other files
STAMP = ".generation.json"


def scripts_of(session: Session, dials: Dials, speak: Callable = dyad_voice.speak) -> list[Script]:
    """The four tasks of a session, in order; nobody repeats himself while he has other things to say."""
    used: tuple[set[str], set[str]] = (set(), set())
    return [write_script(session, task, dials, speak, used) for task in TASKS]


def render(session: Session, scripts: list[Script], seat: int, dials: Dials, root: Path) -> int:
    """Write one camera's recordings of a session's tasks, those that are not there; returns the bytes of all."""
    from cm3t.data.rooms.dyad_stage import Stage

    paths = [dyad_files.recording_path(root, session, script.task, seat) for script in scripts]
    if not all(path.exists() for path in paths):
        with Stage(session, seat, dials) as stage:
            for script, path in zip(scripts, paths, strict=True):
                times = np.arange(round(script.duration * dials.fps)) / dials.fps
                write_recording(
                    path, stage.frames(script, times), dials.fps, sound=_sound(script, seat, dials),
                    rate=dials.sound_rate, crf=dials.crf, gop=dials.gop, sound_bitrate=dials.sound_bitrate,
                )  # fmt: skip
    return sum(path.stat().st_size for path in paths)


def _sound(script: Script, seat: int, dials: Dials) -> np.ndarray | None:
    if script.silent:
        return None
    lines = [(line.start, line.seat, line.wave) for line in script.lines]
    return dyad_voice.track(lines, script.knocks(), script.duration, seat, dials, script.seed)


def _begin(root: Path, dials: Dials) -> None:
    """Refuse to mix two generations in one folder."""
    stamp = {"version": VERSION, "dials": dials.as_dict()}
    path = root / STAMP
    if (path.exists() and json.loads(path.read_text()) != stamp) or (root / "rooms.json").exists():
        raise SystemExit(f"{root}: holds recordings already, maybe of other dials; remove it or choose another --out")
    root.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stamp))


def generate(root: Path, dials: Dials, *, most: int | None = None, log: Callable = print) -> dict:
    """Write everything under ``root``; the content of ``rooms.json`` is returned.

    ``most``: only so many sessions of each split, and then no ``rooms.json`` (a pilot).
    Raises SystemExit when the folder holds something else, MissingAsset without espeak-ng.
    """
    root, people = Path(root), make_people(dials)
    sessions = make_sessions(dials, people)
    if most is not None:
        firsts = Counter()
        sessions = [s for s in sessions if firsts.update([s.split]) or firsts[s.split] <= most]
        people = [p for p in people if any(p in s.people for s in sessions)]
    _begin(root, dials)
    dyad_files.write_tables(root, people, sessions)
    scripts, begin, written = [], time.perf_counter(), 0
    for done, session in enumerate(sessions, 1):
        four = scripts_of(session, dials)
        written += sum(render(session, four, seat, dials, root) for seat in (0, 1))
        scripts += four
        left = (time.perf_counter() - begin) / done * (len(sessions) - done)
        log(
            f"{done:3d}/{len(sessions)} {session.name} {session.split:5s} {written / 1e6:6.2f} MB, {left / 60:4.1f} min"
        )
    dyad_files.write_limits(root, scripts)
    dyad_files.write_transcripts(root, scripts)
    if most is not None:
        return {}
    facts = _facts(root, dials, people, sessions, scripts)
    (root / "rooms.json").write_text(json.dumps(facts, indent=1) + "\n")
    (root / STAMP).unlink()
    log(f"{root}: {facts['bytes'] / 1e6:.1f} MB, digest {facts['digest'][:12]}")
    return facts


def _facts(root: Path, dials: Dials, people, sessions, scripts: list[Script]) -> dict:
    from cm3t.data.udiva import Udiva

    files = [p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".")]
    lines = [line for s in scripts for line in s.lines if line.seat != HOST]
    return {
        "name": "rooms-dyad",
        "generator": VERSION,
        "digest": Udiva(root).digest,
        "dials": dials.as_dict(),
        "participants": {p.name: p.split for p in sorted(people, key=lambda p: p.name)},
        "sessions": {split: sum(folder_of(s.split) == split for s in sessions) for split in dyad_files.FOLDERS},
        "recordings": 2 * len(scripts),
        "seconds": round(2 * sum(s.duration for s in scripts), 1),
        "utterances": len(lines),
        "words": sum(len(line.text.split()) for line in lines),
        "without_sound": sum(s.silent for s in scripts),
        "without_transcript": sum(s.unwritten for s in scripts),
        "bytes": sum(p.stat().st_size for p in files),
        "recording_bytes": sum(p.stat().st_size for p in files if p.suffix == ".mp4"),
        "versions": {name: package_version(name) for name in ("mujoco", "av", "numpy", "scipy")}
        | {"espeak-ng": dyad_voice.version()},
    }


def main(argv: list[str] | None = None) -> int:
    """Command line of ``python -m cm3t.data.rooms dyad``."""
    parser = argparse.ArgumentParser(prog="python -m cm3t.data.rooms dyad", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder (default: data/rooms-dyad, a pilot: data/rooms-dyad-pilot)")
    parser.add_argument("--sessions", type=int, help="a pilot: so many sessions of each split, without rooms.json")
    options = parser.parse_args(argv)
    folder = options.out
    if folder is None:
        from cm3t import config

        folder = config.data_dir() / ("rooms-dyad" if options.sessions is None else "rooms-dyad-pilot")
    generate(folder, Dials(), most=options.sessions, log=lambda line: print(line, flush=True))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
