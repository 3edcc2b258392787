"""Read the clips of a data set in other processes, which a bad file does not stop.

A clip that cannot be read comes back as a sentence that says why. So does one that kills its process, as a decoder may
on a damaged file: the pool is made anew and the clips in flight are tried one by one.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np

VIDEO = "video"
AHEAD = 2  # clips in flight for each process

_data = None  # in a worker: the data set


class Read(NamedTuple):
    """What became of clip `index`: an array, or None and the problem; neither where the clip lacks the modality."""

    index: int
    array: np.ndarray | None
    problem: str = ""


def read_one(data, name: str, index: int) -> Read:
    """The video (3, T, H, W) or the tokens (L, d) of one clip; whatever is raised becomes the problem."""
    try:
        if name == VIDEO:
            return Read(index, data.clip(index).video.numpy())
        direct = getattr(data, "side_tokens", None)  # else the pictures are decoded in vain
        tokens = direct(name, index) if direct else data[index].side.get(name)
        return Read(index, None if tokens is None else tokens.numpy())
    except Exception as error:
        return Read(index, None, f"{type(error).__name__}: {error}".splitlines()[0][:500])


class Workers:
    """Processes that read clips of one data set. A context manager; count 0 reads in this process.

    The data set must be one that can be pickled. Its `counts` are those of this process alone.
    """

    def __init__(self, data, count: int = 0):
        if count < 0:
            raise ValueError(f"workers={count} must be 0 or more")
        self.data, self.count = data, count
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_) -> None:
        self._close()

    def read(self, name: str, indices: Sequence[int]) -> Iterator[Read]:
        """What became of every clip, in the order of `indices`; at most `AHEAD` a process are held at once."""
        if not self.count:
            yield from (read_one(self.data, name, index) for index in indices)
            return
        left = list(indices)
        while left:
            done = 0
            try:
                for result in self._ordered(name, left):
                    done += 1
                    yield result
            except BrokenProcessPool:
                self._close()
                left, suspects = left[done:], self.count * AHEAD
                for index in left[:suspects]:
                    yield self._alone(name, index)
                left = left[suspects:]
            else:
                return

    def _ordered(self, name: str, indices: Sequence[int]) -> Iterator[Read]:
        waiting: list[Future] = []
        for index in indices:
            waiting.append(self._executor().submit(_read_here, name, index))
            if len(waiting) >= self.count * AHEAD:
                yield waiting.pop(0).result()
        yield from (future.result() for future in waiting)

    def _alone(self, name: str, index: int) -> Read:
        try:
            return self._executor().submit(_read_here, name, index).result()
        except BrokenProcessPool:
            self._close()
            return Read(index, None, "the process that read it died: its recording is damaged, or memory ran out")

    def _executor(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # started afresh, not forked: threads of this process would be copied in the middle of what they do
            options = {"initializer": _start, "initargs": (pickle.dumps(self.data),)}
            self._pool = ProcessPoolExecutor(self.count, mp_context=get_context("spawn"), **options)
        return self._pool

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _start(pickled: bytes) -> None:
    global _data
    import torch

    torch.set_num_threads(1)
    _data = pickle.loads(pickled)


def _read_here(name: str, index: int) -> Read:
    return read_one(_data, name, index)
