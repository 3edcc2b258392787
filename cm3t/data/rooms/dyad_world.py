"""The people and sessions of rooms-dyad, and the dials they follow; numpy only, everything from one seed.

A person has five traits (z-scores, O C E A N) and seven cues: what can be heard, read or seen of a trait is the cue,
not the trait. cue = a * trait + sqrt(1 - a^2) * noise, with a of `Dials`, so a bounds what the cue can tell.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

TRAITS = ("O", "C", "E", "A", "N")
# Correlations of the five scales in the published bfi data (2800 people), N as negative emotionality.
CORRELATIONS = np.array([
    [1.00, 0.20, 0.21, 0.15, -0.09],
    [0.20, 1.00, 0.26, 0.26, -0.23],
    [0.21, 0.26, 1.00, 0.46, -0.22],
    [0.15, 0.26, 0.46, 1.00, -0.19],
    [-0.09, -0.23, -0.22, -0.19, 1.00],
])  # fmt: skip
# Cues: name -> (trait, dial that holds its strength). Words carry O and C, and nothing else does.
CUES = {
    "words_o": ("O", "words"), "words_c": ("C", "words"),
    "gesture": ("E", "body"), "lean": ("A", "body"), "touch": ("N", "body"),
    "pace": ("E", "voice"), "pitch": ("N", "voice"),
}  # fmt: skip
TASKS = ("talk", "animals", "lego", "ghost")
SPLITS = ("train", "tune", "val", "test")
VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "adam", "steph", "linda")


@dataclass(frozen=True)
class Dials:
    """Everything that decides what is generated. Lengths in seconds, sizes in pixels."""

    seed: int = 300
    size: int = 112
    fps: float = 4.0
    supersample: int = 2
    crf: int = 30
    gop: int = 32
    sound_rate: int = 16000
    sound_bitrate: int = 6000
    people: tuple[int, ...] = (60, 12, 15, 15)  # of train, tune, val, test
    sessions: tuple[int, ...] = (31, 6, 8, 8)
    lengths: tuple[float, ...] = (18.5, 12.5, 12.5, 12.5)  # of the four tasks, before their spread
    length_spread: float = 0.12
    lead: tuple[float, ...] = (2.2, 0.4, 0.4, 0.4)  # recorded before the task's limits begin
    tail: float = 0.3
    words: float = 0.95
    body: float = 0.85
    voice: float = 0.8
    word_slope: float = 3.0  # of the logistic curve from cue to the pole that a sentence speaks for
    small_talk: float = 0.2  # share of sentences with an opener that leans, weakly, on E, A or N
    opener_slope: float = 0.7
    session_noise: float = 0.25  # of the body's and the voice's cues, drawn anew for each session
    partner_level: float = 0.3  # loudness of the other person in one's own track
    room_noise: float = 0.004
    silent_share: float = 0.06  # of the tasks, recorded without sound
    unwritten_share: float = 0.06  # of the tasks, without a transcript

    def as_dict(self) -> dict:
        """The dials by name, as JSON holds them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


@dataclass(frozen=True)
class Person:
    """One participant: ``name`` is the ID, ``traits`` {letter: z}, ``cues`` {name: z}, ``seed`` of looks and voice."""

    name: str
    split: str
    traits: dict[str, float]
    cues: dict[str, float]
    seed: int

    @property
    def variant(self) -> str:
        """The synthesiser's voice."""
        return VARIANTS[int(np.random.default_rng([self.seed, 1]).integers(len(VARIANTS)))]


@dataclass(frozen=True)
class Session:
    """Two people who meet: ``name`` is their IDs one after the other, ``people`` PART.1 and PART.2."""

    name: str
    split: str
    people: tuple[Person, Person]
    seed: int


def draw_traits(count: int, rng: np.random.Generator) -> np.ndarray:
    """z-scores (count, 5) whose sample mean is 0 and whose sample covariance is `CORRELATIONS`, both exactly.

    Choice: with few people a plain draw would make one split easier than another; so made, a predictor of the mean has
    an error of 1 on every trait of every split.
    """
    plain = rng.standard_normal((count, len(TRAITS)))
    plain -= plain.mean(0)
    factor = np.linalg.cholesky(plain.T @ plain / count)
    return plain @ np.linalg.inv(factor).T @ np.linalg.cholesky(CORRELATIONS).T


def draw_cue(trait: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A cue (n,) of mean 0 and variance 1 whose sample correlation with the trait (n,) is ``strength``, exactly."""
    noise = rng.standard_normal(len(trait))
    noise -= noise.mean()
    noise -= trait * (noise @ trait) / (trait @ trait)
    noise /= noise.std()
    return strength * trait / trait.std() + np.sqrt(1 - strength**2) * noise


def make_people(dials: Dials) -> list[Person]:
    """All participants, IDs in no order of splits or traits."""
    ids = np.random.default_rng([dials.seed, 1]).permutation(np.arange(1, sum(dials.people) + 1)).tolist()
    people = []
    for place, (split, count) in enumerate(zip(SPLITS, dials.people, strict=True)):
        rng = np.random.default_rng([dials.seed, 2, place])
        traits = draw_traits(count, rng)
        cues = {
            name: draw_cue(traits[:, TRAITS.index(trait)], getattr(dials, dial), rng)
            for name, (trait, dial) in CUES.items()
        }
        for k in range(count):
            number = ids.pop()
            own = {trait: round(float(z), 4) for trait, z in zip(TRAITS, traits[k], strict=True)}
            shown = {name: float(values[k]) for name, values in cues.items()}
            people.append(Person(f"{number:03d}", split, own, shown, dials.seed * 1000 + number))
    return people


def make_sessions(dials: Dials, people: list[Person]) -> list[Session]:
    """Who meets whom: everybody once, some twice, always within a split; seats are drawn."""
    sessions = []
    for place, (split, count) in enumerate(zip(SPLITS, dials.sessions, strict=True)):
        rng = np.random.default_rng([dials.seed, 3, place])
        own = [p for p in people if p.split == split]
        order = [own[i] for i in rng.permutation(len(own))]
        again = [p for p in order[: len(order) // 2] if p not in order[-1:]]
        seats = order + again[: 2 * count - len(order)]
        if len(seats) != 2 * count:
            raise ValueError(f"{split}: {count} sessions cannot seat {len(own)} people once or twice")
        for one, two in zip(seats[0::2], seats[1::2], strict=True):
            pair = (one, two) if rng.random() < 0.5 else (two, one)
            name = pair[0].name + pair[1].name
            sessions.append(Session(name, split, pair, dials.seed * 1_000_000 + int(name)))
    return sorted(sessions, key=lambda s: s.name)


def folder_of(split: str) -> str:
    """The split's folder in UDIVA's layout: tune is part of train."""
    return "train" if split == "tune" else split
