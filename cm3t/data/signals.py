"""What is computed from pictures and sound: optical flow and log-mel spectrograms. No files here."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

CHANNELS = 16  # a last axis of sound that is no longer than this, behind a longer one, is of channels and not of time


@lru_cache(maxsize=8)
def mel_filters(rate: int, n_fft: int, mels: int) -> torch.Tensor:
    """Triangular filters on the HTK mel scale, 2595 log10(1 + f / 700), each with peak 1.

    Shapes: float32 (mels, n_fft // 2 + 1). rate in Hz.
    """
    corners = _corners(rate, mels)
    bins = np.linspace(0.0, rate / 2, n_fft // 2 + 1)
    rising = (bins - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - bins) / np.diff(corners)[1:, None]
    return torch.from_numpy(np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32))


def _corners(rate: int, mels: int) -> np.ndarray:
    """(mels + 2,) frequencies in Hz, equally far apart on the mel scale: each band's begin, middle and end."""
    top = 2595.0 * np.log10(1.0 + rate / 2 / 700.0)
    return 700.0 * (10.0 ** (np.linspace(0.0, top, mels + 2) / 2595.0) - 1.0)


def mel_band(hertz: float, *, rate: int, mels: int) -> int:
    """The band, counted from 1, whose middle is nearest to a frequency in Hz."""
    return int(np.abs(_corners(rate, mels)[1:-1] - hertz).argmin()) + 1


def log_mel(
    wave: np.ndarray | torch.Tensor,
    *,
    rate: int = 24000,
    n_fft: int = 2048,
    win: int = 240,
    hop: int = 120,
    mels: int = 128,
    offset: float = 1e-6,
    power: float = 1.0,
) -> torch.Tensor:
    """Log-mel spectrogram: log(mel(|STFT|^power) + offset), Hann window, centred, zero padded at the ends.

    Shapes: wave (S,) or (B, S), from -1 to 1 -> float32 (L, mels) or (B, L, mels) with L = S // hop + 1.
    rate in Hz; win, hop, n_fft in samples.
    Choice: the paper does not say how its spectrograms are made. The defaults (10 ms windows every 5 ms of 24 kHz
    sound, magnitudes) are those that audio models of egocentric kitchens use: 1.999 s gives 400 x 128.
    Errors: ValueError where 0 < hop, 0 < win <= n_fft does not hold, and for a wave that is empty, of whole numbers or
    (samples, channels).
    """
    wave = torch.as_tensor(wave)
    if not wave.ndim or not wave.shape[-1] or not (0 < win <= n_fft and hop > 0):
        got = f"a wave of shape {tuple(wave.shape)}, win={win}, n_fft={n_fft}, hop={hop}"
        raise ValueError(f"log_mel needs at least one sample, 0 < win <= n_fft and 0 < hop; got {got}")
    if not wave.is_floating_point():
        raise ValueError(f"log_mel takes samples from -1 to 1, got {wave.dtype}: divide int16 samples by 32768")
    if wave.ndim > 1 and wave.shape[-1] <= CHANNELS < wave.shape[-2]:
        raise ValueError(
            f"a wave of shape {tuple(wave.shape)} seems to be (samples, channels), log_mel takes (S,) or (B, S): "
            "take the mean of the channels, or transpose it for a spectrogram of each"
        )
    wave = wave.float()
    window = torch.hann_window(win, device=wave.device)
    spectrum = torch.stft(wave, n_fft, hop, win, window, pad_mode="constant", return_complex=True)
    filters = mel_filters(rate, n_fft, mels).to(wave.device)
    magnitude = spectrum.abs() if power == 1.0 else spectrum.abs().pow(power)
    return torch.log(filters @ magnitude + offset).transpose(-1, -2)


METHODS = ("dis", "tvl1")


def dense_flow(frames: np.ndarray, method: str = "dis") -> np.ndarray:
    """Optical flow from each frame to the next: DIS with OpenCV's medium preset, or Dual TV-L1 ("tvl1").

    TV-L1 has the settings of EPIC-KITCHENS' own flow (lambda .15, tau .25, theta .3, 5 scales, 5 warps, 300
    iterations, epsilon .01), and is some forty times slower.
    Shapes: uint8 RGB (T, H, W, 3), T >= 2 -> float32 (T - 1, H, W, 2), (right, down) in pixels of the input.
    Choice: frames with a side below 128 px are enlarged first by a whole factor, and the flow is scaled back. DIS
    matches 8 x 8 patches from a coarse scale down to half size, so on a small frame an object is smaller than one
    patch and takes the background's motion: a 16 px object on a 96 px frame came out 5 times more wrong.
    Errors: ValueError for anything but two or more uint8 RGB frames, or an unknown method; ImportError where OpenCV
    lacks TV-L1.
    """
    import cv2

    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        got = f"{frames.dtype} {frames.shape}"
        raise ValueError(f"flow takes uint8 RGB frames (T, H, W, 3), got {got}: convert and transpose them first")
    if len(frames) < 2:
        raise ValueError(f"flow needs at least two frames, got {len(frames)}")
    solver = _solver(method)
    height, width = frames.shape[1:3]
    factor = -(-128 // min(height, width)) if min(height, width) < 128 else 1
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
    if factor > 1:
        grey = [cv2.resize(g, (width * factor, height * factor), interpolation=cv2.INTER_CUBIC) for g in grey]
    flows = [solver.calc(one, two, None) for one, two in zip(grey[:-1], grey[1:], strict=True)]
    if factor > 1:
        flows = [cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA) / factor for flow in flows]
    return np.stack(flows).astype(np.float32)


def _solver(method: str):
    import cv2

    if method not in METHODS:
        raise ValueError(f"unknown flow method {method!r}; known are {', '.join(METHODS)}")
    if method == "dis":
        return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if not hasattr(getattr(cv2, "optflow", None), "DualTVL1OpticalFlow_create"):
        raise ImportError(
            "this OpenCV has no TV-L1: replace it, pip uninstall opencv-python-headless && "
            'pip install opencv-contrib-python-headless; or take method="dis"'
        )
    return cv2.optflow.DualTVL1OpticalFlow_create(
        tau=0.25, lambda_=0.15, theta=0.3, nscales=5, warps=5, epsilon=0.01, innnerIterations=1, outerIterations=300
    )
