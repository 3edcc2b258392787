"""What is wrong with a folder of videos, all of it at once; a reader stops at the first kind of mistake."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cm3t.data.folder_files import absent_videos, located, unusable_videos
from cm3t.data.folder_labels import SPLITS, read_folder_labels
from cm3t.words import first_of

NAMED = 8  # classes in one line


@dataclass(frozen=True)
class FolderCheck:
    """What was found of a folder: its CSV file, clips by split, what is missing, and what is only to be known.

    readable: can every video be opened?
    """

    file: Path
    clips: dict[str, int]
    missing: tuple[str, ...]
    remarks: tuple[str, ...]
    readable: bool


def check_folder(root: str | Path | None) -> FolderCheck:
    """Look through a folder's labels and open every video, decoding none.

    Missing are videos that are not there, cannot be opened or end before a clip does, and classes of one clip, which
    can be learned or recognised, never both. Errors: FileNotFoundError without a folder or CSV file; AnnotationError
    for a file whose rows cannot be read.
    """
    _, file = located(root)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rows = read_folder_labels(file)
    absent = absent_videos(rows, file)
    missing = [f"{file.parent / row.video} (line {row.line} of {file.name})" for row in absent]
    there = rows[~rows.video.isin([row.video for row in absent])]
    there = there.assign(path=[str(file.parent / video) for video in there.video])
    missing += [f"{file}: {problem.strip()}" for problem in unusable_videos(there)[1]]
    readable = not missing
    counts = Counter(name for labels in rows["labels"] for name in labels)
    missing += [
        f"{file}: a second clip of {name!r}: there is one alone, which can be learned or recognised, never both"
        for name in sorted(counts)
        if counts[name] == 1
    ]
    clips = rows["split"].value_counts()
    clips = {split: int(clips[split]) for split in SPLITS if split in clips}
    remarks = [str(w.message).removeprefix(f"{file}: ") for w in caught]
    remarks += [_classes(counts), *_unscored(rows, counts)]
    return FolderCheck(file, clips, tuple(missing), tuple(remarks), readable)


def _classes(counts: Counter) -> str:
    """How many classes, and how many clips of which."""
    most = counts.most_common()
    shown = most if len(most) <= NAMED else [*most[: NAMED // 2], *most[-NAMED // 2 :]]
    words = [f"{name} {count}" for name, count in shown]
    if len(most) > NAMED:
        words.insert(NAMED // 2, "..")
    return f"{len(counts)} classes: {', '.join(words)}"


def _unscored(rows: pd.DataFrame, counts: Counter) -> list[str]:
    scored = {name for labels in rows["labels"][rows["split"] == "validation"] for name in labels}
    names = [name for name in sorted(counts) if name not in scored]
    told = f"no validation clip shows {first_of(names, NAMED)}: nothing will be known of how well this is recognised"
    return [told] if names else []
