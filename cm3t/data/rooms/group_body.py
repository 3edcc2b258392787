"""How the fourteen behaviours look: a person's joints at any time of a snippet.

Frame of a person as in `people`: relative to the pelvis, x to the right, y forward, z up, metres; acts are written for
right-handers and mirrored for left-handers. Sound is not seen: lips do not move.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .figure import Look, elbow
from .group_script import Act
from .people import FORE, HAND, UPPER, Manner, Pose, _blend, joints_of

REST = Pose(np.array([0.16, 0.27, 0.11]), np.array([-0.16, 0.27, 0.11]), np.array([-0.1, 1, -0.2]),
            np.array([0.1, 1, -0.2]))  # fmt: skip


def both_hands(t: float, m: Manner, act: Act) -> Pose:
    """Gesture and Fumble: both hands move before the body; only the act's three numbers tell them apart."""
    height, apart, swing = act.hands
    s, c = m.swing(t), m.swing(t, 1.37)
    y = 0.31 + 0.03 * m.free[1]
    right, left = (apart + 0.5 * swing * c, y, height + swing * s), (-apart + 0.5 * swing * s, y, height + swing * c)
    return _blend(m, m.up(t), r=right, l=left, r_hand=(-0.6, 1, 0.3), l_hand=(0.6, 1, 0.3), pitch=0.05)


def fold_arms(t: float, m: Manner, act: Act) -> Pose:
    """Both forearms cross before the chest."""
    z = 0.25 + 0.02 * m.free[1]
    return _blend(m, m.up(t), r=(-0.14, 0.22, z + 0.03), l=(0.14, 0.20, z - 0.03), r_hand=(-1, -0.2, 0.2),
                  l_hand=(1, -0.2, 0.2), lean=-0.08)  # fmt: skip


def groom(t: float, m: Manner, act: Act) -> Pose:
    """A hand strokes over the hair, slowly, from front to back."""
    s = m.swing(t, 0.5)
    return _blend(m, m.up(t), r=(0.14, 0.05 - 0.09 * s, 0.76 - 0.03 * abs(s)), r_hand=(-0.9, -0.2, 0.15), pitch=0.2)


def scratch(t: float, m: Manner, act: Act) -> Pose:
    """Quick small rubs, at the neck or on the other forearm."""
    s = 0.035 * m.size * m.swing(t, 1.8)
    if m.free[2] > 0.2:
        return _blend(m, m.up(t), r=(-0.05 + s, 0.30 + s, 0.19), r_hand=(-1, 0.2, -0.3), l=(-0.17, 0.28, 0.13),
                      pitch=0.25)  # fmt: skip
    return _blend(m, m.up(t), r=(0.16, 0.05 + s, 0.50 + 1.3 * s), r_hand=(-0.9, 0, 0.6), yaw=-0.2)


def hand_mouth(t: float, m: Manner, act: Act) -> Pose:
    """A hand lies on the mouth."""
    return _blend(m, m.up(t), r=(0.10 + 0.01 * m.free[1], 0.19, 0.51), r_hand=(-0.6, -0.1, 0.75), pitch=0.08)


def hand_face(t: float, m: Manner, act: Act) -> Pose:
    """The cheek rests on a hand."""
    return _blend(m, m.up(t), r=(0.14, 0.17, 0.51 + 0.015 * m.free[1]), r_hand=(-0.3, -0.35, 1), yaw=-0.3, pitch=0.1)


def adjust(t: float, m: Manner, act: Act) -> Pose:
    """Both hands take the shirt at the chest and tug it down."""
    s = 0.5 + 0.5 * m.swing(t, 0.9)
    z = 0.40 - 0.12 * s
    return _blend(m, m.up(t), r=(0.09, 0.19, z), l=(-0.09, 0.19, z), r_hand=(-0.6, -0.2, 0.5), l_hand=(0.6, -0.2, 0.5),
                  pitch=0.35)  # fmt: skip


def shrug(t: float, m: Manner, act: Act) -> Pose:
    """Forearms turn out; `joints_at` lifts the shoulders."""
    return _blend(m, m.up(t), r=(0.31, 0.28, 0.27), l=(-0.31, 0.28, 0.27), r_hand=(1, 0.5, 0.3), l_hand=(-1, 0.5, 0.3),
                  yaw=0.2 * m.free[1])  # fmt: skip


def stretch(t: float, m: Manner, act: Act) -> Pose:
    """Both arms go up and out, the trunk leans back."""
    x = 0.30 + 0.08 * m.free[1]
    return _blend(m, m.up(t), r=(x, -0.04, 0.82), l=(-x, -0.04, 0.82), r_hand=(0.4, -0.2, 1), l_hand=(-0.4, -0.2, 1),
                  lean=-0.2 * m.size, pitch=-0.3)  # fmt: skip


def smear(t: float, m: Manner, act: Act) -> Pose:
    """Both palms rub to and fro over the thighs."""
    y = 0.25 + 0.10 * m.size * m.swing(t, 1.2)
    return _blend(m, m.up(t), r=(0.14, y, 0.11), l=(-0.14, y, 0.11), pitch=0.15, lean=0.06 + 0.3 * (y - 0.25))


def settle(t: float, m: Manner, act: Act) -> Pose:
    """Hands push on the seat; `joints_at` lifts and shifts the trunk."""
    return _blend(m, m.up(t), r=(0.26, 0.06, 0.06), l=(-0.26, 0.06, 0.06), r_hand=(0, 1, -0.5), l_hand=(0, 1, -0.5),
                  lean=0.22)  # fmt: skip


UPPER_BODY: dict[str, Callable[[float, Manner, Act], Pose]] = {
    "Gesture": both_hands, "Fumble": both_hands, "Fold arms": fold_arms, "Groom": groom, "Scratch": scratch,
    "Hand-mouth": hand_mouth, "Hand-face": hand_face, "Adjusting clothing": adjust, "Shrug": shrug,
    "Stretching": stretch, "Smearing hands": smear, "Settle": settle,
}  # fmt: skip


def _manner(act: Act) -> Manner:
    length = act.stop - act.start
    cycles = act.cycles * length / 2  # per act: the act's number is for two seconds
    returns = act.name in ("Shrug", "Stretching", "Settle", "Adjusting clothing") or length < 1.5
    return Manner(cycles, act.size, np.array(act.free), 0.0, 1.0, returns, REST)


def joints_at(
    acts: tuple[Act, ...], crossed: bool, time: float, look: Look, left_handed: bool, phase: np.ndarray, sway: float
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A person's joints (3,) relative to the pelvis, and the head's axes (3, 3), at ``time`` seconds of a snippet.

    ``phase`` (4,) are the person's idle motions, ``sway`` scales them.
    """
    pose, lifted, shifted, legs = REST, 0.0, 0.0, None
    for act in acts:
        within = (time - act.start) / (act.stop - act.start)
        if not 0 <= within <= 1:
            continue
        if act.name == "Leg movement":
            legs = act
            continue
        manner = _manner(act)
        pose, up = UPPER_BODY[act.name](within, manner, act), manner.up(within)
        lifted = up if act.name == "Shrug" else lifted
        shifted = up * (1 if act.free[0] > 0 else -1) if act.name == "Settle" else shifted
    idle = sway * np.sin(2 * np.pi * np.array([0.23, 0.31, 0.4, 0.17]) * time + phase)
    pose = Pose(pose.r, pose.l, pose.r_hand, pose.l_hand, pose.pitch + 0.05 * idle[0], pose.yaw + 0.12 * idle[1],
                pose.lean + 0.015 * idle[2])  # fmt: skip
    joints, head = joints_of(pose, look, True, left_handed)
    if lifted:
        _lift_shoulders(joints, 0.085 * lifted * look.tall, look.tall)
    if shifted:
        shift = np.array([0.07 * shifted, 0.05 * abs(shifted), 0.06 * abs(shifted)])
        for name in joints:
            if not name.endswith(("knee", "ankle", "toe")):
                joints[name] = joints[name] + shift
    _legs(joints, crossed, left_handed, legs, time, look.tall)
    return joints, head


def _lift_shoulders(joints: dict[str, np.ndarray], by: float, tall: float) -> None:
    for side, sign in (("r", 1), ("l", -1)):
        joints[f"{side}_shoulder"] = joints[f"{side}_shoulder"] + (0, 0, by)
        pole = np.array([0.7 * sign, -0.35, -1.0])
        bend, wrist = elbow(joints[f"{side}_shoulder"], joints[f"{side}_wrist"], UPPER * tall, FORE * tall, pole)
        direction = joints[f"{side}_hand"] - joints[f"{side}_wrist"]
        joints[f"{side}_elbow"], joints[f"{side}_wrist"] = bend, wrist
        joints[f"{side}_hand"] = wrist + HAND * tall * direction / np.linalg.norm(direction)


def _legs(joints, crossed: bool, left_over: bool, act: Act | None, time: float, tall: float) -> None:
    """Crossed legs, and legs that move: a knee bounces, or the crossed foot bobs."""
    sign, side = (-1, "l") if left_over else (1, "r")
    other = "r" if left_over else "l"
    bounce = 0.0
    if act is not None:
        bounce = act.size * np.sin(2 * np.pi * 0.8 * act.cycles * (time - act.start) / 2 * 1.2 + act.free[0])
    if crossed:
        joints[f"{side}_knee"] = tall * np.array([0.03 * sign, 0.43, 0.10])
        joints[f"{side}_ankle"] = tall * np.array([-0.17 * sign, 0.56, -0.20 + 0.09 * bounce])
        joints[f"{side}_toe"] = joints[f"{side}_ankle"] + tall * np.array([-0.05 * sign, 0.13, 0.02 + 0.05 * bounce])
        joints[f"{other}_knee"] = tall * np.array([-0.10 * sign, 0.42, -0.03])
    elif act is not None:
        wide = 0.09 * bounce if act.free[1] > 0 else 0.0  # swings sideways, or up and down
        high = 0.0 if act.free[1] > 0 else 0.06 * (1 + bounce)
        for name, part in ((side, 1.0), (other, -1.0 if wide else 0.0)):
            joints[f"{name}_knee"] = joints[f"{name}_knee"] + tall * np.array([sign * wide * abs(part), 0, high * part])
            joints[f"{name}_ankle"] = joints[f"{name}_ankle"] + tall * np.array([0, 0, high * part])
