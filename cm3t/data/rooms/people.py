"""Ten hand and body actions of seated and standing people (capsule figures, two-bone inverse kinematics).

An action is a function of time in [0, 1] that moves the person's wrists, head and lean away from a rest pose. Frame of
the person, relative to the pelvis: x to the right, y forward, z up, metres. Actions are written for a right-hander and
mirrored for left-handers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from .figure import Look, elbow, place_limbs, put, rgba, scene_xml
from .render import Appearance, Renderer, View, mujoco, place
from .shots import Shot, child_rng, steps_between

UPPER, FORE, HAND = 0.29, 0.26, 0.09
STEPS = 120
PLACES = {"seated": 0.52, "standing": 0.93}  # height of the pelvis
TABLE = 0.20  # table top above the pelvis of a seated person


@dataclass
class Pose:
    """Where a person's hands and head are: wrists ``r`` and ``l`` (3,), hand directions, angles in radians."""

    r: np.ndarray
    l: np.ndarray  # noqa: E741
    r_hand: np.ndarray
    l_hand: np.ndarray
    pitch: float = 0.0
    yaw: float = 0.0
    lean: float = 0.0
    cup: np.ndarray | None = None


@dataclass(frozen=True)
class Manner:
    """How one person does an action: cycles, amplitude, free numbers in [-1, 1], when it begins and ends."""

    cycles: float
    size: float
    free: np.ndarray
    begin: float
    end: float
    returns: bool
    rest: Pose = field(repr=False)

    def up(self, t: float) -> float:
        """Smooth envelope: 0 at rest, 1 in the action."""
        rise = np.clip((t - self.begin) / 0.18, 0, 1)
        fall = np.clip((self.end - t) / 0.18, 0, 1) if self.returns else 1.0
        x = min(rise, fall)
        return float(x * x * (3 - 2 * x))

    def swing(self, t: float, faster: float = 1.0) -> float:
        """Oscillation in [-1, 1]."""
        return float(np.sin(2 * np.pi * self.cycles * faster * t + self.free[0]))


Action = Callable[[float, Manner], Pose]


def _blend(m: Manner, a: float, *, r=None, l=None, r_hand=None, l_hand=None, **angles) -> Pose:  # noqa: E741
    rest = m.rest

    def mix(x, y):
        return x if y is None else (1 - a) * x + a * np.asarray(y, float)

    scaled = {name: a * value for name, value in angles.items()}
    return Pose(mix(rest.r, r), mix(rest.l, l), mix(rest.r_hand, r_hand), mix(rest.l_hand, l_hand), **scaled)


def wave(t: float, m: Manner) -> Pose:
    """A raised hand swings from side to side."""
    s = m.swing(t)
    target = (0.36 + 0.12 * m.size * s + 0.03 * m.free[1], 0.18, 0.66 + 0.05 * m.free[2])
    return _blend(m, m.up(t), r=target, r_hand=(0.6 * s, 0, 1))


def clap(t: float, m: Manner) -> Pose:
    """Both hands meet in front of the chest again and again."""
    gap = 0.03 + 0.15 * m.size * (0.5 + 0.5 * m.swing(t, 1.6))
    y, z = 0.36 + 0.04 * m.free[1], 0.42 + 0.06 * m.free[2]
    return _blend(m, m.up(t), r=(gap, y, z), l=(-gap, y, z), r_hand=(-0.2, 0.8, 0.6), l_hand=(0.2, 0.8, 0.6))


def point(t: float, m: Manner) -> Pose:
    """An arm stretches out towards something and stays."""
    to = np.array([0.7 + 0.6 * m.free[1], 0.6, 0.2 + 0.3 * m.free[2]])
    to /= np.linalg.norm(to)
    return _blend(m, m.up(t), r=np.array([0.18, 0, 0.42]) + 0.54 * to, r_hand=to, yaw=-0.3 * to[0])


def drink(t: float, m: Manner) -> Pose:
    """A cup goes from the table (or waist) to the mouth and is tipped."""
    cup = m.rest.cup
    a, reach = m.up(t), np.clip(t / max(m.begin, 0.05), 0, 1)
    hold = m.rest.r + (cup - m.rest.r) * reach
    mouth = np.array([0.10, 0.17, 0.56])
    wrist = (1 - a) * hold + a * mouth
    pose = Pose(wrist, m.rest.l, (1 - a) * np.array([0, 1, 0.1]) + a * np.array([-0.5, 0.2, 0.6]), m.rest.l_hand)
    pose.pitch, pose.cup = -0.35 * a * m.size, wrist + pose.r_hand / np.linalg.norm(pose.r_hand) * 0.09
    if reach < 1:
        pose.cup = cup + np.array([0, 0.09, 0.0])
    return pose


def fold_arms(t: float, m: Manner) -> Pose:
    """Both forearms cross in front of the chest."""
    z = 0.26 + 0.03 * m.free[1]
    return _blend(m, m.up(t), r=(-0.13, 0.22, z + 0.03), l=(0.13, 0.20, z - 0.03), r_hand=(-1, -0.2, 0.2),
                  l_hand=(1, -0.2, 0.2), lean=-0.08)  # fmt: skip


def scratch_head(t: float, m: Manner) -> Pose:
    """A hand rubs the side of the head."""
    s = 0.035 * m.size * m.swing(t, 2)
    return _blend(m, m.up(t), r=(0.17, 0.03 + s, 0.70 + s), r_hand=(-0.8, 0, 0.7), pitch=0.12, yaw=0.15 * m.free[1])


def type_keys(t: float, m: Manner) -> Pose:
    """Both hands tap alternately on what lies in front."""
    s, z = m.swing(t, 2.2), (TABLE + 0.07 if m.rest.cup[2] < 0.3 else 0.22)
    lift = 0.045 * m.size
    return _blend(m, m.up(t), r=(0.11 + 0.02 * m.free[1], 0.40, z + lift * max(s, 0)), r_hand=(-0.1, 1, -0.4),
                  l=(-0.11, 0.40, z + lift * max(-s, 0)), l_hand=(0.1, 1, -0.4), pitch=0.4)  # fmt: skip


def raise_hand(t: float, m: Manner) -> Pose:
    """An arm goes straight up and stays."""
    return _blend(m, m.up(t), r=(0.24 + 0.05 * m.free[1], 0.05 * m.free[2], 0.95), r_hand=(0, 0, 1))


def nod(t: float, m: Manner) -> Pose:
    """The head goes down and up."""
    return _blend(m, m.up(t), pitch=0.32 * m.size * (0.6 + m.swing(t)), lean=0.08)


def stretch(t: float, m: Manner) -> Pose:
    """Both arms go up and out, the trunk leans back."""
    x = 0.34 + 0.12 * m.free[1]
    return _blend(m, m.up(t), r=(x, -0.06, 0.86), l=(-x, -0.06, 0.86), r_hand=(0.4, -0.2, 1), l_hand=(-0.4, -0.2, 1),
                  lean=-0.22 * m.size, pitch=-0.3)  # fmt: skip


ACTIONS: dict[str, Action] = {
    "wave": wave, "clap": clap, "point": point, "drink": drink, "fold-arms": fold_arms, "scratch-head": scratch_head,
    "type": type_keys, "raise-hand": raise_hand, "nod": nod, "stretch": stretch,
}  # fmt: skip


def class_names() -> list[str]:
    """The ten action names, sorted."""
    return sorted(ACTIONS)


def draw_manner(rng: np.random.Generator, seated: bool) -> Manner:
    """A random way of doing any action, with its rest pose."""
    jitter = rng.uniform(-0.03, 0.03, (3, 3))
    if seated:
        rest = Pose(np.array([0.2, 0.33, TABLE + 0.06]) + jitter[0], np.array([-0.2, 0.33, TABLE + 0.06]) + jitter[1],
                    np.array([-0.3, 1, -0.1]), np.array([0.3, 1, -0.1]))  # fmt: skip
        rest.cup = np.array([0.26, 0.40, TABLE + 0.07]) + jitter[2] * (2, 1, 0)
    else:
        rest = Pose(np.array([0.27, 0.04, -0.04]) + jitter[0], np.array([-0.27, 0.04, -0.04]) + jitter[1],
                    np.array([0, 0.2, -1]), np.array([0, 0.2, -1]))  # fmt: skip
        rest.cup = np.array([0.2, 0.3, 0.3]) + jitter[2]
    begin = rng.uniform(0.06, 0.16)
    return Manner(rng.uniform(2.2, 4.0), rng.uniform(0.75, 1.2), rng.uniform(-1, 1, 3), begin, rng.uniform(0.85, 1.0),
                  bool(rng.random() < 0.5), rest)  # fmt: skip


def joints_of(pose: Pose, look: Look, seated: bool, left_handed: bool) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Joint positions (3,) relative to the pelvis and the head's axes (3, 3) of a pose."""
    c, s = np.cos(pose.lean), np.sin(pose.lean)
    lean = np.array([[1, 0, 0], [0, c, s], [0, -s, c]])  # positive leans forward
    joints = {"pelvis": np.zeros(3), "chest": lean @ (0, 0, 0.47), "head": lean @ (0, 0.01, 0.57)}
    sides = {"r": (1, pose.r, pose.r_hand), "l": (-1, pose.l, pose.l_hand)}
    for side, (sign, wrist, hand) in sides.items():
        shoulder = lean @ (0.18 * sign, 0, 0.42)
        raised = np.clip((wrist[2] - 0.5) / 0.3, 0, 1)
        hanging = np.clip((0.15 - wrist[2]) / 0.15, 0, 1)
        pole = np.array([(0.7 - 0.5 * hanging) * sign, -0.35 * (1 - raised) - hanging, -1.0 + 0.9 * raised])
        joints[f"{side}_shoulder"] = shoulder
        joints[f"{side}_elbow"], joints[f"{side}_wrist"] = elbow(shoulder, np.asarray(wrist, float), UPPER, FORE, pole)
        joints[f"{side}_hand"] = joints[f"{side}_wrist"] + HAND * np.asarray(hand) / np.linalg.norm(hand)
        knee = (0.13 * sign, 0.42, -0.02) if seated else (0.11 * sign, 0.02, -0.43)
        ankle = (0.13 * sign, 0.40, -0.44) if seated else (0.12 * sign, 0, -0.85)
        joints[f"{side}_hip"], joints[f"{side}_knee"] = np.array([0.09 * sign, 0, -0.01]), np.array(knee)
        joints[f"{side}_ankle"] = np.array(ankle)
        joints[f"{side}_toe"] = joints[f"{side}_ankle"] + (0.02 * sign, 0.15, -0.03)
    cp, sp, cy, sy = np.cos(pose.pitch), np.sin(pose.pitch), np.cos(pose.yaw), np.sin(pose.yaw)
    head = lean @ np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    if left_handed:
        flip = np.array([-1.0, 1, 1])
        joints = {{"l_": "r_", "r_": "l_"}.get(n[:2], n[:2]) + n[2:]: p * flip for n, p in joints.items()}
        head = head * flip[:, None] * flip[None]
    return {name: p * look.tall for name, p in joints.items()}, head


def furniture(rng: np.random.Generator, look: Look, seated: bool) -> str:
    """MJCF of seat and table (seated), a cup, and sometimes a keyboard: present in every action alike."""
    cup_rgba = rgba(rng.uniform(0.3, 1, 3))
    cup = f'<body name="cup" mocap="true"><geom type="cylinder" size=".036 .05" rgba="{cup_rgba}"/></body>'
    if not seated:
        return cup
    wood, top = rgba(rng.uniform(0.25, 0.85, 3)), PLACES["seated"] + TABLE * look.tall
    keys = rgba(rng.uniform(0.05, 0.9, 3))
    board = f'<geom type="box" pos="0 .47 {top + 0.012:.3f}" size=".2 .08 .012" rgba="{keys}"/>'
    broad, cloth = rng.uniform(0.5, 0.9), rgba(rng.uniform(0.2, 0.7, 3))
    return f"""<geom type="box" pos="0 .72 {top - 0.02:.3f}" size="{broad:.2f} .45 .02" rgba="{wood}"/>
      <geom type="box" pos="0 -.02 {PLACES["seated"] - 0.14:.3f}" size=".22 .22 .04" rgba="{cloth}"/>
      <geom type="box" pos="0 -.02 .19" size=".05 .05 .19" rgba=".2 .2 .2 1"/>
      {board if rng.random() < 0.5 else ""}{cup}"""


def perform(name: str, *, seed: int, rollouts: int, views: int, size: int, frames: int) -> Iterator[Shot]:
    """All clips of one action; a rollout is one person doing it once (arguments as `manipulation.perform`)."""
    action = ACTIONS[name]
    for k in range(rollouts):
        rng = child_rng(seed, name, k)
        look, seated, left_handed = Look.draw(rng), rng.random() < 0.65, rng.random() < 0.5
        model = mujoco.MjModel.from_xml_string(scene_xml(look, rng, furniture(rng, look, seated)))
        manner, appearance = draw_manner(rng, seated), Appearance(model)
        pelvis = np.array([0, 0, PLACES["seated"] if seated else PLACES["standing"] * look.tall])
        with Renderer(model, size) as renderer:
            for view in range(views):
                steps = steps_between(STEPS, rng, frames=frames, head=0.12, tail=0.2) / (STEPS - 1)
                poses = [action(t, manner) for t in steps]
                appearance.vary(rng, light=0.2, tint=0.08)
                body = (look, seated, left_handed, pelvis)
                yield Shot(_film(poses, manner, body, model, renderer, rng), rollout=k, camera=f"front{view}")


def _film(poses, manner, body, model, renderer, rng) -> np.ndarray:
    look, seated, left_handed, pelvis = body
    data = mujoco.MjData(model)
    lookat = pelvis + np.array([0, 0.1, 0.40]) + rng.uniform(-1, 1, 3) * (0.14, 0.1, 0.08)
    drift = tuple(rng.uniform(-1, 1, 3) * (16, 5, 0.1)) if rng.random() < 0.35 else (0.0, 0.0, 0.0)
    azimuth, elevation = 270 + rng.uniform(-65, 65), rng.uniform(-24, 2)
    view = View(tuple(lookat), float(rng.uniform(1.35, 1.75)), float(azimuth), float(elevation), drift)
    pictures = []
    for k, pose in enumerate(poses):
        joints, head = joints_of(pose, look, seated, left_handed)
        place_limbs(model, data, {n: p + pelvis for n, p in joints.items()}, head)
        idle = manner.rest.cup + (0, 0.09, 0.0) if seated else np.array([0, -3.0, 0])
        at = (pose.cup if pose.cup is not None else idle) * (-1 if left_handed else 1, 1, 1)
        put(model, data, "cup", at * look.tall + pelvis)
        place(model, data)
        pictures.append(renderer.frame(data, view.camera(k / (len(poses) - 1))))
    return np.stack(pictures)
