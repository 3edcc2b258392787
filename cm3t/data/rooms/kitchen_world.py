"""What rooms-kitchen is made of, as data: its dials, actions with official class ids, fixtures and participants.

Nothing here renders: the script and the tests read it without a simulator.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

VERBS = {0: "take", 1: "put", 3: "open", 4: "close", 6: "turn-on", 8: "turn-off", 11: "move"}
NOUNS = {
    3: "cupboard",
    8: "drawer",
    12: "fridge",
    13: "cup",
    0: "tap",
    24: "hob",
    44: "kettle",
    46: "oven",
    90: "microwave",
    114: "light",
    179: "fan:extractor",
}
VERB_CATEGORIES = {
    0: "retrieve", 1: "leave", 3: "access", 4: "block", 6: "access", 8: "block", 11: "transition",
}  # fmt: skip
NOUN_CATEGORIES = {3: "storage", 8: "furniture", 13: "crockery"}  # every other noun here: appliances


@dataclass(frozen=True)
class Dials:
    """Every parameter of the benchmark; written to ``rooms.json``. Lengths: scene metres (about 1.75 : 1)."""

    seed: int = 100
    size: int = 96  # pixels
    fps: float = 8.0
    supersample: int = 2
    crf: int = 29
    gop: int = 48
    sound_rate: int = 16000
    sound_bitrate: int = 6000
    train_participants: int = 10
    tune_participants: int = 2  # carved from train, disjoint in people
    unseen_participants: int = 2  # only in validation
    train_segments: int = 1600  # of all train and tune participants together
    validation_segments: int = 400
    unseen_share: float = 0.3  # of the validation segments
    recording_segments: int = 70  # the most in one recording
    gap_segments: int = 200  # validation segments that are rendered again, per level
    gap_levels: int = 3
    camera_spread: float = 1.0  # of a participant's head position, gaze, field of view
    head_sway: float = 1.2  # degrees, slow
    gaze_gain: float = 0.15  # share of the way to the target that the head turns
    hand_jitter: float = 0.03  # metres, of a grasp's place
    approach: tuple[float, float] = (0.45, 0.9)  # seconds
    manipulate: tuple[float, float] = (0.5, 1.1)
    retreat: tuple[float, float] = (0.4, 0.8)
    pause: tuple[float, float] = (0.1, 0.5)
    distractor_share: float = 0.25  # of the pauses hold a reach that changes nothing
    unlabelled_share: float = 0.06  # of the actions are done but not annotated
    partial: tuple[float, float] = (0.45, 1.0)  # how far doors and drawers open
    boundary_jitter: float = 0.2  # seconds, of an annotation's start and stop
    knob_spacing: float = 0.19
    glow: float = 0.35  # how visible a running hob, oven or microwave is (0: heard only)
    machine_level: float = 1.0  # loudness of machines
    room_noise: float = 0.004
    stray_sounds: float = 0.25  # impacts a second, that belong to nothing in view

    def as_dict(self) -> dict:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Fixture:
    """A thing that is handled.

    ``kind``: door, drawer, knob, switch, lever, button or object. ``joint`` moves from ``closed`` to ``open`` (radians
    or metres). ``grip`` is the hand's shape (see kitchen_hand), ``material`` its sound.
    """

    name: str
    noun: int
    kind: str
    site: str
    grip: str
    material: str
    joint: str | None = None
    closed: float = 0.0
    open: float = 0.0
    machine: str | None = None  # the sound that runs while it is on


FIXTURES = {
    f.name: f
    for f in (
        Fixture("cupboard_left", 3, "door", "hinge_site1", "upright", "wood", "left_hinge_cabinet", 0, -1.45),
        Fixture("cupboard_slide", 3, "door", "slide_site", "upright", "wood", "slide_cabinet", 0, 0.42),
        Fixture("fridge", 12, "door", "hinge_site2", "upright", "rubber", "right_hinge_cabinet", 0, 1.45),
        Fixture("microwave", 90, "door", "microhandle_site", "upright", "plastic", "microwave", 0, -1.7),
        Fixture("microwave_button", 90, "button", "microbutton_site", "point", "plastic", machine="microwave"),
        Fixture("drawer", 8, "drawer", "drawer_site", "over", "wood", "drawer", 0, 0.42),
        Fixture("tap", 0, "lever", "tap_site", "over", "metal", "tap", 0, 0.8, "tap"),
        Fixture("oven", 46, "knob", "knob4_site", "pinch", "plastic", "knob_Joint_4", 0, -1.57, "oven"),
        Fixture("hob_left", 24, "knob", "knob2_site", "pinch", "plastic", "knob_Joint_2", 0, -1.57, "hob"),
        Fixture("hob_right", 24, "knob", "knob1_site", "pinch", "plastic", "knob_Joint_1", 0, -1.57, "hob"),
        Fixture("fan", 179, "knob", "knob3_site", "pinch", "plastic", "knob_Joint_3", 0, -1.57, "fan"),
        Fixture("light", 114, "switch", "light_site", "point", "switch", "light_switch", 0, -0.7),
        Fixture("kettle", 44, "object", "kettle_site", "over", "metal"),
        Fixture("cup", 13, "object", "cup_site", "upright", "ceramic"),
    )
}


@dataclass(frozen=True)
class Action:
    """A verb x noun pair: official class ids, fixtures it can happen on, its weight in the long-tailed prior."""

    verb: int
    noun: int
    fixtures: tuple[str, ...]
    weight: float
    phrases: tuple[str, ...]  # narrations

    @property
    def key(self) -> str:
        """Such as ``open cupboard``."""
        return f"{VERBS[self.verb]} {NOUNS[self.noun]}"


def _pair(verbs, noun, fixtures, weights, words) -> list[Action]:
    name = NOUNS[noun].split(":")[0] if noun != 179 else "extractor fan"
    return [
        Action(v, noun, fixtures, w, tuple(p.format(name) for p in phrases))
        for v, w, phrases in zip(verbs, weights, words, strict=True)
    ]


_OPEN = (("open {}", "pull open {}"), ("close {}", "shut {}"))
_TURN = (("turn on {}", "switch on {}"), ("turn off {}", "switch off {}"))
_TAKE = (("take {}", "pick up {}"), ("put {}", "put down {}"))
ACTIONS: tuple[Action, ...] = (
    *_pair((3, 4), 3, ("cupboard_left", "cupboard_slide"), (10, 12), _OPEN),
    *_pair((3, 4), 8, ("drawer",), (5.5, 7), _OPEN),
    *_pair((0, 1), 13, ("cup",), (5, 20), _TAKE),
    *_pair((3, 4), 12, ("fridge",), (4, 5.5), _OPEN),
    *_pair((0, 1), 44, ("kettle",), (3.2, 20), _TAKE),
    *_pair((6, 8), 0, ("tap",), (3, 9), _TURN),
    *_pair((6, 8), 24, ("hob_left", "hob_right"), (2.6, 9), _TURN),
    *_pair((3, 4), 90, ("microwave",), (2, 3), _OPEN),
    *_pair((6, 8), 114, ("light",), (1.6, 3), _TURN),
    *_pair((6, 8), 90, ("microwave_button",), (1.8, 50), _TURN),
    *_pair((6, 8), 46, ("oven",), (1.1, 4), _TURN),
    *_pair((6, 8), 179, ("fan",), (0.9, 3), _TURN),
    Action(11, 44, ("kettle",), 0.9, ("move kettle", "slide kettle")),
)
# Pairs of opposite actions on one thing, by name: their two verbs, and the noun.
OPPOSITES = {3: 4, 0: 1, 6: 8}
PAIRS: dict[str, tuple[tuple[int, int], int]] = {
    f"{VERBS[a.verb]} / {VERBS[OPPOSITES[a.verb]]} {NOUNS[a.noun]}": ((a.verb, OPPOSITES[a.verb]), a.noun)
    for a in ACTIONS
    if a.verb in OPPOSITES
}
# Where objects can stand: x, y on the worktop (z is the model's).
SPOTS = {
    "kettle": ((-0.22, 0.34), (0.22, 0.34), (0.22, 0.76), (-0.22, 0.76)),
    "cup": ((-0.6, 0.06), (-0.76, 0.26), (0.56, 0.24), (0.56, 0.62)),
}


@dataclass(frozen=True)
class Participant:
    """One person: where the head is, what the kitchen and the hand look like, which hand is used."""

    name: str
    role: str  # train | tune | unseen
    seed: int
    eye: tuple[float, float, float]
    gaze: tuple[float, float, float]
    fov: float
    roll: float
    left_handed: bool
    hand_scale: float
    skin: tuple[float, float, float]
    sleeve: tuple[float, float, float]
    pace: float  # duration factor
    palette: tuple[tuple[float, float, float], ...]  # doors, worktop, wall, appliances, handles, splashback
    light: tuple[float, float, float]  # headlight level, ceiling level, warmth
    textures: tuple[str, ...]  # doors, worktop
    voice: int  # seed of the room's sounds


_SKINS = ((0.94, 0.78, 0.66), (0.87, 0.67, 0.53), (0.76, 0.55, 0.41), (0.6, 0.41, 0.29), (0.45, 0.3, 0.21),
          (0.33, 0.22, 0.16))  # fmt: skip
_DOORS = ((0.46, 0.5, 0.6), (0.9, 0.88, 0.82), (0.55, 0.36, 0.22), (0.35, 0.47, 0.38), (0.75, 0.6, 0.42),
          (0.7, 0.72, 0.74), (0.3, 0.34, 0.42), (0.62, 0.3, 0.27))  # fmt: skip
_TEXTURES = ("plain", "wood1", "marble1", "metal1", "speckle", "stripes")


def _mix(rng: np.random.Generator, base, spread: float) -> tuple[float, ...]:
    return tuple(float(x) for x in np.clip(np.asarray(base) * (1 + rng.uniform(-spread, spread, 3)), 0.02, 1))


def make_participant(dials: Dials, number: int, role: str) -> Participant:
    """Participant ``P<number>``; everything is drawn from (``dials.seed``, number)."""
    rng = np.random.default_rng([dials.seed, 7, number])
    spread = dials.camera_spread
    eye = np.array([-0.1, -0.52, 2.66]) + spread * rng.uniform([-0.16, -0.14, -0.14], [0.16, 0.1, 0.14])
    gaze = np.array([-0.1, 0.7, 1.95]) + spread * rng.uniform([-0.1, 0, -0.07], [0.1, 0, 0.07])
    grey = rng.uniform(0.12, 0.85)
    palette = (
        _mix(rng, _DOORS[rng.integers(len(_DOORS))], 0.15),
        _mix(rng, (1, 1, 1) if rng.random() < 0.5 else (0.65, 0.55, 0.45), 0.15),
        _mix(rng, (0.72, 0.72, 0.7), 0.16),
        _mix(rng, (grey, grey, grey), 0.06),
        _mix(rng, (0.75, 0.75, 0.75) if rng.random() < 0.6 else (0.3, 0.26, 0.2), 0.15),
        _mix(rng, (0.9, 0.9, 0.88), 0.2),
    )
    return Participant(
        name=f"P{number:02d}",
        role=role,
        seed=int(rng.integers(2**31)),
        eye=tuple(float(x) for x in eye),
        gaze=tuple(float(x) for x in gaze),
        fov=float(83 + spread * rng.uniform(-6, 6)),
        roll=float(spread * rng.uniform(-4, 4)),
        left_handed=bool(rng.random() < 0.25),
        hand_scale=float(rng.uniform(0.88, 1.12)),
        skin=_mix(rng, _SKINS[rng.integers(len(_SKINS))], 0.06),
        sleeve=tuple(float(x) for x in rng.uniform(0.08, 0.9, 3)),
        pace=float(rng.uniform(0.88, 1.15)),
        palette=palette,
        light=(float(rng.uniform(0.75, 1.15)), float(rng.uniform(0.5, 1.2)), float(rng.uniform(-0.08, 0.12))),
        textures=(str(rng.choice(_TEXTURES)), str(rng.choice(_TEXTURES))),
        voice=int(rng.integers(2**31)),
    )


def make_participants(dials: Dials) -> tuple[Participant, ...]:
    """Everybody, by name; roles are dealt to shuffled numbers."""
    counts = {"train": dials.train_participants, "tune": dials.tune_participants, "unseen": dials.unseen_participants}
    roles = [role for role, count in counts.items() for _ in range(count)]
    numbers = np.random.default_rng([dials.seed, 1]).permutation(len(roles)) + 1
    people = [make_participant(dials, int(n), role) for n, role in zip(numbers, roles, strict=True)]
    return tuple(sorted(people, key=lambda p: p.name))


def gap_look(person: Participant, level: int, dials: Dials) -> Participant:
    """The same person and script seen ``level`` steps away (0: none): head, gaze, lens, colours, light move together.

    Each level goes the same way further, so that a model's loss can be drawn against the distance.
    """
    if level == 0:
        return person
    rng = np.random.default_rng([dials.seed, 19, person.seed])
    other = make_participant(dials, 1000 + int(rng.integers(1000)), person.role)
    way, turn = rng.normal(size=3), rng.choice([-1.0, 1.0], 3)
    way = way / np.linalg.norm(way) * (1.0, 0.6, 0.8)
    share = level / dials.gap_levels

    def towards(mine, theirs, amount: float) -> tuple[float, ...]:
        return tuple(float(a + amount * (b - a)) for a, b in zip(mine, theirs, strict=True))

    return replace(
        person,
        eye=tuple(float(x) for x in np.array(person.eye) + 0.1 * level * way),
        gaze=tuple(float(x) for x in np.array(person.gaze) + level * np.array([0.05, 0, 0.04]) * turn),
        roll=person.roll + 3.0 * level * float(turn[0]),
        fov=person.fov + 2.0 * level,
        palette=tuple(towards(a, b, share) for a, b in zip(person.palette, other.palette, strict=True)),
        textures=other.textures if level > 1 else person.textures,
        skin=towards(person.skin, other.skin, share),
        sleeve=towards(person.sleeve, other.sleeve, share),
        light=(
            person.light[0] * (1 - 0.14 * level), person.light[1] * (1 - 0.1 * level),
            person.light[2] + 0.06 * level * float(turn[1]),
        ),
    )  # fmt: skip
