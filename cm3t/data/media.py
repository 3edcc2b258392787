"""Read pictures and sound from recordings by time.

Times are seconds from the first picture of the recording. Frame numbers are never used: recordings of one
data set differ in frame rate, and decoders disagree on how many frames a file has.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path

import av
import numpy as np

from cm3t.data.signals import dense_flow, log_mel, mel_filters

__all__ = [
    "ClampWarning",
    "MediaError",
    "dense_flow",
    "duration_of",
    "frame_rate",
    "log_mel",
    "mel_filters",
    "read_frames",
    "read_segments",
    "read_sound",
    "resized",
]

EPSILON = 1e-6  # seconds: "0.3" asked of a 10 fps file means frame 3, however the float was rounded
TOLERANCE = 1.0  # seconds that a file may end before its declared end; more means that it was cut off
GAP = 0.04  # seconds of sound that may be missing before they count; stamps of sound without a gap are rounded by 1 ms
THREADED = 512 * 512  # pixels above which a picture is decoded on several threads; below, one is faster


class MediaError(RuntimeError):
    """A recording that cannot be read: the message names the file, what is wrong and the remedy."""


class ClampWarning(UserWarning):
    """Some times lie outside the recording, and its nearest picture was given instead."""


def read_frames(
    path: str | Path,
    times: Sequence[float],
    size: int | tuple[int, int] | None = None,
    *,
    counts: Counter | None = None,
) -> np.ndarray:
    """Pictures of one recording at given times.

    Each is the last picture shown at or before its time. A time outside the recording gets the nearest picture
    that exists, never a black one: it is counted in `counts["clamped"]` and warned of.

    Shapes: times (T,) seconds, in any order -> uint8 RGB (T, H, W, 3).
    size: None or the stored size keeps the decoder's pixels; an int is a square (short side scaled, centre
        kept); a pair (H, W) scales both sides.
    Errors: FileNotFoundError; MediaError for a file that is cut off, unreadable or without pictures.
    """
    return read_segments(path, [times], size, counts=counts)[0]


def read_segments(
    path: str | Path,
    segments: Sequence[Sequence[float]],
    size: int | tuple[int, int] | None = None,
    *,
    counts: Counter | None = None,
) -> list[np.ndarray]:
    """Pictures of many segments of one recording, in one pass over the file; segments may overlap, in any order.

    The pass only moves forward: it seeks where a key frame lies between here and the next time, else it decodes.

    Shapes: segments n x (T,) seconds -> n arrays, uint8 RGB (T, H, W, 3).
    `size`, `counts` and errors: as `read_frames`.
    """
    places = sorted((float(time), i, j) for i, times in enumerate(segments) for j, time in enumerate(times))
    times = [time for time, _, _ in places]
    if not np.isfinite(times).all():
        raise ValueError(f"{path}: a time to read at is not finite")
    found: list[list] = [[None] * len(times) for times in segments]
    tally: Counter = Counter()
    with _opened(path) as container:
        stream = _video_stream(container, path)
        to_rgb = av.video.reformatter.VideoReformatter()  # one for the file: it keeps its conversion tables
        last, picture = None, None
        for (_, i, j), frame in zip(places, _walk(container, stream, times, tally, path), strict=True):
            if frame is not last:
                rgb = to_rgb.reformat(frame, format="rgb24", threads=1)  # its default starts a pool for every frame
                last, picture = frame, resized(rgb.to_ndarray(), size)
            found[i][j] = picture
    _report(tally, len(places), path)
    if counts is not None:
        counts.update(tally)
    return [np.stack(pictures) if pictures else np.zeros((0, 0, 0, 3), np.uint8) for pictures in found]


def duration_of(path: str | Path) -> float:
    """Seconds of picture that the file declares; nothing is decoded. Errors: as `read_frames`."""
    with _opened(path) as container:
        stream = _video_stream(container, path)
        return float(_declared(container, stream) or 0.0)


def frame_rate(path: str | Path) -> float:
    """Pictures a second, on average, as the file declares; nothing is decoded. Errors: as `read_frames`."""
    with _opened(path) as container:
        stream = _video_stream(container, path)
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise MediaError(f"{path}: the file does not say how many pictures a second it holds; encode it again")
        return float(rate)


def _walk(container, stream, times: list[float], tally: Counter, path) -> Iterator:
    """The frame shown at each of the sorted times."""
    base = float(stream.time_base)
    zero = stream.start_time or 0
    frames, here, ahead, ended = container.decode(stream), None, None, False
    for time in times:
        tick = zero + int((time + EPSILON) // base)
        position = ahead.pts if ahead is not None else None if here is None else here.pts
        key = _key_before(stream, tick)
        if not ended and key is not None and key > (zero if position is None else position):
            here, (frames, ahead) = None, _seek(container, stream, tick)
        while not ended and (ahead is None or ahead.pts <= tick):
            here, ahead = ahead or here, _next(frames, tally)
            ended = ahead is None
        if here is None and ahead is None:
            raise MediaError(
                f"{path}: no picture could be decoded: the file is cut off or damaged; "
                "copy or download it again and compare its checksum"
            )
        end = (here.pts - zero) * base + _shown(here, stream) if ended else np.inf
        if time > end + EPSILON:
            _check_complete(container, stream, end, time, path)
        tally["clamped"] += not -EPSILON <= time <= end + EPSILON
        yield here if here is not None else ahead


def _shown(frame, stream) -> float:
    """Seconds for which the frame is shown."""
    if frame.duration:
        return float(frame.duration * stream.time_base)
    return 1.0 / float(stream.average_rate) if stream.average_rate else 0.0


def _next(frames: Iterator, tally: Counter):
    """The next frame that has a time, or None at the end."""
    frame = next((f for f in frames if f.pts is not None), None)
    tally["corrupt"] += bool(frame is not None and frame.is_corrupt)
    return frame


def _key_before(stream, tick: int) -> int | None:
    """Time stamp of the last key frame shown at or before the tick, from the file's index if it has one."""
    entries = stream.index_entries
    if not len(entries):
        return None
    # the index holds decoding times, which run ahead of the times of showing
    reorder = max(0, (stream.start_time or 0) - entries[0].timestamp)
    place = entries.search_timestamp(tick - reorder, backward=True)
    return entries[place].timestamp + reorder if place is not None and place >= 0 else None


def _seek(container, stream, tick: int):
    """Frames from the key frame at or before the tick: the iterator and its first frame."""
    back, second = 0, int(1 / stream.time_base)
    while True:
        container.seek(max(tick - back, 0), stream=stream, backward=True)
        frames = container.decode(stream)
        ahead = next((f for f in frames if f.pts is not None), None)
        if ahead is None or ahead.pts <= tick or back >= tick:  # else the container landed late: go further back
            return frames, ahead
        back = 2 * back + second


def _declared(container, stream) -> float | None:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _check_complete(container, stream, end: float, time: float, path) -> None:
    declared = _declared(container, stream)
    if declared is not None and declared - end > TOLERANCE and time - end > TOLERANCE:
        raise MediaError(
            f"{path}: pictures stop at {end:.2f} s of {declared:.2f} s: the file is cut off; "
            "copy or download it again and compare its checksum"
        )


def _report(tally: Counter, asked: int, path) -> None:
    if tally["clamped"]:
        warnings.warn(
            f"{path}: {tally['clamped']} of {asked} times lie outside the recording; its nearest picture was used",
            ClampWarning,
            stacklevel=3,
        )
    if tally["corrupt"]:
        warnings.warn(f"{path}: {tally['corrupt']} frames are damaged; compare the file's checksum", stacklevel=3)


@contextmanager
def _opened(path: str | Path):
    """An open container; every failure inside leaves as a MediaError that names the file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no recording at {path}")
    try:
        with av.open(str(path)) as container:
            yield container
    except av.FFmpegError as error:
        raise MediaError(
            f"{path}: cannot be read ({error.strerror}): it is cut off, damaged or no video; "
            "copy or download it again and compare its checksum"
        ) from error


def _video_stream(container, path):
    if not container.streams.video:
        raise MediaError(
            f"{path}: holds no pictures, only {[s.type for s in container.streams]}: it is cut off "
            "or the wrong file; copy or download it again"
        )
    stream = container.streams.video[0]
    entries, bytes_here = stream.index_entries, Path(path).stat().st_size
    if len(entries) and entries[-1].pos + entries[-1].size > bytes_here:
        raise MediaError(
            f"{path}: the file is cut off at {bytes_here} bytes; copy or download it again and compare its checksum"
        )
    context = stream.codec_context
    stream.thread_type = "AUTO" if context.width * context.height > THREADED else "NONE"
    return stream


def resized(picture: np.ndarray, size: int | tuple[int, int] | None) -> np.ndarray:
    """(H, W, c) -> the asked size: area average if it shrinks, bilinear if it grows, untouched if equal.

    size: None keeps it; an int is a square (short side scaled, centre kept); a pair (H, W) scales both sides.
    """
    height, width = picture.shape[:2]
    if size is None or size == (height, width) or size == height == width:
        return picture
    import cv2

    if isinstance(size, int):
        scale = size / min(height, width)
        inner = (max(size, round(height * scale)), max(size, round(width * scale)))
    else:
        inner = tuple(size)
    how = cv2.INTER_AREA if inner[0] <= height and inner[1] <= width else cv2.INTER_LINEAR
    picture = cv2.resize(picture, inner[::-1], interpolation=how)
    if isinstance(size, int):
        top, left = (inner[0] - size) // 2, (inner[1] - size) // 2
        picture = picture[top : top + size, left : left + size]
    return np.ascontiguousarray(picture)


def read_sound(
    path: str | Path, start: float, stop: float, rate: int, *, counts: Counter | None = None
) -> np.ndarray | None:
    """Mono sound of a segment, or None where the recording has no sound track, or a track that does not reach it.

    Shapes: start, stop in seconds, rate in Hz -> float32 (round((stop - start) * rate),), about -1..1.
    What lies outside the track is silence or, all of it, None: counted as `placed` does (once a call). Where the time
    stamps leave a gap in the track, it is silence too, counted in counts["gaps in sound"] (once a call).
    Errors: ValueError for stop <= start, times without an end and a rate below 1; FileNotFoundError; MediaError.
    """
    if not stop > start:
        raise ValueError(f"{path}: sound from {start} s to {stop} s is empty; stop must come after start")
    if not (isfinite(start) and isfinite(stop) and rate >= 1):
        raise ValueError(
            f"{path}: sound from {start} s to {stop} s at {rate} Hz: give finite seconds, a rate from 1 Hz"
        )
    with _opened(path) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        zero = 0.0
        if container.streams.video and container.streams.video[0].start_time is not None:
            zero = float(container.streams.video[0].start_time * container.streams.video[0].time_base)
        return _decode_sound(container, stream, start + zero, stop + zero, rate, counts)


def has_sound(path: str | Path) -> bool:
    """Has the recording a sound track? Errors: FileNotFoundError; MediaError."""
    with _opened(path) as container:
        return bool(container.streams.audio)


def _decode_sound(container, stream, start: float, stop: float, rate: int, counts: Counter | None) -> np.ndarray | None:
    preroll = 0.25  # seconds: a lossy codec and the resampler need some past before they are exact
    length = round((stop - start) * rate)
    container.seek(max(0, int((start - preroll) / stream.time_base)), stream=stream, backward=True)
    parts = [(round((at - start) * rate), s) for at, s in _stretches(container.decode(stream), rate, stop + preroll)]
    parts = [(offset, sound) for offset, sound in parts if -len(sound) < offset < length]
    first, end = (parts[0][0], parts[-1][0] + len(parts[-1][1])) if parts else (0, 0)
    whole = np.zeros(end - first, np.float32)
    for offset, sound in parts:
        whole[offset - first :][: len(sound)] = sound
    if counts is not None and len(parts) > 1:
        counts["gaps in sound"] += 1
    return placed(whole, first, length, rate // 50, counts)


def _stretches(frames: Iterator, rate: int, stop: float) -> list[tuple[float, np.ndarray]]:
    """What is whole of a sound track, until `stop`: when each stretch begins, in seconds, and its samples at `rate`."""
    found: list[tuple[float, av.AudioResampler, list]] = []
    due = 0.0  # when the next frame comes, if it follows the one before
    for frame in frames:
        time = due if frame.pts is None else float(frame.pts * frame.time_base)
        if not found or time > due + GAP:  # stamps that go back are no gap: those of a codec's last frame may
            found.append((time, av.AudioResampler(format="flt", layout="mono", rate=rate), []))
            due = time
        found[-1][2].extend(found[-1][1].resample(frame))
        due += frame.samples / frame.sample_rate
        if time > stop:
            break
    arrays = ((at, [piece.to_ndarray()[0] for piece in (*pieces, *end.resample(None))]) for at, end, pieces in found)
    return [(at, np.concatenate(pieces or [np.zeros(0, np.float32)])) for at, pieces in arrays]


def placed(
    sound: np.ndarray, offset: int, length: int, slack: int = 0, counts: Counter | None = None
) -> np.ndarray | None:
    """A window of `length` samples with the sound at `offset` in it, and silence where the sound does not reach.

    More than `slack` samples of silence are counted in `counts["padded sound"]`, a window without any of the sound, for
    which there is None, in `counts["no sound there"]`.
    Shapes: sound (S,) float32, offset of either sign -> float32 (length,).
    Choice: a window that the sound does not reach lacks the modality, as one of a recording without a track does:
    silence would be an observation, and nobody made it.
    """
    tally, wave = Counter() if counts is None else counts, np.zeros(length, np.float32)
    low, high = max(0, offset), min(length, offset + len(sound))
    if high <= low:
        tally["no sound there"] += 1
        return None
    wave[low:high] = sound[low - offset : high - offset]
    tally["padded sound"] += length - (high - low) > slack
    return wave
