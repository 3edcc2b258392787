"""UDIVA v0.5 from disk: two people in four tasks; a clip is a window of one of them, its target his five traits.

Also the reader of the embedded dyad (data/rooms-dyad), which is written in the same layout:

    ROOT/{train,val,test}/metadata/{sessions,parts}_SPLIT.csv, parts_SPLIT_unmasked.csv, task_limits.json
    ROOT/SPLIT/recordings/[TASK_recordings_SPLIT/]SESSION/FC1_T.mp4      FC1 sees PART.1; T, A, L, G is the task
    ROOT/SPLIT/transcriptions/SESSION/SESSION_TASK.srt                      or .txt: no times, all of it in every clip
    ROOT/SPLIT/annotations/SESSION/FC1_T/annotations_raw.hdf5               landmarks
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cm3t.data.clip import Clip
from cm3t.data.features import Features
from cm3t.data.landmarks import landmark_tokens
from cm3t.data.media import read_frames, read_segments
from cm3t.data.segments import TENTH, Segments, Transform, check_reading, every_tenth, some_of
from cm3t.data.side import audio_tokens, sound_settings
from cm3t.data.tables import AnnotationError
from cm3t.data.transcripts import (
    Utterance,
    count_nameless,
    read_transcript,
    sentence_encoder,
    utterance_tokens,
    word_options,
)
from cm3t.data.udiva_layout import clip_table, landmarks_path, located, transcript_path
from cm3t.data.udiva_metadata import TASKS, TRAITS, read_ids, read_parts

SPLITS = {"train": "train", "tune": "train", "validation": "val", "test": "test"}  # and the folder's name
MODALITIES = ("audio", "landmarks", "transcript")
SECONDS = 6.0  # Choice: the paper does not say how long a clip is
SOUND = {"rate": 16000, "n_fft": 1024, "win": 400}  # the hop is chosen so that a window has 400 steps
STEPS = 400
HASHED = 64 * 2**20  # bytes: recordings of more than this together enter the digest by size, not by content


class Udiva(Segments):
    """A split of UDIVA v0.5, or of a data set in its layout: a list of `Clip` with the target traits (5,), O C E A N.

    root: the folder of train, val and test. split: train, tune, validation or test. tune are the training participants
    of train/metadata/tune_participant_ids.csv (column ID) or of the argument `tune` ("tenth": of the file, and without
    it every tenth); train leaves them out: a session of both gives each side the clips of its own people.
    Traits of validation and test come from parts_SPLIT_unmasked.csv where it exists; test without it has no targets.
    A clip is a window of `seconds` in the task's limits, seen by the participant's own camera; windows do not overlap
    and are spread evenly, at most `windows` of a task. frames, size, limit, seed: as `epic.EpicKitchens`.
    modalities: of "audio" (log-mel (400, 128) of the window; `sound` are its settings) and "transcript" (a token an
    utterance of the participant, `transcripts.utterance_tokens`; `words` as in `transcripts.word_options`),
    "landmarks" (a token a frame, of the annotations' HDF5 files: `landmarks.landmark_tokens`), and the names in
    `features` (by the clip's id, as 000001_talk_01_0, or by session and camera, as 000001_FC1_T), which take
    precedence; features, sampling and transform: as in `Segments`.
    Where a task has no SRT file but plain text, an utterance a line, all that the participant says in the task belongs
    to each of its clips. Choice: the text has no times; a guess of them would give a clip what others say. Utterances
    without a speaker are given to nobody: a file's are counted with its first clip, in counts["utterances without a
    speaker"], and its first one is warned of.

    annotations: DataFrame, a row a clip (id, session, task, participant, part, language, start, stop, path).
    groups: participant of every clip; units: "participant/session/task": predictions are averaged within each first,
    then over the person's (`metrics.participant_means`).
    subsets: all, each task, and each language where there are several. classes, targets, counts, digest: as
    `epic.EpicKitchens`. participants: {ID: traits (5,)} of the clips.

    Errors: FileNotFoundError for a missing folder or table, and for recordings: of one whole task, or of more than a
    tenth of its sessions (fewer are left out, counted and warned of); AnnotationError for rows that cannot be used;
    TranscriptError for a bad transcript where the modality is asked for; ValueError for arguments.
    """

    task = "traits"
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
        tune: tuple[str, ...] | str | None = None,
        tasks: tuple[str, ...] = tuple(TASKS),
        seconds: float = SECONDS,
        windows: int | None = None,
        sound: Mapping[str, float] | None = None,
        words: Mapping[str, object] | Sequence[tuple] | None = None,
        features: Mapping[str, str | Path | Features] | Sequence[tuple] | None = None,
        sampling: str = "segments",
        transform: Transform | str | None = None,
    ):
        self.known = tuple(dict.fromkeys((*MODALITIES, *dict(features or {}))))
        check_reading(split, SPLITS, frames, modalities, self.known, limit)
        _check_windows(tasks, seconds, windows)
        self.split, self.frames, self.size = split, frames, size
        self.read_as(sampling, transform=transform, features=features)
        self.modalities, self.tasks = tuple(modalities), tuple(tasks)
        self.seconds, self.windows = float(seconds), windows
        self.sound = SOUND | {"seconds": seconds} | sound_settings(sound)
        self.sound.setdefault("hop", max(1, round(self.sound["seconds"] * self.sound["rate"] / STEPS)))
        self.sound["seconds"] -= 1 / self.sound["rate"]  # STEPS exactly, not one more
        self.words = word_options(words)
        self.root, self.folder = located(root, SPLITS[split])
        self.counts: Counter = Counter()
        self.classes = {"traits": len(TRAITS)}
        people, own = self._people(tune)
        self.annotations = self._clips(people, own, limit, seed)
        self._label(people)
        self._transcripts: dict[tuple[str, str], list[Utterance] | None] = {}
        self._nameless: dict[int, int] = {}  # {first clip of a transcript: utterances without a speaker}
        if "transcript" in self.modalities:
            self._read_transcripts()

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
            group=self.groups[index],
        )

    def decode_all(self, oversample: int = 1) -> Tensor:
        """All clips in memory, every recording read once.

        Shapes: -> uint8 (n, 3, oversample * T, H, W); see `epic.EpicKitchens.decode_all`.
        Errors: MediaError; ValueError where recordings differ in their pictures' size and `size` is None.
        """

        def read(path: Path, rows) -> list[np.ndarray]:
            times = [self.times(start, stop, oversample) for start, stop in zip(rows.start, rows.stop, strict=True)]
            return read_segments(path, times, self.size, counts=self.counts)

        return self.gathered("path", read)

    def nowhere(self, name: str) -> str:
        """What to say where no session of the split has a modality that is computed."""
        return f"no session of {self.folder} has {name}; leave the modality out"

    @cached_property
    def encoder(self):
        """The sentence encoder."""
        return sentence_encoder(self.words["encoder"])

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits over the data set (the same for every split): tables and transcripts by content, and
        recordings by content where they are at most 64 MiB together, else by name and size.
        """
        digest = hashlib.sha256()
        folders = [self.root / name for name in sorted(set(SPLITS.values()))]
        small = [p for f in folders for kind in ("metadata", "transcriptions") for p in (f / kind).rglob("*")]
        large = [("recordings", "*.mp4"), ("annotations", "*.hdf5")]
        videos = [p for f in folders for kind, form in large for p in (f / kind).rglob(form)]
        whole = sum(path.stat().st_size for path in videos) <= HASHED
        for path in sorted(p for p in (*small, *videos) if p.is_file()):
            digest.update(f"{path.relative_to(self.root).as_posix()} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes() if whole or path.suffix not in (".mp4", ".hdf5") else b"")
        for name, source in sorted(self.features.items()):
            digest.update(f"features {name} {source.digest}\n".encode())
        return digest.hexdigest()

    def _people(self, tune: tuple[str, ...] | str | None) -> tuple[dict[str, np.ndarray | None], set[str]]:
        """Traits of everybody in the split's table, and who of them belongs to the split."""
        meta, name = self.folder / "metadata", self.folder.name
        whole = meta / f"parts_{name}_unmasked.csv"
        table = whole if whole.is_file() else meta / f"parts_{name}.csv"
        people = read_parts(table, labelled=_has_traits(table))
        self._check_independent(people)
        if self.split not in ("train", "tune"):
            return people, set(people)
        listed = meta / "tune_participant_ids.csv"
        if tune in (None, TENTH) and listed.is_file():
            tune = tuple(read_ids(listed))
        elif tune == TENTH:
            tune = every_tenth(people)
        absent = sorted(set(tune or ()) - set(people))
        if absent or (self.split == "tune" and not tune):
            raise ValueError(
                f"the tune split needs participants of {table}, in {listed} or as tune=('001', ...); "
                + (f"{absent} are not in it" if absent else "none are given")
            )
        own = {person for person in people if (person in (tune or ())) == (self.split == "tune")}
        if not own:
            raise AnnotationError(f"{table}: every participant is in tune: nobody is left to train on")
        return people, own

    def _check_independent(self, people: Mapping) -> None:
        for name in sorted(set(SPLITS.values()) - {self.folder.name}):
            other = self.root / name / "metadata" / f"parts_{name}.csv"
            both = sorted(set(people) & set(read_ids(other))) if other.is_file() else []
            if both:
                warnings.warn(
                    f"participants {', '.join(both[:5])} are in {self.folder.name} and in {name}: scores are not "
                    "subject-independent",
                    stacklevel=4,
                )

    def _clips(self, people: dict, own: set[str], limit: int | None, seed: int) -> pd.DataFrame:
        """A row a clip of those who have traits; of everybody in a test split without labels."""
        named = {person for person in own if people[person] is not None}
        if not named and self.split != "test":
            raise AnnotationError(
                f"{self.folder}/metadata: no participant of {self.split} has traits; those of val and test are in "
                f"parts_{self.folder.name}_unmasked.csv"
            )
        options = {"tasks": self.tasks, "seconds": self.seconds, "windows": self.windows, "counts": self.counts}
        rows = clip_table(self.folder, people, named or own, **options)
        self.counts["participants without traits"] = len(own) - len(named)
        if rows.empty:
            raise AnnotationError(f"{self.folder}/metadata: nobody of {self.split} is in a session")
        return some_of(rows, limit, seed)

    def _label(self, people: dict) -> None:
        rows = self.annotations
        self.groups = rows.participant.tolist()
        self.units = [f"{r.participant}/{r.session}/{r.task}" for r in rows.itertuples()]
        self.participants = {person: people[person] for person in rows.participant.unique()}
        self.targets: dict[str, Tensor] = {}
        if all(traits is not None for traits in self.participants.values()):
            traits = np.stack([people[person] for person in rows.participant])
            self.targets = {"traits": torch.from_numpy(traits.astype(np.float32))}
        masks = {"all": np.ones(len(rows), bool)} | {task: (rows.task == task).to_numpy() for task in self.tasks}
        languages = sorted(set(rows.language) - {""})
        if len(languages) > 1:
            masks |= {language.lower(): (rows.language == language).to_numpy() for language in languages}
        self.subsets = {name: torch.from_numpy(mask.copy()) for name, mask in masks.items()}

    def _read_transcripts(self) -> None:
        """Every transcript of the split, before anything is asked of one: a bad file is known at once."""
        for (session, task), rows in self.annotations.groupby(["session", "task"]):
            path = transcript_path(self.folder, session, task)
            found = None if path is None else read_transcript(path, encoding=str(self.words["encoding"]))
            self._nameless[rows.index[0]] = count_nameless(found or (), path)
            self._transcripts[session, task] = found

    def feature_key(self, index: int) -> tuple[str, str, float, float]:
        """The clip's id, the session's recording by its camera (000001_FC1_T), and start and stop there in seconds."""
        row = self.annotations.iloc[index]
        return row.id, f"{row.session}_{Path(row.path).stem}", row.start, row.stop

    def computed(self, name: str, index: int) -> Tensor | None:
        """As `side_tokens`, of a modality that is made of the recordings: float32 (L, d), or None."""
        row = self.annotations.iloc[index]
        if name == "transcript" and not self._transcripts:
            self._read_transcripts()
        if name == "audio":
            return audio_tokens(row.path, row.start, row.stop, self.sound, counts=self.counts)
        if name == "landmarks":
            path = landmarks_path(self.folder, row.session, row.task, Path(row.path).stem)
            return path and landmark_tokens(path, self.times(row.start, row.stop), counts=self.counts)
        said = self._transcripts[row.session, row.task]
        if said is None:
            return None
        self.counts["utterances without a speaker"] += self._nameless.get(row.name, 0)  # once a file, whoever reads it
        options = {"speaker": f"PART.{row.part}", "length": self.words["length"]}
        return utterance_tokens(said, row.start, row.stop, self.encoder, **options)


def _has_traits(table: Path) -> bool:
    return all(trait in table.read_text(encoding="utf-8-sig", errors="replace").split("\n")[0] for trait in TRAITS)


def _check_windows(tasks, seconds, windows) -> None:
    if isinstance(tasks, str) or set(tasks) - set(TASKS):
        raise ValueError(f"unknown tasks {tasks!r}; give a tuple of {', '.join(TASKS)}")
    if windows is not None and windows < 1:
        raise ValueError(f"windows={windows} must be at least 1 (None: all)")
    if not tasks or not seconds > 0:
        raise ValueError(f"tasks={tasks!r} and seconds={seconds} leave no clip")
