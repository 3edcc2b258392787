"""MPIIGroupInteraction from disk: snippets of people in group discussions, each with any of fourteen behaviours.

Also the reader of the embedded group, which is written in the same layout, that of the behaviour challenge:

    ROOT[/bbr]/{train,val,test}_samples.csv
    ROOT[/bbr]/clips_{train,val,test}[/clips_*]/00042-video.mp4    frontal; -video1 from the left, -video2 right
    ROOT/data/<recording, its number last>/audio.wav               the sound of all four; a recording may lack it
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cm3t.data.clip import Clip
from cm3t.data.features import HASHED, Features
from cm3t.data.media import read_frames
from cm3t.data.mpiigi_samples import BEHAVIOURS, BEHAVIOURS_15, read_recordings, read_samples, write_predictions
from cm3t.data.segments import TENTH, Segments, Transform, check_reading, every_tenth, some_of
from cm3t.data.side import audio_tokens, sound_options
from cm3t.data.tables import AnnotationError, MissingFiles

__all__ = ["BEHAVIOURS", "BEHAVIOURS_15", "MpiiGroupInteraction", "write_predictions"]
SPLITS = {"train": "train", "tune": "train", "validation": "val", "test": "test"}  # and their names on disk
MODALITIES = ("audio",)
VIEWS = ("video", "video1", "video2")  # frontal, left, right
TUNE = "tune_recordings.csv"
SOUNDS = ("audio.wav", "audio.flac", "audio.m4a", "audio.opus")  # the real set's is the first


class MpiiGroupInteraction(Segments):
    """A split of MPIIGroupInteraction, or of a data set in its layout: `Clip`s with the target behaviour (14,).

    root: the folder of the sample lists, or of bbr/ and data/. split: train, tune, validation or test (without
    targets). tune are the recordings of tune_recordings.csv (column rec_no) or of the argument `tune` ("tenth": of the
    file, and without it every tenth); train leaves them out. frames: T of every clip, at the middles of T equal spans
    of its time. size: as in `media.read_frames`.
    modalities: of "audio" (log-mel spectrogram about the snippet's middle; `sound` as in `side.sound_options`). limit:
    so many snippets, drawn by `seed`; a larger limit keeps those of a smaller one. view: 0 from the front, 1 left, 2
    right. behaviours: the columns that are read, 14 or `BEHAVIOURS_15`. features, sampling and transform: as in
    `Segments`; the names of features (by sample, as 00042, or by recording, as 07) are modalities too, and take
    precedence. A recording's are of all who sit in it: those of one person are kept by sample.

    annotations: DataFrame, a row a clip. names: those of the classes. classes: {"behaviour": 14}. targets:
    {"behaviour": float32 0/1 (n, 14)}. groups: n participants, as "07-2" (recording and seat). subsets: {name: bool
    tensor (n,)}: all, and with_sound and without_sound where some recordings lack it. counts: frame times clamped
    to their clip, clips without sound, those that their recording's sound reaches in part ("padded sound") or not at
    all ("no sound there": without it, too).
    Choice: no subset of rare behaviours: average precision is a matter of classes, and is reported for each.

    Errors: FileNotFoundError for a missing folder, list or clip (how many, and which first); AnnotationError for rows
    that cannot be used; ValueError for arguments. Reading a clip: MediaError.
    """

    task = "behaviours"
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
        view: int = 0,
        tune: Sequence[int] | str | None = None,
        behaviours: Sequence[str] = BEHAVIOURS,
        sound: Mapping[str, float] | str | None = None,
        features: Mapping[str, str | Path | Features] | Sequence[tuple] | None = None,
        sampling: str = "segments",
        transform: Transform | str | None = None,
    ):
        self.known = tuple(dict.fromkeys((*MODALITIES, *dict(features or {}))))
        check_reading(split, SPLITS, frames, modalities, self.known, limit)
        if view not in range(len(VIEWS)):
            raise ValueError(f"view={view!r} is none of 0 (front), 1 (left), 2 (right)")
        self.split, self.frames, self.size, self.view = split, frames, size, view
        self.read_as(sampling, transform=transform, features=features)
        self.modalities, self.behaviours = tuple(modalities), tuple(behaviours)
        self.names = list(self.behaviours)
        self.sound = sound_options(sound)
        self.root, self.folder = _located(root, f"{SPLITS[split]}_samples.csv")
        self.counts: Counter = Counter()
        self.classes = {"behaviour": len(self.behaviours)}
        self.annotations = rows = some_of(self._rows(tune), limit, seed)
        self._paths = self._clips()
        self._sounds = _sounds(self.root / "data")
        self.groups = [f"{r:02d}-{s}" for r, s in zip(rows.rec_no, rows.subject_pos, strict=True)]
        self.targets: dict[str, Tensor] = {}
        if split != "test":
            labels = rows[list(self.behaviours)].to_numpy(np.float32)
            self.targets = {"behaviour": torch.from_numpy(labels.copy())}
        heard = torch.tensor([int(r) in self._sounds for r in rows.rec_no])
        self.subsets = {"all": torch.ones(len(self), dtype=torch.bool)}
        if heard.any() and not heard.all():
            self.subsets |= {"with_sound": heard, "without_sound": ~heard}

    def clip(self, index: int, generator: np.random.Generator | None = None) -> Clip:
        """Clip `index`; with a generator its frames are at random times of their spans. Errors: IndexError."""
        index = self.position(index)
        return Clip(
            video=self._video(index, 1, generator),
            side=self.sides(index),
            target={head: values[index] for head, values in self.targets.items()},
            id=self.feature_key(index)[0],
            group=self.groups[index],
        )

    def decode_all(self, oversample: int = 1) -> Tensor:
        """All clips in memory.

        Shapes: -> uint8 (n, 3, oversample * T, H, W). With oversample > 1 there are more frames than a clip has, for
        `clip.subsample` to draw from.
        Errors: MediaError; ValueError where clips differ in their pictures' size and `size` is None.
        """
        first = self._video(0, oversample)
        videos = first.new_empty(len(self), *first.shape)
        for index in range(len(self)):
            video = first if index == 0 else self._video(index, oversample)
            if video.shape != first.shape:
                sizes = f"{tuple(video.shape[2:])} pixels, {self._paths[0].name} {tuple(first.shape[2:])}"
                raise ValueError(f"clip {self._paths[index].name} is {sizes}; give `size`")
            videos[index] = video
        return videos

    def nowhere(self, name: str) -> str:
        """What to say where no recording of the split has a modality that is computed."""
        return (
            f"no recording of the {self.split} split has {name}: there is no {self.root}/data/<recording>/{SOUNDS[0]} "
            "whose folder ends with one of their numbers; leave the modality out or add the files"
        )

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits over the data set (the same for every split and view): all sample lists by content,
        clips and sounds by content where they are at most 64 MiB together, else by name and size.
        """
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob("*.csv")):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
        media = sorted([*self.folder.glob("clips_*/**/*-video*.mp4"), *_sounds(self.root / "data").values()])
        sizes = [path.stat().st_size for path in media]
        for path, size in zip(media, sizes, strict=True):
            digest.update(f"{path.relative_to(self.root).as_posix()} {size}\n".encode())
            digest.update(path.read_bytes() if sum(sizes) <= HASHED else b"")
        for name, source in sorted(self.features.items()):
            digest.update(f"features {name} {source.digest}\n".encode())
        return digest.hexdigest()

    def _rows(self, tune: Sequence[int] | str | None):
        path = self.folder / f"{SPLITS[self.split]}_samples.csv"
        rows = read_samples(path, () if self.split == "test" else self.behaviours)
        if self.split not in ("train", "tune"):
            return rows
        if tune in (None, TENTH) and (self.folder / TUNE).is_file():
            tune = read_recordings(self.folder / TUNE)
        elif tune == TENTH:
            tune = every_tenth(rows.rec_no.tolist())
        apart = {int(number) for number in tune or ()}
        absent = sorted(apart - set(rows.rec_no))
        if absent or (self.split == "tune" and not apart):
            raise ValueError(
                f"the tune split needs recordings of {path}, in {self.folder / TUNE} (column rec_no) or as "
                "tune=(11, ...); " + (f"{absent} have no training rows" if absent else "none are given")
            )
        rows = rows[rows.rec_no.isin(apart) == (self.split == "tune")]
        if rows.empty:
            raise AnnotationError(f"{path}: every recording is in tune {sorted(apart)}: no training rows are left")
        return rows

    def _clips(self) -> list[Path]:
        """Every clip's file, looked for in clips_<split> and its folders clips_*."""
        folder, found = self.folder / f"clips_{SPLITS[self.split]}", {}
        for path in [*sorted(folder.glob("*.mp4")), *sorted(folder.glob("clips_*/*.mp4"))]:
            if path.name in found:
                raise ValueError(f"{path} is also {found[path.name]}: remove one of them")
            found[path.name] = path
        names = [f"{sample:05d}-{VIEWS[self.view]}.mp4" for sample in self.annotations.sample_id]
        absent = [name for name in names if name not in found]
        if absent:
            shown = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
            what = f"{len(absent)} of {len(names)} clips are not in {folder}: {shown}"
            raise MissingFiles(_missing(what), [folder / name for name in absent])
        return [found[name] for name in names]

    def _video(self, index: int, oversample: int = 1, generator: np.random.Generator | None = None) -> Tensor:
        row = self.annotations.iloc[index]
        times = self.times(0.0, (row.end_time - row.start_time) / 1000, oversample, generator)
        return self.shown(read_frames(self._paths[index], times, self.size, counts=self.counts), generator)

    def feature_key(self, index: int) -> tuple[str, str, float, float]:
        """Number of the sample (00042), of the recording (07), and the snippet's start and stop there in seconds."""
        rows = self.annotations
        start, stop = rows.start_time[index] / 1000, rows.end_time[index] / 1000
        return f"{rows.sample_id[index]:05d}", f"{rows.rec_no[index]:02d}", start, stop

    def computed(self, name: str, index: int) -> Tensor | None:
        """As `side_tokens`, of a modality that is made of the recordings: float32 (L, d), or None."""
        row = self.annotations.iloc[index]
        path = self._sounds.get(int(row.rec_no))
        start, stop = row.start_time / 1000, row.end_time / 1000
        return None if path is None else audio_tokens(path, start, stop, self.sound, counts=self.counts)


def _sounds(folder: Path) -> dict[int, Path]:
    """{recording's number: its sound file}; the number is what the recording's folder ends with."""
    found: dict[int, Path] = {}
    for recording in sorted(folder.iterdir()) if folder.is_dir() else ():
        number = re.search(r"[0-9]{1,9}$", recording.name)
        sound = next((recording / name for name in SOUNDS if (recording / name).is_file()), None)
        if number and sound:
            if int(number[0]) in found:
                raise ValueError(f"{sound} and {found[int(number[0])]} are of one recording: rename or remove one")
            found[int(number[0])] = sound
    return found


def _located(root: str | Path | None, table: str) -> tuple[Path, Path]:
    """The data set's folder and that of its sample lists. Errors: FileNotFoundError, with where to get them."""
    if root is None:
        raise FileNotFoundError(_missing("no root was given"))
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(_missing(f"{root.absolute()} is no folder"))
    folder = next((f for f in (root / "bbr", root) if (f / table).is_file()), None)
    if folder is None:
        raise FileNotFoundError(_missing(f"there is neither {root / 'bbr' / table} nor {root / table}"))
    beside = folder == root and root.name == "bbr" and not (root / "data").is_dir()
    return (root.parent if beside else root), folder


def _missing(what: str) -> str:
    return (
        f"MPIIGroupInteraction was not found: {what}.\n"
        "Expected: ROOT/bbr/train_samples.csv, ROOT/bbr/clips_train/00001-video.mp4, ... (bbr/ may be left out)\n"
        "          ROOT/data/<recording>/audio.wav for the sound\n"
        "To obtain: needs a signed agreement, multimediate-challenge.org/Dataset.\n"
        'Without it: cm3t.data.open_data("rooms-group"), the embedded benchmark in the same layout.'
    )
