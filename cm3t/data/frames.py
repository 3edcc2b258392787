"""Pictures that lie on disk one file each: frame_0000000001.jpg, frame_0000000002.jpg, ...

So EPIC-KITCHENS-100 ships its extracted frames, and its optical flow. Archives with gaps and broken downloads are
common there: a picture that is missing or cut off is replaced by the nearest whole one, counted and warned of, and
never by a black one.
"""

from __future__ import annotations

import os
import re
import warnings
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from cm3t.data.epic_annotations import frame_of
from cm3t.data.media import MediaError, resized

PICTURE = "frame_{:010d}.jpg"
NUMBERED = re.compile(r"frame_([0-9]{10})\.jpg")
END = b"\xff\xd9"  # the last two bytes of a whole JPEG


class NearestFrameWarning(UserWarning):
    """Some pictures are missing or cut off, and the nearest whole ones were given instead."""


class FrameFolder:
    """The numbered pictures of one recording, in one folder.

    tally counts since the last `report`: "nearest frames" for those that are missing or cut off among the others,
    "clamped" for numbers before the first or after the last.
    Errors: FileNotFoundError where there is no such folder; `read` raises MediaError where no picture is whole.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.tally: Counter = Counter()
        self._broken: set[int] = set()
        if not self.folder.is_dir():
            raise FileNotFoundError(_no_folder(self.folder))

    @cached_property
    def numbers(self) -> list[int]:
        """Numbers of the pictures on disk, rising. Listing is slow on large folders: done when first needed."""
        found = (NUMBERED.fullmatch(entry.name) for entry in os.scandir(self.folder))
        return sorted(int(match[1]) for match in found if match)

    def read(self, number: int, *, grey: bool = False) -> np.ndarray:
        """Picture `number`, or the nearest whole one; of two equally near ones the earlier.

        Shapes: -> uint8 RGB (H, W, 3), or (H, W) with `grey`.
        """
        picture = None if number in self._broken else self._decoded(number, grey)
        return self._nearest(number, grey) if picture is None else picture

    def report(self, asked: int, counts: Counter | None = None) -> None:
        """Warn of what was replaced among the last `asked` pictures, add it to `counts`, and forget it."""
        if self.tally["nearest frames"]:
            warnings.warn(
                f"{self.folder}: {self.tally['nearest frames']} of {asked} pictures are missing or cut off; the "
                "nearest whole ones were used: unpack the archive again and compare its checksum",
                NearestFrameWarning,
                stacklevel=3,
            )
        if self.tally["clamped"]:
            warnings.warn(
                f"{self.folder}: {self.tally['clamped']} of {asked} pictures lie outside 1..{max(self.numbers)}; "
                "the nearest ones were used",
                NearestFrameWarning,
                stacklevel=3,
            )
        if counts is not None:
            counts.update({name: count for name, count in self.tally.items() if count})
        self.tally.clear()

    def _nearest(self, number: int, grey: bool) -> np.ndarray:
        outside = not self.numbers or not self.numbers[0] <= number <= self.numbers[-1]
        left = [n for n in self.numbers if n not in self._broken]
        while left:
            place = bisect_left(left, number)
            near = min(left[max(0, place - 1) : place + 1], key=lambda n: (abs(n - number), n))
            if (picture := self._decoded(near, grey)) is not None:
                self.tally["clamped" if outside else "nearest frames"] += 1
                return picture
            left.remove(near)
        raise MediaError(
            f"{self.folder}: holds no whole picture {PICTURE.format(1)}, ...: unpack the archive again and compare "
            "its checksum"
        )

    def _decoded(self, number: int, grey: bool) -> np.ndarray | None:
        """The picture, or None where it is missing, cut off or no JPEG."""
        import cv2

        try:
            content = (self.folder / PICTURE.format(number)).read_bytes()
        except FileNotFoundError:
            return None
        picture = None
        if content.rstrip(b"\0").endswith(END):  # OpenCV fills up what is cut off with grey, and says nothing
            mode = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
            picture = cv2.imdecode(np.frombuffer(content, np.uint8), mode)
        if picture is None:
            self._broken.add(number)
            return None
        return picture if grey else np.ascontiguousarray(picture[..., ::-1])


def read_frame_files(
    folder: str | Path,
    video_id: str,
    segments: Sequence[Sequence[float]],
    size: int | tuple[int, int] | None = None,
    *,
    counts: Counter | None = None,
) -> list[np.ndarray]:
    """Pictures of segments of one recording, out of EPIC's extracted frames; as `media.read_segments`.

    A time's picture is number max(1, floor(time * fps)), fps being 60 for PXX_YY and 50 for PXX_1YY: the official
    convention, in which file 1 is the picture at time 0 and file k, too, stands for the time k / fps.

    Shapes: segments n x (T,) seconds -> n arrays, uint8 RGB (T, H, W, 3).
    Errors: FileNotFoundError; MediaError where no picture of the recording is whole; ValueError for other ids.
    """
    source, seen = FrameFolder(folder), {}
    for number in sorted({frame_of(max(0.0, time), video_id) for times in segments for time in times}):
        seen[number] = resized(source.read(number), size)
    source.report(len(seen), counts)
    empty = np.zeros((0, 0, 0, 3), np.uint8)
    return [
        np.stack([seen[frame_of(max(0.0, time), video_id)] for time in times]) if len(times) else empty
        for times in segments
    ]


def write_picture(folder: Path, number: int, picture: np.ndarray, quality: int = 95) -> Path:
    """Write picture `number`, whole or not at all. Shapes: uint8 RGB (H, W, 3) or grey (H, W)."""
    import cv2

    picture = picture[..., ::-1] if picture.ndim == 3 else picture
    done, content = cv2.imencode(".jpg", np.ascontiguousarray(picture), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise MediaError(f"{folder}: picture {number} of shape {picture.shape} could not be encoded")
    path = folder / PICTURE.format(number)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        partial.write_bytes(content.tobytes())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _no_folder(folder: Path) -> str:
    archive = folder.with_name(folder.name + ".tar")
    if archive.is_file():
        return (
            f"no pictures at {folder}: unpack {archive.name} there (mkdir {folder.name}; tar -xf ... -C {folder.name})"
        )
    return f"no pictures at {folder}"
