"""The annotation files of rooms-kitchen, in the layout of EPIC-KITCHENS-100's, and the digest of what was written."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cm3t.data.rooms.kitchen_script import Script, label_of
from cm3t.data.rooms.kitchen_world import ACTIONS, NOUN_CATEGORIES, NOUNS, VERB_CATEGORIES, VERBS, Dials, Participant

COLUMNS = (
    "narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp", "stop_timestamp",
    "start_frame", "stop_frame", "narration", "verb", "verb_class", "noun", "noun_class",
    "all_nouns", "all_noun_classes",
)  # fmt: skip
FRAME_RATE = 60  # the frame columns index frames extracted at 60 per second, as for PXX_YY in EPIC-KITCHENS-100


def timestamp(seconds: float, decimals: int = 2) -> str:
    """``HH:MM:SS.ss``."""
    units = round(seconds * 10**decimals)
    whole, fraction = divmod(units, 10**decimals)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{fraction:0{decimals}d}"


def frame_number(seconds: float) -> int:
    """max(1, floor(t * 60)), exact for times of two decimals."""
    return max(1, round(seconds * 100) * FRAME_RATE // 100)


def rows_of(script: Script, times: dict[str, tuple[float, float]] | None = None) -> list[dict]:
    """The 15 columns for every annotated action of ``script``.

    ``times`` (narration_id -> start, stop) keeps only those rows, at other times (the gap renderings).
    """
    rng = np.random.default_rng([script.seed, 23])
    rows = []
    for number, motion in enumerate(script.segments):
        name = f"{script.video}_{number}"
        said = motion.annotation[0] + float(rng.uniform(0, 0.6))
        if times is not None and name not in times:
            continue
        start, stop = motion.annotation if times is None else times[name]
        said += start - motion.annotation[0]
        verb_class, noun_class, verb, noun = label_of(motion)
        values = (
            name, script.participant.name, script.video, timestamp(said, 3), timestamp(start), timestamp(stop),
            frame_number(start), frame_number(stop), motion.narration, verb, verb_class, noun, noun_class,
            [noun], [noun_class],
        )  # fmt: skip
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def tail_classes(counts: Counter) -> list:
    """The rarest classes that together hold at most a fifth of the instances (as EPIC-KITCHENS-100), rarest last."""
    total, heard, tail = sum(counts.values()), 0, []
    for key, count in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        heard += count
        if heard > 0.2 * total:
            break
        tail.append(key)
    return tail[::-1]


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable]) -> None:
    """A CSV file with a header; newline is ``\\n`` so that its digest is the same everywhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def write_annotations(root: Path, dials: Dials, people: tuple[Participant, ...], scripts: list[Script]) -> None:
    """Every file under ``root/annotations`` but the gap levels'."""
    folder = root / "annotations"
    rows = {split: [r for s in scripts if s.split == split for r in rows_of(s)] for split in ("train", "validation")}
    for split, table in rows.items():
        write_csv(folder / f"EPIC_100_{split}.csv", COLUMNS, ([r[c] for c in COLUMNS] for r in table))
    resolution = f"{dials.size}x{dials.size}"
    write_csv(
        folder / "EPIC_100_video_info.csv",
        ("video_id", "duration", "fps", "resolution"),
        ((s.video, f"{s.duration:.6f}", f"{dials.fps:g}", resolution) for s in scripts),
    )
    tune = {p.name for p in people if p.role == "tune"}
    trained = [r for r in rows["train"] if r["participant_id"] not in tune]
    for kind, names, categories in (("verb", VERBS, VERB_CATEGORIES), ("noun", NOUNS, NOUN_CATEGORIES)):
        write_csv(
            folder / f"EPIC_100_{kind}_classes.csv",
            ("id", "key", "instances", "category"),
            ((i, names[i], [names[i]], categories.get(i, "appliances")) for i in sorted(names)),
        )
        tail = tail_classes(Counter(r[f"{kind}_class"] for r in trained))
        write_csv(folder / f"EPIC_100_tail_{kind}s.csv", (kind,), ((i,) for i in tail))
    for name, role in (("EPIC_100_unseen_participant_ids_validation", "unseen"), ("tune_participant_ids", "tune")):
        write_csv(folder / f"{name}.csv", ("participant_id",), ((p.name,) for p in people if p.role == role))


def write_gap_annotations(root: Path, level: int, rows: list[dict]) -> None:
    """``annotations/EPIC_100_validation_gap<level>.csv``."""
    path = root / "annotations" / f"EPIC_100_validation_gap{level}.csv"
    write_csv(path, COLUMNS, ([r[c] for c in COLUMNS] for r in rows))


def action_counts(scripts: list[Script], split: str, tune: set[str] | None = None) -> dict[str, int]:
    """How often each action is annotated, most frequent first; ``tune``: only (or, for train, without) those people."""
    counts = Counter(
        ACTIONS[m.action].key
        for s in scripts
        if s.split == ("train" if split == "tune" else split)
        and (tune is None or split == "validation" or (s.participant.name in tune) == (split == "tune"))
        for m in s.segments
    )
    return dict(counts.most_common())
