"""The files of rooms-group, in the layout of MPIIGroupInteraction's behaviour challenge, and their digest."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from cm3t.data.mpiigi_samples import BEHAVIOURS, COLUMNS
from cm3t.data.rooms.group_script import Script, Snippet, recording_number
from cm3t.data.rooms.group_world import SEATS

VIEW_NAMES = ("video", "video1", "video2")
SPLITS = {"train": ("train", "tune"), "val": ("val",)}  # a list holds the recordings of these
FOLDERS = {"train": "train", "tune": "train", "val": "val"}


def clip_path(root: Path, snippet: Snippet, view: int) -> Path:
    """``bbr/clips_<split>/00042-video<view>.mp4`` under the root."""
    folder = root / "bbr" / f"clips_{FOLDERS[snippet.take.split]}"
    return folder / f"{snippet.sample_id:05d}-{VIEW_NAMES[view]}.mp4"


def sound_path(root: Path, number: int) -> Path:
    """``data/recording07/audio.opus`` under the root."""
    return root / "data" / f"recording{number:02d}" / "audio.opus"


def recordings_of(script: Script) -> dict[int, int]:
    """{recording's number: its target's seat} of a session."""
    return {recording_number(script.take, seat): seat for seat in SEATS if script.of_seat(seat)}


def row_of(snippet: Snippet) -> tuple:
    """A row of a sample list: number, recording, seat, start and end in milliseconds, fourteen labels."""
    times = (f"{snippet.start * 1000:.4f}", f"{snippet.stop * 1000:.4f}")
    return (snippet.sample_id, snippet.recording, snippet.seat, *times, *snippet.labels)


def write_lists(root: Path, scripts: list[Script]) -> None:
    """``bbr/train_samples.csv`` (with the tune recordings), ``val_samples.csv`` and ``tune_recordings.csv``."""
    for name, splits in SPLITS.items():
        rows = [row_of(s) for script in scripts if script.take.split in splits for s in script.snippets]
        _write_csv(root / "bbr" / f"{name}_samples.csv", (*COLUMNS, *BEHAVIOURS), rows)
    tune = [(k,) for script in scripts if script.take.split == "tune" for k in recordings_of(script)]
    _write_csv(root / "bbr" / "tune_recordings.csv", ("rec_no",), tune)


def _write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def positives(scripts: list[Script], split: str) -> dict[str, int]:
    """How many snippets of a split ("train" without tune, "tune", "val") show each behaviour."""
    counts = Counter(
        name
        for script in scripts
        if script.take.split == split
        for snippet in script.snippets
        for name, shown in zip(BEHAVIOURS, snippet.labels, strict=True)
        if shown
    )
    return {name: counts[name] for name in BEHAVIOURS}
