"""Optical flow as EPIC-KITCHENS-100 ships it: pairs of 8-bit JPEGs, u to the right and v down. Read, and written.

    ROOT/PXX/flow_frames/PXX_YY/{u,v}/frame_0000000001.jpg, ...

File k holds the motion from picture (k - 1) * stride + 1 to the picture `dilation` further on, clipped to +-bound
pixels. The two halves of the data set differ in all three numbers (`flow_format`), so equal grey values mean
different motions in them. ``python -m cm3t.data.flow_files ROOT`` writes the files of a data set that has none.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from cm3t.data.epic_annotations import VIDEO, frame_of
from cm3t.data.frames import FrameFolder, write_picture
from cm3t.data.media import duration_of, read_frames, resized
from cm3t.data.side import FLOW_STEP, cell_means
from cm3t.data.signals import dense_flow

SCALES = ("unified", "stored")
SIDE = 256  # pixels of the short side of the pictures between which the official flow was computed
CHUNK = 64  # flow files made from pictures held in memory together


@dataclass(frozen=True)
class FlowFormat:
    """How one half of the data set holds its flow.

    bound in pixels, at the grey values 0 and 255; stride in pictures from file to file; dilation in pictures from the
    first to the second of a flow; fps of the extracted pictures.
    """

    bound: float
    stride: int
    dilation: int
    fps: int

    def index(self, frame: int) -> int:
        """Number of the flow file that starts at picture `frame` (both from 1), or just before it."""
        return (frame - 1) // self.stride + 1

    def count(self, frames: int) -> int:
        """Flow files of so many pictures: ceil((frames - dilation) / stride), fewer than there are pictures."""
        return max(0, -(-(frames - self.dilation) // self.stride))

    @property
    def chain(self) -> int:
        """Flows, end to end, in 0.1 s."""
        return round(FLOW_STEP * self.fps / self.dilation)


EPIC_55 = FlowFormat(bound=25, stride=2, dilation=3, fps=60)
EXTENSION = FlowFormat(bound=8, stride=1, dilation=1, fps=50)


def flow_format(video_id: str) -> FlowFormat:
    """Of PXX_YY (recorded for EPIC-55) or PXX_1YY (the extension). Errors: ValueError for an id of another form."""
    if VIDEO.fullmatch(video_id) is None:
        raise ValueError(f"{video_id!r} is no video id; these look like P01_01 or P01_101")
    return EPIC_55 if len(video_id) == 6 else EXTENSION


def encode_flow(flow: np.ndarray, bound: float) -> np.ndarray:
    """Pixels of motion to grey values: round(255 * (x + bound) / (2 * bound)), clipped. Shapes: any -> uint8.

    Errors: ValueError for a bound that is not positive, and for NaN, which no grey value stands for.
    """
    if not bound > 0 or np.isnan(flow).any():
        raise ValueError(
            f"flow for grey values needs bound > 0 and no NaN; got bound={bound}, {np.isnan(flow).sum()} NaN"
        )
    return np.clip(np.rint(255.0 * (np.asarray(flow, np.float64) + bound) / (2.0 * bound)), 0, 255).astype(np.uint8)


def decode_flow(pixels: np.ndarray, bound: float) -> np.ndarray:
    """Grey values to pixels of motion: x = value / 255 * 2 * bound - bound. Shapes: uint8 any -> float32.

    No grey value means exactly no motion: 128, which stands for it, gives bound / 255.
    """
    return (np.asarray(pixels, np.float32) / 255.0 * (2.0 * bound) - bound).astype(np.float32)


def flow_file_tokens(
    folder: str | Path,
    video_id: str,
    times: Sequence[float],
    size: int | tuple[int, int] | None = None,
    *,
    scale: str = "unified",
    counts: Counter | None = None,
) -> Tensor:
    """Motion over the 0.1 s before each time, averaged over 8 x 8 cells: as `side.flow_tokens`, read from files.

    scale: "unified" adds up the flows of these 0.1 s (2 of EPIC-55, 5 of the extension), so that both halves are in
    pixels per 0.1 s, of the picture at `size`. "stored" gives the mean of the grey values, -1..1 between the bounds.
    Shapes: times (T,) seconds -> float32 (T, 128), the motion to the right first, then down.
    A file that is missing or cut off gives way to the nearest whole one, counted and warned of.
    Errors: FileNotFoundError; MediaError where no file is whole; ValueError for another scale or id.
    Choice: most public loaders read the grey values of both halves alike, though they mean different speeds.
    """
    if scale not in SCALES:
        raise ValueError(f"unknown flow scale {scale!r}; known are {', '.join(SCALES)}")
    form, planes = flow_format(video_id), [FrameFolder(Path(folder) / name) for name in ("u", "v")]
    first = [frame_of(max(0.0, time - FLOW_STEP), video_id) for time in times]
    chains = [[form.index(frame + i * form.dilation) for i in range(form.chain)] for frame in first]
    wanted = sorted({number for chain in chains for number in chain})
    seen = {n: np.stack([plane.read(n, grey=True) for plane in planes], axis=-1) for n in wanted}
    for plane in planes:
        plane.report(len(wanted), counts)
    flows = []
    for chain in chains:
        pixels = np.stack([seen[number] for number in chain])
        if scale == "unified":
            moved = decode_flow(pixels, form.bound).sum(axis=0)
            flows.append(_in_pixels_of(moved, size))
        else:
            flows.append(resized(decode_flow(pixels, 1.0).mean(axis=0), size))
    return cell_means(np.stack(flows))


def _in_pixels_of(flow: np.ndarray, size: int | tuple[int, int] | None) -> np.ndarray:
    """Flow (H, W, 2) of a picture that is brought to `size`: its place and its length both change."""
    height, width = flow.shape[:2]
    if size is None:
        return flow
    down, right = (size / min(height, width),) * 2 if isinstance(size, int) else (size[0] / height, size[1] / width)
    return resized(flow, size) * np.array([right, down], np.float32)


def write_flow(
    frames: Callable[[Sequence[int]], np.ndarray],
    count: int,
    folder: str | Path,
    form: FlowFormat,
    *,
    method: str = "dis",
    quality: int = 95,
) -> int:
    """Write the flow files of one recording; those that are there stay. Gives the number of files now there.

    frames: pictures by their numbers from 1, (numbers) -> uint8 RGB (n, H, W, 3), of which there are `count`.
    method: as `signals.dense_flow`. Errors: those of `frames`, OSError; ValueError where count is too small.
    """
    total, folder = form.count(count), Path(folder)
    if not total:
        raise ValueError(f"{folder}: {count} pictures have no flow; {form.dilation + 1} are the fewest")
    for name in ("u", "v"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    # a file that is there is whole, since it is written so; the second plane is written last
    there = set(FrameFolder(folder / "u").numbers) & set(FrameFolder(folder / "v").numbers)
    todo = [number for number in range(1, total + 1) if number not in there]
    for start in range(0, len(todo), CHUNK):
        chunk = todo[start : start + CHUNK]
        starts = [(number - 1) * form.stride + 1 for number in chunk]
        needed = sorted({frame for first in starts for frame in (first, first + form.dilation)})
        pictures = dict(zip(needed, frames(needed), strict=True))
        for number, first in zip(chunk, starts, strict=True):
            pair = np.stack([pictures[first], pictures[first + form.dilation]])
            grey = encode_flow(dense_flow(pair, method)[0], form.bound)
            for plane, name in enumerate(("u", "v")):
                write_picture(folder / name, number, grey[..., plane], quality)
    return total


def write_flow_of(root: str | Path, video_id: str, *, method: str = "dis", size: int | None = SIDE) -> int:
    """Write ROOT/PXX/flow_frames/PXX_YY from its extracted frames, or else from its MP4; gives the number of files.

    size: the short side to which pictures are scaled first, keeping their form; None keeps theirs.
    Errors: FileNotFoundError where there is neither; MediaError; ValueError for an id of another form.
    """
    form, home = flow_format(video_id), Path(root) / video_id[:3]
    extracted = home / "rgb_frames" / video_id
    if extracted.is_dir():
        source = FrameFolder(extracted)
        count = max(source.numbers, default=0)
        frames = lambda numbers: np.stack([_short(source.read(n), size) for n in numbers])  # noqa: E731
    else:
        video = next(iter(sorted((home / "videos").glob(f"{video_id}.[mM][pP]4"))), home / "videos" / f"{video_id}.MP4")
        if not video.is_file():
            raise FileNotFoundError(f"neither {extracted} nor {video}: there is nothing to compute flow from")
        count = int(duration_of(video) * form.fps)
        # picture k of a re-sampled recording is the one shown at (k - 1) / fps
        frames = lambda numbers: np.stack(  # noqa: E731
            [_short(p, size) for p in read_frames(video, [(n - 1) / form.fps for n in numbers])]
        )
    return write_flow(frames, count, home / "flow_frames" / video_id, form, method=method)


def _short(picture: np.ndarray, size: int | None) -> np.ndarray:
    """The picture with its short side at `size`, nothing cut away."""
    height, width = picture.shape[:2]
    scale = 1.0 if size is None else size / min(height, width)
    return resized(picture, (round(height * scale), round(width * scale)))


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: write the flow files of the recordings of a data set in EPIC's layout."""
    parser = argparse.ArgumentParser(prog="python -m cm3t.data.flow_files", description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="folder of PXX/videos or PXX/rgb_frames")
    parser.add_argument("--videos", help="recordings, as P01_01,P01_101; all of them unless given")
    parser.add_argument("--method", default="dis", choices=("dis", "tvl1"), help="tvl1 is what the official files used")
    parser.add_argument("--size", type=int, default=SIDE, help="short side of the pictures; 0 keeps theirs")
    args = parser.parse_args(argv)
    paths = [*args.root.glob("P*/videos/*.[mM][pP]4"), *args.root.glob("P*/rgb_frames/P*")]
    names = {path.stem for path in paths if VIDEO.fullmatch(path.stem)}
    videos = re.split(r"[ ,]+", args.videos.strip()) if args.videos else sorted(names)
    failed = 0
    for i, video in enumerate(videos):
        try:
            count = write_flow_of(args.root, video, method=args.method, size=args.size or None)
            print(f"{i + 1}/{len(videos)} {video}: {count} pairs")
        except (OSError, ValueError, RuntimeError) as error:
            failed += 1
            print(f"{i + 1}/{len(videos)} {video}: {error}", file=sys.stderr)
    if not videos:
        print(
            f"no recordings under {args.root}: expected P01/videos/P01_01.MP4 or P01/rgb_frames/P01_01", file=sys.stderr
        )
    return int(bool(failed) or not videos)


if __name__ == "__main__":
    sys.exit(main())
