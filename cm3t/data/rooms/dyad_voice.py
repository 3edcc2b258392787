"""Speech for rooms-dyad: espeak-ng, a voice per person, its delivery by two cues; and what each camera's track hears.

espeak-ng is deterministic: equal text and settings give equal samples. It is a system package, needed only here.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.signal import resample_poly

from cm3t.data.rooms.assets import MissingAsset
from cm3t.data.rooms.dyad_world import Dials, Person
from cm3t.data.rooms.sound import Knock, render_sound

SPOKEN_RATE = 22050  # of espeak-ng
LOUDNESS = 0.07  # root mean square of a line at a cue of 0


@dataclass(frozen=True)
class Delivery:
    """How a line is spoken: espeak's voice variant, pitch (0..99), words a minute and pitch range (percent);
    ``tract`` scales all frequencies, ``gain`` the loudness, ``pause`` (ms) falls after the third word.
    """  # fmt: skip

    variant: str = "m1"
    pitch: int = 45
    rate: int = 185
    spread: int = 100
    tract: float = 1.0
    gain: float = 1.0
    pause: int = 0


def session_cues(person: Person, session_seed: int, dials: Dials) -> dict[str, float]:
    """The person's cues as they are in one session: the body's and the voice's with noise of that session."""
    rng = np.random.default_rng([session_seed, int(person.name), 4])
    noise = dials.session_noise * rng.standard_normal(len(person.cues))
    return {
        name: value + (0.0 if name.startswith("words") else float(extra))
        for (name, value), extra in zip(person.cues.items(), noise, strict=True)
    }


def delivery_of(person: Person, cues: dict[str, float], rng: np.random.Generator) -> Delivery:
    """How the person speaks one line: pace and loudness by the cue ``pace``, pitch range and pauses by ``pitch``."""
    own = np.random.default_rng([person.seed, 2])
    base, tract = own.uniform(32, 60), own.uniform(0.92, 1.08)
    pace, pitch = cues["pace"] + 0.25 * rng.standard_normal(), cues["pitch"] + 0.25 * rng.standard_normal()
    hesitates = rng.random() < 1 / (1 + np.exp(-2.5 * (pitch - 0.3)))
    return Delivery(
        variant=person.variant,
        pitch=int(np.clip(base + 4 * pitch, 5, 95)),
        rate=int(np.clip(200 * np.exp(0.18 * pace), 120, 340)),
        spread=int(np.clip(90 * np.exp(0.7 * pitch), 8, 360)),
        tract=round(float(tract), 3),
        gain=round(float(10 ** (4.5 * np.clip(pace, -2.5, 2.5) / 20)), 3),
        pause=int(rng.uniform(300, 600)) if hesitates else 0,
    )


def speak(text: str, how: Delivery, rate: int) -> np.ndarray:
    """A line as sound, float32 (S,) at ``rate``, without silence around it. Raises MissingAsset without espeak-ng."""
    wave = _spoken(text, how.variant, how.pitch, how.rate, how.spread, how.pause)
    common = np.gcd(rate, SPOKEN_RATE)
    wave = resample_poly(wave, rate // common, round(SPOKEN_RATE * how.tract / common))
    loud = np.flatnonzero(np.abs(wave) > 0.02 * np.abs(wave).max())
    wave = wave[loud[0] : loud[-1] + 1]
    return (LOUDNESS * how.gain * wave / np.sqrt(np.mean(wave**2))).astype(np.float32)


@lru_cache(maxsize=64)
def _spoken(text: str, variant: str, pitch: int, rate: int, spread: int, pause: int) -> np.ndarray:
    program = shutil.which("espeak-ng")
    if program is None:
        raise MissingAsset("espeak-ng is not installed: apt-get install espeak-ng (generator only)")
    words = text.split()
    if pause and len(words) > 4:
        words.insert(3, f'<break time="{pause}ms"/>')
    markup = f'<speak><prosody range="{spread}%">{" ".join(words)}</prosody></speak>'
    command = [program, "-v", f"en-us+{variant}", "-p", str(pitch), "-s", str(rate), "-z", "-m", "--stdout", markup]
    done = subprocess.run(command, capture_output=True, check=True)
    return np.frombuffer(done.stdout[44:], np.int16).astype(np.float64) / 32768


def version() -> str:
    """What espeak-ng says of itself, "absent" where there is none."""
    program = shutil.which("espeak-ng")
    if program is None:
        return "absent"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split("Data at")[0].rsplit(":", 1)[-1].strip()


def track(
    lines: list[tuple[float, int, np.ndarray]], knocks: list[Knock], duration: float, seat: int, dials: Dials, seed: int
) -> np.ndarray:
    """What the camera of ``seat`` records, float32 (S,): its person as loud as he is, the others further away.

    ``lines`` are (start, seat, wave); seat 2 is the supervisor. Knocks are the task's own noises.
    """
    rate = dials.sound_rate
    wave = render_sound(knocks, [], duration, rate=rate, seed=seed, room=dials.room_noise)
    for start, who, spoken in lines:
        first = round(start * rate)
        piece = spoken[: max(0, len(wave) - first)]
        wave[first : first + len(piece)] += (1.0 if who == seat else dials.partner_level) * piece
    return np.tanh(wave).astype(np.float32)
