"""What every kind of performer hands over, and how it draws its random numbers; needs numpy only."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shot:
    """One clip: ``frames`` uint8 (T, H, W, 3), the ``rollout`` (performance) it shows and its ``camera``."""

    frames: np.ndarray
    rollout: int
    camera: str


def child_rng(seed: int, name: str, index: int) -> np.random.Generator:
    """Generator of one rollout of one class: the same whatever order or process the classes are made in."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), index])


def steps_between(
    count: int, rng: np.random.Generator, *, frames: int, head: float = 0.25, tail: float = 0.08
) -> np.ndarray:
    """``frames`` step indices over a random window of ``count`` steps.

    The window begins in the first ``head`` and ends in the last ``tail`` share, so that the state before and after the
    action are both in the clip (between 67 and 100 % of a rollout).
    """
    first = rng.uniform(0, head) * (count - 1)
    last = (1 - rng.uniform(0, tail)) * (count - 1)
    return np.round(np.linspace(first, last, frames)).astype(int)
