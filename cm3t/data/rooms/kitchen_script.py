"""The script of a recording: what the hand does when, which of it is annotated, what hums meanwhile.

Pure numpy: no picture and no sound is made here. A recording is untrimmed: actions drawn from a long-tailed prior (only
those the fixtures' states allow), pauses, reaches that change nothing, and some actions nobody annotated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cm3t.data.rooms.kitchen_world import ACTIONS, FIXTURES, NOUNS, SPOTS, VERBS, Action, Dials, Participant

IDLE = ((0.3, 1.72, 0.05), (0.22, 1.95, 0.3), (0.42, 1.85, 0.15), (0.1, 2.12, 0.35), (0.5, 1.6, -0.1))  # side, z, y


@dataclass(frozen=True)
class Motion:
    """One thing the hand does; times in seconds: start <= contact <= release <= stop.

    Between contact and release the fixture goes from ``before`` to ``after`` (0 closed or off, 1 fully open or on);
    objects go from spot ``origin`` to spot ``target`` (None: held). ``depth`` < 1: a reach that stops short.
    """

    kind: str  # act | reach
    fixture: str
    start: float
    contact: float
    release: float
    stop: float
    before: float
    after: float
    action: int | None
    labelled: bool
    origin: int | None
    target: int | None
    offset: tuple[float, float, float]
    depth: float
    idle: tuple[float, float, float]  # where the hand goes afterwards: side, height, depth
    bow: float  # how far the way there bends towards the eye
    annotation: tuple[float, float] | None  # start and stop as annotated
    narration: str


@dataclass(frozen=True)
class Run:
    """A machine that runs from ``on`` to ``off`` seconds; ``fixture`` switches it."""

    machine: str
    fixture: str
    on: float
    off: float
    by_itself: bool  # it stopped without a hand


@dataclass(frozen=True)
class Script:
    """A whole recording: motions in order, machines, and the state it begins in."""

    video: str
    participant: Participant
    split: str
    seed: int
    motions: tuple[Motion, ...]
    runs: tuple[Run, ...]
    initial: dict[str, float]
    spots: dict[str, int | None]
    duration: float

    @property
    def segments(self) -> tuple[Motion, ...]:
        """The annotated motions, in order of time."""
        return tuple(m for m in self.motions if m.annotation is not None)


class _Writer:
    """The state while a script is written."""

    def __init__(self, dials: Dials, person: Participant, video: str, split: str, seed: int):
        self.dials, self.person, self.video, self.split, self.seed = dials, person, video, split, seed
        self.rng = np.random.default_rng([dials.seed, 11, seed])
        self.time = float(self.rng.uniform(0.4, 1.0))
        self.motions: list[Motion] = []
        self.runs: list[Run] = []
        self.started: dict[str, float] = {}
        self.microwave_ends = np.inf
        self.held: str | None = None
        self.value = {name: self._first_value(f) for name, f in FIXTURES.items()}
        self.initial = dict(self.value)
        self.spot: dict[str, int | None] = {k: int(self.rng.integers(len(v))) for k, v in SPOTS.items()}
        self.first_spots = dict(self.spot)
        for name in FIXTURES:
            if FIXTURES[name].machine and self.value[name] > 0:
                self.started[name] = 0.0

    def _first_value(self, fixture) -> float:
        if fixture.kind in ("object", "button"):
            return 0.0
        if fixture.kind in ("door", "drawer"):
            return float(self.rng.uniform(*self.dials.partial)) if self.rng.random() < 0.3 else 0.0
        return 1.0 if self.rng.random() < (0.5 if fixture.kind == "switch" else 0.2) else 0.0

    # --- what can happen now -------------------------------------------------------------------------------------
    def possible(self, action: Action) -> list[str]:
        """Fixtures on which ``action`` is possible in the present state."""
        verb, found = VERBS[action.verb], []
        for name in action.fixtures:
            fixture, value = FIXTURES[name], self.value[name]
            if self.held is not None:
                right = verb == "put" and name == self.held
            elif fixture.kind == "object":
                right = verb in ("take", "move")
            elif verb in ("open", "turn-on"):
                right = value == 0 and not (fixture.kind == "button" and self.value["microwave"] > 0)
            else:
                right = value > 0
            if right:
                found.append(name)
        return found

    def choose(self) -> tuple[int, str]:
        """An action's index and its fixture, drawn from the prior over what is possible."""
        options = [(i, self.possible(a)) for i, a in enumerate(ACTIONS)]
        weights = np.array([ACTIONS[i].weight if names else 0.0 for i, names in options])
        index = int(self.rng.choice(len(ACTIONS), p=weights / weights.sum()))
        return index, str(self.rng.choice(options[index][1]))

    # --- writing -------------------------------------------------------------------------------------------------
    def span(self, limits: tuple[float, float]) -> float:
        return float(self.rng.uniform(*limits)) * self.person.pace

    def add(
        self,
        kind: str,
        name: str,
        *,
        action: int | None,
        labelled: bool,
        depth: float,
        after: float,
        target: int | None,
    ) -> Motion:
        rng, dials, fixture = self.rng, self.dials, FIXTURES[name]
        start = self.time
        contact = start + self.span(dials.approach)
        quick = 0.7 if fixture.kind in ("switch", "button") or kind == "reach" else 1.0
        release = contact + quick * self.span(dials.manipulate)
        stop = release + self.span(dials.retreat)
        annotation, narration = None, ""
        if labelled:
            jitter = rng.uniform(-dials.boundary_jitter, dials.boundary_jitter, 2)
            first = max(0.0, start + 0.1 + float(jitter[0]))
            annotation = (round(first, 2), round(max(first + 0.8, release + 0.25 + float(jitter[1])), 2))
            narration = str(rng.choice(ACTIONS[action].phrases))
        motion = Motion(
            kind, name, start, contact, release, stop, self.value[name], after, action, labelled,
            self.spot.get(name), target, tuple(float(x) for x in rng.normal(0, dials.hand_jitter, 3)), depth,
            self._idle(), float(rng.uniform(0.02, 0.16)), annotation, narration,
        )  # fmt: skip
        self.motions.append(motion)
        self.time = stop
        return motion

    def _idle(self) -> tuple[float, float, float]:
        base = IDLE[self.rng.integers(len(IDLE))]
        return tuple(float(x) for x in np.asarray(base) + self.rng.normal(0, 0.05, 3))

    def act(self, labelled: bool) -> bool:
        """Do one action; returns whether it was annotated."""
        index, name = self.choose()
        action, fixture = ACTIONS[index], FIXTURES[name]
        verb = VERBS[action.verb]
        after, target = self.value[name], self.spot.get(name)
        if fixture.kind in ("door", "drawer"):
            after = float(self.rng.uniform(*self.dials.partial)) if verb == "open" else 0.0
        elif fixture.kind != "object":
            after = 1.0 if verb == "turn-on" else 0.0
        elif verb == "take":
            target = None
        else:
            free = [i for i in range(len(SPOTS[name])) if i != self.spot[name]]
            target = int(self.rng.choice(free))
        motion = self.add("act", name, action=index, labelled=labelled, depth=1.0, after=after, target=target)
        self.settle(motion, verb)
        return labelled

    def settle(self, motion: Motion, verb: str) -> None:
        """Bring the state up to date after ``motion``."""
        name, fixture = motion.fixture, FIXTURES[motion.fixture]
        if fixture.kind == "object":
            self.spot[name] = motion.target
            self.held = name if verb == "take" else None
            return
        self.value[name] = motion.after
        middle = 0.5 * (motion.contact + motion.release)
        if fixture.machine and verb == "turn-on":
            self.started[name] = middle
            if fixture.kind == "button":
                self.microwave_ends = middle + float(self.rng.uniform(7, 14))
        elif fixture.machine:
            self._stop(name, middle, by_itself=False)
        elif name == "microwave" and "microwave_button" in self.started:
            self._stop("microwave_button", motion.contact, by_itself=True)

    def _stop(self, name: str, time: float, *, by_itself: bool) -> None:
        machine = FIXTURES[name].machine
        self.runs.append(Run(machine, name, self.started.pop(name), time, by_itself))
        self.value[name] = 0.0
        if name == "microwave_button":
            self.microwave_ends = np.inf

    def pause(self) -> None:
        """Rest, sometimes with a reach for something that is then left alone."""
        if self.held is None and self.rng.random() < self.dials.distractor_share:
            name = str(self.rng.choice([f for f in FIXTURES if FIXTURES[f].kind != "object"]))
            depth = float(self.rng.uniform(0.65, 1.0))
            self.add("reach", name, action=None, labelled=False, depth=depth, after=self.value[name], target=None)
        self.time += self.span(self.dials.pause)
        if self.time > self.microwave_ends:
            self._stop("microwave_button", self.microwave_ends, by_itself=True)


def write_script(dials: Dials, person: Participant, number: int, split: str, segments: int) -> Script:
    """The recording ``P<xx>_<number>`` with exactly ``segments`` annotated actions; equal arguments, equal script.

    Raises ValueError when ``segments`` is not positive.
    """
    if segments < 1:
        raise ValueError(f"recording {person.name}_{number:02d}: {segments} segments; need at least one")
    video = f"{person.name}_{number:02d}"
    writer = _Writer(dials, person, video, split, person.seed + number)
    count = 0
    while count < segments:
        count += writer.act(labelled=bool(writer.rng.random() >= dials.unlabelled_share))
        writer.pause()
    duration = float(np.ceil((writer.time + 0.5) * dials.fps) / dials.fps)
    for name in list(writer.started):
        writer._stop(name, duration, by_itself=True)
    runs = tuple(sorted(writer.runs, key=lambda r: (r.on, r.machine)))
    return Script(
        video, person, split, person.seed + number, tuple(writer.motions), runs, writer.initial, writer.first_spots,
        duration,
    )  # fmt: skip


def plan(dials: Dials, people: tuple[Participant, ...], share: float = 1.0) -> list[Script]:
    """Every recording of the benchmark: PXX_01.. train (and tune), PXX_11.. validation.

    Tune participants have no validation recording, unseen ones nothing else. ``share`` < 1 gives a pilot.
    """
    trained = [p for p in people if p.role in ("train", "tune")]
    seen = [p for p in people if p.role == "train"]
    unseen = [p for p in people if p.role == "unseen"]
    jobs: list[tuple[Participant, int, str, int]] = []
    rest = dials.validation_segments - round(dials.validation_segments * dials.unseen_share)
    for group, total, split, first in (
        (trained, dials.train_segments, "train", 1),
        (seen, rest, "validation", 11),
        (unseen, dials.validation_segments - rest, "validation", 11),
    ):
        for person, segments in zip(group, _spread(max(len(group), round(total * share)), len(group)), strict=True):
            parts = _spread(segments, -(-segments // dials.recording_segments))
            jobs += [(person, first + i, split, n) for i, n in enumerate(parts)]
    return [write_script(dials, *job) for job in sorted(jobs, key=lambda j: (j[0].name, j[1]))]


def _spread(total: int, parts: int) -> list[int]:
    return [total // parts + (i < total % parts) for i in range(parts)]


def label_of(motion: Motion) -> tuple[int, int, str, str]:
    """verb_class, noun_class, verb, noun of an annotated motion."""
    action = ACTIONS[motion.action]
    return action.verb, action.noun, VERBS[action.verb], NOUNS[action.noun]
