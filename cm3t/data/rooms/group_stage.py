"""The room of rooms-group on the stage: four people round a low table, drawn from three cameras a seat."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .figure import Look, limbs_xml, place_limbs, rgba
from .group_body import joints_at
from .group_script import Script, Snippet
from .group_world import SEATS, SECONDS, Dials
from .render import Appearance, Renderer, View, mujoco, place

RADIUS, PELVIS = 0.98, 0.52  # of the circle of chairs; height of a seated person's pelvis, metres
# The wall behind each seat: its colour and what hangs or stands there, in every recording the same.
WALLS = {1: (0.78, 0.66, 0.50), 2: (0.42, 0.54, 0.74), 3: (0.76, 0.62, 0.46), 4: (0.46, 0.58, 0.76)}
# What hangs there: (right, height, half width, half height, colour), metres from the middle of the wall.
THINGS = {
    1: ((-0.75, 1.45, 0.38, 0.28, (0.75, 0.15, 0.12)), (0.8, 1.35, 0.25, 0.4, (0.95, 0.85, 0.3))),
    2: ((0.0, 1.75, 1.2, 0.05, (0.35, 0.22, 0.12)), (-0.8, 1.0, 0.3, 1.0, (0.25, 0.25, 0.3))),
    3: ((-0.7, 1.3, 0.45, 0.6, (0.9, 0.95, 1.0)), (0.7, 1.3, 0.45, 0.6, (0.9, 0.95, 1.0))),
    4: ((0.85, 1.0, 0.42, 1.0, (0.4, 0.24, 0.14)), (-0.7, 1.5, 0.3, 0.3, (0.1, 0.35, 0.3))),
}
VIEWS = {0: (0.0, -15.0, 1.38), 1: (-45.0, -30.0, 1.46), 2: (45.0, -30.0, 1.46)}  # azimuth, elevation, distance


def turned(seat: int) -> np.ndarray:
    """Rotation (3, 3) from a seat's frame (y to the middle of the table) to the room's."""
    angle = (seat - 1) * np.pi / 2
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def _furniture(rng: np.random.Generator) -> str:
    """Floor, walls with their things, a low table with cups, four chairs."""
    floor, wood, cloth = rng.uniform(0.4, 0.5, 3), rgba((0.55, 0.42, 0.28)), rgba((0.2, 0.2, 0.24))
    parts = []
    for seat in SEATS:
        degrees, axes = (seat - 1) * 90, turned(seat)

        def at(x, y, z, axes=axes):
            return " ".join(f"{v:.3f}" for v in axes @ (x, y, z))

        parts.append(f'<geom type="box" pos="{at(0, -2.6, 1.5)}" euler="0 0 {degrees}" size="2.6 .05 1.6" '
                     f'rgba="{rgba(WALLS[seat])}"/>')  # fmt: skip
        for x, z, wide, high, colour in THINGS[seat]:
            parts.append(f'<geom type="box" pos="{at(x, -2.53, z)}" euler="0 0 {degrees}" '
                         f'size="{wide} .03 {high}" rgba="{rgba(colour)}"/>')  # fmt: skip
        back = -RADIUS - 0.2
        for y, z, size in (
            (-RADIUS, PELVIS - 0.14, ".23 .22 .04"),
            (back, 0.72, ".2 .03 .22"),
            (-RADIUS, 0.19, ".05 .05 .19"),
        ):
            parts.append(f'<geom type="box" pos="{at(0, y, z)}" euler="0 0 {degrees}" size="{size}" rgba="{cloth}"/>')
        cup = rgba(rng.uniform(0.3, 1, 3))
        x, y = rng.uniform(-0.08, 0.08), rng.uniform(-0.24, -0.18)
        parts.append(f'<geom type="cylinder" pos="{at(x, y, 0.46)}" size=".035 .045" rgba="{cup}"/>')
    return f"""<geom type="plane" size="6 6 .1" rgba="{rgba(floor)}"/>
      <geom type="cylinder" pos="0 0 .39" size=".33 .02" rgba="{wood}"/>
      <geom type="cylinder" pos="0 0 .19" size=".05 .19" rgba="{wood}"/>{"".join(parts)}"""


class Stage:
    """One recording's room, ready to be drawn; a context manager."""

    def __init__(self, script: Script, dials: Dials):
        self.script, self.dials = script, dials
        rng = np.random.default_rng([script.seed, 5])
        self.looks = {seat: Look.draw(rng) for seat in SEATS}
        self.left_handed = {seat: bool(rng.random() < 0.3) for seat in SEATS}
        self.shift = {(seat, view): rng.uniform(-1, 1, 5) for seat in SEATS for view in VIEWS}
        people = "".join(limbs_xml(look, f"p{seat}_") for seat, look in self.looks.items())
        self.model = mujoco.MjModel.from_xml_string(
            f"""<mujoco><visual><map znear="0.05"/><headlight ambient=".42 .42 .42" diffuse=".4 .4 .4"/></visual>
            <worldbody><light directional="true" pos="0 0 4" dir=".2 .3 -1" diffuse=".5 .5 .5" castshadow="false"/>
            {_furniture(rng)}{people}</worldbody></mujoco>"""
        )
        self.data = mujoco.MjData(self.model)
        Appearance(self.model).vary(rng, light=0.18, tint=0.04)
        self.renderer = Renderer(self.model, dials.size, supersample=dials.supersample)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.renderer.close()

    def camera(self, seat: int, view: int) -> mujoco.MjvCamera:
        """A seat's camera: fixed in a recording, a little different in every other."""
        azimuth, elevation, distance = VIEWS[view]
        shift = self.shift[seat, view] * self.dials.camera_spread
        lookat = turned(seat) @ (0.05 * shift[0], -RADIUS + 0.17, 0.82 + 0.03 * shift[1])
        azimuth += 270 + (seat - 1) * 90 + 4 * shift[2]
        return View(tuple(lookat), distance * (1 + 0.03 * shift[3]), azimuth, elevation + 2 * shift[4]).camera()

    def frames(self, snippet: Snippet, views: tuple[int, ...] = tuple(VIEWS)) -> Iterator[list[np.ndarray]]:
        """Pictures uint8 (size, size, 3) of every view, at each frame of a snippet."""
        cameras = [self.camera(snippet.seat, view) for view in views]
        for k in range(round(SECONDS * self.dials.fps)):
            self.pose(snippet, k / self.dials.fps)
            yield [self.renderer.frame(self.data, camera) for camera in cameras]

    def pose(self, snippet: Snippet, time: float) -> None:
        """Place all four at ``time`` seconds of a snippet."""
        rng = np.random.default_rng([self.script.seed, 7, snippet.sample_id])
        for seat in SEATS:
            phase, look = rng.uniform(0, 2 * np.pi, 4), self.looks[seat]
            joints, head = joints_at(
                snippet.acts[seat], snippet.crossed[seat], time, look, self.left_handed[seat], phase, self.dials.sway
            )
            axes = turned(seat)
            foot = axes @ (0, -RADIUS, PELVIS)
            placed = {name: axes @ p + foot for name, p in joints.items()}
            place_limbs(self.model, self.data, placed, axes @ head, f"p{seat}_")
        place(self.model, self.data)
