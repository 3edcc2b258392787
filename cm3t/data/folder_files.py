"""Where a folder's labels and videos lie, and how long these are: what is wrong is said before anything is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from cm3t.data.media import TOLERANCE, MediaError, duration_of
from cm3t.data.tables import AnnotationError, MissingFiles
from cm3t.words import counted

LABELS = "labels.csv"
SHOWN = 10  # videos named in one error


def located(root: str | Path | None) -> tuple[Path, Path]:
    """The folder and its CSV file. Errors: FileNotFoundError, with what is expected."""
    path = None if root is None else Path(root).expanduser()
    file = path / LABELS if path is not None and path.is_dir() else path
    if file is None or not file.is_file():
        what = "no root was given" if file is None else f"there is no {file}"
        raise FileNotFoundError(
            f"a folder of videos was not found: {what}.\n"
            f"Expected: ROOT/{LABELS} with the columns video,label and the videos it names, under ROOT\n"
            'Without it: cm3t.data.open_data("rooms-kitchen"), the embedded benchmark.'
        )
    return file.parent, file


def absent_videos(rows: pd.DataFrame, file: Path) -> list:
    """The first row of every video that is not in the file's folder."""
    return [row for row in rows.drop_duplicates("video").itertuples() if not os.path.isfile(file.parent / row.video)]


def found(rows: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The rows with the path of every video. Errors: MissingFiles (a FileNotFoundError), the first ten named."""
    root, absent = file.parent, absent_videos(rows, file)
    if absent:
        raise MissingFiles(
            f"{file}: {len(absent)} of {rows.video.nunique()} videos are not in {root}; copy them there or correct "
            "their names (upper and lower case count)\n" + _listed(f"  line {row.line}: {row.video}" for row in absent),
            [root / row.video for row in absent],
        )
    return rows.assign(path=[str(root / video) for video in rows.video])


def unusable_videos(rows: pd.DataFrame) -> tuple[dict[str, float | None], list[str]]:
    """Seconds by path of every video (None: it cannot be opened), and a line for each that cannot be used."""
    seconds, problems = {}, []
    for row in rows.itertuples():
        if row.path not in seconds:
            try:
                seconds[row.path] = _duration(row.path, Path(row.path).stat().st_mtime_ns)
            except (MediaError, OSError) as error:
                seconds[row.path] = None
                problems.append(f"  line {row.line}: {error}")
        if seconds[row.path] is not None and (problem := _misfit(row, seconds[row.path])):
            problems.append(f"  line {row.line}: {problem}")
    return seconds, problems


def timed(rows: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The rows with the seconds of every video, and a stop where the file gives none. Errors: AnnotationError."""
    seconds, problems = unusable_videos(rows)
    if problems:
        raise AnnotationError(
            f"{file}: {counted(len(problems), 'video or time', 'videos or times')} cannot be used; correct them or "
            "take them out\n" + _listed(problems)
        )
    end = rows.path.map(seconds)
    return rows.assign(seconds=end, stop=np.fmin(rows.stop, end.where(end > 0)))


def _misfit(row, end: float) -> str | None:
    """Why a clip cannot be a part of its video of `end` seconds (0: unknown)."""
    if not end:
        return f"{row.video} does not say how long it is; give start and stop" if np.isnan(row.stop) else None
    if row.start < end and not row.stop > end + TOLERANCE:
        return None
    span = f"{row.start:g} s on" if np.isnan(row.stop) else f"{row.start:g} s to {row.stop:g} s"
    return f"{span}, but {row.video} ends at {end:.2f} s; are these seconds?"


@lru_cache(maxsize=100_000)
def _duration(path: str, changed: int) -> float:
    """Seconds of a video, found once a process for all splits."""
    return duration_of(path)


def _listed(lines: Iterable[str]) -> str:
    lines = list(lines)
    more = f"\n  and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return "\n".join(lines[:SHOWN]) + more
