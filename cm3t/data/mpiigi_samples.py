"""The sample lists of MPIIGroupInteraction's behaviour challenge: read, refused where wrong, and written.

A row is a snippet of one person: number, recording, seat, start and end in milliseconds of the recording, and one
column a behaviour, 1 where it occurs in the snippet. A test list has no behaviour columns.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cm3t.data.epic_annotations import SHOWN, AnnotationError

BEHAVIOURS = (
    "Settle", "Legs crossed", "Groom", "Hand-mouth", "Fold arms", "Leg movement", "Scratch", "Gesture", "Hand-face",
    "Adjusting clothing", "Fumble", "Shrug", "Stretching", "Smearing hands",
)  # fmt: skip
BEHAVIOURS_15 = (*BEHAVIOURS, "Lean Towards")  # the longer list of the same annotations (BBSI)
COLUMNS = ("sample_id", "rec_no", "subject_pos", "start_time", "end_time")
SOURCE = "the sample lists of the MultiMediate behaviour challenge"

WHOLE = re.compile(r"[0-9]{1,9}")
SEAT = re.compile(r"[1-4]")
TIME = re.compile(r"[0-9]{1,10}(\.[0-9]{1,12})?")
LABEL = re.compile(r"([01])(?:\.0+)?")


def read_samples(path: str | Path, behaviours: Sequence[str] = BEHAVIOURS) -> pd.DataFrame:
    """The snippets of one list, in the file's order.

    Gives sample_id, rec_no and subject_pos as int, start_time and end_time in milliseconds (float), and the
    behaviours as float 0 or 1; no behaviours reads a list without labels.
    Errors: FileNotFoundError; AnnotationError for a file that is no such table, and for rows with a malformed number
    or time, an end before the start, a label that is not 0 or 1, or a sample_id that occurred before: the first five
    are named.
    """
    lines: dict[str, int] = {}

    def parse(row: dict[str, str], line: int) -> dict:
        sample: dict = {name: int(_checked(row, name, WHOLE, "whole number")) for name in ("sample_id", "rec_no")}
        sample["subject_pos"] = int(_checked(row, "subject_pos", SEAT, "seat from 1 to 4"))
        for name in ("start_time", "end_time"):
            sample[name] = float(_checked(row, name, TIME, "number of milliseconds"))
        if sample["end_time"] <= sample["start_time"]:
            raise ValueError(f"ends at {row['end_time']} ms, not after its start {row['start_time']}")
        for name in behaviours:
            sample[name] = float(_checked(row, name, LABEL, "label 0 or 1"))
        first = lines.setdefault(sample["sample_id"], line)
        if first != line:
            raise ValueError(f"sample_id {sample['sample_id']} was on line {first} already")
        return sample

    columns = (*COLUMNS, *behaviours)
    return pd.DataFrame(_parsed(Path(path), columns, parse), columns=list(columns))


def read_recordings(path: str | Path) -> tuple[int, ...]:
    """The recordings' numbers of a small table with the column rec_no. Errors: as `read_samples`."""
    return tuple(_parsed(Path(path), ("rec_no",), lambda row, _: int(_checked(row, "rec_no", WHOLE, "whole number"))))


def write_predictions(
    path: str | Path, sample_ids: Sequence[int], scores: np.ndarray, behaviours: Sequence[str] = BEHAVIOURS
) -> Path:
    """The challenge's prediction file: sample_id and one score a behaviour, a row a snippet.

    Shapes: sample_ids n whole numbers, scores (n, len(behaviours)), the higher the likelier.
    Errors: ValueError for another shape, scores that are not finite, or a sample_id given twice.
    """
    scores, ids = np.asarray(scores, np.float64), [int(i) for i in sample_ids]
    if scores.shape != (len(ids), len(behaviours)):
        raise ValueError(f"scores {scores.shape} for {len(ids)} samples and {len(behaviours)} behaviours")
    if not np.isfinite(scores).all():
        bad = ids[int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])]
        raise ValueError(f"the scores of sample {bad} are not finite: the model has diverged")
    if len(set(ids)) != len(ids):
        raise ValueError(f"{len(ids) - len(set(ids))} of {len(ids)} samples are there twice")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("sample_id", *behaviours))
        writer.writerows([i, *(f"{score:.8g}" for score in row)] for i, row in zip(ids, scores, strict=True))
    return path


def _checked(row: dict[str, str], name: str, form: re.Pattern, what: str) -> str:
    text = row[name].strip()
    if form.fullmatch(text) is None:
        raise ValueError(f"{name} {text[:40]!r} is no {what}")
    return text


def _parsed(path: Path, columns: Sequence[str], parse: Callable[[dict, int], object]) -> list:
    """`parse` of every row of a CSV; all that fails becomes one AnnotationError."""
    parsed, problems = [], []
    for line, row in _rows(path, columns):
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


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, {column: text}) of each row of a CSV that has at least the columns."""
    if not path.is_file():
        raise FileNotFoundError(f"no sample list {path}; it is one of {SOURCE}")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: byte {error.start} is not UTF-8; compare with {SOURCE}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        absent = [column for column in columns if column not in header]
        if absent:
            raise AnnotationError(f"{path}: line 1: the columns {absent} are missing; compare with {SOURCE}")
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                raise AnnotationError(
                    f"{path}: line {reader.line_num} has {len(fields)} fields, the header {len(header)}; "
                    f"is the file cut off? Compare with {SOURCE}"
                )
            yield reader.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise AnnotationError(f"{path}: line {reader.line_num}: {error}; compare with {SOURCE}") from None
