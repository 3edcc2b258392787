"""The source set (the Kinetics role), as `python -m cm3t.data.rooms source` writes it: one video a class, in clips."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cm3t.config import data_dir
from cm3t.data.media import read_segments

COLUMNS = ("class", "label", "clip_id", "rollout", "camera", "split", "start", "stop", "kind")


class SourceSet:
    """All clips of the source set, decoded once into memory (2.7 GB for 8000 clips).

    Attributes: annotations (DataFrame, a row a clip), frames uint8 (n, T, H, W, 3), labels int64 (n,), classes (names),
    digest (the generator's, of all files). `limit` keeps the first clips of every class.
    Raises FileNotFoundError with the command that makes the set, ValueError for columns that are missing.
    """

    def __init__(self, root: Path | None = None, *, limit: int | None = None):
        self.root = Path(root or data_dir() / "source")
        table, about = self.root / "annotations.csv", self.root / "source.json"
        for path in (table, about):
            if not path.is_file():
                raise FileNotFoundError(
                    f"no complete source set at {self.root} (looked for {path.name}). It is generated, not shipped: "
                    "in the clone, pip install -e '.[simulate]' && python -m cm3t.data.rooms source"
                )
        rows = pd.read_csv(table)
        if absent := [column for column in COLUMNS if column not in rows]:
            raise ValueError(f"{table} lacks the columns {absent}; generate the set again")
        if limit is not None:
            rows = rows.groupby("label", sort=False).head(limit)
        about = json.loads(about.read_text(encoding="utf-8"))
        self.annotations, self.digest = rows.reset_index(drop=True), about["digest"]
        self.classes = list(rows.drop_duplicates("label").sort_values("label")["class"])
        self.labels = torch.tensor(self.annotations["label"].to_numpy())
        self.frames = self._decode(**{name: about["recipe"][name] for name in ("fps", "frames", "size")})

    def _decode(self, fps: float, frames: int, size: int) -> Tensor:
        """uint8 (n, T, H, W, 3): every recording is read once, front to back."""
        clips = np.empty((len(self.annotations), frames, size, size, 3), np.uint8)
        within = (np.arange(frames) + 0.5) / fps
        for name, rows in self.annotations.groupby("class"):
            times = [start + within for start in rows["start"]]
            for i, clip in zip(rows.index, read_segments(self.root / "videos" / f"{name}.mp4", times), strict=True):
                clips[i] = clip
        return torch.from_numpy(clips)

    def split(self, name: str) -> Tensor:
        """Indices (m,) of the clips of split "train" or "validation" (disjoint in rollouts)."""
        return torch.from_numpy(np.flatnonzero(self.annotations["split"] == name))
