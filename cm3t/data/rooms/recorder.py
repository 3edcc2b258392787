"""Write a recording: H.264 video and an optional mono sound track in one MP4, the same bytes every time.

x264 runs on one thread and without AVX-512, and the container is written bit-exactly (no dates, no library version), so
equal frames and sound give an equal file with one PyAV build.
"""

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SOUND_CODECS = {"opus": "libopus", "aac": "aac"}
TINY_PICTURES = "psy=0:ref=8:bframes=6:b-adapt=2:me=umh:subme=9:trellis=2"  # a fifth smaller at equal PSNR (96 px)
# x264's AVX-512 routines of the lookahead read memory that nobody wrote: a file in a hundred differs from run to run.
# SSSE3 is in every x86-64 processor since 2008, as fast at these sizes, and gives the bytes that AVX2 gives.
INSTRUCTIONS = "asm=SSE2,SSSE3"
OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


class RecordingError(ValueError):
    """A recording that cannot be written: what was wrong with frames or sound, and the remedy."""


def write_recording(
    path: str | os.PathLike,
    frames: Iterable[np.ndarray],
    fps: float,
    *,
    sound: np.ndarray | None = None,
    rate: int = 16000,
    crf: int = 23,
    gop: int = 16,
    preset: str = "slow",
    sound_codec: str = "opus",
    sound_bitrate: int = 12000,
) -> int:
    """Write ``frames`` (each uint8 (H, W, 3), H and W even) and ``sound`` (float32 (S,) in [-1, 1]) to ``path``.

    ``frames`` may be a generator: one frame is held at a time. ``gop`` is the distance of key frames (short: cheap
    seeks; long: small files). The file appears under its name only when it is complete. Returns the frame count.
    Raises RecordingError for no frames, odd sides, frames that differ in shape or type, and sound that is not (S,).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.mp4")
    try:
        count = _write(partial, frames, fps, sound, rate, crf, gop, preset, sound_codec, sound_bitrate)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def write_sound(path: str | os.PathLike, sound: np.ndarray, *, rate: int = 16000, bitrate: int = 12000) -> None:
    """Write ``sound`` (float32 (S,) in [-1, 1]) alone, as Opus in an Ogg file. Errors: RecordingError."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.opus")
    try:
        with av.open(str(partial), "w", format="ogg", options={"fflags": "+bitexact"}) as container:
            track = _sound_stream(container, sound, rate, "opus", bitrate)
            _encode_sound(container, track, sound, 0, rate)
            container.mux(track.encode(None))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _write(path, frames, fps, sound, rate, crf, gop, preset, sound_codec, sound_bitrate) -> int:
    stream_of_frames, fps = iter(frames), Fraction(fps).limit_denominator(1001)
    first = next(stream_of_frames, None)
    if first is None:
        raise RecordingError(f"{path.name}: no frames; a recording needs at least one uint8 (H, W, 3) frame")
    _check_frame(first, first.shape)
    with av.open(str(path), "w", options={"fflags": "+bitexact", "movflags": "+faststart"}) as container:
        video = _video_stream(container, first.shape, fps, crf, gop, preset)
        track = None if sound is None else _sound_stream(container, sound, rate, sound_codec, sound_bitrate)
        heard, step = 0, rate / float(fps)
        count = 0
        for frame in _chain(first, stream_of_frames):
            _check_frame(frame, first.shape)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = count, 1 / fps
            container.mux(video.encode(picture))
            count += 1
            if track is not None:  # interleave: the sound up to the end of this frame
                upto = min(len(sound), round(count * step))
                _encode_sound(container, track, sound[heard:upto], heard, rate)
                heard = upto
        container.mux(video.encode(None))
        if track is not None:
            _encode_sound(container, track, sound[heard:], heard, rate)
            container.mux(track.encode(None))
    return count


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


def _check_frame(frame: np.ndarray, shape: tuple[int, ...]) -> None:
    right = frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3
    if not right or frame.shape[0] % 2 or frame.shape[1] % 2:
        raise RecordingError(f"frame {frame.shape} {frame.dtype}: need uint8 (H, W, 3) with even H and W (yuv420p)")
    if frame.shape != shape:
        raise RecordingError(f"frame {frame.shape} follows frames of {shape}: all frames need one shape")


def _video_stream(container, shape, fps, crf, gop, preset):
    stream = container.add_stream("libx264", rate=fps)
    stream.height, stream.width, stream.pix_fmt = shape[0], shape[1], "yuv420p"
    stream.codec_context.gop_size = gop
    stream.codec_context.thread_count = 1
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    pictures = f"keyint={gop}:min-keyint={gop}:scenecut=0:{TINY_PICTURES}"
    stream.options = {
        "crf": str(crf),
        "preset": preset,
        "x264-params": f"threads=1:lookahead-threads=1:{INSTRUCTIONS}:{pictures}",
    }
    return stream


def _sound_stream(container, sound, rate, codec, bitrate):
    if sound.ndim != 1 or not np.issubdtype(sound.dtype, np.floating):
        raise RecordingError(f"sound {sound.shape} {sound.dtype}: need mono float (S,) in [-1, 1]")
    if codec not in SOUND_CODECS:
        raise RecordingError(f"sound codec {codec!r}: choose one of {', '.join(SOUND_CODECS)}")
    if codec == "opus" and rate not in OPUS_RATES:
        raise RecordingError(f"Opus cannot hold {rate} Hz: resample to one of {OPUS_RATES} or use sound_codec='aac'")
    stream = container.add_stream(SOUND_CODECS[codec], rate=rate)
    stream.layout, stream.format = "mono", "s16" if codec == "opus" else "fltp"
    stream.bit_rate = bitrate
    stream.codec_context.thread_count = 1
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    if codec == "opus":
        stream.options = {"vbr": "on", "application": "audio", "frame_duration": "60", "compression_level": "10"}
    return stream


def _encode_sound(container, stream, chunk: np.ndarray, start: int, rate: int) -> None:
    """Encode ``chunk`` (S,), whose first sample is number ``start`` of the track; the muxer gets what is complete."""
    if not len(chunk):
        return
    wave = np.clip(np.asarray(chunk, np.float32), -1, 1)[None]
    if stream.format.name == "s16":
        frame = av.AudioFrame.from_ndarray(np.round(wave * 32767).astype(np.int16), format="s16", layout="mono")
    else:
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
    frame.rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
    container.mux(stream.encode(frame))
