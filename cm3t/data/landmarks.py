"""UDIVA v0.5's landmarks: body, face and hands of a participant, extracted beforehand, a group a frame of HDF5.

ROOT/SPLIT/annotations/[TASK_annotations_SPLIT/]SESSION/FC1_T/annotations_raw.hdf5, or annotations_cleaned.hdf5
/00042/{body (24, 3), face (68, 3), hands/left (21, 3), hands/right (21, 3)}, each with the attribute valid
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cm3t.data.hdf5 import open_hdf5
from cm3t.data.media import MediaError

FPS = 25
NAMES = ("annotations_cleaned.hdf5", "annotations_raw.hdf5")  # val and test ship the talk cleaned
PARTS = {"body": 24, "face": 68, "hands/left": 21, "hands/right": 21}  # and how many points each has
WIDTH = 3 * sum(PARTS.values())


def landmark_tokens(path: str | Path, times: Sequence[float], *, counts: Counter | None = None) -> Tensor:
    """Landmarks at some times: float32 (T, 402), body, face, left and right hand, three numbers a point.

    A part that was not found in a frame, or is not valid there, is zero. A frame that is missing gives way to the
    nearest one, counted in counts["nearest landmarks"]; NaN and infinity are replaced by zero, and the frames that hold
    any are counted in counts["replaced landmarks"]. Choice: group 00000 is the frame at time 0; the data set does not
    say it, and a frame is 40 ms. What the numbers measure is left as it is: `Modality.calibrate` scales channels.
    Errors: ImportError without h5py; FileNotFoundError; MediaError for a file or a part that is not of this form.
    """
    rows = np.zeros((len(times), WIDTH), np.float32)
    with open_hdf5(path) as file:
        numbers = sorted(int(name) for name in file if name.isdecimal())
        if not numbers:
            raise MediaError(f"{path}: holds no frames 00000, 00001, ...; extract the archive again")
        for row, time in zip(rows, times, strict=True):
            wanted = max(0, int(time * FPS + 1e-6))
            place = bisect_left(numbers, wanted)
            near = min(numbers[max(0, place - 1) : place + 1], key=lambda n: (abs(n - wanted), n))
            found = _frame(file[f"{near:05d}"], f"{path}: frame {near:05d}")
            known = np.isfinite(found)
            row[:] = np.where(known, found, 0)
            if counts is not None:
                counts["nearest landmarks"] += near != wanted
                counts["replaced landmarks"] += not known.all()
    return torch.from_numpy(rows)


def _frame(group, where: str) -> np.ndarray:
    found = []
    for name, count in PARTS.items():
        part = group.get(name)
        values = np.zeros(3 * count, np.float32)
        if part is not None and bool(part.attrs.get("valid", True)):
            if getattr(part, "shape", None) != (count, 3):
                raise MediaError(f"{where}: {name} is {getattr(part, 'shape', 'a group')}, ({count}, 3) is expected")
            values = part[()].astype(np.float32).ravel()
        found.append(values)
    return np.concatenate(found)
