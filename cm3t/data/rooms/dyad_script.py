"""A task of rooms-dyad, second by second: who says what and when, when hands go where, what makes a noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from cm3t.data.rooms.dyad_voice import Delivery, delivery_of, session_cues
from cm3t.data.rooms.dyad_words import SUPERVISOR, sentence
from cm3t.data.rooms.dyad_world import TASKS, Dials, Person, Session
from cm3t.data.rooms.sound import Knock

HOST = 2  # the supervisor's seat
Speak = Callable[[str, Delivery, int], np.ndarray]
TOUCH_RATE, TOUCH_SLOPE = 0.10, 0.85  # self-touches a second at a cue of 0; its logarithm's growth with the cue
NOD_RATE, NOD_SLOPE = 0.28, 0.75


@dataclass(frozen=True)
class Line:
    """Something said: ``seat`` 0 is PART.1, 1 PART.2, 2 the supervisor; ``wave`` float32 (S,)."""

    start: float
    stop: float
    seat: int
    text: str
    wave: np.ndarray = field(repr=False, compare=False)


@dataclass(frozen=True)
class Event:
    """Something a person does besides speaking: ``kind`` touch, nod or reach; ``place`` in [0, 1) says where."""

    start: float
    stop: float
    kind: str
    place: float


@dataclass(frozen=True)
class Script:
    """One task of one session. ``limits`` are (start, stop) of the task itself within ``duration``."""

    session: Session
    task: str
    duration: float
    limits: tuple[float, float]
    lines: tuple[Line, ...]
    events: tuple[tuple[Event, ...], tuple[Event, ...]]
    cues: tuple[dict[str, float], dict[str, float]]
    silent: bool
    unwritten: bool

    @property
    def seed(self) -> int:
        """Of everything in this task that is not in the script."""
        return self.session.seed * 10 + TASKS.index(self.task)

    def knocks(self) -> list[Knock]:
        """Noises of hands that reach for things."""
        kind = {"lego": "plastic", "ghost": "wood", "animals": "rubber", "talk": "rubber"}[self.task]
        return [Knock(e.stop - 0.3, kind, 0.12) for events in self.events for e in events if e.kind == "reach"]


def write_script(session: Session, task: str, dials: Dials, speak: Speak, used: tuple[set[str], set[str]]) -> Script:
    """The script of a task; ``used`` holds the clauses that each of the two has said already in this session."""
    place = TASKS.index(task)
    rng = np.random.default_rng([session.seed, 5, place])
    length = dials.lengths[place] * float(rng.uniform(1 - dials.length_spread, 1 + dials.length_spread))
    begin = dials.lead[place]
    end = round(begin + length, 2)
    cues = tuple(session_cues(person, session.seed, dials) for person in session.people)
    lines = _opening(task, dials, speak, rng)
    lines += _conversation(session, task, dials, speak, rng, cues, used, begin + 0.3, end)
    duration = max(end + dials.tail, *(line.stop + 0.1 for line in lines))
    frames = int(np.ceil(duration * dials.fps))
    events = tuple(_events(seat, task, cues[seat], lines, end, rng) for seat in (0, 1))
    silent, unwritten = (float(x) for x in rng.random(2))
    return Script(
        session, task, frames / dials.fps, (begin, end), tuple(lines), events, cues,
        silent < dials.silent_share, unwritten < dials.unwritten_share,
    )  # fmt: skip


def _opening(task: str, dials: Dials, speak: Speak, rng: np.random.Generator) -> list[Line]:
    """The supervisor starts the talk."""
    text = SUPERVISOR[int(rng.integers(len(SUPERVISOR)))]
    if task != "talk":
        return []
    wave = speak(text, Delivery("m3", 50, 220), dials.sound_rate)
    return [Line(0.1, 0.1 + len(wave) / dials.sound_rate, HOST, text, wave)]


def _conversation(session, task, dials, speak, rng, cues, used, time: float, end: float) -> list[Line]:
    """Turns until the task ends: who has the higher pace speaks a little more often."""
    lines: list[Line] = []
    lean = 0.35 * (cues[0]["pace"] - cues[1]["pace"])
    seat = int(rng.random() < 0.5)
    while True:
        person: Person = session.people[seat]
        text = sentence(
            task, cues[seat], person.traits, rng, word_slope=dials.word_slope, opener_share=dials.small_talk,
            opener_slope=dials.opener_slope, used=used[seat],
        )  # fmt: skip
        wave = speak(text, delivery_of(person, cues[seat], rng), dials.sound_rate)
        stop = time + len(wave) / dials.sound_rate
        if stop > end:
            return lines
        lines.append(Line(round(time, 3), round(stop, 3), seat, text, wave))
        # the other's turn four times in five, drawn towards the livelier one
        first = 0.8 if seat == 1 else 0.2
        first = 1 / (1 + np.exp(-(np.log(first / (1 - first)) + lean)))
        before, seat = seat, 0 if rng.random() < first else 1
        pause = rng.uniform(0.12, 0.45) * np.exp(0.3 * cues[seat]["pitch"])
        cuts_in = rng.random() < 0.15 and seat != before
        time = stop + (-0.25 if cuts_in else float(pause))


def _events(seat: int, task: str, cues: dict, lines: list[Line], end: float, rng) -> tuple[Event, ...]:
    """Self-touches by the cue touch, nods while the other speaks by the cue lean, reaches by the task."""
    found: list[Event] = []

    def occur(kind: str, rate: float, spans: list[tuple[float, float]], low: float, high: float) -> None:
        for first, last in spans:
            time = first + rng.exponential(1 / rate)
            while time < last:
                stop = time + rng.uniform(low, high)
                found.append(Event(round(time, 3), round(stop, 3), kind, float(rng.random())))
                time = stop + 0.4 + rng.exponential(1 / rate)

    occur("touch", TOUCH_RATE * np.exp(TOUCH_SLOPE * cues["touch"]), [(0.0, end)], 1.4, 2.6)
    heard = [(line.start, line.stop) for line in lines if line.seat == 1 - seat]
    occur("nod", NOD_RATE * np.exp(NOD_SLOPE * cues["lean"]), heard, 0.8, 1.2)
    if task in ("lego", "ghost"):
        occur("reach", {"lego": 0.35, "ghost": 0.2}[task], [(0.5, end)], 0.7, 1.1)
    return tuple(sorted(found, key=lambda e: e.start))
