"""The source set (the Kinetics role), as `python -m cm3t.data.rooms source` writes it: one video a class, in clips."""

import hashlib
from pathlib import Path

import av
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cm3t.config import ROOT

COLUMNS = ("class", "label", "clip_id", "rollout", "camera", "split", "start", "stop", "kind")


class SourceSet:
    """All clips of the source set, decoded once into memory.

    Attributes: annotations (DataFrame, a row a clip), frames uint8 (n, T, H, W, 3), labels int64 (n,), classes (names),
    digest (of annotations.csv).
    Raises FileNotFoundError with the command that makes the set.
    """

    def __init__(self, root: Path | None = None, *, limit: int | None = None):
        self.root = Path(root or ROOT / "data" / "source")
        table = self.root / "annotations.csv"
        if not table.is_file():
            raise FileNotFoundError(
                f"no source set at {self.root} (looked for annotations.csv). It is generated, not shipped: "
                "pip install 'cm3t[simulate]' && python -m cm3t.data.rooms source"
            )
        rows = pd.read_csv(table)
        absent = [column for column in COLUMNS if column not in rows]
        if absent:
            raise ValueError(f"{table} lacks the columns {absent}; regenerate the set")
        if limit is not None:
            rows = rows.groupby("label", sort=False).head(limit)
        self.annotations = rows.reset_index(drop=True)
        self.classes = list(rows.drop_duplicates("label").sort_values("label")["class"])
        self.labels = torch.tensor(self.annotations["label"].to_numpy())
        self.digest = hashlib.sha256(table.read_bytes()).hexdigest()[:16]
        self.frames = self._decode()

    def _decode(self) -> Tensor:
        """uint8 (n, T, H, W, 3): every recording is read once, front to back."""
        clips = [None] * len(self.annotations)
        for name, rows in self.annotations.groupby("class"):
            frames, rate = _read_video(self.root / "videos" / f"{name}.mp4")
            for i, row in rows.iterrows():
                first, last = round(row["start"] * rate), round(row["stop"] * rate)
                clips[i] = frames[first:last]
        lengths = {len(clip) for clip in clips}
        if len(lengths) != 1:
            raise ValueError(f"clips of {self.root} differ in length ({sorted(lengths)} frames); regenerate the set")
        return torch.from_numpy(np.stack(clips))

    def split(self, name: str) -> Tensor:
        """Indices (m,) of the clips of split "train" or "validation" (disjoint in rollouts)."""
        return torch.from_numpy(np.flatnonzero(self.annotations["split"] == name))


def _read_video(path: Path) -> tuple[np.ndarray, float]:
    """All frames uint8 (T, H, W, 3) of a file, and its frame rate."""
    if not path.is_file():
        raise FileNotFoundError(f"the source set lacks {path}; run `python -m cm3t.data.rooms source` to complete it")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return np.stack(frames), float(stream.average_rate)
