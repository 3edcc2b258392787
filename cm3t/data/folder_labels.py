"""The labels of a folder of videos: one CSV file, a row a clip, and the splits where it names none.

    video,label                                     the least: each video is one clip
    video,label,start,stop,split,participant,id     any of the others may be there

video is a path inside the folder. label: one class, or several as "wave;point", which makes the whole set multi-label.
start and stop in seconds; an empty cell is the video's own beginning or end. split: train, tune, validation (or val)
or test. participant (or group): clips of one never stand on both sides of a split; without it, the video takes its
place. id names the clip, for features; without it that is the video without its suffix, and _0, _1, .. where the
clip is a part of it.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path, PurePosixPath

import pandas as pd

from cm3t.data.tables import AnnotationError, parsed_rows
from cm3t.words import counted, first_of

REQUIRED = ("video", "label")
OPTIONAL = ("start", "stop", "split", "participant", "group", "id")
SPLITS = ("train", "tune", "validation", "test")
WORDS = dict(zip(SPLITS, SPLITS, strict=True)) | {"val": "validation"}
SHARE = 0.15  # Choice: of the participants for tune, and as many for validation, where the file names no splits
SOURCE = (
    "the form: a UTF-8 file, separated by commas, with the columns video and label, and if wanted start, stop "
    "(seconds), split, participant (or group), id"
)
TIME = re.compile(r"[0-9]{1,7}(\.[0-9]{0,20})?")
WHO = ("participant (or video)", "participants (or videos)")
LONGEST = 200  # characters of a label, a participant, an id


def read_folder_labels(path: str | Path) -> pd.DataFrame:
    """The clips of a CSV file, in its order; every one has a split and a group.

    Gives line, id, video, labels (tuple of names, sorted), start (seconds), stop (seconds, NaN: the video's end),
    group and split.
    Errors: FileNotFoundError; AnnotationError for a file that is no such table, for rows that cannot be used (the
    first five are named), for a single class, and where train, tune or validation would be empty.
    Warns of a participant in several splits, and of a class that is to be recognised and is never trained.
    """
    seen: dict[tuple, int] = {}

    def parse(row: dict[str, str], line: int) -> dict:
        clip = _parsed({name: text.strip() for name, text in row.items()}) | {"line": line}
        first = seen.setdefault((clip["video"], clip["start"], str(clip["stop"])), line)
        if first != line:
            raise ValueError(f"the same clip is on line {first} already; several labels of one clip are written a;b")
        return clip

    rows = pd.DataFrame(parsed_rows(path, REQUIRED, parse, source=SOURCE, others=OPTIONAL))
    rows["id"] = _ids(rows, path)
    rows["group"] = rows["group"].where(rows["group"] != "", rows["video"])
    if len(classes_of(rows)) < 2:
        raise AnnotationError(f"{path}: every label is {classes_of(rows)[0]!r}; a classifier needs two classes or more")
    rows["split"] = _splits(rows, path)
    _warn(rows, path)
    return rows[["line", "id", "video", "labels", "start", "stop", "group", "split"]]


def classes_of(rows: pd.DataFrame) -> list[str]:
    """The names of all classes, sorted: a class's number is its place."""
    return sorted({name for labels in rows["labels"] for name in labels})


def _parsed(row: dict[str, str]) -> dict:
    """A row's texts as values. Errors: ValueError, without the line."""
    if row.get("participant") and row.get("group"):
        raise ValueError("has a participant and a group; both say the same, keep one of the columns")
    start = _seconds(row, "start") or 0.0
    stop = _seconds(row, "stop")
    if stop is not None and stop <= start:
        raise ValueError(f"stops at {stop:g} s, not after its start at {start:g} s")
    split = row.get("split", "")
    if split and split.lower() not in WORDS:
        raise ValueError(f"split {split[:40]!r} is none of {', '.join(WORDS)}")
    return {
        "video": _inside(row["video"]),
        "labels": _labels(row["label"]),
        "start": start,
        "stop": float("nan") if stop is None else stop,
        "part": start > 0 or stop is not None,
        "group": _plain("group", row.get("participant") or row.get("group", "")),
        "split": WORDS.get(split.lower(), ""),
        "id": _plain("id", row.get("id", "")),
    }


def _inside(name: str) -> str:
    """A video's path inside the folder, as it is written. Errors: ValueError for one that could lead out of it."""
    path = PurePosixPath(_plain("video", name, 1000).replace("\\", "/"))
    if not path.name:
        raise ValueError("names no video")
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
        raise ValueError(f"video {name[:80]!r} leads out of the folder; give its path from the folder of the CSV file")
    return str(path)


def _labels(text: str) -> tuple[str, ...]:
    names = tuple(sorted({name.strip() for name in _plain("label", text).split(";")}))
    if not all(names):
        raise ValueError(f"label {text[:40]!r} is empty, or empty beside a semicolon; name a class")
    return names


def _plain(column: str, text: str, longest: int = LONGEST) -> str:
    if len(text) > longest or not text.isprintable():
        raise ValueError(f"{column} {text[:40]!r} is longer than {longest} characters or holds a control character")
    return text


def _seconds(row: dict[str, str], name: str) -> float | None:
    text = row.get(name, "")
    if text and TIME.fullmatch(text) is None:
        raise ValueError(f"{name} {text[:40]!r} is no number of seconds; write for example 12.5")
    return float(text) if text else None


def _ids(rows: pd.DataFrame, path: str | Path) -> list[str]:
    """A name for each clip. Errors: AnnotationError where two have the same."""
    stems = [str(PurePosixPath(video).with_suffix("")) for video in rows["video"]]
    counted = rows.groupby("video").cumcount()
    own = [f"{stem}_{k}" if part else stem for stem, part, k in zip(stems, rows["part"], counted, strict=True)]
    names = rows["id"].where(rows["id"] != "", pd.Series(own, index=rows.index))
    if names.duplicated().any():
        name = names[names.duplicated()].iloc[0]
        lines = ", ".join(str(line) for line in rows["line"][names == name][:5])
        raise AnnotationError(f"{path}: lines {lines} would all be called {name!r}; tell them apart in a column id")
    return names.tolist()


def _splits(rows: pd.DataFrame, path: str | Path) -> pd.Series:
    """The split of every row: the file's, or by the rank of its group's hash, the same on every machine."""
    split = rows["split"].copy()
    empty = split == ""
    if empty.any() and not empty.all():
        line = rows["line"][empty].iloc[0]
        raise AnnotationError(f"{path}: line {line} has no split, others have one; name it for all rows or for none")
    order = _ranked(rows["group"])
    if empty.all():
        _check_enough(order, 3, f"{path}: the", "train, tune and validation")
        count = max(1, round(SHARE * len(order)))
        split[:] = "train"
        split[rows["group"].isin(order[:count])] = "validation"
        split[rows["group"].isin(order[count : 2 * count])] = "tune"
        return split
    for name in ("train", "validation"):
        if name not in set(split):
            raise AnnotationError(f"{path}: no row has the split {name}; name it for some, or take the column out")
    if "tune" not in set(split):  # carved from train: validation is scored once, at the end
        order = _ranked(rows["group"][split == "train"])
        _check_enough(order, 2, f"{path}: the training", "train and tune")
        chosen = order[: max(1, round(SHARE * len(order)))]
        split[(split == "train") & rows["group"].isin(chosen)] = "tune"
    return split


def _ranked(groups: pd.Series) -> list[str]:
    """Each group once, in the order of their hashes: by chance, and always the same."""
    return sorted(set(groups), key=lambda group: hashlib.sha256(group.encode()).digest())


def _check_enough(order: list[str], least: int, whose: str, splits: str) -> None:
    if len(order) < least:
        raise AnnotationError(
            f"{whose} clips are of {counted(len(order), *WHO)}, too few to divide into {splits}; "
            f"{least} are needed, or a column split that names all of them"
        )


def _warn(rows: pd.DataFrame, path: str | Path) -> None:
    several = rows.groupby("group")["split"].nunique()
    both = several.index[several > 1].tolist()
    if both:
        warnings.warn(
            f"{path}: {counted(len(both), *WHO)} in several splits ({', '.join(both[:5])}): scores will "
            "flatter the model; give each to one split",
            stacklevel=4,
        )
    trained = {name for labels in rows["labels"][rows["split"] == "train"] for name in labels}
    untrained = [name for name in classes_of(rows) if name not in trained]
    if untrained:
        warnings.warn(
            f"{path}: no training clip shows {first_of(untrained)}, so no model can learn it; label more clips "
            "of it, leave it out, or name the splits in a column",
            stacklevel=4,
        )
