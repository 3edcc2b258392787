"""EPIC-KITCHENS-100 from disk: segments of untrimmed recordings, each a verb and a noun.

Also the reader of the embedded kitchen, which is written in the same layout:

    ROOT/annotations/EPIC_100_*.csv            or the folder that CM3T_EPIC_ANNOTATIONS names
    ROOT/PXX/videos/PXX_YY.MP4
    ROOT/gap1/PXX/videos/PXX_YY.MP4            embedded kitchen only: the validation recordings, filmed anew
"""

from __future__ import annotations

import hashlib
import operator
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from torch import Tensor

from cm3t.data.clip import Clip
from cm3t.data.epic_annotations import (
    NOUNS,
    VERBS,
    AnnotationError,
    read_annotations,
    read_classes,
    read_column,
    read_durations,
)
from cm3t.data.media import read_frames, read_segments
from cm3t.data.side import SOUND, audio_tokens, flow_tokens

SPLITS = {
    "train": "EPIC_100_train.csv",
    "tune": "EPIC_100_train.csv",
    "validation": "EPIC_100_validation.csv",
    "test": "EPIC_100_test_timestamps.csv",
}
MODALITIES = ("audio", "flow")
ANNOTATIONS = "CM3T_EPIC_ANNOTATIONS"
HASHED = 64 * 2**20  # bytes: recordings of more than this together enter the digest by size, not by content


def frame_times(start: float, stop: float, frames: int, generator: np.random.Generator | None = None) -> np.ndarray:
    """Times of the frames that stand for a segment: one in each of `frames` equal spans.

    The middle of each span; with a generator a uniformly random time in it (temporal jitter, for training).
    Shapes: start, stop in seconds -> (frames,) seconds, rising. Errors: ValueError for stop <= start or frames < 1.
    """
    if not stop > start or frames < 1:
        raise ValueError(f"a segment from {start} s to {stop} s has no {frames} frames")
    within = 0.5 if generator is None else generator.random(frames)
    return start + (np.arange(frames) + within) * (stop - start) / frames


class EpicKitchens:
    """A split of EPIC-KITCHENS-100, or of a data set in its layout: a list of `Clip` with targets verb and noun.

    root: the folder of PXX/videos. split: train, tune, validation or test (without targets). tune are the training
    participants of annotations/tune_participant_ids.csv or of the argument `tune`; train leaves them out.
    frames: T of every clip, at the middles of T equal spans. size: as in `media.read_frames`. modalities: of "audio"
    (log-mel spectrogram, `side.audio_tokens`; `sound` are its settings) and "flow" (`side.flow_tokens`). limit: so
    many segments, drawn by `seed`; a larger limit keeps those of a smaller one. gap: 1, 2, .. reads the validation
    recordings under root/gap1, root/gap2, ..

    annotations: DataFrame, a row a clip. verbs, nouns: {class id: name}. classes: {head: number of classes}.
    targets: {head: int64 (n,)}. unseen, tail_verb, tail_noun: bool arrays (n,); subsets: {name: bool tensor (n,)}.
    counts: segments and frame times that had to be clamped to their recording, and clips without a modality.

    Errors: FileNotFoundError for a missing folder, annotation file or recording (how many, and which first);
    AnnotationError for rows that cannot be used; ValueError for arguments. Reading a clip: MediaError.
    """

    def __init__(
        self,
        root: str | Path | None,
        *,
        split: str = "train",
        frames: int = 8,
        size: int | tuple[int, int] | None = None,
        modalities: tuple[str, ...] = (),
        limit: int | None = None,
        seed: int = 0,
        gap: int = 0,
        tune: tuple[str, ...] | None = None,
        sound: Mapping[str, float] | None = None,
    ):
        _check(split, frames, modalities, limit, gap)
        self.split, self.frames, self.size, self.gap = split, frames, size, gap
        self.modalities = tuple(modalities)
        self.sound = {**SOUND, **(sound or {})}
        self.root, self.folder = _located(root, SPLITS[split])
        self.counts: Counter = Counter()
        self.verbs = read_classes(self.folder / "EPIC_100_verb_classes.csv", VERBS)
        self.nouns = read_classes(self.folder / "EPIC_100_noun_classes.csv", NOUNS)
        self.classes = {"verb": VERBS, "noun": NOUNS}
        rows = self._within_recordings(self._rows(tune))
        if limit is not None and limit < len(rows):
            rows = rows.iloc[np.sort(np.random.default_rng(seed).permutation(len(rows))[:limit])]
        self.annotations = rows.reset_index(drop=True)
        self._check_recordings()
        self._subsets()

    def __len__(self) -> int:
        """The number of clips, n."""
        return len(self.annotations)

    def __getitem__(self, index: int) -> Clip:
        """Clip `index`, its frames at the middles of their spans."""
        return self.clip(index)

    def __iter__(self) -> Iterator[Clip]:
        """Clips in the order of the annotation file."""
        return (self.clip(i) for i in range(len(self)))

    def clip(self, index: int, generator: np.random.Generator | None = None) -> Clip:
        """Clip `index`; with a generator its frames are at random times of their spans. Errors: IndexError."""
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        row = self.annotations.iloc[index]
        times = frame_times(row.start, row.stop, self.frames, generator)
        frames = read_frames(self.video_path(row.video_id), times, self.size, counts=self.counts)
        side = {name: self._side(name, index % len(self)) for name in self.modalities}
        self.counts.update(f"without {name}" for name, tokens in side.items() if tokens is None)
        return Clip(
            video=rearrange(torch.from_numpy(frames), "t h w c -> c t h w"),
            side={name: tokens for name, tokens in side.items() if tokens is not None},
            target={head: int(values[index]) for head, values in self.targets.items()},
            id=row.narration_id,
            group=row.participant_id,
        )

    def decode_all(self, oversample: int = 1) -> Tensor:
        """All clips in memory, every recording read once.

        Shapes: -> uint8 (n, 3, oversample * T, H, W). With oversample > 1 there are more frames than a clip has, for
        `clip.subsample` to draw from.
        Errors: MediaError; ValueError where recordings differ in their pictures' size and `size` is None.
        """
        videos = None
        for video, rows in self.annotations.groupby("video_id", sort=False):
            count = self.frames * oversample
            times = [frame_times(start, stop, count) for start, stop in zip(rows.start, rows.stop, strict=True)]
            clips = read_segments(self.video_path(video), times, self.size, counts=self.counts)
            if videos is None:
                height, width = clips[0].shape[1:3]
                videos = torch.empty(len(self), 3, count, height, width, dtype=torch.uint8)
            if clips[0].shape[1:3] != tuple(videos.shape[3:]):
                raise ValueError(
                    f"recording {video} is {clips[0].shape[1:3]} pixels, others {tuple(videos.shape[3:])}; give `size`"
                )
            for i, frames in zip(rows.index, clips, strict=True):
                videos[i] = rearrange(torch.from_numpy(frames), "t h w c -> c t h w")
        return videos

    def decode_side(self, name: str) -> tuple[Tensor, Tensor]:
        """One modality of all clips: float32 (n, L, d), and bool (n,), False (and zeros) where a clip has none.

        Errors: ValueError for an unknown modality; LookupError where no clip of the split has it; MediaError.
        """
        if name not in MODALITIES:
            raise ValueError(f"unknown modality {name!r}; known are {', '.join(MODALITIES)}")
        tokens = [self._side(name, i) for i in range(len(self))]
        first = next((t for t in tokens if t is not None), None)
        if first is None:
            raise LookupError(f"no recording of {self.root} ({self.split}) has {name}; leave the modality out")
        present = torch.tensor([t is not None for t in tokens])
        self.counts[f"without {name}"] += int((~present).sum())
        return torch.stack([torch.zeros_like(first) if t is None else t for t in tokens]), present

    def video_path(self, video_id: str) -> Path:
        """Where a recording is, or would be."""
        folder = (self.root / f"gap{self.gap}" if self.gap else self.root) / video_id[:3] / "videos"
        small = folder / f"{video_id}.mp4"
        return small if small.is_file() else folder / f"{video_id}.MP4"

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits over the data set (the same for every split): all annotation files by content, and
        all recordings by content where they are at most 64 MiB together, else by name and size, which takes no time.
        """
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob("*.csv")):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
        videos = sorted(p for g in ("", "gap*/") for p in self.root.glob(f"{g}P*/videos/*") if p.is_file())
        whole = sum(path.stat().st_size for path in videos) <= HASHED
        for path in videos:
            digest.update(f"{path.relative_to(self.root).as_posix()} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes() if whole else b"")
        return digest.hexdigest()

    @property
    def gaps(self) -> tuple[int, ...]:
        """The gap levels that are on disk."""
        return tuple(gap for gap in range(1, 10) if (self.root / f"gap{gap}").is_dir())

    def _rows(self, tune: tuple[str, ...] | None) -> pd.DataFrame:
        path = self.folder / SPLITS[self.split]
        apart = self.folder / f"{path.stem}_gap{self.gap}.csv"
        if self.gap and apart.is_file():
            path = apart
        rows = read_annotations(path, labelled=self.split != "test", verbs=self.verbs, nouns=self.nouns)
        if self.split not in ("train", "tune"):
            return rows
        table = self.folder / "tune_participant_ids.csv"
        if tune is None and table.is_file():
            tune = read_column(table, "participant_id")
        absent = sorted(set(tune or ()) - set(rows.participant_id))
        if absent or (self.split == "tune" and not tune):
            raise ValueError(
                f"the tune split needs participants of {path}, in {table} or as tune=('P05', ...); "
                + (f"{absent} have no training rows" if absent else "none are given")
            )
        rows = rows[rows.participant_id.isin(tune or ()) == (self.split == "tune")]
        if rows.empty:
            raise AnnotationError(f"{path}: every participant is in tune {tune}: no training rows are left")
        return rows

    def _within_recordings(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Segments that pass the end of their recording, cut to it and counted."""
        table = self.folder / "EPIC_100_video_info.csv"
        if self.gap or not table.is_file():
            return rows
        ends = rows.video_id.map(read_durations(table)).fillna(np.inf)
        late = rows[rows.start >= ends]
        if len(late):
            raise AnnotationError(
                f"{self.folder / SPLITS[self.split]}: {len(late)} segments start after the end of their recording "
                f"(first: {late.narration_id.iloc[0]}); correct them or the durations in {table.name}"
            )
        self.counts["clamped segments"] = int((rows.stop > ends).sum())
        if self.counts["clamped segments"]:
            first = rows.narration_id[rows.stop > ends].iloc[0]
            warnings.warn(
                f"{self.counts['clamped segments']} segments of {self.split} pass the end of their recording "
                f"(first: {first}) and were cut to it",
                stacklevel=3,
            )
        return rows.assign(stop=np.minimum(rows.stop, ends))

    def _check_recordings(self) -> None:
        videos = self.annotations.video_id.unique()
        absent = [path for path in map(self.video_path, videos) if not path.is_file()]
        if absent:
            shown = ", ".join(str(path) for path in absent[:3]) + (", ..." if len(absent) > 3 else "")
            what = f"{len(absent)} of {len(videos)} recordings are missing: {shown}"
            raise FileNotFoundError(_missing(what, self.root))

    def _subsets(self) -> None:
        n, rows = len(self), self.annotations
        self.targets: dict[str, Tensor] = {}
        self.unseen = self.tail_verb = self.tail_noun = np.zeros(n, bool)
        if self.split in ("validation", "test"):
            ids = self.folder / f"EPIC_100_unseen_participant_ids_{self.split}.csv"
            self.unseen = rows.participant_id.isin(read_column(ids, "participant_id")).to_numpy()
        if self.split != "test":
            self.targets = {h: torch.tensor(rows[f"{h}_class"].to_numpy(np.int64)) for h in ("verb", "noun")}
            tails = {h: read_column(self.folder / f"EPIC_100_tail_{h}s.csv", h, int) for h in self.targets}
            self.tail_verb = rows.verb_class.isin(tails["verb"]).to_numpy()
            self.tail_noun = rows.noun_class.isin(tails["noun"]).to_numpy()
        masks = {"all": np.ones(n, bool), "unseen": self.unseen, "tail": self.tail_verb | self.tail_noun}
        masks |= {"tail_verb": self.tail_verb, "tail_noun": self.tail_noun}
        self.subsets = {name: torch.from_numpy(mask.copy()) for name, mask in masks.items()}

    def _side(self, name: str, index: int) -> Tensor | None:
        """Tokens (L, d) of a clip's modality, or None."""
        row = self.annotations.iloc[index]
        path = self.video_path(row.video_id)
        if name == "audio":
            return audio_tokens(path, row.start, row.stop, self.sound)
        times = frame_times(row.start, row.stop, self.frames)
        return flow_tokens(path, times, self.size, counts=self.counts)


def _check(split: str, frames: int, modalities: tuple[str, ...], limit: int | None, gap: int) -> None:
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known are {', '.join(SPLITS)}")
    unknown = sorted(set(modalities) - set(MODALITIES))
    if isinstance(modalities, str) or unknown:
        raise ValueError(f"unknown modalities {modalities!r}; give a tuple of {', '.join(MODALITIES)}")
    if frames < 1 or (limit is not None and limit < 1):
        raise ValueError(f"frames={frames} and limit={limit} must be at least 1 (limit=None takes every segment)")
    if gap < 0 or (gap and split != "validation"):
        raise ValueError(f"gap={gap} exists for the validation split only, as 1, 2, ..; {split} has gap=0")


def _located(root: str | Path | None, table: str) -> tuple[Path, Path]:
    """The data set's folder and that of its annotations. Errors: FileNotFoundError, with where to get them."""
    if root is None:
        raise FileNotFoundError(_missing("no root was given", Path("ROOT")))
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(_missing(f"{root.absolute()} is no folder", root))
    folders = [root / "annotations", *map(Path, filter(None, [os.environ.get(ANNOTATIONS)]))]
    folder = next((folder for folder in folders if (folder / table).is_file()), None)
    if folder is None:
        tried = " nor ".join(str(folder / table) for folder in folders)
        raise FileNotFoundError(_missing(f"there is no {tried}", root))
    return root, folder


def _missing(what: str, root: Path) -> str:
    return (
        f"EPIC-KITCHENS-100 was not found: {what}.\n"
        f"Expected: {root}/annotations/EPIC_100_*.csv (or {ANNOTATIONS}=folder of these files)\n"
        f"          {root}/P01/videos/P01_01.MP4, ...\n"
        "To obtain: CC BY-NC 4.0; epic-kitchens/epic-kitchens-download-scripts or the two Academic Torrents; "
        "annotations from epic-kitchens/epic-kitchens-100-annotations.\n"
        'Without it: cm3t.data.open_data("rooms-kitchen"), the embedded benchmark in the same layout.'
    )
