"""The sample lists of MPIIGroupInteraction's behaviour challenge: read, refused where wrong, and written.

A row is a snippet of one person: number, recording, seat, start and end in milliseconds of the recording, and one
column a behaviour, 1 where it occurs in the snippet. A test list has no behaviour columns.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cm3t.data.tables import parsed_rows

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
    return pd.DataFrame(parsed_rows(path, columns, parse, source=SOURCE), columns=list(columns))


def read_recordings(path: str | Path) -> tuple[int, ...]:
    """The recordings' numbers of a small table with the column rec_no. Errors: as `read_samples`."""

    def number(row: dict[str, str], line: int) -> int:
        return int(_checked(row, "rec_no", WHOLE, "whole number"))

    return tuple(parsed_rows(path, ("rec_no",), number, source=SOURCE))


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
