"""Read the clips of a data set in other processes, which a bad file does not stop.

A clip that cannot be read comes back as a sentence that says why. So does one that kills its process, as a decoder may
on a damaged file: the pool is made anew and the clips in flight are tried one by one.
"""

from __future__ import annotations

import pickle
from collections import Counter, deque
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


def read_one(data, name: str, index: int, draw: Sequence[int] | None = None) -> Read:
    """The video (3, T, H, W) or the tokens (L, d) of one clip; whatever is raised becomes the problem.

    draw: seeds of the clip's own generator, which times its frames at random; without them nothing is.
    """
    try:
        if name == VIDEO:
            drawn = () if draw is None else (np.random.default_rng([*draw, index]),)
            return Read(index, data.clip(index, *drawn).video.numpy())
        direct = getattr(data, "side_tokens", None)  # else the pictures are decoded in vain
        tokens = direct(name, index) if direct else data[index].side.get(name)
        return Read(index, None if tokens is None else tokens.numpy())
    except Exception as error:
        return Read(index, None, f"{type(error).__name__}: {error}".splitlines()[0][:500])


class Workers:
    """Processes that read clips of one data set. A context manager; count 0 reads in this process.

    The data set must be one that can be pickled; what its `counts` gain in the processes is added to them here.
    ahead: clips that are held, read or being read, before they are asked for; `AHEAD` a process unless given.
    """

    def __init__(self, data, count: int = 0, *, ahead: int = 0):
        if count < 0:
            raise ValueError(f"workers={count} must be 0 or more")
        self.data, self.count = data, count
        self.ahead = max(ahead, count * AHEAD)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_) -> None:
        self._close()

    def read(self, name: str, indices: Sequence[int], draw: Sequence[int] | None = None) -> Iterator[Read]:
        """What became of every clip, in the order of `indices`; draw as in `read_one`."""
        if not self.count:
            yield from (read_one(self.data, name, index, draw) for index in indices)
            return
        left = list(indices)
        while left:
            done = 0
            try:
                for result in self._ordered(name, left, draw):
                    done += 1
                    yield result
            except BrokenProcessPool:
                self._close()
                left, suspects = left[done:], self.ahead
                for index in left[:suspects]:
                    yield self._alone(name, index, draw)
                left = left[suspects:]
            else:
                return

    def _ordered(self, name: str, indices: Sequence[int], draw: Sequence[int] | None) -> Iterator[Read]:
        waiting: deque[Future] = deque()
        for index in indices:
            waiting.append(self._executor().submit(_read_here, name, index, draw))
            if len(waiting) >= self.ahead:
                yield self._result(waiting.popleft())
        while waiting:
            yield self._result(waiting.popleft())

    def _alone(self, name: str, index: int, draw: Sequence[int] | None) -> Read:
        try:
            return self._result(self._executor().submit(_read_here, name, index, draw))
        except BrokenProcessPool:
            self._close()
            return Read(index, None, "the process that read it died: its recording is damaged, or memory ran out")

    def _result(self, future: Future) -> Read:
        found, gained = future.result()
        if gained:
            self.data.counts.update(gained)
        return found

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


def _read_here(name: str, index: int, draw: Sequence[int] | None) -> tuple[Read, Counter]:
    """What became of a clip, and what it added to the counts of the data set."""
    counts = getattr(_data, "counts", Counter())
    before = Counter(counts)
    return read_one(_data, name, index, draw), Counter(counts) - before
