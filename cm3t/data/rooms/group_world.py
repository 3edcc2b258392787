"""What there is in rooms-group: four seats, fourteen behaviours, recordings, and the dials of the generator.

Needs numpy only: scripts, labels and sounds follow from the dials anywhere, without a simulator.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

SEATS = (1, 2, 3, 4)
SECONDS = 64 / 30  # of a snippet, as in the real set
# How often the upper body's main behaviour is which; the rest shows none. The real set is far more skewed.
SHARES = {
    "Gesture": 0.20, "Fumble": 0.18, "Fold arms": 0.09, "Scratch": 0.06, "Hand-face": 0.06, "Hand-mouth": 0.055,
    "Settle": 0.045, "Smearing hands": 0.04, "Adjusting clothing": 0.04, "Groom": 0.04, "Shrug": 0.035,
    "Stretching": 0.025,
}  # fmt: skip
LEGS = {"Legs crossed": 0.45, "Leg movement": 0.09}  # beside what the upper body does; they may coincide
# How probable it is that a person who does this is the one who speaks; the others' share is `Dials.own_speech`.
SPEAKS = {"Gesture": 0.97, "Fumble": 0.03, "Fold arms": 0.12, "Hand-mouth": 0.03, "Hand-face": 0.3}
PAUSES = {"Hand-face": 0.9}  # nobody speaks while one thinks, the cheek on a hand; else: `Dials.quiet`
BRIEF = {"Settle", "Shrug", "Stretching", "Adjusting clothing"}  # over within the snippet


@dataclass(frozen=True)
class Voice:
    """A kind of voice: pitch in Hz, length of the vocal tract, breathiness, syllables a second."""

    pitch: float
    tract: float
    breath: float
    pace: float


# A seat has its kind of voice in every session: opposite seats low or high, with walls of one colour behind them.
KINDS = {1: "low", 2: "high", 3: "low", 4: "high"}
VOICES = {
    1: Voice(95, 1.10, 0.08, 4.2),
    2: Voice(235, 0.90, 0.10, 5.4),
    3: Voice(118, 1.04, 0.25, 4.8),
    4: Voice(290, 0.82, 0.20, 5.8),
}


@dataclass(frozen=True)
class Take:
    """One session of four people: its number, split ("train", "tune", "val"), snippets, and whether it has sound."""

    number: int
    split: str
    snippets: int
    sound: bool = True


@dataclass(frozen=True)
class Dials:
    """Everything that can be turned; equal dials give equal scripts, labels and sounds on every machine."""

    seed: int = 300
    size: int = 112  # pixels a side
    fps: float = 7.5  # 16 frames a snippet
    supersample: int = 2
    crf: int = 28
    sound_rate: int = 16000
    sound_bitrate: int = 10000
    train: tuple[int, ...] = (40, 40, 40, 40, 40, 40, 40, 40)  # snippets a session
    tune: tuple[int, ...] = (40, 40)
    val: tuple[int, ...] = (34, 34, 34, 34, 14)
    silent: tuple[int, ...] = (5, 15)  # sessions whose sound is lost
    seat_shares: tuple[float, ...] = (0.40, 0.15, 0.30, 0.15)  # how often each seat is the annotated one
    second: float = 0.15  # share of snippets with a second behaviour
    own_speech: float = 0.3  # where the behaviour says nothing
    quiet: float = 0.12  # share of these snippets in which nobody speaks
    mumble: float = 0.2  # chance of a short sound by a listener
    pause: tuple[float, float] = (0.5, 1.0)  # seconds between snippets
    # Gesture and Fumble: one motion of both hands; mean of fumbling, what gesturing adds, spread.
    height: tuple[float, float, float] = (0.215, 0.035, 0.055)  # metres above the pelvis
    apart: tuple[float, float, float] = (0.09, 0.02, 0.035)  # metres from the middle
    swing: tuple[float, float, float] = (0.055, 0.008, 0.015)  # metres
    far: float = 0.42  # level of another's voice at the target's microphone
    room: float = 0.6  # how much of it is the room's reverberation
    loudness: tuple[float, float] = (0.75, 1.3)  # of a person, from turn to turn
    camera_spread: float = 1.0  # scales how far cameras differ between sessions
    sway: float = 1.0  # scales idle motion
    stray: float = 0.15  # knocks a second, by nobody in particular
    room_noise: float = 0.004

    def as_dict(self) -> dict:
        """Plain values, for ``rooms.json``."""
        return asdict(self)

    def takes(self) -> list[Take]:
        """All sessions, numbered from 1: train, tune, val."""
        counts = [(split, n) for split in ("train", "tune", "val") for n in getattr(self, split)]
        return [Take(k, split, n, k not in self.silent) for k, (split, n) in enumerate(counts, 1)]
