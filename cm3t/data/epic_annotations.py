"""EPIC-KITCHENS-100's annotation files: read, and refused with file, line and remedy where they are wrong.

A row of the train and validation files has the fifteen `COLUMNS`, of the test file the first eight. What is odd in
the official files and accepted: `all_nouns` and `all_noun_classes` are Python literals, `narration_timestamp` may be
empty, seconds have two or three decimals, segments of one recording may overlap.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

import pandas as pd

from cm3t.data.tables import parsed_rows

VERBS, NOUNS = 97, 300  # classes of the two heads, whichever of them a split happens to show
COLUMNS = tuple(
    "narration_id participant_id video_id narration_timestamp start_timestamp stop_timestamp start_frame "
    "stop_frame narration verb verb_class noun noun_class all_nouns all_noun_classes".split()
)
SOURCE = "the files of epic-kitchens/epic-kitchens-100-annotations"

PARTICIPANT = re.compile(r"P[0-9]{2}")
VIDEO = re.compile(r"P[0-9]{2}_[0-9]{2,3}")
NARRATION = re.compile(r"(P[0-9]{2}_[0-9]{2,3})_[0-9]{1,9}")
TIMESTAMP = re.compile(r"([0-9]{1,3}):([0-5]?[0-9]):([0-5]?[0-9](?:\.[0-9]{1,9})?)")
WHOLE = re.compile(r"-?[0-9]{1,12}")


def seconds_of(timestamp: str) -> float:
    """Seconds of "HH:MM:SS.ff", with any number of decimals. Errors: ValueError for another form."""
    match = TIMESTAMP.fullmatch(timestamp)
    if match is None:
        raise ValueError(f"{timestamp!r} is no time; write HH:MM:SS.ff")
    hours, minutes, seconds = match.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def frame_of(timestamp: str | float, video_id: str) -> int:
    """Number of the official JPEG shown at a time (from 1): max(1, floor(t * fps)).

    timestamp: "HH:MM:SS.ff" or seconds. fps is 60 for PXX_YY and 50 for PXX_1YY: the rate to which the official
    pictures were re-sampled, not that of the video. Only for reading those pictures; videos are read by time.
    Errors: ValueError for an id or a time of another form.
    """
    if VIDEO.fullmatch(video_id) is None:
        raise ValueError(f"{video_id!r} is no video id; these look like P01_01 or P01_101")
    seconds = seconds_of(timestamp) if isinstance(timestamp, str) else float(timestamp)
    return max(1, int(seconds * (60 if len(video_id) == 6 else 50)))


def read_annotations(
    path: str | Path,
    *,
    labelled: bool = True,
    verbs: Collection[int] | None = None,
    nouns: Collection[int] | None = None,
) -> pd.DataFrame:
    """The segments of one split, in the file's order.

    Gives the official columns (the first eight where not labelled), classes as int, `all_nouns` and
    `all_noun_classes` as lists, and `start`, `stop` in seconds (float).
    verbs, nouns: the class ids that exist; None allows 0..96 and 0..299.
    Errors: FileNotFoundError; AnnotationError for a file that is no such table, and for rows with a malformed id or
    time, stop before start, an unknown class, or an id that occurred before: the first five are named.
    """
    columns = COLUMNS if labelled else COLUMNS[:8]
    known = {"verb_class": range(VERBS) if verbs is None else verbs}
    known["noun_class"] = range(NOUNS) if nouns is None else nouns
    lines: dict[str, int] = {}

    def parse(row: dict[str, str], line: int) -> dict:
        segment = _segment(row, known if labelled else {})
        first = lines.setdefault(row["narration_id"], line)
        if first != line:
            raise ValueError(f"narration_id {row['narration_id']} was on line {first} already")
        return segment

    rows = parsed_rows(path, columns, parse, source=SOURCE)
    return pd.DataFrame(rows, columns=[*columns, "start", "stop"])


def _segment(row: dict[str, str], known: dict[str, Collection[int]]) -> dict:
    """One row, checked. Errors: ValueError that says what is wrong with it."""
    match = NARRATION.fullmatch(row["narration_id"])
    video = row["video_id"]
    if VIDEO.fullmatch(video) is None:
        raise ValueError(f"video_id {video!r} must look like P01_01 or P01_101")
    if match is None or match[1] != video:
        raise ValueError(f"narration_id {row['narration_id']!r} must be {video}_ and a number")
    if row["participant_id"] != video[:3]:
        raise ValueError(f"participant_id {row['participant_id']!r} does not fit video {video}")
    start, stop = seconds_of(row["start_timestamp"]), seconds_of(row["stop_timestamp"])
    if stop <= start:
        raise ValueError(f"stops at {row['stop_timestamp']}, not after its start {row['start_timestamp']}")
    if row["narration_timestamp"]:
        seconds_of(row["narration_timestamp"])
    segment = {**row, "start": start, "stop": stop}
    for name in ("start_frame", "stop_frame", *known):
        segment[name] = _whole(row[name], name)
    for name, ids in known.items():
        if segment[name] not in ids:
            raise ValueError(f"unknown {name} {segment[name]}")
    if known:
        segment["all_nouns"] = _literal(row["all_nouns"], "all_nouns", str)
        segment["all_noun_classes"] = _literal(row["all_noun_classes"], "all_noun_classes", int)
    return segment


def _whole(text: str, name: str) -> int:
    if WHOLE.fullmatch(text) is None:
        raise ValueError(f"{name} {text[:40]!r} is no whole number")
    return int(text)


def _literal(text: str, name: str, kind: type) -> list:
    """A Python list literal, as the official files hold them."""
    value = _evaluated(text)
    if not isinstance(value, list) or not all(type(item) is kind for item in value):
        raise ValueError(f"{name} {text[:40]!r} is no list of {kind.__name__}")
    return list(value)


@lru_cache(maxsize=20_000)  # few lists occur often: it makes reading the training file three times faster
def _evaluated(text: str):
    if len(text) > 10_000 or "\\" in text:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def read_classes(path: str | Path, count: int) -> dict[int, str]:
    """Class names {id: key} of EPIC_100_verb_classes.csv (count 97) or EPIC_100_noun_classes.csv (count 300).

    A file may name some of the classes only. Errors: FileNotFoundError; AnnotationError, also for an id that is
    outside 0..count-1 or occurs twice.
    """
    names: dict[int, str] = {}

    def parse(row: dict[str, str], line: int) -> None:
        number = _whole(row["id"], "id")
        if not 0 <= number < count:
            raise ValueError(f"class {number} lies outside 0..{count - 1}")
        if number in names:
            raise ValueError(f"class {number} was named {names[number]!r} already")
        names[number] = row["key"]

    parsed_rows(path, ("id", "key"), parse, source=SOURCE)
    return names


def read_column(path: str | Path, column: str, kind: type = str) -> tuple:
    """One column of a small table: tail classes (kind=int) or participant ids, which must look like P01.

    Errors: FileNotFoundError; AnnotationError, also for an empty table.
    """

    def parse(row: dict[str, str], line: int) -> str | int:
        if kind is int:
            return _whole(row[column], column)
        if column == "participant_id" and PARTICIPANT.fullmatch(row[column]) is None:
            raise ValueError(f"participant_id {row[column]!r} must look like P01")
        return row[column]

    return tuple(parsed_rows(path, (column,), parse, source=SOURCE))


def read_durations(path: str | Path) -> dict[str, float]:
    """Seconds of every recording {video_id: duration}, of EPIC_100_video_info.csv. Errors: as `read_column`."""

    def parse(row: dict[str, str], line: int) -> tuple[str, float]:
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,20})?", row["duration"]) is None:
            raise ValueError(f"duration {row['duration'][:40]!r} is no number of seconds")
        return row["video_id"], float(row["duration"])

    return dict(parsed_rows(path, ("video_id", "duration"), parse, source=SOURCE))
