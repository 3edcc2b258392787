"""Sounds of a room, synthesised in numpy: modal impacts, rubbing, running machines, the room. Equal seeds, equal sound.

A recording's sound is a function of its script: what is touched (material), what hits its stop (closing knocks, opening
clicks), which machines run. Parameters of a machine vary a little from home to home (``voice``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Modal impacts: lowest partial in Hz (low, high), ratios of partials, decay of the lowest partial (1/s), brightness.
MATERIALS = {
    "wood": ((140, 260), (1, 2.3, 3.9, 5.4), 28, 0.5),
    "rubber": ((80, 120), (1, 1.9, 2.6), 40, 0.3),
    "plastic": ((420, 700), (1, 1.8, 2.9, 4.2), 55, 0.6),
    "metal": ((700, 1200), (1, 2.76, 5.4, 8.9), 9, 0.8),
    "ceramic": ((1400, 2200), (1, 1.5, 2.4, 3.3), 24, 0.8),
    "switch": ((1800, 2400), (1, 1.7, 2.5), 130, 0.9),
}
# Machines: noise band in Hz (low, high), share of noise, hum partials in Hz with weights, loudness.
MACHINES = {
    "hob": ((2500, 6500), 1.0, (), 0.035),
    "oven": ((60, 500), 0.7, ((96, 0.6), (192, 0.2)), 0.05),
    "fan": ((250, 1600), 0.9, ((148, 0.35), (296, 0.2)), 0.06),
    "microwave": ((100, 700), 0.25, ((100, 0.6), (200, 0.5), (300, 0.35), (500, 0.15)), 0.06),
    "tap": ((900, 7000), 1.0, (), 0.05),
}
BEEP = 2000.0


@dataclass(frozen=True)
class Knock:
    """Something short: ``kind`` is a material, ``rub:<material>``, or ``beep``; ``strength`` 0 to 1."""

    time: float
    kind: str
    strength: float


@dataclass(frozen=True)
class Hum:
    """A machine that runs from ``on`` to ``off`` (seconds)."""

    machine: str
    on: float
    off: float


def impact(material: str, strength: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """One modal impact, float32 (S,): damped partials of the material, detuned a little by ``rng``."""
    (low, high), ratios, decay, bright = MATERIALS[material]
    base = rng.uniform(low, high)
    t = np.arange(int(rate * min(0.6, 5 / decay + 0.05))) / rate
    partials = base * np.array(ratios) * (1 + 0.03 * rng.standard_normal(len(ratios)))
    level = bright ** np.arange(len(ratios)) * rng.uniform(0.7, 1.3, len(ratios))
    level = np.where(partials < 0.45 * rate, level, 0)
    damping = decay * (1 + 0.6 * np.arange(len(ratios))) * rng.uniform(0.8, 1.25)
    wave = (level[:, None] * np.exp(-np.outer(damping, t)) * np.sin(2 * np.pi * np.outer(partials, t))).sum(0)
    click = rng.standard_normal(len(t)) * np.exp(-t * 400) * 0.4 * bright
    return (0.22 * strength * (wave + click)).astype(np.float32)


def noise_band(length: int, band: tuple[float, float], rate: int, rng: np.random.Generator) -> np.ndarray:
    """Noise between two frequencies, float32 (S,), root mean square 1."""
    if length == 0:
        return np.zeros(0, np.float32)
    padded = 1 << (length - 1).bit_length()  # a quick size for the transform
    spectrum = np.fft.rfft(rng.standard_normal(padded))
    frequency = np.fft.rfftfreq(padded, 1 / rate)
    low, high = band
    edge = 1 / (1 + (low / np.maximum(frequency, 1e-3)) ** 6) / (1 + (frequency / high) ** 6)
    wave = np.fft.irfft(spectrum * np.sqrt(edge), padded)[:length]
    return (wave / max(1e-9, np.sqrt(np.mean(wave**2)))).astype(np.float32)


def rub(material: str, strength: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Something slides for about half a second, float32 (S,)."""
    length = int(rate * rng.uniform(0.3, 0.6))
    top = MATERIALS[material][0][1]
    wave = noise_band(length, (top, 6 * top), rate, rng)
    return (0.03 * strength * wave * np.hanning(length)).astype(np.float32)


def beep(strength: float, rate: int) -> np.ndarray:
    """A short tone, float32 (S,)."""
    t = np.arange(int(0.12 * rate)) / rate
    fade = np.minimum(1, np.minimum(t, t[::-1]) * 200)
    return (0.1 * strength * np.sin(2 * np.pi * BEEP * t) * fade).astype(np.float32)


def machine(kind: str, length: int, rate: int, voice: int, rng: np.random.Generator) -> np.ndarray:
    """A machine that runs, float32 (S,), faded in and out; ``voice`` tunes it for one home."""
    band, noisy, hums, loudness = MACHINES[kind]
    home = np.random.default_rng([voice, sum(kind.encode())])
    tune, level = home.uniform(0.9, 1.1), home.uniform(0.75, 1.3)
    wave = noisy * noise_band(length, (band[0] * tune, band[1] * tune), rate, rng)
    t = np.arange(length) / rate
    for frequency, weight in hums:
        wave += weight * np.sin(2 * np.pi * frequency * tune * t + rng.uniform(0, 6.28)).astype(np.float32)
    if kind in ("tap", "hob"):  # flutter
        knots = np.arange(0, length / rate + 0.3, 0.15)
        wave *= np.interp(t, knots, 1 + 0.2 * rng.standard_normal(len(knots))).astype(np.float32)
    ramp = max(1, int(0.08 * rate))
    fade = np.minimum(1, np.minimum(np.arange(length) + 1, np.arange(length)[::-1] + 1) / ramp)
    return (loudness * level * wave * fade).astype(np.float32)


def render_sound(
    knocks: list[Knock], hums: list[Hum], duration: float, *, rate: int, seed: int, voice: int = 0, level: float = 1.0,
    room: float = 0.004,
) -> np.ndarray:  # fmt: skip
    """The sound of a whole recording, float32 (S,) in (-1, 1), S = duration * rate.

    ``level`` scales the machines, ``room`` is the background's root mean square.
    """
    length = round(duration * rate)
    wave = room * noise_band(length, (60, 900), rate, np.random.default_rng([seed, 1]))
    for k, hum in enumerate(hums):
        first, last = round(hum.on * rate), min(length, round(hum.off * rate))
        if last > first:
            rng = np.random.default_rng([seed, 2, k])
            wave[first:last] += level * machine(hum.machine, last - first, rate, voice, rng)
    for k, knock in enumerate(knocks):
        rng = np.random.default_rng([seed, 3, k])
        if knock.kind == "beep":
            piece = beep(knock.strength, rate)
        elif knock.kind.startswith("rub:"):
            piece = rub(knock.kind[4:], knock.strength, rate, rng)
        else:
            piece = impact(knock.kind, knock.strength, rate, rng)
        first = max(0, round(knock.time * rate))
        piece = piece[: max(0, length - first)]
        wave[first : first + len(piece)] += piece
    return np.tanh(wave).astype(np.float32)
