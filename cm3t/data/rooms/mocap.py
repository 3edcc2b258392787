"""Fifteen whole-body actions: the DeepMimic motion-capture clips that pybullet's wheel carries, on a capsule person.

Only two kinds of data file are read (motions: time step, root position, joint rotations; the skeleton's joint offsets).
pybullet itself is never imported. The files are y-up, facing +x; here z is up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from .assets import package_folder
from .figure import Look, place_limbs, scene_xml
from .render import Appearance, Renderer, View, mujoco, place
from .shots import Shot, child_rng

# joint: (parent, first column of its rotation after the time step, degrees of freedom in the file)
TREE = {
    "root": (None, 4, 4), "chest": ("root", 8, 4), "neck": ("chest", 12, 4),
    "right_hip": ("root", 16, 4), "right_knee": ("right_hip", 20, 1), "right_ankle": ("right_knee", 21, 4),
    "right_shoulder": ("chest", 25, 4), "right_elbow": ("right_shoulder", 29, 1),
    "left_hip": ("root", 30, 4), "left_knee": ("left_hip", 34, 1), "left_ankle": ("left_knee", 35, 4),
    "left_shoulder": ("chest", 39, 4), "left_elbow": ("left_shoulder", 43, 1),
}  # fmt: skip
CYCLIC = {"walk", "run", "crawl"}  # shown from any phase; all others from about their beginning to about their end
TO_Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
ELEVATIONS = (-4, -10, -18, -28)


def class_names() -> list[str]:
    """The fifteen motion names, sorted: ``"backflip"``, ``"cartwheel"``, ..."""
    folder = package_folder("pybullet_data", "data", "motions")
    return sorted(path.stem.removeprefix("humanoid3d_").replace("_", "-") for path in folder.glob("humanoid3d_*.txt"))


@cache
def offsets() -> dict[str, np.ndarray]:
    """Joint offsets (3,) in metres from the humanoid's URDF (written there four times too large)."""
    text = package_folder("pybullet_data", "humanoid", "humanoid.urdf").read_bytes().decode("utf-8", "replace")
    found = re.findall(r'<joint name="(\w+)".*?<origin[^>]*xyz\s*=\s*"([^"]+)"', text, flags=re.S)
    return {name: np.array(xyz.split(), float) / 4 for name, xyz in found}


@dataclass(frozen=True)
class Motion:
    """A motion: ``times`` (n,) in seconds and ``rows`` (n, 44), with the root's travel of one round."""

    name: str
    times: np.ndarray
    rows: np.ndarray

    @classmethod
    def load(cls, name: str) -> Motion:
        """Read one motion file of the installed package."""
        path = package_folder("pybullet_data", "data", "motions", f"humanoid3d_{name.replace('-', '_')}.txt")
        rows = np.array(json.loads(path.read_text())["Frames"], float)
        return cls(name, np.concatenate([[0], np.cumsum(rows[:-1, 0])]), rows)

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return float(self.times[-1])

    def at(self, time: float) -> np.ndarray:
        """Row (44,) at any time; beyond the end a cyclic motion goes on from where the root is."""
        rounds, inside = divmod(time, self.duration) if self.name in CYCLIC else (0, np.clip(time, 0, self.duration))
        k = int(np.clip(np.searchsorted(self.times, inside, side="right") - 1, 0, len(self.times) - 2))
        share = (inside - self.times[k]) / (self.times[k + 1] - self.times[k])
        a, b = self.rows[k].copy(), self.rows[k + 1].copy()
        for _, column, dof in TREE.values():
            if dof == 4 and a[column : column + 4] @ b[column : column + 4] < 0:
                b[column : column + 4] *= -1
        row = a + share * (b - a)
        row[[1, 3]] += rounds * (self.rows[-1] - self.rows[0])[[1, 3]]
        return row


def rotation(quaternion: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) of a quaternion (w, x, y, z), normalised first."""
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quaternion / max(np.linalg.norm(quaternion), 1e-9))
    return matrix.reshape(3, 3)


def turn(angle: float) -> np.ndarray:
    """Rotation about the vertical by ``angle`` radians."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def skeleton(row: np.ndarray, scale: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Forward kinematics of one row: joint positions (3,), z up, and the head's axes (3, 3; right, forward, up)."""
    place_of, axes, shift = {"root": row[1:4]}, {}, offsets()
    for name, (parent, column, dof) in TREE.items():
        if dof == 4:
            local = rotation(row[column : column + 4])
        else:
            c, s = np.cos(row[column]), np.sin(row[column])
            local = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])  # hinges turn about the skeleton's z
        if parent is None:
            axes[name] = local
        else:
            place_of[name] = place_of[parent] + axes[parent] @ shift[name]
            axes[name] = axes[parent] @ local
    joints = {"pelvis": place_of["root"], "chest": place_of["neck"]}
    joints["head"] = place_of["neck"] + axes["neck"] @ (0, 0.1, 0)
    for s, side in (("r", "right"), ("l", "left")):
        for joint in ("shoulder", "elbow", "hip", "knee", "ankle"):
            joints[f"{s}_{joint}"] = place_of[f"{side}_{joint}"]
        joints[f"{s}_wrist"] = place_of[f"{side}_elbow"] + axes[f"{side}_elbow"] @ (0, -0.259, 0)
        joints[f"{s}_hand"] = place_of[f"{side}_elbow"] + axes[f"{side}_elbow"] @ (0, -0.35, 0)
        joints[f"{s}_toe"] = place_of[f"{side}_ankle"] + axes[f"{side}_ankle"] @ (0.15, -0.03, 0)
    head = (
        TO_Z_UP @ axes["neck"] @ np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])
    )  # columns: z (right), x (forward), y (up)
    return {name: scale * (TO_Z_UP @ p) for name, p in joints.items()}, head


def mirrored(joints: dict[str, np.ndarray], head: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The same pose left-right exchanged."""
    flip = np.array([1.0, -1, 1])
    other = {"l_": "r_", "r_": "l_"}
    joints = {other.get(name[:2], name[:2]) + name[2:]: p * flip for name, p in joints.items()}
    forward, up = head[:, 1] * flip, head[:, 2] * flip
    return joints, np.stack([np.cross(forward, up), forward, up], axis=1)


def window(motion: Motion, rng: np.random.Generator, frames: int) -> np.ndarray:
    """Times (frames,) in seconds: 1 to 1.8 rounds of a cyclic motion from any phase, 70 to 100 % of any other."""
    if motion.name in CYCLIC:
        start = rng.uniform(0, motion.duration)
        return start + np.linspace(0, min(motion.duration * rng.uniform(1.0, 1.8), 3.0), frames)
    return np.linspace(rng.uniform(0, 0.2), 1 - rng.uniform(0, 0.1), frames) * motion.duration


def perform(name: str, *, seed: int, rollouts: int, views: int, size: int, frames: int) -> Iterator[Shot]:
    """All clips of one motion; a rollout is one person, heading and handedness.

    Arguments and yield as `manipulation.perform`.
    """
    motion = Motion.load(name)
    for k in range(rollouts):
        rng = child_rng(seed, name, k)
        look = Look.draw(rng)
        model = mujoco.MjModel.from_xml_string(scene_xml(look, rng))
        data, appearance = mujoco.MjData(model), Appearance(model)
        heading, flip = turn(rng.uniform(0, 2 * np.pi)), rng.random() < 0.5
        with Renderer(model, size, supersample=2) as renderer:
            for view in range(views):
                poses = []
                for time in window(motion, rng, frames):
                    joints, head = skeleton(motion.at(time), look.tall)
                    if flip:
                        joints, head = mirrored(joints, head)
                    poses.append(({name: heading @ p for name, p in joints.items()}, heading @ head))
                appearance.vary(rng, light=0.2, tint=0.08)
                yield Shot(_film(poses, model, data, renderer, rng), rollout=k, camera=f"orbit{view}")


def _film(poses, model, data, renderer, rng) -> np.ndarray:
    points = np.array([list(joints.values()) for joints, _ in poses])  # (T, J, 3)
    follow = rng.random() < 0.5
    roots = np.array([joints["pelvis"] for joints, _ in poses]) * (1, 1, 0)
    middle = np.zeros(3) if not follow else roots.mean(0)
    seen = points - (roots - middle)[:, None] if follow else points
    low, high = seen.reshape(-1, 3).min(0), seen.reshape(-1, 3).max(0)
    home = (low + high) / 2
    distance = np.clip(1.9 * np.linalg.norm(high - low) / 2 + 0.5, 1.9, 3.7) * rng.uniform(0.95, 1.15)
    centre = home + rng.uniform(-1, 1, 3) * 0.06 * distance
    drift = tuple(rng.uniform(-1, 1, 3) * (20, 6, 0.1)) if rng.random() < 0.35 else (0.0, 0.0, 0.0)
    elevation = float(rng.choice(ELEVATIONS) + rng.normal(0, 2))
    view = View((0, 0, 0), float(distance), float(rng.uniform(0, 360)), elevation, drift)
    away = home * (1, 1, 0)  # keeps the room's walls outside: the person stays near the origin
    pictures = []
    for k, (joints, head) in enumerate(poses):
        place_limbs(model, data, {name: p - away for name, p in joints.items()}, head)
        place(model, data)
        shift = centre - away + ((roots[k] - middle) if follow else 0)
        pictures.append(renderer.frame(data, view.camera(k / (len(poses) - 1), shift)))
    return np.stack(pictures)
