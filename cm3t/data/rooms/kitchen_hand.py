"""The hand and arm one sees in first person: our own capsules, driven kinematically.

Local frame: y along the fingers, z out of the back of the hand, so the palm faces -z; a right hand's thumb is at -x.
Lengths are in scene metres (the Franka kitchen is about 1.75 times life size) before ``scale``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FINGERS = ((-0.057, 0.165, 0.95), (-0.019, 0.178, 1.05), (0.019, 0.172, 1.0), (0.056, 0.15, 0.82))  # x, y, length
PALM = 0.085  # from the wrist to the palm's middle

# Finger bends in radians: (index, other fingers, thumb); each bends twice.
SHAPES = {
    "rest": (0.35, 0.45, 0.3),
    "open": (0.2, 0.25, 0.0),
    "upright": (1.05, 1.1, 0.9),
    "over": (1.05, 1.1, 0.9),
    "pinch": (0.6, 0.75, 0.8),
    "point": (0.05, 1.35, 1.0),
}
# The point of the hand that meets the fixture, per grip.
CONTACTS = {
    "rest": (0.0, 0.12, -0.04),
    "upright": (0.0, 0.2, -0.055),
    "over": (0.0, 0.2, -0.055),
    "pinch": (-0.03, 0.26, -0.07),
    "point": (-0.057, 0.31, 0.0),
}


@dataclass(frozen=True)
class HandPose:
    """Where the hand is: ``point`` (3,) of contact in the world, ``forward`` and ``back`` unit, finger bends (3,)."""

    point: np.ndarray
    forward: np.ndarray
    back: np.ndarray
    contact: np.ndarray
    bends: np.ndarray


def blend(a: HandPose, b: HandPose, weight: float) -> HandPose:
    """The pose between ``a`` (0) and ``b`` (1)."""
    return HandPose(*(getattr(a, k) * (1 - weight) + getattr(b, k) * weight for k in HandPose.__dataclass_fields__))


def grip_pose(
    grip: str, point: np.ndarray, *, left: bool, scale: float, closure: float, twist: float = 0.0
) -> HandPose:
    """The hand holding something at ``point``; ``closure`` 0 (open) to 1; ``twist`` rolls it (radians, for knobs)."""
    side = -1.0 if left else 1.0
    ways = {"rest": (-0.25 * side, 1, 0.1), "upright": (0, 1, 0.15), "over": (0, 1, -0.25)}
    forward = np.array(ways.get(grip, (0, 1, 0.08)), float)
    backs = {"upright": (side, 0.1, 0.25), "rest": (0.3 * side, -0.2, 1)}
    back = np.array(backs.get(grip, (0.1 * side, 0.2, 1)), float)
    if twist:
        cos, sin = np.cos(twist), np.sin(twist)  # about the y axis
        back = np.array([cos * back[0] + sin * back[2], back[1], -sin * back[0] + cos * back[2]])
    ahead = SHAPES["point"] if grip == "point" else SHAPES["rest"] if grip == "rest" else SHAPES["open"]
    bends = np.array(ahead) * (1 - closure) + np.array(SHAPES[grip]) * closure
    contact = np.array(CONTACTS[grip]) * (side, 1, 1) * scale
    return HandPose(np.asarray(point, float), forward, back, contact, bends)


def frame_of(pose: HandPose) -> tuple[np.ndarray, np.ndarray]:
    """Wrist position (3,) and rotation matrix (3, 3) with columns x, y, z."""
    y = pose.forward / np.linalg.norm(pose.forward)
    z = pose.back - y * (pose.back @ y)
    z = z / np.linalg.norm(z)
    rotation = np.stack([np.cross(y, z), y, z], axis=1)
    return pose.point - rotation @ pose.contact, rotation


def hand_xml(*, scale: float, left: bool, skin: tuple, sleeve: tuple) -> str:
    """MJCF of two mocap bodies: ``hand`` (fingers on hinges f0a, f0b, ..., thumb ta, tb) and ``arm`` behind it."""
    side = -1.0 if left else 1.0
    tone = " ".join(f"{c:.3f}" for c in skin) + " 1"
    dark = " ".join(f"{c * 0.82:.3f}" for c in skin) + " 1"
    cloth = " ".join(f"{c:.3f}" for c in sleeve) + " 1"
    s = scale

    def capsule(y0: float, y1: float, radius: float, colour: str) -> str:
        ends = f"0 {y0 * s:.4f} 0 0 {y1 * s:.4f} 0"
        return f'<geom class="hand" type="capsule" fromto="{ends}" size="{radius * s:.4f}" rgba="{colour}"/>'

    def digit(name: str, pos: str, turn: str, first: float, second: float, radius: float) -> str:
        return (
            f'<body pos="{pos}" {turn}><joint name="{name}a" axis="-1 0 0"/>{capsule(0, first, radius, tone)}'
            f'<body pos="0 {first * s:.4f} 0"><joint name="{name}b" axis="-1 0 0"/>'
            f"{capsule(0, second, radius * 0.9, dark)}"
            f"</body></body>"
        )

    fingers = "".join(
        digit(f"f{i}", f"{side * x * s:.4f} {y * s:.4f} 0", "", 0.08 * n, 0.065 * n, 0.0175)
        for i, (x, y, n) in enumerate(FINGERS)
    )
    base = f"{-side * 0.06 * s:.4f} {0.06 * s:.4f} {-0.015 * s:.4f}"
    thumb = digit("t", base, f'euler="0 {-side * 0.9:.3f} {side * 0.75:.3f}"', 0.075, 0.06, 0.02)
    palm = f"{0.08 * s:.4f} {0.1 * s:.4f} {0.034 * s:.4f}"
    knuckles = f"{0.068 * s:.4f} {0.06 * s:.4f} {0.024 * s:.4f}"
    return f"""
    <body name="hand" mocap="true" pos="0 0 0">
      <geom class="hand" type="ellipsoid" size="{palm}" pos="0 {PALM * s:.4f} 0" rgba="{tone}"/>
      <geom class="hand" type="box" size="{knuckles}" pos="0 {0.11 * s:.4f} 0" rgba="{tone}"/>
      {fingers}{thumb}
    </body>
    <body name="arm" mocap="true" pos="0 0 0">
      {capsule(0.02, -0.2, 0.042, tone)}{capsule(-0.2, -0.55, 0.056, cloth)}{capsule(-0.55, -1.6, 0.07, cloth)}
    </body>"""
