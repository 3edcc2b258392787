"""Anybody's own data: a folder of videos, a CSV file of labels, and any further modalities.

ROOT/labels.csv                          a row a clip: `folder_labels`; or give the CSV file itself as the root
ROOT/any/video.mp4                       whatever FFmpeg reads, with or without sound
ROOT/any/video.srt                       what is said in it, if that is to be heard; or video.txt, a sentence a line
ROOT/features/<name>/<id>.npy            a modality extracted beforehand: a file a clip or a video,
ROOT/features/<name>.h5                  or one archive (`features`); <id> names the clip, or the whole video
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cm3t.data.clip import Clip
from cm3t.data.features import HASHED, FeatureError, Features, open_features
from cm3t.data.folder_files import found, located, timed
from cm3t.data.folder_labels import SPLITS, classes_of, read_folder_labels
from cm3t.data.media import has_sound, read_frames, read_segments
from cm3t.data.segments import Segments, Transform, check_reading, some_of
from cm3t.data.side import audio_tokens, flow_tokens, sound_settings
from cm3t.data.transcripts import FORMS, read_transcript, sentence_encoder, utterance_tokens, word_options
from cm3t.sides import ARCHIVES, FEATURES, sides_of

SOUND = {"rate": 16000, "n_fft": 1024, "win": 400}
STEPS = 400  # of a spectrogram: the hop is chosen so
HEARD = 10.0  # seconds of sound at most, about a clip's middle
ROWS = 64  # tokens of a feature at most


class VideoFolder(Segments):
    """A split of a folder of labelled videos: `Clip`s with the target label, or behaviour (c,) for several labels.

    root: the folder of labels.csv, or the CSV file. split: train, tune, validation, or test where the file has it.
    frames, size, limit, seed: as `epic.EpicKitchens`.
    modalities: "audio" (log-mel (400, 128) about a clip's middle, as long as the longest clip, 10 s at most; `sound`
    are settings of `side.audio_tokens`), "flow" (`side.flow_tokens`), "transcript" (`transcripts.utterance_tokens` of
    the SRT file beside the video, or without one of the plain text there, which has no times: every clip of the video
    has all of it; `words` as in `transcripts.word_options`), and the names in ROOT/features, which take precedence.
    length: L of a feature's clips. Choice: without it, the rows of the first clip that has it, at most 64; other clips
    are brought to as many. A feature of a whole video is cut by time, its rows evenly spread over it.
    sampling and transform: as in `Segments`.

    annotations: DataFrame, a row a clip (line, id, video, labels, start, stop, group, split, path, seconds of the
    video). names: those of the classes. classes: {head: their number}. targets: {"label": int64 (n,)} or
    {"behaviour": float32 0/1 (n, c)}. groups: n participants. subsets: {"all": bool tensor (n,)}. counts, digest: as
    `epic.EpicKitchens`.

    Errors: FileNotFoundError for a missing folder, CSV file or videos; AnnotationError for rows that cannot be used,
    for unreadable videos and clips beyond their end; ValueError for arguments. Reading a clip: MediaError,
    FeatureError, TranscriptError.
    """

    gaps: tuple[int, ...] = ()

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
        sound: Mapping[str, float] | None = None,
        words: Mapping[str, object] | None = None,
        length: int | None = None,
        sampling: str = "segments",
        transform: Transform | str | None = None,
    ):
        self.root, self.file = located(root)
        self.known = sides_of("folder", self.root)
        check_reading(split, SPLITS, frames, modalities, self.known, limit)
        self.split, self.frames, self.size, self.length = split, frames, size, length
        self.modalities, self.counts = tuple(modalities), Counter()
        self.read_as(sampling, transform=transform)
        self.table = timed(found(read_folder_labels(self.file), self.file), self.file)
        self.names = classes_of(self.table)
        self.words = word_options(words)
        longest = min(HEARD, float((self.table.stop - self.table.start).max()))
        self.sound = _sound(longest, sound_settings(sound))
        rows = self.table[self.table.split == split]
        if rows.empty:
            raise ValueError(f"{self.file}: no row has the split {split}")
        self.annotations = rows = some_of(rows, limit, seed)
        self.groups = self.annotations.group.tolist()
        self.subsets = {"all": torch.ones(len(rows), dtype=torch.bool)}
        self._label()

    def _label(self) -> None:
        """Targets: a class a clip, or one yes or no a class where any clip of the file has several."""
        places = {name: place for place, name in enumerate(self.names)}
        own = [[places[name] for name in labels] for labels in self.annotations.labels]
        if (self.table.labels.str.len() == 1).all():
            self.task, self.classes = "labels", {"label": len(places)}
            self.targets = {"label": torch.tensor([one for (one,) in own])}
        else:
            self.task, self.classes = "behaviours", {"behaviour": len(places)}
            happens = torch.zeros(len(own), len(places))
            for row, labels in zip(happens, own, strict=True):
                row[labels] = 1
            self.targets = {"behaviour": happens}

    def clip(self, index: int, generator: np.random.Generator | None = None) -> Clip:
        """Clip `index`; with a generator its frames are at random times of their spans. Errors: IndexError."""
        index = self.position(index)
        row = self.annotations.iloc[index]
        times = self.times(row.start, row.stop, generator=generator)
        return Clip(
            video=self.shown(read_frames(row.path, times, self.size, counts=self.counts), generator),
            side=self.sides(index),
            target={head: values[index] for head, values in self.targets.items()},
            id=row.id,
            group=row.group,
        )

    def unlabelled(self, videos: Iterable[str | Path | tuple], modalities: Iterable[str] = ()) -> VideoFolder:
        """Clips of other videos, read as these are, without targets: paths, or (path, start, stop) in seconds.

        What is not computed of a video is looked for in ROOT/features, by the video's name.
        Errors: ValueError for no video, for one that cannot be opened and for times beyond its end.
        """
        spans = [(video, 0.0, np.nan) if isinstance(video, str | Path) else video for video in videos]
        if not spans:
            raise ValueError("no videos were given; give their paths, or (path, start, stop) of each")
        rows = pd.DataFrame(spans, columns=["path", "start", "stop"])
        names = [Path(path).name for path in rows.path]
        rows = rows.assign(path=rows.path.map(str), id=[Path(name).stem for name in names], video=names, group=names)
        other = copy.copy(self)
        other.table = other.annotations = timed(rows.assign(line=range(1, len(rows) + 1)), Path("videos"))
        other.modalities, other.targets, other.groups, other.counts = tuple(modalities), {}, names, Counter()
        other.subsets = {"all": torch.ones(len(rows), dtype=torch.bool)}
        for name in ("digest", "has_sound"):  # of these videos, not of the folder's
            other.__dict__.pop(name, None)
        return other

    def decode_all(self, oversample: int = 1) -> Tensor:
        """All clips in memory, every video read once.

        Shapes: -> uint8 (n, 3, oversample * T, H, W); see `epic.EpicKitchens.decode_all`.
        Errors: MediaError; ValueError where videos differ in their pictures' size and `size` is None.
        """

        def read(path: Path, rows) -> list[np.ndarray]:
            spans = zip(rows.start, rows.stop, strict=True)
            times = [self.times(start, stop, oversample) for start, stop in spans]
            return read_segments(path, times, self.size, counts=self.counts)

        return self.gathered("path", read)

    def feature_key(self, index: int) -> tuple[str, str, float, float, float]:
        """The clip's name, the video's, the clip's start and stop in seconds, and the video's length."""
        return _feature_key(self.annotations.iloc[index])

    def computed(self, name: str, index: int) -> Tensor | None:
        """As `side_tokens`, of a modality that is made of the recordings: float32 (L, d), or None."""
        row = self.annotations.iloc[index]
        if name == "audio":
            return audio_tokens(row.path, row.start, row.stop, self.sound, counts=self.counts)
        if name == "flow":
            times = self.times(row.start, row.stop)
            return flow_tokens(row.path, times, self.size, counts=self.counts)
        beside = _transcript(Path(row.path))
        if beside is None:
            return None
        said = read_transcript(beside, encoding=str(self.words["encoding"]))
        return utterance_tokens(said, row.start, row.stop, self._encoder, length=self.words["length"])

    @cached_property
    def has_sound(self) -> bool:
        """Has any video of the split a sound track? Errors: MediaError."""
        return any(map(has_sound, self.annotations.path.unique()))

    @property
    def whose(self) -> str:
        """What no split shares with another: "participants", or "videos" where the file names none."""
        return "videos" if (self.table.group == self.table.video).all() else "participants"

    def nowhere(self, name: str) -> str:
        """What to say where no video of the split has a modality that is computed."""
        return f"no video of the {self.split} split has {name}; leave the modality out"

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits over the data set (the same for every split): the CSV file by content, videos,
        transcripts and features by content where they are at most 64 MiB together, else by name and size.
        """
        digest = hashlib.sha256(self.file.read_bytes())
        videos = [Path(path) for path in self.table.path.unique()]
        files = {path for video in videos for path in (video, _transcript(video)) if path and path.is_file()}
        for place in filter(None, map(self._place, self.known)):
            files |= {p for p in (place.rglob("*") if place.is_dir() else [place]) if p.is_file()}
        files = sorted(files)
        whole = sum(path.stat().st_size for path in files) <= HASHED
        for path in files:
            digest.update(f"{path.relative_to(self.root).as_posix()} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes() if whole else b"")
        return digest.hexdigest()

    @cached_property
    def _encoder(self):
        return sentence_encoder(self.words["encoder"])

    def _place(self, name: str) -> Path | None:
        """Where a modality lies that was extracted beforehand; None for one that is computed."""
        places = (self.root / FEATURES / f"{name}{suffix}" for suffix in ("", *ARCHIVES))
        return next((place for place in places if place.exists()), None)

    def source(self, name: str) -> Features | None:
        """What was extracted beforehand of a modality, opened once; None for one that is computed."""
        place = self._place(name)
        if place is not None and name not in self.features:
            features = open_features(place, length=self.length)
            self._check_keys(features)
            if self.length is None:
                cut = (features.tokens(*_feature_key(row)) for _, row in self.table.iterrows())
                first = next((tokens for tokens in cut if tokens is not None), ())
                features.length = min(len(first), ROWS) or None
            self.features[name] = features
        return self.features.get(name)

    def _check_keys(self, features: Features) -> None:
        videos: dict[str, str] = {}
        for video in self.table.video.unique():
            first = videos.setdefault(_video_key(video), video)
            if first != video:
                key = _video_key(video)
                raise FeatureError(f"{features.path}: {key} would be of {first} and of {video}; rename one of them")


def usual_side(splits: Iterable[VideoFolder]) -> list[str]:
    """What is heard where nobody says: audio where each split has a video with sound, else flow. Errors: MediaError."""
    return ["audio"] if all(clips.has_sound for clips in splits) else ["flow"]


def _transcript(video: Path) -> Path | None:
    """The transcript beside a video: an SRT file, else plain text, else None."""
    return next((path for path in map(video.with_suffix, FORMS) if path.is_file()), None)


def _sound(seconds: float, given: Mapping[str, float]) -> dict[str, float]:
    """Settings of a spectrogram of exactly `STEPS` steps over so many seconds, but for what is given."""
    rate = given.get("rate", SOUND["rate"])
    hop = max(1, round(seconds * rate / STEPS))
    return {**SOUND, "hop": hop, "seconds": (STEPS * hop - 1) / rate, **given}


def _feature_key(row) -> tuple[str, str, float, float, float]:
    return _key(row.id), _video_key(row.video), row.start, row.stop, row.seconds


def _key(name: str) -> str:
    """What features of a clip or video are called: letters, digits, _ - and . as they are, all else as _."""
    return re.sub(r"\.{2,}|[^A-Za-z0-9_.-]", "_", name)


def _video_key(video: str) -> str:
    return _key(str(PurePosixPath(video).with_suffix("")))
