"""Tokens of the side modalities of one segment: sound as a spectrogram, motion as averaged optical flow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from cm3t.coerce import known_options
from cm3t.data.hdf5 import array_of, open_hdf5
from cm3t.data.media import frame_rate, placed, read_segments, read_sound
from cm3t.data.signals import dense_flow, log_mel

SOUND = {"rate": 24000, "seconds": 1.999}  # of 24 kHz sound, 1.999 s give 400 x 128
# For small models of the embedded benchmark, whose sound holds nothing above 8 kHz: 2 s give 101 x 64
SMALL_SOUND = {"rate": 16000, "seconds": 2.0, "n_fft": 512, "win": 400, "hop": 320, "mels": 64}
ARCHIVE_RATE = 24000  # Hz, of EPIC-KITCHENS-100_audio.hdf5
FLOW_STEP = 0.1  # seconds that a flow stands for
FLOW_CELLS = 8  # a side


def sound_settings(sound: Mapping[str, float] | Sequence[tuple] | None) -> dict[str, float]:
    """What is given of seconds and of the arguments of `log_mel`.

    Errors: ValueError for another name, with the nearest, and for what is no positive number.
    """
    given = known_options("sound", sound, ("seconds", *log_mel.__kwdefaults__))
    for name, value in given.items():
        if not isinstance(value, Real) or not value > 0:
            raise ValueError(f"sound: {name}={value!r} must be a positive number")
    return given


def sound_options(sound: Mapping[str, float] | str | None = None) -> dict[str, float]:
    """Settings of `audio_tokens`: None or "epic" is `SOUND`, "small" is `SMALL_SOUND`, a mapping changes `SOUND`.

    Errors: ValueError for another word; as `sound_settings`.
    """
    if isinstance(sound, str):
        presets = {"epic": SOUND, "small": SMALL_SOUND}
        if sound not in presets:
            raise ValueError(f"unknown sound settings {sound!r}; known are {', '.join(presets)}, or give a mapping")
        return dict(presets[sound])
    return SOUND | sound_settings(sound)


def audio_tokens(
    path: str | Path,
    start: float,
    stop: float,
    sound: Mapping[str, float] | str | None = None,
    *,
    counts: Counter | None = None,
) -> Tensor | None:
    """Log-mel spectrogram about the middle of a segment, or None where the recording has no sound there.

    Shapes: start, stop in seconds -> float32 (L, mels); L depends on `sound` alone, not on the segment's length.
    sound: seconds (the length), rate and any other argument of `log_mel`; or a word of `sound_options`.
    Where the track reaches a part of it, the rest is silence, counted in counts["padded sound"]; where it reaches
    nothing of it, there are no tokens, counted in counts["no sound there"]. Errors: as `read_sound`.
    """
    options = sound_options(sound)
    window = _window(start, stop, options.pop("seconds"))
    wave = read_sound(path, *window, options["rate"], counts=counts)
    return None if wave is None else log_mel(wave, **options)


def archived_audio_tokens(
    path: str | Path,
    video_id: str,
    start: float,
    stop: float,
    sound: Mapping[str, float] | str | None = None,
    *,
    counts: Counter | None = None,
) -> Tensor | None:
    """As `audio_tokens`, out of EPIC-KITCHENS-100_audio.hdf5: one dataset of 24 kHz samples for each video id.

    None, too, where the archive does not hold the recording. Errors: ImportError without h5py; FileNotFoundError;
    MediaError for a file that is no such archive.
    """
    options = sound_options(sound)
    seconds = options.pop("seconds")
    low, length = round(_window(start, stop, seconds)[0] * ARCHIVE_RATE), round(seconds * ARCHIVE_RATE)
    with open_hdf5(path) as file:
        samples = array_of(file, video_id, path)
        if samples is None:
            return None
        part = samples[max(0, low) : max(0, low + length)]
    whole = np.issubdtype(part.dtype, np.integer)  # as the samples of a WAV file, or already -1..1
    part = part.astype(np.float32) / (np.iinfo(part.dtype).max + 1 if whole else 1)
    wave = placed(part.ravel(), max(0, low) - low, length, ARCHIVE_RATE // 50, counts)
    if wave is None:
        return None
    wave = _resampled(wave, ARCHIVE_RATE, round(options["rate"]))
    return log_mel(wave[: round(seconds * options["rate"])], **options)


def _window(start: float, stop: float, seconds: float) -> tuple[float, float]:
    """So many seconds about the middle of a segment."""
    middle = (start + stop) / 2
    return middle - seconds / 2, middle + seconds / 2


def _resampled(wave: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    if rate == wanted:
        return wave
    from scipy.signal import resample_poly

    return resample_poly(wave, wanted, rate).astype(np.float32)


def flow_tokens(
    path: str | Path,
    times: Sequence[float],
    size: int | tuple[int, int] | None = None,
    *,
    counts: Counter | None = None,
) -> Tensor:
    """Motion over the 0.1 s before each time, averaged over 8 x 8 cells of the picture.

    Shapes: times (T,) seconds -> float32 (T, 128) in pixels, the cells of the motion to the right first, then down.
    Errors: as `media.frame_rate` and `media.read_frames`.
    Choice: the paper feeds a flow network; a mean over cells keeps what direction tells and needs no weights.
    """
    return motion_tokens(lambda pairs: read_segments(path, pairs, size, counts=counts), times, frame_rate(path))


def motion_tokens(read: Callable[[list], Sequence[np.ndarray]], times: Sequence[float], fps: float) -> Tensor:
    """As `flow_tokens`, of pictures that `read` gives: n pairs of seconds -> n arrays, uint8 RGB (2, H, W, 3).

    fps: how many of them there are in a second. A flow spans the whole pictures nearest to 0.1 s, at least one, so that
    it never compares a picture with itself, and is brought to 0.1 s; before the second picture it looks ahead.
    """
    step = max(1, round(FLOW_STEP * fps)) / fps
    pairs = [(max(time, step) - step, max(time, step)) for time in times]
    return cell_means(np.stack([dense_flow(frames)[0] for frames in read(pairs)])) * (FLOW_STEP / step)


def cell_means(flows: np.ndarray) -> Tensor:
    """Means over 8 x 8 cells of the picture. Shapes: (T, H, W, 2) -> float32 (T, 128), all of u, then all of v."""
    planes = rearrange(torch.from_numpy(np.ascontiguousarray(flows, np.float32)), "t h w c -> t c h w")
    return torch.nn.functional.adaptive_avg_pool2d(planes, FLOW_CELLS).flatten(1)
