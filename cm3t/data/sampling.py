"""At which times of a segment frames are taken."""

from __future__ import annotations

import numpy as np

SAMPLINGS = ("segments", "dense")
STEP = 1 / 15  # seconds between dense frames: every second one of 30 a second, as video transformers are pretrained


def frame_times(start: float, stop: float, frames: int, generator: np.random.Generator | None = None) -> np.ndarray:
    """Times of the frames that stand for a segment: one in each of `frames` equal spans.

    The middle of each span; with a generator a uniformly random time in it (temporal jitter, for training).
    Shapes: start, stop in seconds -> (frames,) seconds, rising. Errors: ValueError for stop <= start or frames < 1.
    """
    if not stop > start or frames < 1:
        raise ValueError(f"a segment from {start} s to {stop} s has no {frames} frames")
    within = 0.5 if generator is None else generator.random(frames)
    return start + (np.arange(frames) + within) * (stop - start) / frames


def dense_times(
    start: float, stop: float, frames: int, step: float = STEP, generator: np.random.Generator | None = None
) -> np.ndarray:
    """Times of frames `step` seconds apart, about the middle of a segment; with a generator anywhere in it.

    In a segment shorter than frames * step the first and last times repeat its ends: nothing outside it is seen.
    Shapes: start, stop in seconds -> (frames,) seconds, rising. Errors: ValueError, also for step <= 0.
    """
    if not stop > start or frames < 1 or not step > 0:
        raise ValueError(f"a segment from {start} s to {stop} s has no {frames} frames {step} s apart")
    spare = stop - start - frames * step
    place = 0.5 if generator is None or spare <= 0 else generator.random()
    return np.clip(start + place * spare + (np.arange(frames) + 0.5) * step, start, stop)
