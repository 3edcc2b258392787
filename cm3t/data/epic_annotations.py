"""EPIC-KITCHENS-100's annotation files: read, and refused with file, line and remedy where they are wrong.

A row of the train and validation files has the fifteen `COLUMNS`, of the test file the first eight. What is odd in
the official files and accepted: `all_nouns` and `all_noun_classes` are Python literals, `narration_timestamp` may be
empty, seconds have two or three decimals, segments of one recording may overlap.
"""

from __future__ import annotations

import ast
import csv
import io
import re
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from pathlib import Path

import pandas as pd

VERBS, NOUNS = 97, 300  # classes of the two heads, whichever of them a split happens to show
COLUMNS = tuple(
    "narration_id participant_id video_id narration_timestamp start_timestamp stop_timestamp start_frame "
    "stop_frame narration verb verb_class noun noun_class all_nouns all_noun_classes".split()
)
SOURCE = "the files of epic-kitchens/epic-kitchens-100-annotations"
SHOWN = 5  # bad rows named in one error

PARTICIPANT = re.compile(r"P[0-9]{2}")
VIDEO = re.compile(r"P[0-9]{2}_[0-9]{2,3}")
NARRATION = re.compile(r"(P[0-9]{2}_[0-9]{2,3})_[0-9]{1,9}")
TIMESTAMP = re.compile(r"([0-9]{1,3}):([0-5]?[0-9]):([0-5]?[0-9](?:\.[0-9]{1,9})?)")
WHOLE = re.compile(r"-?[0-9]{1,12}")


class AnnotationError(ValueError):
    """An annotation file that cannot be used: the message names the file, the lines and the remedy."""


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

    rows = _parsed(path, columns, parse)
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

    _parsed(path, ("id", "key"), parse)
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

    return tuple(_parsed(path, (column,), parse))


def read_durations(path: str | Path) -> dict[str, float]:
    """Seconds of every recording {video_id: duration}, of EPIC_100_video_info.csv. Errors: as `read_column`."""

    def parse(row: dict[str, str], line: int) -> tuple[str, float]:
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,20})?", row["duration"]) is None:
            raise ValueError(f"duration {row['duration'][:40]!r} is no number of seconds")
        return row["video_id"], float(row["duration"])

    return dict(_parsed(path, ("video_id", "duration"), parse))


def _parsed(path: str | Path, columns: tuple[str, ...], parse: Callable[[dict, int], object]) -> list:
    """`parse` of every row of a CSV; all that fails becomes one AnnotationError."""
    parsed, problems = [], []
    for line, row in _rows(Path(path), columns):
        try:
            parsed.append(parse(row, line))
        except ValueError as problem:
            problems.append(f"  line {line}: {problem}")
    if problems:
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise AnnotationError(
            f"{path}: {len(problems)} of {len(problems) + len(parsed)} rows cannot be used; correct them or "
            f"compare with {SOURCE}\n" + "\n".join(problems[:SHOWN]) + more
        )
    if not parsed:
        raise AnnotationError(f"{path}: a header without rows: the split is empty; compare with {SOURCE}")
    return parsed


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, {column: text}) of each row of a CSV that has at least the columns."""
    if not path.is_file():
        raise FileNotFoundError(f"no annotation file {path}; it is one of {SOURCE}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: byte {error.start} is not UTF-8; compare with {SOURCE}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        absent = [column for column in columns if column not in header]
        if absent:
            raise AnnotationError(f"{path}: the columns {absent} are missing; compare with {SOURCE}")
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                raise AnnotationError(
                    f"{path}: line {reader.line_num} has {len(fields)} fields, the header {len(header)}; "
                    f"is the file cut off? Compare with {SOURCE}"
                )
            row = dict(zip(header, fields, strict=True))
            yield reader.line_num, {column: row[column] for column in columns}
    except csv.Error as error:
        raise AnnotationError(f"{path}: line {reader.line_num}: {error}; compare with {SOURCE}") from None
