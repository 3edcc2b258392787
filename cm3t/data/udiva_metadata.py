"""UDIVA v0.5's tables: sessions, participants, task limits and predictions, read, refused where wrong, and written.

IDs are text and stay text: "001080" is a session, 1080 is not.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from cm3t.data.tables import SHOWN, AnnotationError

TASKS = {"talk": "T", "animals": "A", "lego": "L", "ghost": "G"}  # and the letter in the recordings' names
TRAITS = (
    "OPENMINDEDNESS_Z",
    "CONSCIENTIOUSNESS_Z",
    "EXTRAVERSION_Z",
    "AGREEABLENESS_Z",
    "NEGATIVEEMOTIONALITY_Z",
)
OFFICIAL = ("Participant ID", *TRAITS)  # header of the official evaluation's files; only the order counts there
SOURCE = "the metadata of UDIVA v0.5"

SESSION = re.compile(r"[0-9]{6}")
PARTICIPANT = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,31}")
NUMBER = re.compile(r"[-+]?([0-9]{1,6}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][-+]?[0-9]{1,2})?")
Limits = dict[str, dict[str, list[tuple[float, float]]]]


def read_sessions(path: str | Path) -> pd.DataFrame:
    """The sessions of one split, in the file's order: session, part1, part2, language ("" where not told), as text.

    part1 is seen by camera FC1, part2 by FC2: the order is that of the columns PART.1 and PART.2, never of the IDs.
    Errors: FileNotFoundError; AnnotationError for a file that is no such table, and for rows with a malformed ID, one
    person in both seats or a session that occurred before.
    """
    lines: dict[str, int] = {}

    def parse(row: dict[str, str], line: int) -> tuple[str, ...]:
        session, one, two = _session(row["ID"]), _person(row["PART.1"]), _person(row["PART.2"])
        if one == two:
            raise ValueError(f"session {session} has participant {one} in both seats")
        _first(lines, session, line, "session")
        return session, one, two, row["LANGUAGE"].strip().capitalize()

    rows = _parsed(Path(path), ("ID", "PART.1", "PART.2"), parse, optional=("LANGUAGE",))
    return pd.DataFrame(rows, columns=["session", "part1", "part2", "language"], dtype=object)


def read_parts(path: str | Path, *, labelled: bool = True) -> dict[str, np.ndarray | None]:
    """The traits of one split's participants, {ID: float64 (5,) in the order O C E A N}; None where a cell is empty.

    labelled=False reads the IDs alone. Errors: FileNotFoundError; AnnotationError as `read_sessions`, and for traits
    that are no numbers.
    """
    lines: dict[str, int] = {}

    def parse(row: dict[str, str], line: int) -> tuple[str, np.ndarray | None]:
        person = _person(row["ID"])
        _first(lines, person, line, "participant")
        if not labelled or not all(row[trait].strip() for trait in TRAITS):
            return person, None
        return person, np.array([_number(row[trait], trait) for trait in TRAITS])

    return dict(_parsed(Path(path), ("ID", *(TRAITS if labelled else ())), parse))


def read_ids(path: str | Path) -> tuple[str, ...]:
    """The participants of a table with the column ID. Errors: as `read_parts`."""
    return tuple(read_parts(path, labelled=False))


def read_limits(path: str | Path) -> Limits:
    """When each task runs, of task_limits.json: {session: {task: [(start, stop), ...]}} in seconds of the recording.

    Errors: FileNotFoundError; AnnotationError with the line for what is no JSON, with session and task for the rest.
    """
    path = Path(path)
    try:
        table = json.loads(_text(path), parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{path}: line {error.lineno}: no JSON ({error.msg}); compare with {SOURCE}") from None
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: line 1: no such JSON ({error}); compare with {SOURCE}") from None
    if not isinstance(table, dict) or not all(isinstance(tasks, dict) for tasks in table.values()):
        raise AnnotationError(f"{path}: line 1: must be {{session: {{task: [[start, end], ...]}}}}")
    limits: Limits = {}
    for session, tasks in table.items():
        for task, spans in tasks.items():
            where = f"{path}: session {session[:20]!r}, task {task[:20]!r}"
            if SESSION.fullmatch(session) is None or task.lower() not in TASKS:
                raise AnnotationError(f"{where}: sessions are six digits, tasks are {', '.join(TASKS)}")
            limits.setdefault(session, {})[task.lower()] = _spans(spans, where)
    return limits


def _spans(value, where: str) -> list[tuple[float, float]]:
    def is_number(x) -> bool:
        return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < 1e9

    pairs = [value] if isinstance(value, list) and len(value) == 2 and all(map(is_number, value)) else value
    good = isinstance(pairs, list) and pairs
    good = good and all(isinstance(p, list) and len(p) == 2 and all(map(is_number, p)) for p in pairs)
    if not good or not all(0 <= a < b for a, b in pairs):
        raise AnnotationError(f"{where}: {str(value)[:40]} is no list of [start, end] in seconds with 0 <= start < end")
    return sorted((float(a), float(b)) for a, b in pairs)


def write_predictions(path: str | Path, traits: Mapping[str, Iterable[float]]) -> Path:
    """The official evaluation's file: `Participant ID` and the five traits, a row a participant, sorted by ID.

    Shapes: traits {participant: (5,) in the order O C E A N}: means of his clips (`metrics.participant_means`).
    The ground truth's file has the same form. Errors: ValueError for another shape or values that are not finite.
    """
    path, rows = Path(path), []
    for person, values in sorted(traits.items()):
        values = np.asarray(values, np.float64)
        if values.shape != (len(TRAITS),) or not np.isfinite(values).all():
            raise ValueError(f"participant {person}: needs {len(TRAITS)} finite traits, got {values}")
        rows.append([_person(person), *(f"{value:.6f}" for value in values)])
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([OFFICIAL, *rows])
    return path


def read_predictions(path: str | Path) -> dict[str, np.ndarray]:
    """The inverse of `write_predictions`: the first line is skipped and only the order of the columns counts.

    Errors: FileNotFoundError; AnnotationError for rows that have not exactly six columns or are otherwise wrong.
    """
    lines: dict[str, int] = {}

    def parse(row: dict[str, str], line: int) -> tuple[str, np.ndarray]:
        person, *values = row.values()
        _first(lines, _person(person), line, "participant")
        return person, np.array([_number(value, trait) for value, trait in zip(values, TRAITS, strict=True)])

    return dict(_parsed(Path(path), OFFICIAL, parse, by_place=True))


def _session(text: str) -> str:
    if SESSION.fullmatch(text) is None:
        raise ValueError(f"session {text[:20]!r} must be six digits, as text with its leading zeros")
    return text


def _person(text: str) -> str:
    if PARTICIPANT.fullmatch(text) is None:
        raise ValueError(f"participant {text[:40]!r} must be letters and digits")
    return text


def _number(text: str, name: str) -> float:
    value = float(text) if NUMBER.fullmatch(text.strip()) else math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} {text[:40]!r} is no number")
    return value


def _first(lines: dict[str, int], key: str, line: int, what: str) -> None:
    if lines.setdefault(key, line) != line:
        raise ValueError(f"{what} {key} was on line {lines[key]} already")


def _no_constant(name: str):
    raise ValueError(f"{name} is no number of seconds")


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; it is one of {SOURCE}")
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise AnnotationError(f"{path}: line {line}: byte {error.start} is not UTF-8; save it as UTF-8") from None


def _parsed(
    path: Path,
    columns: tuple[str, ...],
    parse: Callable[[dict, int], object],
    optional: tuple[str, ...] = (),
    by_place: bool = False,
) -> list:
    """`parse` of every row of a CSV; all rows that fail become one AnnotationError."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    parsed, problems = [], []
    try:
        header = list(columns) if by_place and next(reader, None) is not None else next(reader, [])
        absent = [column for column in columns if column not in header]
        if absent:
            raise AnnotationError(f"{path}: line 1: the columns {absent} are missing; compare with {SOURCE}")
        for fields in filter(None, reader):
            try:
                if len(fields) != len(header):
                    raise ValueError(f"has {len(fields)} fields, the header {len(header)}")
                row = dict.fromkeys(optional, "") | dict(zip(header, fields, strict=True))
                parsed.append(parse({name: row[name] for name in (*columns, *optional)}, reader.line_num))
            except ValueError as problem:
                problems.append(f"  line {reader.line_num}: {problem}")
    except csv.Error as error:
        raise AnnotationError(f"{path}: line {reader.line_num}: {error}; compare with {SOURCE}") from None
    if problems or not parsed:
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        what = f"{len(problems)} rows cannot be used" if problems else "line 1: a header without rows"
        raise AnnotationError(f"{path}: {what}; compare with {SOURCE}\n" + "\n".join(problems[:SHOWN]) + more)
    return parsed
