"""Where the recordings of EPIC-KITCHENS-100 lie on disk, and how pictures, motion and sound are read from them.

ROOT/PXX/videos/PXX_YY.MP4                                      pictures and sound
ROOT/PXX/rgb_frames/PXX_YY/frame_0000000001.jpg, ...            extracted pictures, 60 or 50 a second
ROOT/PXX/flow_frames/PXX_YY/{u,v}/frame_0000000001.jpg, ...     extracted motion
ROOT/EPIC-KITCHENS-100_audio.hdf5                               sound, 24 kHz
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from cm3t.data.epic_annotations import frame_of
from cm3t.data.epic_labels import missing
from cm3t.data.features import HASHED, Features
from cm3t.data.flow_files import SCALES, flow_file_tokens, flow_format
from cm3t.data.frames import PICTURE, read_frame_files
from cm3t.data.hdf5 import array_of, open_hdf5
from cm3t.data.media import frame_rate, read_segments
from cm3t.data.side import ARCHIVE_RATE, archived_audio_tokens, audio_tokens, motion_tokens
from cm3t.data.tables import MissingFiles

SOURCES, FLOWS, AUDIOS = ("video", "frames"), ("compute", "files"), ("video", "archive")
ARCHIVE = "EPIC-KITCHENS-100_audio.hdf5"
REISSUED = ("P01_109", "P27_103")  # their extracted frames were replaced
REISSUE = datetime(2020, 9, 26, tzinfo=UTC)


@dataclass
class EpicFiles:
    """The files of a data set in EPIC's layout; None means whatever is on disk.

    source: "video" (MP4, read by time) or "frames". flow: "compute" (from the pictures) or "files". flow_scale: as in
    `flow_files.flow_file_tokens`. audio: "video" (the MP4), "archive" (the HDF5 file in root), or an archive's path;
    None takes the MP4 where it is there, and else the archive. gap: the recordings of ROOT/gapN.
    """

    root: Path
    gap: int = 0
    source: str | None = None
    flow: str | None = None
    flow_scale: str = "unified"
    audio: str | Path | None = None
    sound: Mapping[str, float] = field(default_factory=dict)
    counts: Counter = field(default_factory=Counter)

    def __post_init__(self):
        for name, value, known in (
            ("source", self.source, (None, *SOURCES)),
            ("flow", self.flow, (None, *FLOWS)),
            ("flow_scale", self.flow_scale, SCALES),
        ):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}; known are {', '.join(filter(None, known))}")
        self.home = self.root / f"gap{self.gap}" if self.gap else self.root
        if self.source is None:
            videos, frames = (any(self.home.glob(form)) for form in ("P*/videos/*.[mM][pP]4", "P*/rgb_frames/P*/"))
            self.source = "frames" if frames and not videos else "video"
        if self.flow is None:
            self.flow = "files" if any(self.home.glob("P*/flow_frames/P*/u/")) else "compute"

    def video_path(self, video_id: str) -> Path:
        """Where a recording is, or would be."""
        folder = self.home / video_id[:3] / "videos"
        small = folder / f"{video_id}.mp4"
        return small if small.is_file() else folder / f"{video_id}.MP4"

    def frame_folder(self, video_id: str) -> Path:
        """Where a recording's extracted pictures are, or would be."""
        return self.home / video_id[:3] / "rgb_frames" / video_id

    def flow_folder(self, video_id: str) -> Path:
        """Where a recording's extracted motion is, or would be."""
        return self.home / video_id[:3] / "flow_frames" / video_id

    @property
    def archive(self) -> Path:
        """Where the sound archive is, or would be."""
        return self.root / ARCHIVE if self.audio in (None, *AUDIOS) else Path(self.audio)

    def pictures(self, video_id: str, segments: Sequence[Sequence[float]], size) -> list[np.ndarray]:
        """Pictures of segments of one recording: as `media.read_segments`, from MP4 or extracted pictures."""
        if self.source == "video":
            return read_segments(self.video_path(video_id), segments, size, counts=self.counts)
        return read_frame_files(self.frame_folder(video_id), video_id, segments, size, counts=self.counts)

    def motion(self, video_id: str, times: Sequence[float], size) -> Tensor | None:
        """Flow tokens float32 (T, 128) before the times (T,), computed or read; None where there are no files."""
        if self.flow == "compute":
            fps = frame_rate(self.video_path(video_id)) if self.source == "video" else flow_format(video_id).fps
            return motion_tokens(lambda pairs: self.pictures(video_id, pairs, size), times, fps)
        folder = self.flow_folder(video_id)
        if not folder.is_dir():
            return None
        return flow_file_tokens(folder, video_id, times, size, scale=self.flow_scale, counts=self.counts)

    def spectrogram(self, video_id: str, start: float, stop: float) -> Tensor | None:
        """Sound tokens float32 (L, mels) about a segment's middle; None where there is no sound."""
        path = self.video_path(video_id)
        if self.audio == "video" or (self.audio is None and path.is_file()):
            return audio_tokens(path, start, stop, self.sound, counts=self.counts) if path.is_file() else None
        if self.audio is None and not self.archive.is_file():
            return None
        return archived_audio_tokens(self.archive, video_id, start, stop, self.sound, counts=self.counts)

    def check(self, videos: Sequence[str], durations: Mapping[str, float], *, sound: bool = False) -> None:
        """Are the pictures of all these recordings there? Warns of extracted ones that end early or are outdated.

        sound: look into the sound archive as well, if it is to be read.
        Errors: FileNotFoundError: how many are missing, which first, and what may be the matter.
        """
        find = self.video_path if self.source == "video" else self.frame_folder
        absent = [video for video in videos if not find(video).exists()]
        if absent:
            shown = ", ".join(str(find(video)) for video in absent[:3]) + (", ..." if len(absent) > 3 else "")
            what = f"{len(absent)} of {len(videos)} recordings are missing: {shown}{self._reason(absent)}"
            raise MissingFiles(missing(what, self.root), [find(video) for video in absent])
        if self.source == "frames":
            self._check_frames(videos, durations)
        if self.audio not in (None, "video") and not self.archive.is_file():
            raise FileNotFoundError(missing(f"there is no sound archive {self.archive}", self.root))
        if sound and self.audio != "video" and self.archive.is_file():
            self._check_archive(videos, durations)

    def _reason(self, absent: list[str]) -> str:
        """What the missing recordings have in common, if it is one of the known traps."""
        if (self.root / "videos" / "train").is_dir() or (self.root / "frames_rgb_flow").is_dir():
            return (
                "; this is the layout of EPIC-55, whose train and test folders are other splits than those of "
                "EPIC-100: sort the recordings into PXX/videos"
            )
        other = "frames" if self.source == "video" else "video"
        find = self.frame_folder if self.source == "video" else self.video_path
        if all(find(video).exists() for video in absent):
            return f'; their {other} are there: give source="{other}"'
        if any(self.frame_folder(video).with_suffix(".tar").is_file() for video in absent):
            return "; there are .tar archives of their frames: unpack each into a folder of its name"
        if len({len(video) for video in absent}) == 1:
            half = "EPIC-55 (PXX_YY)" if len(absent[0]) == 6 else "the extension (PXX_1YY)"
            return f"; all of them are of {half}, which is a download of its own"
        return ""

    def _check_frames(self, videos: Sequence[str], durations: Mapping[str, float]) -> None:
        short = []
        for video in videos:
            last = frame_of(max(0.0, durations.get(video, 0.0) - 1.0), video)
            if not (self.frame_folder(video) / PICTURE.format(last)).is_file():
                short.append(video)
        if short:
            self.counts["recordings cut short"] += len(short)
            warnings.warn(
                f"the extracted pictures of {len(short)} of {len(videos)} recordings end more than a second early "
                f"(first: {short[0]}): unpack their archives again and compare checksums; until then the nearest "
                "pictures are given",
                stacklevel=4,
            )
        for video in set(videos) & set(REISSUED):
            first = self.frame_folder(video) / PICTURE.format(1)
            if first.is_file() and first.stat().st_mtime < REISSUE.timestamp():
                warnings.warn(
                    f"{first.parent}: older than {REISSUE:%d %B %Y}, when the pictures of {video} were replaced: "
                    "they do not fit the annotations; download them again",
                    stacklevel=4,
                )

    def _check_archive(self, videos: Sequence[str], durations: Mapping[str, float]) -> None:
        """Are the archive's samples as many as 24 kHz gives? One public loader takes them for 44 kHz."""
        odd = []
        with open_hdf5(self.archive) as file:
            for video in videos:
                samples, seconds = array_of(file, video, self.archive), durations.get(video, 0.0)
                if samples is not None and seconds and abs(samples.size / ARCHIVE_RATE / seconds - 1.0) > 0.1:
                    odd.append((video, samples.size / seconds))
        if odd:
            warnings.warn(
                f"{self.archive}: {len(odd)} of {len(videos)} recordings do not hold {ARCHIVE_RATE} samples a second "
                f"(first: {odd[0][0]}, {odd[0][1]:.0f}): they would be read at the wrong speed; extract them again "
                f"with ffmpeg -ac 1 -ar {ARCHIVE_RATE}",
                stacklevel=4,
            )

    def digest(self, annotations: Path, features: Mapping[str, Features]) -> str:
        """64 hexadecimal digits over annotations (by content), recordings, and whatever else is read.

        Recordings count by content where they are at most 64 MiB together, else by name and size, which takes no
        time; extracted pictures by their folders and the size of each one's first picture.
        """
        digest = hashlib.sha256()
        for path in sorted(annotations.glob("*.csv")):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
        videos = sorted(p for g in ("", "gap*/") for p in self.root.glob(f"{g}P*/videos/*") if p.is_file())
        whole = sum(path.stat().st_size for path in videos) <= HASHED
        for path in videos:
            digest.update(f"{path.relative_to(self.root).as_posix()} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes() if whole else b"")
        for line in self._beside_videos(features):
            digest.update(f"{line}\n".encode())
        return digest.hexdigest()

    @cached_property
    def _numbered(self) -> list[str]:
        forms = ["P*/rgb_frames/P*"] * (self.source == "frames") + ["P*/flow_frames/P*/[uv]"] * (self.flow == "files")
        folders = sorted(path for form in forms for path in self.root.glob(form) if path.is_dir())
        first = [folder / PICTURE.format(1) for folder in folders]
        sizes = [path.stat().st_size if path.is_file() else 0 for path in first]
        return [f"{folder.relative_to(self.root).as_posix()} {n}" for folder, n in zip(folders, sizes, strict=True)]

    def _beside_videos(self, features: Mapping[str, Features]) -> list[str]:
        """Lines for the digest; none where all is read from MP4 files."""
        lines = list(self._numbered)
        if self.flow == "files":
            lines.append(f"flow {self.flow_scale}")
        if self.audio != "video" and self.archive.is_file():
            lines.append(f"{self.archive.name} {self.archive.stat().st_size}")
        return lines + [f"features {name} {source.digest}" for name, source in sorted(features.items())]
