"""Tokens of the side modalities of one segment: sound as a spectrogram, motion as averaged optical flow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from cm3t.data.media import read_segments, read_sound
from cm3t.data.signals import dense_flow, log_mel

SOUND = {"rate": 24000, "seconds": 1.999}  # of 24 kHz sound, 1.999 s give 400 x 128
FLOW_STEP = 0.1  # seconds from the first to the second frame of a flow
FLOW_CELLS = 8  # a side


def audio_tokens(
    path: str | Path, start: float, stop: float, sound: Mapping[str, float] | None = None
) -> Tensor | None:
    """Log-mel spectrogram about the middle of a segment, or None where the recording has no sound track.

    Shapes: start, stop in seconds -> float32 (L, mels); L depends on `sound` alone, not on the segment's length.
    sound: seconds (the length), rate and any other argument of `log_mel`. Errors: as `media.read_sound`.
    """
    options = {**SOUND, **(sound or {})}
    half, middle = options.pop("seconds") / 2, (start + stop) / 2
    wave = read_sound(path, middle - half, middle + half, options["rate"])
    return None if wave is None else log_mel(wave, **options)


def flow_tokens(
    path: str | Path,
    times: Sequence[float],
    size: int | tuple[int, int] | None = None,
    *,
    counts: Counter | None = None,
) -> Tensor:
    """Motion over the 0.1 s before each time, averaged over 8 x 8 cells of the picture.

    Shapes: times (T,) seconds -> float32 (T, 128) in pixels, the cells of the motion to the right first, then down.
    Errors: as `media.read_frames`.
    Choice: the paper feeds a flow network; a mean over cells keeps what direction tells and needs no weights.
    """
    pairs = [(max(0.0, time - FLOW_STEP), time) for time in times]
    flows = np.stack([dense_flow(frames)[0] for frames in read_segments(path, pairs, size, counts=counts)])
    planes = rearrange(torch.from_numpy(flows), "t h w c -> t c h w")
    return torch.nn.functional.adaptive_avg_pool2d(planes, FLOW_CELLS).flatten(1)
