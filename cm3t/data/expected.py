"""The tables that a real data set cannot be used without, and which of them are not there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from cm3t.data.epic_labels import ANNOTATIONS

# Tables without which a data set cannot be used, below its root; of EPIC-KITCHENS-100 they may lie elsewhere.
TABLES = {
    "epic": tuple(
        f"annotations/EPIC_100_{name}.csv"
        for name in ("train", "validation", "verb_classes", "noun_classes", "tail_verbs", "tail_nouns",
                     "unseen_participant_ids_validation")
    ),
    "mpiigi": ("bbr/train_samples.csv", "bbr/val_samples.csv"),
    "udiva": ("train/metadata/sessions_train.csv", "train/metadata/parts_train.csv", "val/metadata/sessions_val.csv",
              "val/metadata/parts_val.csv", "val/metadata/parts_val_unmasked.csv"),
}  # fmt: skip


def tables_missing(data: str, root: str | Path | None) -> Iterable[Path]:
    """Paths of the tables that a real data set lacks."""
    root = Path(root or "ROOT")
    for name in TABLES.get(data, ()):
        places = [root / name, root / name.removeprefix("bbr/")]
        if data == "epic" and os.environ.get(ANNOTATIONS):
            places.append(Path(os.environ[ANNOTATIONS]) / Path(name).name)
        if not any(place.is_file() for place in places):
            yield places[0]
