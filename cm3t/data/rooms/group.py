"""Generate rooms-group: ``python -m cm3t.data.rooms group [--out DIR] [--sessions 1 2] [--views 0 1 2]``.

Sessions are rendered one after another; a run that is stopped goes on where it was, as long as the dials and the
generator's version are the same. ``rooms.json`` is written last: a folder without it is incomplete.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from cm3t import config
from cm3t.data.rooms import files, group_files
from cm3t.data.rooms.assets import package_version
from cm3t.data.rooms.group_script import Script, plan
from cm3t.data.rooms.group_voice import sound_of
from cm3t.data.rooms.group_world import SEATS, Dials
from cm3t.data.rooms.recorder import write_recording, write_sound

VERSION = 1  # of the generator: higher when equal dials give other files
STAMP = ".generation.json"
VIEWS = (0, 1, 2)


def render(script: Script, dials: Dials, root: Path, views: tuple[int, ...] = VIEWS) -> None:
    """Write one session's clips; files that are there are left alone."""
    from cm3t.data.rooms.group_stage import Stage

    with Stage(script, dials) as stage:
        for snippet in script.snippets:
            paths = {view: group_files.clip_path(root, snippet, view) for view in views}
            left = tuple(view for view in views if not paths[view].is_file())
            if not left:
                continue
            pictures = list(stage.frames(snippet, left))
            for k, view in enumerate(left):
                frames = [picture[k] for picture in pictures]
                write_recording(paths[view], frames, dials.fps, crf=dials.crf, gop=len(frames))


def write_sounds(root: Path, scripts: list[Script], dials: Dials) -> None:
    """Every recording's sound, but of the sessions that have lost theirs; files that are there are left alone."""
    for script in (script for script in scripts if script.take.sound):
        for number, seat in group_files.recordings_of(script).items():
            path = group_files.sound_path(root, number)
            if not path.is_file():
                write_sound(path, sound_of(script, seat, dials), rate=dials.sound_rate, bitrate=dials.sound_bitrate)


def _begin(root: Path, dials: Dials) -> None:
    """Refuse to mix two generations in one folder."""
    stamp = {"version": VERSION, "dials": json.loads(json.dumps(dials.as_dict()))}
    path = root / STAMP
    if path.exists() and json.loads(path.read_text()) != stamp:
        raise SystemExit(f"{root}: holds clips of other dials or another version; remove it or choose --out")
    if not path.exists() and files.data_files(root):
        raise SystemExit(f"{root}: holds a finished generation; remove it or choose another --out")
    root.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stamp))


def generate(root: Path, dials: Dials, *, only: tuple[int, ...] = (), views: tuple[int, ...] = VIEWS) -> dict:
    """Render everything under ``root``, write lists and ``rooms.json``, whose content is returned.

    ``only``: these sessions, ``views``: these cameras; with either left out the folder stays incomplete, without
    sound and ``rooms.json``. Raises SystemExit when the folder holds something else.
    """
    root = Path(root)
    scripts = plan(dials)
    unknown = set(only) - {script.take.number for script in scripts}
    if unknown:
        raise SystemExit(f"no session {sorted(unknown)}; there are 1 to {len(scripts)}")
    _begin(root, dials)
    group_files.write_lists(root, scripts)
    if not only and set(views) == set(VIEWS):
        write_sounds(root, scripts, dials)
    wanted = [script for script in scripts if not only or script.take.number in only]
    begin = time.perf_counter()
    for done, script in enumerate(wanted, 1):
        render(script, dials, root, views)
        left = (time.perf_counter() - begin) / done * (len(wanted) - done)
        print(f"{done:2d}/{len(wanted)} session {script.take.number:2d}, {left / 60:4.1f} min left", flush=True)
    if only or set(views) != set(VIEWS):
        return {}
    facts = facts_of(root, dials, scripts)
    (root / "rooms.json").write_text(json.dumps(facts, indent=1) + "\n")
    (root / STAMP).unlink()
    print(f"{root}: {facts['bytes']['total'] / 1e6:.1f} MB, digest {facts['digest'][:12]}")
    return facts


def facts_of(root: Path, dials: Dials, scripts: list[Script]) -> dict:
    """What ``rooms.json`` says."""
    found = files.data_files(root)
    kinds = {"clips": ".mp4", "sound": ".opus", "lists": ".csv"}
    sizes = {kind: sum(f.stat().st_size for f in found if f.suffix == end) for kind, end in kinds.items()}
    splits = ("train", "tune", "val")
    return {
        "name": "rooms-group",
        "generator": VERSION,
        "digest": files.digest(root),
        "dials": dials.as_dict(),
        "sessions": {split: [s.take.number for s in scripts if s.take.split == split] for split in splits},
        "recordings": {
            split: [k for s in scripts if s.take.split == split for k in group_files.recordings_of(s)]
            for split in splits
        },
        "silent": [k for s in scripts if not s.take.sound for k in group_files.recordings_of(s)],
        "people": len(SEATS) * len(scripts),
        "snippets": {split: sum(len(s.snippets) for s in scripts if s.take.split == split) for split in splits},
        "positives": {split: group_files.positives(scripts, split) for split in splits},
        "seconds": round(sum(script.seconds(seat) for script in scripts for seat in SEATS if script.of_seat(seat)), 1),
        "bytes": {"total": sum(sizes.values()), **sizes},
        "versions": {name: package_version(name) for name in ("mujoco", "av", "numpy")},
    }


def main(argv: list[str] | None = None) -> int:
    """Command line of ``python -m cm3t.data.rooms group``."""
    parser = argparse.ArgumentParser(prog="python -m cm3t.data.rooms group", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=config.data_dir() / "rooms-group", help="default: %(default)s")
    parser.add_argument("--sessions", nargs="*", type=int, default=[], help="only these (leaves it incomplete)")
    parser.add_argument("--views", nargs="*", type=int, default=list(VIEWS), choices=VIEWS, help="only these cameras")
    options = parser.parse_args(argv)
    generate(options.out, Dials(), only=tuple(options.sessions), views=tuple(options.views))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
