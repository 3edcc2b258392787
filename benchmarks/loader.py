"""How fast clips come off the disk: clips a second on one core, and ratios against plain loops of the same work.

    python benchmarks/loader.py [--turns 5] [--publish]

Two kinds of recording: the embedded kitchen's (96 pixels, 8 a second), and an invented one as EPIC-KITCHENS' are
stored for training (456 x 256, 59.94 fps, with sound), also extracted to JPEGs. The plain loop is what one writes first
with PyAV: open, seek, decode to the segment's end, keep the frames nearest to the wanted times. decord takes part where
it is installed. Ours and the reference run in turns in one process and thread, so a busy machine slows both; the ratio
is the median over turns. Above 1, ours is faster.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from cm3t.config import data_dir, records_dir
from cm3t.data import augment
from cm3t.data.epic import EpicKitchens
from cm3t.data.frames import read_frame_files, write_picture
from cm3t.data.media import read_frames, read_segments, resized
from cm3t.data.sampling import frame_times
from cm3t.data.side import audio_tokens
from cm3t.records import provenance, write_json

FRAMES, SEED = 8, 0
Segments = list[tuple[Path, float, float]]


def invented(folder: Path, seconds: int = 12) -> Path:
    """A recording of drifting texture with noise for sound: 456 x 256, 59.94 fps, H.264 and AAC."""
    rng = np.random.default_rng(SEED)
    texture = cv2.GaussianBlur(rng.integers(0, 255, (400, 900, 3), np.uint8), (0, 0), 3.0)
    path, rate = folder / "P01_01.MP4", Fraction(60000, 1001)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "veryfast", "threads": "1"})
        video.width, video.height, video.pix_fmt = 456, 256, "yuv420p"
        audio = container.add_stream("aac", rate=48000, layout="mono")
        for i in range(int(seconds * rate)):
            view = texture[i // 6 : i // 6 + 256, i // 2 : i // 2 + 456]
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(view), format="rgb24")))
        container.mux(video.encode())
        wave = rng.normal(0, 0.1, (1, seconds * 48000)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return path


def extracted(path: Path, seconds: int = 12) -> Path:
    """The recording's pictures as JPEGs, 60 a second."""
    folder = path.parent / "rgb_frames" / path.stem
    folder.mkdir(parents=True)
    for start in range(0, seconds * 60, 60):
        times = [(start + k) / 60 for k in range(60)]
        for k, picture in enumerate(read_frames(path, times)):
            write_picture(folder, start + k + 1, picture, quality=90)
    return folder


def plain(path: Path, start: float, stop: float) -> np.ndarray:
    """The loop one writes first: uint8 RGB (T, H, W, 3)."""
    times, kept = frame_times(start, stop, FRAMES), {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        container.seek(int(start / stream.time_base), stream=stream)
        decoded = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(stream) if f.time <= stop]
        stamps = np.array([stamp for stamp, _ in decoded])
        for i, wanted in enumerate(times):
            kept[i] = decoded[int(np.abs(stamps - wanted).argmin())][1]
    return np.stack([kept[i] for i in range(FRAMES)])


def plain_until(path: Path, start: float, stop: float) -> np.ndarray:
    """The same with two savings: it stops after the last frame, and turns only wanted frames into RGB."""
    times, kept = frame_times(start, stop, FRAMES), []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        container.seek(int(start / stream.time_base), stream=stream)
        last = None
        for frame in container.decode(stream):
            while last is not None and len(kept) < FRAMES and times[len(kept)] < frame.time:
                kept.append(last.to_ndarray(format="rgb24"))
            if len(kept) == FRAMES:
                break
            last = frame
        while len(kept) < FRAMES:
            kept.append(last.to_ndarray(format="rgb24"))
    return np.stack(kept)


def decord_loop() -> Callable | None:
    """decord's batch of frames by index, where decord is installed."""
    try:
        decord = import_module("decord")
    except (ImportError, OSError):
        return None

    def read(path: Path, start: float, stop: float) -> np.ndarray:
        reader = decord.VideoReader(str(path), num_threads=1)
        fps, count = reader.get_avg_fps(), len(reader)
        wanted = [min(count - 1, int(t * fps)) for t in frame_times(start, stop, FRAMES)]
        return reader.get_batch(wanted).asnumpy()

    return read


def full(read: Callable, size: int, generator: torch.Generator) -> Callable:
    """A clip as training takes it: pictures at `size`, augmented, and the log-mel spectrogram of its sound."""

    def clip(path: Path, start: float, stop: float):
        pictures = np.stack([resized(p, size) for p in read(path, start, stop)])
        video = torch.from_numpy(pictures).permute(3, 0, 1, 2)[None]
        return augment(video, generator), audio_tokens(path, start, stop)

    return clip


def ours(path: Path, start: float, stop: float) -> np.ndarray:
    """`media.read_frames` of one clip."""
    return read_frames(path, frame_times(start, stop, FRAMES))


def each(work: Callable, segments: Segments) -> Callable[[], None]:
    """All segments, one after the other."""
    return lambda: [work(*segment) for segment in segments] and None


def together(segments: Segments) -> Callable[[], None]:
    """All segments of every recording in one pass over it, as `decode_all` reads them."""

    def work() -> None:
        for path in {path for path, _, _ in segments}:
            read_segments(path, [frame_times(a, b, FRAMES) for p, a, b in segments if p == path])

    return work


def compare(what: str, against: str, mine: Callable, reference: Callable, clips: int, turns: int) -> dict:
    """Clips a second of both, and the median ratio over turns, each beginning with the other one."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    mine(), reference()  # caches of the file system, tables of filters
    for turn in range(turns):
        for first in (True, False) if turn % 2 else (False, True):
            started = time.perf_counter()
            (mine if first else reference)()
            seconds[first].append(time.perf_counter() - started)
    ratios = [b / a for a, b in zip(seconds[True], seconds[False], strict=True)]
    row = {
        "what": what,
        "against": against,
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
    }
    row |= {"clips_per_second": clips / statistics.median(seconds[True])}
    row |= {"reference_clips_per_second": clips / statistics.median(seconds[False]), "n": turns}
    print(
        f"{what:<44} {row['ratio']:5.2f}  ({row['low']:.2f}-{row['high']:.2f}, n={turns})  "
        f"{row['clips_per_second']:8.1f} clips/s against {row['reference_clips_per_second']:8.1f} of {against}",
        flush=True,
    )
    return row


def comparisons(kind: str, segments: Segments, size: int, turns: int) -> list[dict]:
    """All comparisons on one kind of recording."""
    generator, n = torch.Generator().manual_seed(SEED), len(segments)
    rows = [
        compare(f"{kind}: decode", "plain PyAV", each(ours, segments), each(plain, segments), n, turns),
        compare(f"{kind}: decode", "plain PyAV, stopping", each(ours, segments), each(plain_until, segments), n, turns),
        compare(
            f"{kind}: decode, one pass a recording", "plain PyAV", together(segments), each(plain, segments), n, turns
        ),
        compare(
            f"{kind}: decode, augment, log-mel",
            "plain PyAV and the same",
            each(full(ours, size, generator), segments),
            each(full(plain, size, generator), segments),
            n,
            turns,
        ),
    ]
    if decord := decord_loop():
        rows.append(compare(f"{kind}: decode", "decord", each(ours, segments), each(decord, segments), n, turns))
    return rows


def kitchen(clips: int) -> Segments:
    """Validation segments of the embedded kitchen."""
    data = EpicKitchens(data_dir() / "rooms-kitchen", split="validation", frames=FRAMES, limit=clips, seed=SEED)
    return [(data.video_path(row.video_id), row.start, row.stop) for row in data.annotations.itertuples()]


def main() -> int:
    """Print the ratios; with --publish write them to results/records/bench/loader.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5, help="pairs of measurements (%(default)s)")
    parser.add_argument("--clips", type=int, default=12, help="clips a measurement (%(default)s)")
    parser.add_argument("--publish", action="store_true", help="write results/records/bench/loader.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore")
    decord = "" if decord_loop() else "; decord is not installed here, so there is no comparison with it"
    print(f"the reference's time over ours: median (range, n turns); above 1, ours is faster{decord}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path, rng = invented(Path(folder)), np.random.default_rng(SEED)
        starts = rng.uniform(0.0, 9.5, args.clips)
        segments = [(path, float(start), float(start) + 2.0) for start in starts]
        rows = comparisons("kitchen 96 px", kitchen(args.clips), 96, args.turns)
        rows += comparisons("456 x 256", segments, 224, args.turns)
        pictures = extracted(path)
        jpegs = each(lambda _, a, b: read_frame_files(pictures, "P01_01", [frame_times(a, b, FRAMES)]), segments)
        rows.append(
            compare("456 x 256: extracted JPEGs", "plain PyAV", jpegs, each(plain, segments), args.clips, args.turns)
        )
    if args.publish:
        about = {"benchmark": "loader", "threads": 1, "frames": FRAMES, "clips": args.clips, "ratios": rows}
        print(write_json(records_dir("bench") / "loader.json", about | {"meta_info": provenance("cpu")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
