"""EPIC-KITCHENS-100 from disk: segments of untrimmed recordings, each a verb and a noun.

Also the reader of the embedded kitchen, which is written in the same layout:

    ROOT/annotations/EPIC_100_*.csv            or the folder that CM3T_EPIC_ANNOTATIONS names
    ROOT/PXX/videos/PXX_YY.MP4                 or extracted pictures, motion and sound: `epic_files`
    ROOT/gap1/PXX/videos/PXX_YY.MP4            embedded kitchen only: the validation recordings, filmed anew
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from cm3t.data.clip import Clip
from cm3t.data.epic_annotations import NOUNS, VERBS
from cm3t.data.epic_files import EpicFiles
from cm3t.data.epic_labels import (
    ANNOTATIONS,
    SPLITS,
    EpicLabels,
    action_classes,
    action_pairs,
    read_labels,
    within_recordings,
)
from cm3t.data.features import HASHED, Features
from cm3t.data.sampling import STEP, frame_times
from cm3t.data.segments import Segments, Transform, check_reading, some_of
from cm3t.data.side import sound_options

__all__ = ["ANNOTATIONS", "HASHED", "MODALITIES", "SPLITS", "EpicKitchens", "frame_times"]
MODALITIES = ("audio", "flow")
HEADS = ("verb+noun", "action")


class EpicKitchens(Segments):
    """A split of EPIC-KITCHENS-100, or of a data set in its layout: a list of `Clip` with targets verb and noun.

    root: the folder of PXX/videos. split: train, tune, validation or test (without targets). tune are the training
    participants of annotations/tune_participant_ids.csv or of the argument `tune`; train leaves them out ("tenth": of
    the file, and without it every tenth).
    A segment ends with the picture shown at its stop time, the official stop_frame, which belongs to it.
    frames: T of every clip. size: as in `media.read_frames`. limit: so many segments, drawn by `seed`; a larger limit
    keeps those of a smaller one. gap: 1, 2, .. reads the validation recordings under root/gap1, root/gap2, ..
    modalities: of "audio" (log-mel spectrogram; `sound` as in `side.sound_options`), "flow" (`side.flow_tokens`) and
    the names in `features` (by narration id, or by video id), which take precedence; features, sampling, step and
    transform: as in `Segments`.
    source, flow, flow_scale, audio: which files are read (`epic_files.EpicFiles`); None takes what is on disk.
    head: "verb+noun", or "action" for one class a pair, `pairs` int64 (A, 2) of train and validation together.

    annotations: DataFrame, a row a clip. verbs, nouns: {class id: name}. classes: {head: number of classes}.
    targets: {head: int64 (n,)}. unseen, tail_verb, tail_noun: bool arrays (n,); subsets: {name: bool tensor (n,)}.
    groups: n participant ids. counts: what had to be clamped, replaced or padded, and clips without a modality;
    of these "no sound there" where the sound track ends before a clip's window, or begins after it.

    Errors: FileNotFoundError for a missing folder, annotation file or recording (how many, and which first);
    AnnotationError for rows that cannot be used; ValueError for arguments. Reading a clip: MediaError, FeatureError.
    """

    task = "actions"

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
        tune: tuple[str, ...] | str | None = None,
        sound: Mapping[str, float] | str | None = None,
        features: Mapping[str, str | Path | Features] | Sequence[tuple] | None = None,
        source: str | None = None,
        flow: str | None = None,
        flow_scale: str = "unified",
        audio: str | Path | None = None,
        head: str = "verb+noun",
        sampling: str = "segments",
        step: float = STEP,
        transform: Transform | str | None = None,
    ):
        self.known = tuple(dict.fromkeys((*MODALITIES, *dict(features or {}))))
        check_reading(split, SPLITS, frames, modalities, self.known, limit)
        if head not in HEADS:
            raise ValueError(f"unknown head {head!r}; known are {', '.join(HEADS)}")
        if gap < 0 or (gap and split != "validation"):
            raise ValueError(f"gap={gap} exists for the validation split only, as 1, 2, ..; {split} has gap=0")
        self.split, self.frames, self.size, self.gap = split, frames, size, gap
        self.modalities, self.sound = tuple(modalities), sound_options(sound)
        self.read_as(sampling, step, transform, features)
        labels = read_labels(root, split, tune=tune, gap=gap)
        self.root, self.folder, self.verbs, self.nouns = Path(root), labels.folder, labels.verbs, labels.nouns
        rows, clamped = within_recordings(labels)
        self.annotations = some_of(rows, limit, seed)
        self.counts: Counter = Counter({"clamped segments": clamped})
        self.files = EpicFiles(self.root, gap, source, flow, flow_scale, audio, self.sound, self.counts)
        self.files.check(self.annotations.video_id.unique(), labels.durations, sound="audio" in self._computed)
        self._describe(replace(labels, rows=self.annotations), head)

    def clip(self, index: int, generator: np.random.Generator | None = None) -> Clip:
        """Clip `index`; with a generator its frames are at random times, and transformed. Errors: IndexError."""
        index = self.position(index)
        row = self.annotations.iloc[index]
        times = self.times(row.start, row.stop, generator=generator)
        return Clip(
            video=self.shown(self.files.pictures(row.video_id, [times], self.size)[0], generator),
            side=self.sides(index),
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

        def read(video: str, rows) -> list[np.ndarray]:
            times = [self.times(start, stop, oversample) for start, stop in zip(rows.start, rows.stop, strict=True)]
            return self.files.pictures(video, times, self.size)

        return self.gathered("video_id", read)

    def feature_key(self, index: int) -> tuple[str, str, float, float]:
        """The narration's id, the recording's, and the segment's start and stop in seconds."""
        row = self.annotations.iloc[index]
        return row.narration_id, row.video_id, row.start, row.stop

    def computed(self, name: str, index: int) -> Tensor | None:
        """As `side_tokens`, of a modality that is made of the recordings: float32 (L, d), or None."""
        row = self.annotations.iloc[index]
        if name == "audio":
            return self.files.spectrogram(row.video_id, row.start, row.stop)
        return self.files.motion(row.video_id, self.times(row.start, row.stop), self.size)

    def video_path(self, video_id: str) -> Path:
        """Where a recording is, or would be."""
        return self.files.video_path(video_id)

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits over the data set, the same for every split: `epic_files.EpicFiles.digest`."""
        return self.files.digest(self.folder, self.features)

    @property
    def gaps(self) -> tuple[int, ...]:
        """The gap levels that are on disk."""
        return tuple(gap for gap in range(1, 10) if (self.root / f"gap{gap}").is_dir())

    @property
    def _computed(self) -> list[str]:
        """Modalities that are computed here, not read from files of features."""
        return [name for name in self.modalities if name not in self.features]

    def _describe(self, labels: EpicLabels, head: str) -> None:
        """What is known of the clips: targets, classes, subsets."""
        self.targets, self.classes = labels.targets, {"verb": VERBS, "noun": NOUNS}
        self.unseen, self.tail_verb, self.tail_noun = labels.unseen, labels.tail_verb, labels.tail_noun
        self.subsets, self.groups = labels.subsets, self.annotations.participant_id.tolist()
        if head == "action":
            self.task, self.pairs = "pairs", action_pairs(self.folder)
            self.classes = {"action": len(self.pairs)}
            self.targets = {"action": action_classes(self.targets, self.pairs)} if self.targets else {}
