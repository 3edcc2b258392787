"""What happens in a session of rooms-group: who does what when, and who speaks. numpy only.

A session is four people; a recording is what is cut together for one of them, the target, with the sound of the
microphone before the target's seat. So a session gives up to four recordings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cm3t.data.mpiigi_samples import BEHAVIOURS
from cm3t.data.rooms.group_world import BRIEF, KINDS, LEGS, PAUSES, SEATS, SECONDS, SHARES, SPEAKS, Dials, Take

FIRST = 1.0  # seconds before the first snippet
FRAME = 1 / 30  # starts are whole frames of the real set's rate


@dataclass(frozen=True)
class Act:
    """A behaviour of one person: its start and stop (seconds in the snippet), and free numbers for how it is done."""

    name: str
    start: float
    stop: float
    cycles: float
    size: float
    free: tuple[float, float, float]
    hands: tuple[float, float, float] = (0.0, 0.0, 0.0)  # Gesture and Fumble: height, apart, swing (metres)


@dataclass(frozen=True)
class Turn:
    """A seat speaks from start to stop (seconds in the recording), at a level (1 is normal)."""

    seat: int
    start: float
    stop: float
    level: float = 1.0


@dataclass(frozen=True)
class Snippet:
    """One annotated snippet: the target's seat, where it starts in its recording (seconds), and all four's acts."""

    sample_id: int
    take: Take
    seat: int
    start: float
    acts: dict[int, tuple[Act, ...]]
    crossed: dict[int, bool]
    turns: tuple[Turn, ...]

    @property
    def stop(self) -> float:
        """Seconds in the recording."""
        return self.start + SECONDS

    @property
    def recording(self) -> int:
        """Number of the recording, of session and seat."""
        return recording_number(self.take, self.seat)

    @property
    def labels(self) -> tuple[int, ...]:
        """Fourteen zeros and ones, in the order of `BEHAVIOURS`."""
        shown = {act.name for act in self.acts[self.seat]} | ({"Legs crossed"} if self.crossed[self.seat] else set())
        return tuple(int(name in shown) for name in BEHAVIOURS)


@dataclass(frozen=True)
class Script:
    """One session."""

    take: Take
    seed: int
    snippets: tuple[Snippet, ...]

    def of_seat(self, seat: int) -> tuple[Snippet, ...]:
        """The snippets of one target: a recording."""
        return tuple(snippet for snippet in self.snippets if snippet.seat == seat)

    def seconds(self, seat: int) -> float:
        """How long the recording of a target is."""
        return self.of_seat(seat)[-1].stop + FIRST


def recording_number(take: Take, seat: int) -> int:
    """Recordings are numbered from 1, four a session."""
    return (take.number - 1) * len(SEATS) + seat


def draw_act(name: str, span: tuple[float, float], dials: Dials, rng: np.random.Generator) -> Act:
    """One way of doing a behaviour within ``span``."""
    hands = (0.0, 0.0, 0.0)
    if name in ("Gesture", "Fumble"):
        more = name == "Gesture"
        low = (0.13, 0.03, 0.02)
        values = (rng.normal(m + more * d, s) for m, d, s in (dials.height, dials.apart, dials.swing))
        hands = tuple(round(float(max(v, least)), 4) for v, least in zip(values, low, strict=True))
    cycles, size = rng.uniform(2.2, 4.0), rng.uniform(0.8, 1.2)
    free = tuple(round(float(v), 4) for v in rng.uniform(-1, 1, 3))
    return Act(name, round(span[0], 3), round(span[1], 3), round(float(cycles), 3), round(float(size), 3), free, hands)


def _span(name: str, half: int | None, rng: np.random.Generator) -> tuple[float, float]:
    """When in a snippet a behaviour is shown; ``half`` 0 or 1 leaves room for another."""
    if half is not None:
        edge = rng.uniform(0.95, 1.2)
        return (rng.uniform(-0.3, 0.15), edge - 0.1) if half == 0 else (edge, SECONDS + rng.uniform(-0.15, 0.3))
    if name in BRIEF:
        start = rng.uniform(0.0, 0.6)
        return start, start + rng.uniform(1.1, 1.5)
    start, stop = rng.uniform(-0.6, 0.4), SECONDS + rng.uniform(-0.4, 0.6)
    return start, stop


def draw_acts(main: str | None, dials: Dials, rng: np.random.Generator) -> tuple[tuple[Act, ...], bool]:
    """A person's acts in a snippet, and whether the legs are crossed; ``main`` is the upper body's behaviour."""
    acts = []
    if main is not None:
        other = None
        if rng.random() < dials.second:
            names = [name for name in SHARES if name != main and {name, main} != {"Gesture", "Fumble"}]
            weights = np.array([SHARES[name] for name in names])
            other = str(rng.choice(names, p=weights / weights.sum()))
        order = int(rng.random() < 0.5)
        acts.append(draw_act(main, _span(main, None if other is None else order, rng), dials, rng))
        if other is not None:
            acts.append(draw_act(other, _span(other, 1 - order, rng), dials, rng))
    if rng.random() < LEGS["Leg movement"]:
        acts.append(draw_act("Leg movement", _span("Leg movement", None, rng), dials, rng))
    return tuple(acts), bool(rng.random() < LEGS["Legs crossed"])


def _speech(acts: tuple[Act, ...], seat: int, start: float, dials: Dials, rng: np.random.Generator) -> list[Turn]:
    """Who speaks during a snippet, given what the target does."""
    names = [act.name for act in acts]
    other = int(rng.choice([s for s in SEATS if KINDS[s] != KINDS[seat]]))
    third = int(rng.choice([s for s in SEATS if s not in (seat, other)]))
    begin, end = start - rng.uniform(0.1, 0.3), start + SECONDS + rng.uniform(0.1, 0.3)
    known = [name for name in names if name in SPEAKS]
    share = SPEAKS[known[0]] if known else dials.own_speech
    quiet = PAUSES.get(known[0]) if known else dials.quiet
    if "Shrug" in names and "Gesture" not in names:  # the end of a turn: the target stops, another goes on
        middle = start + rng.uniform(0.8, 1.3)
        turns = [Turn(seat, begin, middle), Turn(other, middle + rng.uniform(0.1, 0.3), end)]
    elif quiet and rng.random() < quiet:
        turns = []
    elif rng.random() < share:
        turns = [Turn(seat, begin, end)]
    else:
        turns = [Turn(other, begin, end)]
    if turns and rng.random() < dials.mumble:
        at = start + rng.uniform(0.2, SECONDS - 0.5)
        turns.append(Turn(third, at, at + rng.uniform(0.2, 0.35), 0.4))
    return [Turn(t.seat, round(float(t.start), 3), round(float(t.stop), 3), t.level) for t in turns]


def _quota(count: int, shares: dict, rng: np.random.Generator) -> list:
    """``count`` draws that keep the shares up to rounding, in random order; what is left over is None."""
    whole = {name: int(share * count + rng.random()) for name, share in shares.items()}
    drawn = [name for name, k in whole.items() for _ in range(k)][:count]
    drawn += [None] * (count - len(drawn))
    return [drawn[i] for i in rng.permutation(count)]


def plan(dials: Dials) -> list[Script]:
    """All sessions: the main behaviours of a split keep their shares; seats and everything else are drawn."""
    scripts, number = [], 1
    mains: dict[str, list] = {}
    for split in ("train", "tune", "val"):
        rng = np.random.default_rng([dials.seed, 1, sum(split.encode())])
        mains[split] = _quota(sum(getattr(dials, split)), SHARES, rng)
    for take in dials.takes():
        seed = dials.seed * 1000 + take.number
        rng = np.random.default_rng([seed, 2])
        seats = _quota(take.snippets, dict(zip(SEATS, dials.seat_shares, strict=True)), rng)
        snippets, times = [], dict.fromkeys(SEATS, FIRST)
        for seat in seats:
            seat = int(rng.choice(SEATS, p=dials.seat_shares)) if seat is None else seat
            start = round(times[seat] / FRAME) * FRAME
            acts, crossed = {}, {}
            for s in SEATS:
                main = mains[take.split].pop() if s == seat else _someone(rng)
                acts[s], crossed[s] = draw_acts(main, dials, rng)
            turns = tuple(_speech(acts[seat], seat, start, dials, np.random.default_rng([seed, 3, number])))
            snippets.append(Snippet(number, take, seat, start, acts, crossed, turns))
            number += 1
            times[seat] = start + SECONDS + rng.uniform(*dials.pause)
        scripts.append(Script(take, seed, tuple(snippets)))
    return scripts


def _someone(rng: np.random.Generator) -> str | None:
    """What one of the others does: drawn as a target's, whoever speaks."""
    names = [*SHARES, None]
    weights = [*SHARES.values(), 1 - sum(SHARES.values())]
    return names[int(rng.choice(len(names), p=weights))]
