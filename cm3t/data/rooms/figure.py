"""A person made of capsules, placed joint by joint: every limb is a MuJoCo mocap body set from two points.

Frame of a person: x to its right, y forward, z up; metres. `Look` holds what varies between people.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .render import mujoco

# limb: (joint at its start, joint at its end, radius, colour group)
LIMBS = {
    "torso": ("pelvis", "chest", 0.125, "shirt"),
    "shoulders": ("l_shoulder", "r_shoulder", 0.062, "shirt"),
    "hips": ("l_hip", "r_hip", 0.085, "trousers"),
    "neck": ("chest", "head", 0.045, "skin"),
    **{f"{s}_upper_arm": (f"{s}_shoulder", f"{s}_elbow", 0.05, "shirt") for s in "lr"},
    **{f"{s}_forearm": (f"{s}_elbow", f"{s}_wrist", 0.039, "sleeve") for s in "lr"},
    **{f"{s}_hand": (f"{s}_wrist", f"{s}_hand", 0.036, "skin") for s in "lr"},
    **{f"{s}_thigh": (f"{s}_hip", f"{s}_knee", 0.072, "trousers") for s in "lr"},
    **{f"{s}_shin": (f"{s}_knee", f"{s}_ankle", 0.052, "trousers") for s in "lr"},
    **{f"{s}_foot": (f"{s}_ankle", f"{s}_toe", 0.042, "shoes") for s in "lr"},
}
SKINS = ((0.95, 0.78, 0.66), (0.87, 0.67, 0.53), (0.72, 0.50, 0.37), (0.50, 0.33, 0.23), (0.36, 0.23, 0.16))
HAIRS = ((0.12, 0.08, 0.05), (0.35, 0.22, 0.10), (0.75, 0.60, 0.30), (0.55, 0.55, 0.55), (0.50, 0.20, 0.08))


@dataclass(frozen=True)
class Look:
    """Colours (r, g, b) by group, and the build: ``tall`` and ``broad`` scale lengths and radii."""

    colours: dict[str, tuple[float, float, float]]
    tall: float
    broad: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Look:
        """A random person."""
        skin = np.array(SKINS[rng.integers(len(SKINS))]) * rng.uniform(0.92, 1.06)
        shirt = _saturated(rng)
        colours = {
            "skin": skin,
            "shirt": shirt,
            "sleeve": shirt * 0.95 if rng.random() < 0.4 else skin,
            "trousers": _saturated(rng) * rng.uniform(0.35, 0.8),
            "shoes": np.full(3, rng.uniform(0.05, 0.6)),
            "hair": np.array(HAIRS[rng.integers(len(HAIRS))]),
        }
        clipped = {name: tuple(np.clip(rgb, 0, 1).round(3)) for name, rgb in colours.items()}
        return cls(clipped, float(rng.uniform(0.9, 1.1)), float(rng.uniform(0.85, 1.25)))


def _saturated(rng: np.random.Generator) -> np.ndarray:
    rgb = rng.uniform(0.15, 0.95, 3)
    return rgb if np.ptp(rgb) > 0.25 else rgb * rng.permutation([0.5, 1.0, 1.0])


def rgba(rgb) -> str:
    """An XML colour."""
    return " ".join(f"{v:.3f}" for v in rgb) + " 1"


def limbs_xml(look: Look, prefix: str = "") -> str:
    """MJCF of a person's limbs and skull; ``prefix`` stands before their names (several people in one scene)."""
    limbs = "".join(
        f'<body name="{prefix}{name}" mocap="true"><geom name="{prefix}{name}" type="capsule" '
        f'size="{radius * look.broad:.4f} .1" rgba="{rgba(look.colours[group])}"/></body>'
        for name, (_, _, radius, group) in LIMBS.items()
    )
    skin, hair = rgba(look.colours["skin"]), rgba(look.colours["hair"])
    return f"""{limbs}<body name="{prefix}skull" mocap="true">
      <geom type="ellipsoid" size=".078 .095 .118" rgba="{skin}"/>
      <geom type="ellipsoid" size=".086 .09 .085" pos="0 -.028 .052" rgba="{hair}"/>
      <geom type="sphere" size=".016" pos=".032 .088 .02" rgba=".05 .05 .05 1"/>
      <geom type="sphere" size=".016" pos="-.032 .088 .02" rgba=".05 .05 .05 1"/>
      <geom type="capsule" size=".013" fromto="0 .09 -.005 0 .11 -.02" rgba="{skin}"/></body>"""


def scene_xml(look: Look, rng: np.random.Generator, extra: str = "") -> str:
    """MJCF of a room (floor, walls, one or two plain boxes far behind), the person's limbs, and ``extra`` bodies."""
    floor, wall = rng.uniform(0.35, 0.75, 3), rng.uniform(0.5, 0.9, 3)
    pattern = ("checker", "flat")[int(rng.random() < 0.4)]
    walls = "".join(
        f'<geom type="box" pos="{x} {y} 1.6" size="{abs(y) and 5 or 0.05} {abs(x) and 5 or 0.05} 1.7" material="wall"/>'
        for x, y in ((5, 0), (-5, 0), (0, 5), (0, -5))
    )
    angles = rng.uniform(0, 2 * np.pi, rng.integers(1, 4))
    boxes = "".join(_box(angle, rng) for angle in angles)
    return f"""<mujoco><visual><map znear="0.02"/><headlight ambient=".45 .45 .45" diffuse=".45 .45 .45"/></visual>
    <asset><texture name="floor" type="2d" builtin="{pattern}" width="64" height="64" rgb1="{rgba(floor)[:-2]}"
      rgb2="{rgba(floor * 0.82)[:-2]}"/><material name="floor" texture="floor" texrepeat="8 8"/>
      <material name="wall" rgba="{rgba(wall)}"/></asset>
    <worldbody><light directional="true" pos="0 0 4" dir=".3 .4 -1" diffuse=".45 .45 .45" castshadow="false"/>
      <geom type="plane" size="6 6 .1" material="floor"/>{walls}{boxes}{limbs_xml(look)}{extra}</worldbody></mujoco>"""


def _box(angle: float, rng: np.random.Generator) -> str:
    """A plain box in the background, 4 m away at ``angle`` radians."""
    high, deep, wide = rng.uniform(0.3, 0.9), rng.uniform(0.2, 0.5), rng.uniform(0.3, 0.9)
    place_of = f"{4 * np.cos(angle):.2f} {4 * np.sin(angle):.2f} {high:.2f}"
    colour = rgba(rng.uniform(0.2, 0.8, 3))
    return (
        f'<geom type="box" pos="{place_of}" euler="0 0 {np.degrees(angle):.0f}" '
        f'size="{deep:.2f} {wide:.2f} {high:.2f}" rgba="{colour}"/>'
    )


def axes_quaternion(matrix: np.ndarray) -> np.ndarray:
    """Quaternion (w, x, y, z) of a rotation matrix (3, 3)."""
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(matrix, dtype=float).ravel())
    return quat


def along(direction: np.ndarray) -> np.ndarray:
    """Quaternion that turns z to ``direction`` (3,)."""
    quat = np.zeros(4)
    mujoco.mju_quatZ2Vec(quat, np.asarray(direction, dtype=float))
    return quat


def put(model: mujoco.MjModel, data: mujoco.MjData, name: str, position, quaternion=(1, 0, 0, 0)) -> None:
    """Place a mocap body."""
    slot = model.body(name).mocapid[0]
    data.mocap_pos[slot], data.mocap_quat[slot] = position, quaternion


def place_limbs(
    model: mujoco.MjModel, data: mujoco.MjData, joints: dict[str, np.ndarray], head: np.ndarray, prefix: str = ""
) -> None:
    """Set all limbs from world joint positions (3,), and the skull from the head's axes.

    ``head`` is (3, 3), its columns right, forward, up. ``prefix`` as in `limbs_xml`.
    """
    for name, (start, stop, _, _) in LIMBS.items():
        a, b = joints[start], joints[stop]
        length = np.linalg.norm(b - a)
        put(model, data, prefix + name, (a + b) / 2, along((b - a) / max(length, 1e-6)))
        model.geom_size[model.geom(prefix + name).id, 1] = length / 2
    put(model, data, prefix + "skull", joints["head"] + head[:, 2] * 0.06, axes_quaternion(head))


def elbow(
    shoulder: np.ndarray, wrist: np.ndarray, upper: float, fore: float, pole: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Two-bone inverse kinematics: the elbow and the (reachable) wrist, bent towards ``pole`` (3,)."""
    reach = wrist - shoulder
    distance = np.linalg.norm(reach)
    direction = reach / max(distance, 1e-6)
    distance = np.clip(distance, abs(upper - fore) + 1e-3, 0.999 * (upper + fore))
    cosine = (upper**2 + distance**2 - fore**2) / (2 * upper * distance)
    side = pole - direction * (pole @ direction)
    side = side / max(np.linalg.norm(side), 1e-6)
    bend = shoulder + upper * (cosine * direction + np.sqrt(max(0.0, 1 - cosine**2)) * side)
    return bend, shoulder + direction * distance
