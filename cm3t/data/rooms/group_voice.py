"""What a recording of rooms-group sounds like: four voices, one a person, at the target's microphone. numpy only.

A voice is a pulse train through formants, written as a sum of harmonics: syllables of vowels, with a little noise at
their beginnings. It says nothing; it can be told from the others by pitch, tract length, breath and pace. The
microphone stands before the target: the others are heard from afar, softer and with the room.
"""

from __future__ import annotations

import numpy as np

from cm3t.data.rooms.group_script import Script, Turn
from cm3t.data.rooms.group_world import VOICES, Dials, Voice
from cm3t.data.rooms.sound import impact, noise_band

VOWELS = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (530, 1840, 2480),
    (570, 840, 2410),
    (300, 870, 2240),
    (490, 1350, 1690),
)
BANDS = np.array((80.0, 110.0, 160.0))  # widths of the formants, Hz
TOP = 5000.0  # Hz: no harmonics above
STEP = 0.01  # seconds between control points
STRAY = ("wood", "plastic", "ceramic")


def person_voice(script: Script, seat: int) -> Voice:
    """A seat's kind of voice, as this session's person has it."""
    kind, rng = VOICES[seat], np.random.default_rng([script.seed, 11, seat])
    change = 1 + rng.uniform(-1, 1, 4) * (0.07, 0.03, 0.3, 0.12)
    return Voice(*(float(v) for v in np.array((kind.pitch, kind.tract, kind.breath, kind.pace)) * change))


def speak(voice: Voice, seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Some syllables of a voice, float32 (S,), root mean square about 0.08 while it sounds."""
    points = max(2, round(seconds / STEP) + 1)
    time = np.arange(points) * STEP
    loud, formants, onsets = np.zeros(points), np.zeros((points, 3)), []
    at = 0.0
    formants[:] = VOWELS[rng.integers(len(VOWELS))]
    while at < seconds:
        length = rng.uniform(0.7, 1.3) / voice.pace
        inside = (time >= at) & (time < at + length)
        vowel = np.array(VOWELS[rng.integers(len(VOWELS))]) * rng.uniform(0.95, 1.05)
        formants[time >= at] = vowel
        loud[inside] = rng.uniform(0.6, 1.0) * np.sin(np.pi * (time[inside] - at) / length) ** 0.6
        onsets.append(at)
        at += length + (rng.uniform(0.12, 0.3) if rng.random() < 0.12 else 0.0)
    smooth = np.hanning(7) / np.hanning(7).sum()
    formants = np.stack([np.convolve(np.pad(f, 3, "edge"), smooth, "valid") for f in formants.T], 1) / voice.tract
    tune = 1 + 0.10 * np.sin(2 * np.pi * rng.uniform(0.3, 0.7) * time + rng.uniform(0, 6.28)) - 0.04 * time
    pitch = voice.pitch * tune * (1 + 0.01 * rng.standard_normal(points))
    wave = _harmonics(pitch, formants, loud, round(seconds * rate), rate)
    samples = np.arange(len(wave)) / rate
    breath = noise_band(len(wave), (600, 4500), rate, rng) * np.interp(samples, time, loud)
    for onset in onsets:
        first = round(onset * rate)
        burst = noise_band(round(0.05 * rate), (2500, 7000), rate, rng) * np.hanning(round(0.05 * rate))
        burst = burst[: max(0, len(wave) - first)]
        breath[first : first + len(burst)] += rng.uniform(0.2, 0.6) * burst
    wave = wave / max(1e-6, np.sqrt(np.mean(wave**2))) + voice.breath * breath
    return (0.08 * wave).astype(np.float32)


def _harmonics(pitch: np.ndarray, formants: np.ndarray, loud: np.ndarray, length: int, rate: int) -> np.ndarray:
    """Sum of the harmonics of ``pitch`` (points,) under the formants' envelope, (length,)."""
    time, points = np.arange(length) / rate, np.arange(len(pitch)) * STEP
    phase = 2 * np.pi * np.cumsum(np.interp(time, points, pitch)) / rate
    wave = np.zeros(length)
    for k in range(1, int(TOP / pitch.min()) + 1):
        frequency = k * pitch
        gain = (1 / (1 + ((frequency[:, None] - formants) / BANDS) ** 2) * (1.0, 0.6, 0.3)).sum(1) + 0.01
        gain *= loud * k**-0.5 * (frequency < min(TOP, 0.45 * rate))
        wave += np.interp(time, points, gain) * np.sin(k * phase)
    return wave


def _add(wave: np.ndarray, piece: np.ndarray, first: int) -> None:
    """Mix a piece (P,) into a wave (S,) from sample ``first``, cut at both ends."""
    start = max(0, first)
    piece = piece[start - first : max(0, len(wave) - first)]
    wave[start : start + len(piece)] += piece


def sound_of(script: Script, seat: int, dials: Dials) -> np.ndarray:
    """The sound of a target's recording, float32 (S,) in (-1, 1) at ``dials.sound_rate``."""
    rate, seed = dials.sound_rate, (script.seed, 12, seat)
    length = round(script.seconds(seat) * rate)
    wave = dials.room_noise * noise_band(length, (60, 1200), rate, np.random.default_rng([*seed, 0]))
    turns = [turn for snippet in script.of_seat(seat) for turn in snippet.turns]
    for k, turn in enumerate(turns):
        rng = np.random.default_rng([*seed, 1, k])
        _add(wave, _said(turn, script, turn.seat == seat, dials, rng), round(turn.start * rate))
    rng = np.random.default_rng([*seed, 2])
    for _ in range(rng.poisson(dials.stray * length / rate)):
        piece = impact(str(rng.choice(STRAY)), float(rng.uniform(0.05, 0.25)), rate, rng)
        _add(wave, piece, round(float(rng.uniform(0, length / rate)) * rate))
    return np.tanh(wave).astype(np.float32)


def _said(turn: Turn, script: Script, near: bool, dials: Dials, rng: np.random.Generator) -> np.ndarray:
    rate = dials.sound_rate
    piece = speak(person_voice(script, turn.seat), turn.stop - turn.start, rate, rng)
    fade = np.minimum(1, np.minimum(np.arange(len(piece)), np.arange(len(piece))[::-1]) / (0.02 * rate))
    piece = turn.level * rng.uniform(*dials.loudness) * piece * fade
    return (piece if near else dials.far * _from_afar(piece, dials.room, rate, rng)).astype(np.float32)


def _from_afar(piece: np.ndarray, room: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """A voice through the room, as loud as before: a share of it comes late, from everywhere."""
    tail = rng.standard_normal(round(0.25 * rate)) * np.exp(-np.arange(round(0.25 * rate)) / (0.07 * rate))
    size = 1 << (len(piece) + len(tail)).bit_length()
    late = np.fft.irfft(np.fft.rfft(piece, size) * np.fft.rfft(tail, size), size)[: len(piece)]
    late *= np.sqrt(np.mean(piece**2) / max(1e-12, np.mean(late**2)))
    return np.sqrt(1 - room) * piece + np.sqrt(room) * late
