"""Clips that are read when they are asked for: for data sets that no memory holds.

A clip that cannot be read is left out of training, and where clips are scored it gets the mean answer of all others,
so that every one counts. Either way it is warned of (once a file) and counted, and more than a tenth of such clips is
an error.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from cm3t.data.media import MediaError
from cm3t.data.workers import VIDEO, Workers


class UnreadableWarning(UserWarning):
    """A clip, or a modality of a clip, cannot be read."""


class Stream:
    """The videos of a data set, (n, 3, T, H, W) in the place of a tensor, read by other processes as they are needed.

    workers: how many processes, for the length of one pass over the clips; 0 reads in this one. What is read does not
    depend on it. unreadable: {clip: why} of those that were tried in vain, which are not tried again.
    """

    def __init__(self, data, workers: int = 0):
        self.data, self.workers = data, workers
        self.unreadable: dict[int, str] = {}

    def __len__(self) -> int:
        """The number of clips, n."""
        return len(self.data)

    def batches(self, parts: Iterable[Tensor], draw: Sequence[int] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """(clips, video) of each part, which lists clips by number: those that could be read, and their videos.

        draw: numbers from which every clip's own generator is made, for random frames and augmentation; the same give
        the same. A part of which nothing could be read is left out.
        Shapes: parts int64 (B,) -> int64 (B',), uint8 (B', 3, T, H, W), B' <= B.
        Errors: MediaError where more than a tenth of the clips (and more than one) cannot be read.
        """
        parts = [part.tolist() for part in parts]
        known = set(self.unreadable)
        wanted = [[clip for clip in part if clip not in known] for part in parts]
        ahead = max(map(len, parts), default=0)  # a batch is read while another is computed with
        with Workers(self.data, self.workers, ahead=ahead) as readers:
            found = readers.read(VIDEO, [clip for part in wanted for clip in part], draw)
            for part in wanted:
                videos = {clip: torch.from_numpy(read.array) for clip in part if self._whole(read := next(found))}
                if videos:
                    yield torch.tensor(list(videos)), torch.stack(list(videos.values()))

    def _whole(self, read) -> bool:
        if read.array is None:
            self.unreadable[read.index] = read.problem
            check_few(self.data, "clips", self.unreadable, "left out of training, scored with the mean answer")
        return read.array is not None

    @property
    def tally(self) -> dict[str, int]:
        """What went wrong while clips were read: the data set's counts, and the unreadable ones."""
        counts = Counter(getattr(self.data, "counts", {})) + Counter(unreadable=len(self.unreadable))
        return {name: count for name, count in counts.items() if count}


def read_side(data, name: str, workers: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """One modality of all clips, read by other processes: as `Segments.decode_side`, and which could not be read.

    Shapes: -> float32 (n, L, d), bool (n,), bool (n,): tokens, present, unreadable.
    Errors: LookupError where no clip has it; ValueError for tokens that differ in shape; MediaError as `Stream`.
    """
    tokens, problems = None, {}
    present = torch.zeros(len(data), dtype=torch.bool)
    with Workers(data, workers) as readers:
        for index, array, problem in readers.read(name, range(len(data))):
            if problem:
                problems[index] = problem
                check_few(data, f"clips' {name}", problems, "absent from these clips")
            elif array is not None:
                if tokens is None:
                    tokens = torch.zeros(len(data), *array.shape)
                if array.shape != tuple(tokens.shape[1:]):
                    shapes = sorted([array.shape, tuple(tokens.shape[1:])])
                    raise ValueError(
                        f"{name} tokens of {data.split} differ in shape, {shapes}: give their `length` (to a run "
                        "feature_length=...)"
                    )
                tokens[index] = torch.from_numpy(array)
                present[index] = True
    if tokens is None:
        raise LookupError(data.lacking(name))
    unreadable = torch.zeros(len(data), dtype=torch.bool)
    unreadable[list(problems)] = True
    data.counts[f"without {name}"] += int((~present & ~unreadable).sum())
    return tokens, present, unreadable


def check_few(data, what: str, problems: dict[int, str], then: str) -> None:
    """Warn of the newest of the problems, {clip: why}, and say what happens then.

    Errors: MediaError where they are more than one, and more than a tenth.
    """
    newest, split = list(problems.values())[-1], getattr(data, "split", "opened")
    if len(problems) > max(1, len(data) // 10):
        raise MediaError(
            f"{len(problems)} of {len(data)} {what} of the {split} split cannot be read, more than a tenth; the last: "
            f"{newest}"
        )
    warnings.warn(f"{what} of the {split} split cannot be read ({newest}): {then}", UnreadableWarning, stacklevel=2)
