"""The pictures of rooms-dyad: one person at a table, filmed from where the other sits, moved by his script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from cm3t.data.rooms.dyad_script import Event, Script
from cm3t.data.rooms.dyad_world import Dials, Session
from cm3t.data.rooms.figure import Look, place_limbs, rgba, scene_xml
from cm3t.data.rooms.people import PLACES, TABLE, Pose, joints_of
from cm3t.data.rooms.render import Appearance, Renderer, View, mujoco, place

RAMP = 0.35  # seconds of a movement's beginning and end
TOUCHES = (  # a hand's place, its direction, how far the head comes to meet it
    ((0.05, 0.17, 0.53), (-0.4, -0.2, 0.8), 0.12),  # chin
    ((0.14, 0.02, 0.66), (-0.7, 0.0, 0.7), 0.08),  # hair
    ((0.13, 0.0, 0.50), (-0.6, -0.5, 0.3), 0.0),  # neck
    ((-0.16, 0.27, 0.33), (-1.0, 0.2, 0.1), 0.0),  # the other arm
)
PROPS = {  # how many boxes stand on the table, and their half sizes
    "animals": (1, (0.05, 0.01, 0.07)),
    "lego": (9, (0.022, 0.022, 0.014)),
    "ghost": (5, (0.018, 0.018, 0.035)),
}
COLOURS = ((0.8, 0.15, 0.1), (0.1, 0.3, 0.8), (0.95, 0.8, 0.1), (0.1, 0.6, 0.25), (0.9, 0.9, 0.9))


def envelope(t: float, start: float, stop: float) -> float:
    """0 outside (start, stop), 1 inside, smooth at both ends."""
    x = np.clip(min(t - start, stop - t) / RAMP, 0, 1)
    return float(x * x * (3 - 2 * x))


class Actor:
    """How one person of a script moves; ``pose`` is a function of time alone."""

    def __init__(self, script: Script, seat: int):
        rng = np.random.default_rng([script.seed, seat, 6])
        cues = script.cues[seat]
        self.size = float(np.clip(0.5 * np.exp(0.6 * cues["gesture"]), 0.08, 1.7))
        self.pace = float(rng.uniform(0.55, 0.8) * np.exp(0.12 * cues["gesture"]))
        self.lean = float(np.clip(0.06 + 0.15 * cues["lean"], -0.26, 0.40))
        self.speech = [(line.start, line.stop) for line in script.lines if line.seat == seat]
        self.events: dict[str, list[Event]] = {kind: [] for kind in ("touch", "nod", "reach")}
        for event in script.events[seat]:
            self.events[event.kind].append(event)
        self.phase = rng.uniform(0, 2 * np.pi, 6)
        jitter = rng.uniform(-0.03, 0.03, (2, 3)) * (1, 1, 0.3)
        forward = {"talk": 0.32, "animals": 0.34, "lego": 0.40, "ghost": 0.36}[script.task]
        self.rest_r = np.array([0.19, forward, TABLE + 0.06]) + jitter[0]
        self.rest_l = np.array([-0.19, forward, TABLE + 0.06]) + jitter[1]

    def wave(self, t: float, which: int, rate: float) -> float:
        """A slow oscillation in [-1, 1] with a phase of this person."""
        return float(np.sin(2 * np.pi * rate * t + self.phase[which]))

    def pose(self, t: float) -> Pose:
        """Hands, head and lean at a time (seconds)."""
        speaks = max([envelope(t, *span) for span in self.speech], default=0.0)
        size = self.size * (0.2 + 0.8 * speaks)
        beat, other = self.wave(t, 0, self.pace), self.wave(t, 1, 0.8 * self.pace)
        r = self.rest_r + size * np.array([0.10 * other, 0.02 * beat, 0.13 + 0.11 * beat])
        left = size * (0.25 + 0.6 * (self.size > 0.6))
        l = self.rest_l + left * np.array([-0.10 * beat, 0.02 * other, 0.13 + 0.11 * other])
        r_hand, l_hand = np.array([-0.3, 1, -0.1 + size]), np.array([0.3, 1, -0.1 + left])
        pose = Pose(r, l, r_hand, l_hand, lean=self.lean + 0.02 * self.wave(t, 2, 0.11))
        pose.yaw = 0.10 * self.wave(t, 3, 0.17)
        pose.pitch = 0.05 * self.wave(t, 4, 0.23) + 0.06 * speaks * self.wave(t, 5, 1.1)
        for event in self.events["reach"]:
            a = envelope(t, event.start, event.stop)
            pose.r = (1 - a) * pose.r + a * np.array([0.25 * (event.place - 0.4), 0.50, TABLE + 0.06])
        for event in self.events["touch"]:
            a = envelope(t, event.start, event.stop)
            (x, y, z), direction, bow = TOUCHES[int(event.place * len(TOUCHES))]
            rub = 0.02 * np.sin(2 * np.pi * 1.3 * t)
            pose.l = (1 - a) * pose.l + a * np.array([-x, y + np.sin(pose.lean) * z, z + rub])
            pose.l_hand = (1 - a) * pose.l_hand + a * np.array([-direction[0], *direction[1:]])
            pose.pitch += a * bow
        for event in self.events["nod"]:
            pose.pitch += 0.34 * envelope(t, event.start, event.stop) * np.sin(2 * np.pi * 1.9 * (t - event.start)) ** 2
        return pose


def props(session_seed: int, tall: float) -> str:
    """MJCF of the session's chair and table, and of what each task needs on it (geoms named after the task)."""
    rng = np.random.default_rng([session_seed, 9])
    top = PLACES["seated"] + TABLE * tall
    wood, cloth = rgba(rng.uniform(0.25, 0.85, 3)), rgba(rng.uniform(0.2, 0.7, 3))
    found = f"""<geom type="box" pos="0 .72 {top - 0.02:.3f}" size=".8 .45 .02" rgba="{wood}"/>
      <geom type="box" pos="0 -.02 {PLACES["seated"] - 0.14:.3f}" size=".22 .22 .04" rgba="{cloth}"/>"""
    for task, (count, (wide, deep, high)) in PROPS.items():
        for k in range(count):
            pos = f"{rng.uniform(-0.28, 0.28):.3f} {rng.uniform(0.46, 0.62):.3f} {top + high:.3f}"
            colour = rgba(np.array(COLOURS[k % len(COLOURS)]))
            found += f'<geom name="{task}{k}" type="box" pos="{pos}" size="{wide} {deep} {high}" rgba="{colour}"/>'
    return found


class Stage:
    """A session's room as one camera sees it; a context manager. ``frames`` draws the pictures of a task."""

    def __init__(self, session: Session, seat: int, dials: Dials):
        person, self.seat = session.people[seat], seat
        own, room = np.random.default_rng([person.seed, 3]), np.random.default_rng([session.seed, seat, 8])
        look = Look.draw(own)
        skin, shirt = look.colours["skin"], Look.draw(room).colours["shirt"]  # another day, another shirt
        sleeve = skin if look.colours["sleeve"] == skin else shirt
        self.look = replace(look, colours=look.colours | {"shirt": shirt, "sleeve": sleeve})
        self.left_handed = bool(own.random() < 0.15)
        self.model = mujoco.MjModel.from_xml_string(scene_xml(self.look, room, props(session.seed, look.tall)))
        quality = self.model.vis.quality  # limbs of fewer triangles: no difference to see, and half the time
        quality.numslices, quality.numstacks, quality.numquads = 12, 6, 2
        self.data = mujoco.MjData(self.model)
        Appearance(self.model).vary(room, light=0.2, tint=0.05)
        self.pelvis = np.array([0, 0, PLACES["seated"]])
        lookat = self.pelvis + (0, 0.1, 0.40) + room.uniform(-1, 1, 3) * (0.04, 0.03, 0.03)
        place_of = room.uniform((1.15, 261, -15), (1.3, 279, -8))
        self.camera = View(tuple(lookat), *map(float, place_of)).camera()
        self.renderer = Renderer(self.model, dials.size, supersample=dials.supersample)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.renderer.close()

    def frames(self, script: Script, times: np.ndarray) -> Iterator[np.ndarray]:
        """Pictures uint8 (H, W, 3) of a task at the times (n,)."""
        actor = Actor(script, self.seat)
        for task, (count, _) in PROPS.items():
            for k in range(count):
                self.model.geom(f"{task}{k}").rgba[3] = float(task == script.task)
        for t in times:
            joints, head = joints_of(actor.pose(float(t)), self.look, True, self.left_handed)
            place_limbs(self.model, self.data, {n: p + self.pelvis for n, p in joints.items()}, head)
            place(self.model, self.data)
            yield self.renderer.frame(self.data, self.camera)
