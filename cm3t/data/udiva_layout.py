"""Where UDIVA v0.5 keeps its files, and which clips they hold: one table, made before anything is decoded."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from cm3t.data.landmarks import NAMES as LANDMARKS
from cm3t.data.media import duration_of
from cm3t.data.tables import AnnotationError, MissingFiles
from cm3t.data.transcripts import FORMS
from cm3t.data.udiva_metadata import TASKS, Limits, read_limits, read_sessions

COLUMNS = "id session task participant part language start stop path".split()
ABSENT = 0.1  # share of a task's recordings that may be missing


def located(root: str | Path | None, split: str) -> tuple[Path, Path]:
    """The data set's folder and that of a split. Errors: FileNotFoundError, with where to get them."""
    if root is None:
        raise FileNotFoundError(missing("no root was given", Path("ROOT")))
    folder = Path(root) / split
    for path in (Path(root), folder / "metadata", folder / "recordings"):
        if not path.is_dir():
            raise FileNotFoundError(missing(f"{path.absolute()} is no folder", Path(root)))
    for table in (f"sessions_{split}.csv", f"parts_{split}.csv"):
        path = folder / "metadata" / table
        if not path.is_file() and not path.with_name(f"parts_{split}_unmasked.csv").is_file():
            raise FileNotFoundError(missing(f"there is no {path.absolute()}", Path(root)))
    return Path(root), folder


def missing(what: str, root: Path) -> str:
    """What is not there, what was expected, how to get it and what to do without."""
    return (
        f"UDIVA v0.5 was not found: {what}.\n"
        f"Expected: {root}/{{train,val,test}}/metadata/sessions_train.csv, parts_train.csv, ...\n"
        f"          {root}/train/recordings/[talk_recordings_train/]000001/FC1_T.mp4, ...\n"
        "To obtain: needs a signed licence: chalearnlap.cvc.uab.es, UDIVA v0.5.\n"
        'Without it: cm3t.data.open_data("rooms-dyad"), the embedded benchmark in the same layout.'
    )


def variants(base: Path, task: str, usual: str) -> list[Path]:
    """Folders that may hold a task's sessions, in the order in which they are tried.

    Talk of val and test exists twice, with segments blanked for another challenge and whole: the whole one, which has
    "unmasked" in its folder's name, comes first.
    """
    names = sorted(p.name for p in base.iterdir() if p.is_dir()) if base.is_dir() else []
    whole = [name for name in names if "unmasked" in name.lower() and (task in name.lower() or name == "unmasked")]
    return [*(base / name for name in whole), base / usual, base]


def transcript_path(folder: Path, session: str, task: str) -> Path | None:
    """The transcript of a session's task, or None. An SRT file goes before plain text, wherever the two lie."""
    places = variants(folder / "transcriptions", task, f"{task}_transcriptions_{folder.name}")
    tried = [p / n / f"{session}_{task}{form}" for form in FORMS for p in places for n in (session, "")]
    return next((path for path in tried if path.is_file()), None)


def landmarks_path(folder: Path, session: str, task: str, camera: str) -> Path | None:
    """The landmarks of one recording, or None; of two versions the cleaned one. camera: FC1_T, .."""
    bases = variants(folder / "annotations", task, f"{task}_annotations_{folder.name}")
    tried = [base / session / camera / name for base in bases for name in LANDMARKS]
    return next((path for path in tried if path.is_file()), None)


def windows_of(spans: list[tuple[float, float]], seconds: float, most: int | None = None) -> list[tuple[float, float]]:
    """Windows (start, stop) of equal length, spread evenly over each span without overlap; at most so many in all.

    A span shorter than a window is one window.
    """
    found = []
    for start, stop in spans:
        count = max(1, int((stop - start) / seconds + 1e-6))
        slack = stop - start - seconds
        if slack <= 0:
            found.append((start, stop))
            continue
        places = [slack / 2] if count == 1 else np.linspace(0, slack, count).tolist()
        found += [(start + place, start + place + seconds) for place in places]
    if most is not None and most < len(found):
        found = [found[i] for i in np.linspace(0, len(found) - 1, 2 * most + 1).round().astype(int)[1::2]]
    return found


def clip_table(
    folder: Path,
    people: Collection[str],
    own: Collection[str],
    *,
    tasks: tuple[str, ...],
    seconds: float,
    windows: int | None,
    counts: Counter,
) -> pd.DataFrame:
    """A row a clip of the `own` participants, by session, task, seat and time; `people` are all of the split's.

    Errors: AnnotationError for a session with a participant who is nobody; FileNotFoundError where recordings of a
    whole task, or of more than a tenth of its sessions, are missing (fewer are left out, counted and warned of).
    """
    path = folder / "metadata" / f"sessions_{folder.name}.csv"
    sessions = read_sessions(path)
    unknown = sorted((set(sessions.part1) | set(sessions.part2)) - set(people))
    if unknown:
        raise AnnotationError(
            f"{path}: participants {', '.join(unknown[:5])} are not in the table of participants; "
            "IDs are text: do their leading zeros agree?"
        )
    table = folder / "metadata" / "task_limits.json"
    limits = read_limits(table) if table.is_file() else {}
    rows = []
    for task in tasks:
        folders, asked, absent = variants(folder / "recordings", task, f"{task}_recordings_{folder.name}"), 0, []
        for session in sessions.itertuples():
            for part, person in ((1, session.part1), (2, session.part2)):
                if person not in own:
                    continue
                asked += 1
                paths = [place / session.session / f"FC{part}_{TASKS[task]}.mp4" for place in folders]
                video = next((p for p in paths if p.is_file()), None)
                if video is None:
                    absent.append(paths[-2])
                    continue
                spans = _spans(limits, session.session, task, video, counts)
                rows += [
                    (f"{session.session}_{task}_{person}_{k}", session.session, task, person, part, session.language,
                     start, stop, str(video))
                    for k, (start, stop) in enumerate(windows_of(spans, seconds, windows))
                ]  # fmt: skip
        _check_absent(absent, asked, task, folder, counts)
    found = pd.DataFrame(rows, columns=COLUMNS)
    return found.sort_values(["session", "task", "part", "start"], kind="stable").reset_index(drop=True)


def _spans(limits: Limits, session: str, task: str, video: Path, counts: Counter) -> list[tuple[float, float]]:
    found = limits.get(session, {}).get(task)
    if found is None:
        counts["recordings without limits"] += 1
        return [(0.0, duration_of(video))]
    return found


def _check_absent(absent: list[Path], asked: int, task: str, folder: Path, counts: Counter) -> None:
    if not absent:
        return
    shown = ", ".join(str(p) for p in absent[:3]) + (", ..." if len(absent) > 3 else "")
    what = f"{len(absent)} of {asked} recordings of {task} are missing: {shown}"
    if len(absent) > max(2, ABSENT * asked) or len(absent) == asked:
        raise MissingFiles(missing(f"{what} (tasks=(...) names those to read)", folder.parent), absent)
    counts["missing recordings"] += len(absent)
    warnings.warn(f"{what}; these sessions are left out of it", stacklevel=5)
