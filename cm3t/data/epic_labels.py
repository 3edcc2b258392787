"""What is known of a split of EPIC-KITCHENS-100 from its annotation files alone, without any recording."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cm3t.data.epic_annotations import (
    NOUNS,
    VERBS,
    read_annotations,
    read_classes,
    read_column,
    read_durations,
)
from cm3t.data.segments import TENTH, every_tenth
from cm3t.data.tables import AnnotationError

SPLITS = {
    "train": "EPIC_100_train.csv",
    "tune": "EPIC_100_train.csv",
    "validation": "EPIC_100_validation.csv",
    "test": "EPIC_100_test_timestamps.csv",
}
PAIRED = (SPLITS["train"], SPLITS["validation"])  # the files whose pairs of verb and noun make the action classes
ANNOTATIONS = "CM3T_EPIC_ANNOTATIONS"  # environment: a folder of the official annotation files


@dataclass(frozen=True)
class EpicLabels:
    """Segments of one split with their classes, and the official subsets.

    rows: DataFrame, a row a segment. verbs, nouns: {class id: name}. unseen, tail_verb, tail_noun: bool arrays (n,).
    durations: {video id: seconds}, empty without EPIC_100_video_info.csv.
    """

    folder: Path
    split: str
    rows: pd.DataFrame
    verbs: dict[int, str]
    nouns: dict[int, str]
    durations: dict[str, float]

    @property
    def labelled(self) -> bool:
        """False for the test split, whose classes are not published."""
        return self.split != "test"

    @cached_property
    def targets(self) -> dict[str, Tensor]:
        """{"verb": int64 (n,), "noun": int64 (n,)}; empty for the test split."""
        heads = ("verb", "noun") if self.labelled else ()
        return {head: torch.tensor(self.rows[f"{head}_class"].to_numpy(np.int64)) for head in heads}

    @cached_property
    def unseen(self) -> np.ndarray:
        """Bool (n,): segments of participants who are not in the training split, by the list of this very split."""
        if self.split not in ("validation", "test"):
            return np.zeros(len(self.rows), bool)
        ids = read_column(self.folder / f"EPIC_100_unseen_participant_ids_{self.split}.csv", "participant_id")
        return self.rows.participant_id.isin(ids).to_numpy()

    @property
    def tail_verb(self) -> np.ndarray:
        """Bool (n,): the verb is rare."""
        return self._tail("verb")

    @property
    def tail_noun(self) -> np.ndarray:
        """Bool (n,): the noun is rare."""
        return self._tail("noun")

    @cached_property
    def subsets(self) -> dict[str, Tensor]:
        """{"all", "unseen", "tail", "tail_verb", "tail_noun": bool (n,)}; tail is where verb or noun is rare."""
        masks = {"all": np.ones(len(self.rows), bool), "unseen": self.unseen}
        masks |= {"tail": self.tail_verb | self.tail_noun, "tail_verb": self.tail_verb, "tail_noun": self.tail_noun}
        return {name: torch.from_numpy(mask.copy()) for name, mask in masks.items()}

    def _tail(self, head: str) -> np.ndarray:
        if not self.labelled:
            return np.zeros(len(self.rows), bool)
        rare = read_column(self.folder / f"EPIC_100_tail_{head}s.csv", head, int)
        return self.rows[f"{head}_class"].isin(rare).to_numpy()


def read_labels(
    root: str | Path | None, split: str = "validation", *, tune: tuple[str, ...] | str | None = None, gap: int = 0
) -> EpicLabels:
    """Labels of a split; `tune` and `gap` as in `EpicKitchens`. Segments that pass their recording's end stay so.

    Errors: FileNotFoundError, with where to get the files; AnnotationError; ValueError for the arguments.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known are {', '.join(SPLITS)}")
    folder = located(root, SPLITS[split])
    verbs = read_classes(folder / "EPIC_100_verb_classes.csv", VERBS)
    nouns = read_classes(folder / "EPIC_100_noun_classes.csv", NOUNS)
    path = folder / SPLITS[split]
    apart = folder / f"{path.stem}_gap{gap}.csv"
    path = apart if gap and apart.is_file() else path
    rows = read_annotations(path, labelled=split != "test", verbs=verbs, nouns=nouns)
    if split in ("train", "tune"):
        rows = _tuned(rows, path, split, tune)
    table = folder / "EPIC_100_video_info.csv"
    durations = read_durations(table) if table.is_file() and not gap else {}
    return EpicLabels(folder, split, rows, verbs, nouns, durations)


def _tuned(rows: pd.DataFrame, path: Path, split: str, tune: tuple[str, ...] | str | None) -> pd.DataFrame:
    """Of the training rows those of the participants kept for tuning, or those of all others."""
    table = path.parent / "tune_participant_ids.csv"
    if tune in (None, TENTH) and table.is_file():
        tune = tuple(read_column(table, "participant_id"))
    if tune == TENTH:
        tune = every_tenth(rows.participant_id)
    absent = sorted(set(tune or ()) - set(rows.participant_id))
    if absent or (split == "tune" and not tune):
        raise ValueError(
            f"the tune split needs participants of {path}, in {table} or as tune=('P05', ...); "
            + (f"{absent} have no training rows" if absent else "none are given")
        )
    rows = rows[rows.participant_id.isin(tune or ()) == (split == "tune")]
    if rows.empty:
        raise AnnotationError(f"{path}: every participant is in tune {tune}: no training rows are left")
    return rows


def within_recordings(labels: EpicLabels) -> tuple[pd.DataFrame, int]:
    """Rows of segments, those that pass the end of their recording cut to it and warned of; and how many those are.

    Errors: AnnotationError for segments that start after the end.
    """
    rows, split = labels.rows, labels.split
    if not labels.durations:
        return rows, 0
    ends = rows.video_id.map(labels.durations).fillna(np.inf)
    late = rows[rows.start >= ends]
    if len(late):
        raise AnnotationError(
            f"{labels.folder / SPLITS[split]}: {len(late)} segments start after the end of their recording "
            f"(first: {late.narration_id.iloc[0]}); correct them or the durations in EPIC_100_video_info.csv"
        )
    long = rows.stop > ends
    if long.any():
        warnings.warn(
            f"{long.sum()} segments of {split} pass the end of their recording (first: "
            f"{rows.narration_id[long].iloc[0]}) and were cut to it",
            stacklevel=4,
        )
    return rows.assign(stop=np.minimum(rows.stop, ends)), int(long.sum())


def action_pairs(folder: str | Path) -> np.ndarray:
    """The pairs of verb and noun that occur in train or validation: the classes of a head for actions.

    3806 with both official files; of one file alone where the other is not there (1352 of validation).
    Shapes: -> int64 (A, 2), sorted by verb, then noun. Errors: FileNotFoundError; AnnotationError.
    """
    paths = [Path(folder) / name for name in PAIRED]
    paths = [path for path in paths if path.is_file()] or paths[:1]
    columns = ["verb_class", "noun_class"]
    return np.unique(np.concatenate([read_annotations(path)[columns].to_numpy(np.int64) for path in paths]), axis=0)


def action_classes(targets: dict[str, Tensor], pairs: np.ndarray) -> Tensor:
    """The place of each segment's pair among `pairs`. Shapes: verb (n,), noun (n,), pairs (A, 2) -> int64 (n,).

    Errors: ValueError for a pair that is not among them.
    """
    place = {pair: i for i, pair in enumerate(map(tuple, np.asarray(pairs).tolist()))}
    wanted = list(zip(targets["verb"].tolist(), targets["noun"].tolist(), strict=True))
    unknown = [pair for pair in wanted if pair not in place]
    if unknown:
        raise ValueError(f"{len(unknown)} segments show pairs that are no action class (first: {unknown[0]})")
    return torch.tensor([place[pair] for pair in wanted])


def located(root: str | Path | None, table: str) -> Path:
    """The folder of the annotation files. Errors: FileNotFoundError, with where to get them."""
    if root is None:
        raise FileNotFoundError(missing("no root was given", Path("ROOT")))
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(missing(f"{root.absolute()} is no folder", root))
    folders = [root / "annotations", *map(Path, filter(None, [os.environ.get(ANNOTATIONS)]))]
    folder = next((folder for folder in folders if (folder / table).is_file()), None)
    if folder is None:
        tried = " nor ".join(str(folder / table) for folder in folders)
        raise FileNotFoundError(missing(f"there is no {tried}", root))
    return folder


def missing(what: str, root: Path) -> str:
    """What is missing, where it was looked for, how to obtain it, and what there is instead."""
    return (
        f"EPIC-KITCHENS-100 was not found: {what}.\n"
        f"Expected: {root}/annotations/EPIC_100_*.csv (or {ANNOTATIONS}=folder of these files)\n"
        f"          {root}/P01/videos/P01_01.MP4, ... or {root}/P01/rgb_frames/P01_01/frame_0000000001.jpg, ...\n"
        "To obtain: CC BY-NC 4.0; epic-kitchens/epic-kitchens-download-scripts or the two Academic Torrents; "
        "annotations from epic-kitchens/epic-kitchens-100-annotations.\n"
        'Without it: cm3t.data.open_data("rooms-kitchen"), the embedded benchmark in the same layout.'
    )
