"""The files of rooms-dyad beside its recordings, in UDIVA v0.5's layout: tables, task limits and transcripts."""

from __future__ import annotations

import json
from pathlib import Path

from cm3t.data.rooms.dyad_script import HOST, Script
from cm3t.data.rooms.dyad_world import TRAITS as LETTERS
from cm3t.data.rooms.dyad_world import Person, Session, folder_of
from cm3t.data.rooms.kitchen_files import write_csv
from cm3t.data.udiva_metadata import TASKS, TRAITS

PLACES = 5  # columns for a person's sessions
FOLDERS = ("train", "val", "test")


def recording_path(root: Path, session: Session, task: str, seat: int) -> Path:
    """Where one camera's recording of a task is; seat 0 is PART.1, seen by FC1."""
    split = folder_of(session.split)
    folder = root / split / "recordings" / f"{task}_recordings_{split}" / session.name
    return folder / f"FC{seat + 1}_{TASKS[task]}.mp4"


def write_tables(root: Path, people: list[Person], sessions: list[Session]) -> None:
    """Sessions, participants with their traits (of val and test also without), and the tune participants."""
    for split in FOLDERS:
        folder = root / split / "metadata"
        own = [s for s in sessions if folder_of(s.split) == split]
        rows = [(s.name, *(p.name for p in s.people), "English") for s in own]
        write_csv(folder / f"sessions_{split}.csv", ("ID", "PART.1", "PART.2", "LANGUAGE"), rows)
        names = [f"SESSION{k + 1}" for k in range(PLACES)]
        head, rows = ("ID", "NUM_SESSIONS", *names), []
        for person in sorted((p for p in people if folder_of(p.split) == split), key=lambda p: p.name):
            mine = [s.name for s in own if person in s.people]
            rows.append((person.name, len(mine), *mine, *[""] * (PLACES - len(mine))))
        traits = {p.name: [f"{p.traits[letter]:.4f}" for letter in LETTERS] for p in people}
        labelled = [(*row, *traits[row[0]]) for row in rows]
        if split == "train":
            write_csv(folder / "parts_train.csv", (*head, *TRAITS), labelled)
        else:
            write_csv(folder / f"parts_{split}.csv", head, rows)
            write_csv(folder / f"parts_{split}_unmasked.csv", (*head, *TRAITS), labelled)
    tune = sorted(p.name for p in people if p.split == "tune")
    write_csv(root / "train" / "metadata" / "tune_participant_ids.csv", ("ID",), [(name,) for name in tune])


def write_limits(root: Path, scripts: list[Script]) -> None:
    """``task_limits.json`` of every split."""
    for split in FOLDERS:
        limits: dict = {}
        for script in (s for s in scripts if folder_of(s.session.split) == split):
            limits.setdefault(script.session.name, {})[script.task] = [[round(t, 2) for t in script.limits]]
        lines = [f" {json.dumps(name)}: {json.dumps(tasks)}" for name, tasks in sorted(limits.items())]
        (root / split / "metadata" / "task_limits.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def timestamp(seconds: float) -> str:
    """``HH:MM:SS,mmm``."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d},{milliseconds:03d}"


def subtitles(script: Script) -> str:
    """The transcript of a task as SRT."""
    cues = []
    for number, line in enumerate(sorted(script.lines, key=lambda line: line.start), 1):
        speaker = "SUPERVISOR" if line.seat == HOST else f"PART.{line.seat + 1}"
        cues.append(f"{number}\n{timestamp(line.start)} --> {timestamp(line.stop)}\n{speaker}: {line.text}\n")
    return "\n".join(cues)


def write_transcripts(root: Path, scripts: list[Script]) -> None:
    """``transcriptions/SESSION/SESSION_TASK.srt`` (UTF-8 with a byte order mark), of the tasks that have one."""
    for script in (s for s in scripts if not s.unwritten):
        name = script.session.name
        path = root / folder_of(script.session.split) / "transcriptions" / name / f"{name}_{script.task}.srt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(subtitles(script), encoding="utf-8-sig", newline="\n")
