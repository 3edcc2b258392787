"""What the readers of all data sets share: a list of clips, read one by one or all at once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from torch import Tensor

from cm3t.coerce import known_options
from cm3t.data.clip import Clip
from cm3t.data.features import Features, none_reached, nothing_of, open_features
from cm3t.data.sampling import SAMPLINGS, STEP, dense_times, frame_times

TENTH = "tenth"  # a value of `tune`: those that the data set lists, and where it lists none every tenth
Transform = Callable[[Tensor, np.random.Generator], Tensor]


class Segments:
    """A list of `Clip`s over `annotations`, a table with a row a clip.

    A reader gives clip(index, generator), computed(name, index), feature_key(index), its table, the modalities that it
    knows, those of a clip, and counts.
    sampling: "segments", or "dense" for frames `step` seconds apart (see `sampling`). transform: video uint8
    (3, T, H, W) and a numpy generator -> the same, or words of `transforms`, for clips read with a generator.
    features: {name: file or folder, or what `features.open_features` gave}, in the place of modalities or beside them;
    a pair of a place and options of `open_features` is opened with these. Features go by the clip's id, or else by its
    recording's, cut by time: each reader says what that is called. A clip that its recording's rows do not reach lacks
    them, counted in counts["no features there"]; one that they reach in part is counted in counts["cut features"].
    """

    sampling, step, transform = SAMPLINGS[0], STEP, None

    def read_as(
        self,
        sampling: str,
        step: float = STEP,
        transform: Transform | str | None = None,
        features: Mapping[str, str | Path | Features] | Sequence[tuple] | None = None,
    ) -> None:
        """Set how clips are read. Errors: ValueError; FileNotFoundError and FeatureError for features."""
        if sampling not in SAMPLINGS:
            raise ValueError(f"unknown sampling {sampling!r}; known are {', '.join(SAMPLINGS)}")
        self.sampling, self.step, self.transform = sampling, step, transform
        if isinstance(transform, str):
            from cm3t.data.transforms import ClipTransform  # and with it torchvision, which few need

            self.transform = ClipTransform(transform, self.size)
        self.features = {
            name: given if isinstance(given, Features) else _opened(given)
            for name, given in dict(features or {}).items()
        }

    def times(self, start: float, stop: float, oversample: int = 1, generator=None) -> np.ndarray:
        """Times (oversample * T,) of a segment's frames."""
        count = self.frames * oversample
        if self.sampling == "dense":
            return dense_times(start, stop, count, self.step / oversample, generator)
        return frame_times(start, stop, count, generator)

    def shown(self, pictures: np.ndarray, generator: np.random.Generator | None = None) -> Tensor:
        """Pictures (T, H, W, 3) as a video (3, T, H, W), transformed where there is a generator."""
        video = rearrange(torch.from_numpy(pictures), "t h w c -> c t h w")
        return video if generator is None or self.transform is None else self.transform(video, generator)

    def __len__(self) -> int:
        """The number of clips, n."""
        return len(self.annotations)

    def __getitem__(self, index: int) -> Clip:
        """Clip `index`, its frames at the middles of their spans."""
        return self.clip(index)

    def __iter__(self) -> Iterator[Clip]:
        """Clips in the order of the table."""
        return (self.clip(i) for i in range(len(self)))

    def position(self, index: int) -> int:
        """`index` from the front, 0 to n - 1; negative ones count from the end. Errors: IndexError."""
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        return index % len(self)

    def sides(self, index: int) -> dict[str, Tensor]:
        """Tokens (L, d) of the modalities that a clip has; those it lacks are counted."""
        side = {name: self.side_tokens(name, index) for name in self.modalities}
        self.counts.update(f"without {name}" for name, tokens in side.items() if tokens is None)
        return {name: tokens for name, tokens in side.items() if tokens is not None}

    def side_tokens(self, name: str, index: int) -> Tensor | None:
        """One modality of one clip: float32 (L, d), or None where it has none. Errors: as `decode_side`."""
        if name not in self.known:
            raise ValueError(f"unknown modality {name!r}; known are {', '.join(self.known)}")
        source = self.source(name)
        if source is None:
            return self.computed(name, index)
        return source.tokens(*self.feature_key(index), counts=self.counts)

    def source(self, name: str) -> Features | None:
        """The features that take a modality's place; None for one that is computed."""
        return self.features.get(name)

    def computed(self, name: str, index: int) -> Tensor | None:
        """As `side_tokens`, of a modality that is made of the recordings."""
        raise NotImplementedError

    def feature_key(self, index: int) -> tuple:
        """What a clip's features go by: its id, its recording's, start and stop there; see `features.Features.tokens`.

        Without features, nothing asks for it.
        """
        raise NotImplementedError

    def decode_side(self, name: str) -> tuple[Tensor, Tensor]:
        """One modality of all clips: float32 (n, L, d), and bool (n,), False (and zeros) where a clip has none.

        Errors: ValueError for an unknown modality and for tokens that differ in shape; LookupError where no clip of
        the split has it; MediaError.
        """
        tokens = [self.side_tokens(name, i) for i in range(len(self))]
        first = next((t for t in tokens if t is not None), None)
        if first is None:
            raise LookupError(self.lacking(name))
        present = torch.tensor([t is not None for t in tokens])
        self.counts[f"without {name}"] += int((~present).sum())
        shapes = {tuple(t.shape) for t in tokens if t is not None}
        if len(shapes) > 1:
            raise ValueError(
                f"{name} tokens of {self.split} differ in shape, {sorted(shapes)[:3]}: give their `length` to "
                "features.open_features, to a run feature_length=..."
            )
        return torch.stack([torch.zeros_like(first) if t is None else t for t in tokens]), present

    def lacking(self, name: str) -> str:
        """What to say where no clip of the split has a modality."""
        source = self.source(name)
        if source is not None and self.counts["no features there"]:
            return none_reached(source.path, self.split, source.rate, *self.feature_key(0)[:2])
        if source is not None:
            return nothing_of(source.path, self.split, *self.feature_key(0)[:2])
        if name == "audio" and self.counts["no sound there"]:
            return (
                f"no sound track of the {self.split} split reaches its clip: each ends before it, begins after it, or "
                "is not there; are the clips' times counted from the track's beginning?"
            )
        return self.nowhere(name)

    def nowhere(self, name: str) -> str:
        """As `lacking`, of a modality that could have been computed."""
        return f"no recording of {self.root} ({self.split}) has {name}; leave the modality out"

    def gathered(self, recording: str, read: Callable[[object, object], list[np.ndarray]]) -> Tensor:
        """All clips uint8 (n, 3, T, H, W), every recording read once: read(recording, rows) -> clips (T, H, W, 3).

        recording names the table's column. Errors: ValueError where recordings differ in their pictures' size.
        """
        videos = None
        for name, rows in self.annotations.groupby(recording, sort=False):
            clips = read(name, rows)
            if videos is None:
                frames, height, width = clips[0].shape[:3]
                videos = torch.empty(len(self), 3, frames, height, width, dtype=torch.uint8)
            if clips[0].shape[1:3] != tuple(videos.shape[3:]):
                raise ValueError(
                    f"recording {name} is {clips[0].shape[1:3]} pixels, others {tuple(videos.shape[3:])}; give `size`"
                )
            for i, frames in zip(rows.index, clips, strict=True):
                videos[i] = rearrange(torch.from_numpy(frames), "t h w c -> c t h w")
        return videos


def check_reading(split: str, splits: Iterable[str], frames: int, modalities, known: Iterable[str], limit) -> None:
    """What every reader checks of its arguments. Errors: ValueError."""
    if split not in splits:
        raise ValueError(f"unknown split {split!r}; known are {', '.join(splits)}")
    if isinstance(modalities, str) or set(modalities) - set(known):
        raise ValueError(f"unknown modalities {modalities!r}; give a tuple of {', '.join(known)}")
    if frames < 1 or (limit is not None and limit < 1):
        raise ValueError(f"frames={frames} and limit={limit} must be at least 1 (limit=None takes every clip)")


def some_of(rows: pd.DataFrame, limit: int | None, seed: int) -> pd.DataFrame:
    """So many of the rows, drawn by the seed, in their order; a larger limit keeps those of a smaller one."""
    if limit is not None and limit < len(rows):
        rows = rows.iloc[np.sort(np.random.default_rng(seed).permutation(len(rows))[:limit])]
    return rows.reset_index(drop=True)


def every_tenth(ids: Iterable) -> tuple:
    """Every tenth of some ids, the fifth, the fifteenth, ..; the last where there are fewer.

    Choice: the real data sets name no participants to tune on, and the paper none either.
    """
    ids = sorted(set(ids))
    return tuple(ids[4::10] or ids[-1:])


def _opened(given: str | Path | tuple) -> Features:
    """Features at a place, or at the place of a pair (place, options of `open_features`)."""
    place, options = given if isinstance(given, tuple) else (given, ())
    return open_features(place, **known_options(f"features at {place}", options, open_features.__kwdefaults__))
