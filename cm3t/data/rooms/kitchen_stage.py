"""A script on the stage: pose the kitchen, the hand and the head at any second, and draw it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cm3t.data.rooms import kitchen_scene
from cm3t.data.rooms.kitchen_hand import HandPose, blend, frame_of, grip_pose
from cm3t.data.rooms.kitchen_script import IDLE, Motion, Script
from cm3t.data.rooms.kitchen_world import FIXTURES, SPOTS, Dials
from cm3t.data.rooms.render import Renderer, mujoco, place

REST_Z = {"kettle": 1.626, "cup": 1.602}
BURNERS = {"hob_left": "Burner 2", "hob_right": "Burner 1"}


def smooth(x: float) -> float:
    """Minimum-jerk step: 0 below 0, 1 above 1."""
    x = min(1.0, max(0.0, x))
    return x * x * x * (10 + x * (6 * x - 15))


class Stage:
    """One participant's kitchen, ready to be drawn at any time of one of the participant's scripts; a context manager.

    ``look`` may differ from ``script.participant`` in eye, palette, light (the gap renderings).
    """

    def __init__(self, script: Script, dials: Dials, look=None):
        self.script, self.dials = script, dials
        self.person = look or script.participant
        self.model = kitchen_scene.build(self.person, dials)
        self.data = mujoco.MjData(self.model)
        self.renderer = Renderer(self.model, dials.size, supersample=dials.supersample, lights=3)
        self.side = -1.0 if self.person.left_handed else 1.0
        rng = np.random.default_rng([script.seed, 13])
        self.phases = rng.uniform(0, 2 * np.pi, (6, 2))
        self.rates = rng.uniform([[0.05, 0.2]] * 6, [[0.15, 0.5]] * 6)
        model = self.model
        self.joint = {j: model.jnt_qposadr[model.joint(j).id] for j in (f.joint for f in FIXTURES.values()) if j}
        self.site = {name: model.site(f.site).id for name, f in FIXTURES.items()}
        self.mocap = {b: model.body_mocapid[model.body(b).id] for b in ("hand", "arm", "head", "kettle", "cup")}
        digits = ("f0", "f1", "f2", "f3", "t")
        self.finger = [[model.jnt_qposadr[model.joint(f"{d}{k}").id] for k in "ab"] for d in digits]
        self.water, self.lamp = model.geom("water").id, model.geom("lamp").id
        self.burner = {k: int(model.body_geomadr[model.body(b).id]) for k, b in BURNERS.items()}
        self.glass = model.material("micro_window").id
        self.ovenlight, self.ceiling = model.light("ovenlight").id, model.light("ceiling").id
        self.colours = {"burner": np.array([0.1, 0.1, 0.1]), "glass": model.mat_rgba[self.glass].copy()}

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.renderer.close()

    def frames(self, times: np.ndarray) -> Iterator[np.ndarray]:
        """Pictures uint8 (size, size, 3) at ``times`` (seconds, rising)."""
        for t in times:
            self.pose(float(t))
            yield self.renderer.frame(self.data, "eye")

    # --- the state at a time -------------------------------------------------------------------------------------
    def around(self, t: float) -> tuple[Motion | None, Motion | None]:
        """The motion under way at ``t`` (or None) and the last one before it."""
        before = None
        for motion in self.script.motions:
            if motion.start > t:
                break
            if t < motion.stop:
                return motion, before
            before = motion
        return None, before

    def value(self, name: str, t: float) -> float:
        """State of a fixture, 0 to 1."""
        value = self.script.initial[name]
        for motion in self.script.motions:
            if motion.start > t:
                break
            if motion.fixture == name and motion.kind == "act":
                done = smooth((t - motion.contact) / (motion.release - motion.contact))
                value = motion.before + (motion.after - motion.before) * done
        return value

    def running(self, name: str, t: float) -> float:
        """How warm a machine is: 0 off, rising to 1 over some seconds (so that it does not give the action away)."""
        since = [t - r.on for r in self.script.runs if r.fixture == name and r.on <= t < r.off]
        return min(1.0, since[0] / 2.5) if since else 0.0

    def hold_point(self) -> np.ndarray:
        """Where the hand holds an object it has taken: (3,) metres, before the eye, low, to its own side."""
        eye = np.array(self.person.eye)
        return eye + (0.2 * self.side, 0.42, -0.72)

    def object_at(self, name: str, t: float) -> tuple[np.ndarray, bool]:
        """Where an object's foot is, and whether it is in the hand."""
        spot, now = self.script.spots[name], None
        for motion in self.script.motions:
            if motion.start > t or (motion.fixture == name and motion.kind == "act" and t < motion.stop):
                now = motion if motion.start <= t and motion.fixture == name else None
                break
            if motion.fixture == name and motion.kind == "act":
                spot = motion.target
        place_of = lambda s: self.hold_point() if s is None else np.array([*SPOTS[name][s], REST_Z[name]])  # noqa: E731
        if now is None or now.kind != "act":
            return place_of(spot), spot is None
        begin = now.start if now.origin is None else now.contact
        w = smooth((t - begin) / (now.release - begin))
        point = place_of(now.origin) * (1 - w) + place_of(now.target) * w
        lift = 0.05 if now.origin is not None and now.target is not None else 0.12
        return point + (0, 0, lift * np.sin(np.pi * w)), w < 1 or now.target is None

    # --- posing --------------------------------------------------------------------------------------------------
    def pose(self, t: float) -> None:
        """Set every joint, colour and mocap body for time ``t``."""
        model, data = self.model, self.data
        for name, fixture in FIXTURES.items():
            if fixture.joint:
                value = self.value(name, t)
                data.qpos[self.joint[fixture.joint]] = fixture.closed + value * (fixture.open - fixture.closed)
        for name in SPOTS:
            data.mocap_pos[self.mocap[name]] = self.object_at(name, t)[0]
        self._machines(t)
        place(model, data)
        hand, target = self._hand(t)
        self._put_hand(hand)
        self._put_head(t, target)
        place(model, data)

    def _machines(self, t: float) -> None:
        model, glow = self.model, self.dials.glow
        model.geom_rgba[self.water, 3] = 0.8 * min(1.0, 2 * self.value("tap", t))
        for name, geom in self.burner.items():
            warm = glow * self.running(name, t)
            model.geom_matid[geom] = -1
            model.geom_rgba[geom] = (*(self.colours["burner"] * (1 - warm) + np.array([1, 0.25, 0.1]) * warm), 1)
        model.mat_rgba[self.glass, :3] = self.colours["glass"][:3] + 0.5 * glow * self.running("microwave_button", t)
        lit = self.value("light", t)
        model.geom_rgba[self.lamp] = (1, 0.97, 0.85, 1) if lit > 0.5 else (0.4, 0.39, 0.36, 1)
        model.geom_matid[self.lamp] = -1
        model.light_diffuse[self.ovenlight] = np.array([0.6, 0.56, 0.5]) * (1.0 if lit > 0.5 else 0.15)

    def _idle_pose(self, idle: tuple[float, float, float]) -> HandPose:
        side, height, ahead = idle
        return grip_pose("rest", np.array([self.person.eye[0] + side * self.side, -0.1 + ahead, height]),
                         left=self.person.left_handed, scale=self.person.hand_scale, closure=1.0)  # fmt: skip

    def _hold_pose(self, name: str, closure: float, offset=(0, 0, 0)) -> HandPose:
        fixture = FIXTURES[name]
        exact = 0.5 if fixture.kind in ("knob", "switch", "button") else 1.0
        point = self.data.site_xpos[self.site[name]] + exact * np.asarray(offset)
        twist = 0.0
        if fixture.kind == "knob":
            twist = -0.5 * float(self.data.qpos[self.joint[fixture.joint]]) - 0.4
        return grip_pose(
            fixture.grip,
            point,
            left=self.person.left_handed,
            scale=self.person.hand_scale,
            closure=closure,
            twist=twist,
        )

    def _hand(self, t: float) -> tuple[HandPose, np.ndarray]:
        motion, last = self.around(t)
        idle = self._idle_pose(last.idle if last else IDLE[0])
        held = next((n for n in SPOTS if self.object_at(n, t)[1]), None)
        if motion is None:
            pose = self._hold_pose(held, 1.0) if held else idle
            return self._tremble(pose, t), pose.point
        closed = min(smooth((t - motion.contact + 0.15) / 0.15), 1 - smooth((t - motion.release) / 0.15))
        grasp = self._hold_pose(motion.fixture, closed if motion.kind == "act" else 0.0, motion.offset)
        if held and (t < motion.contact and motion.origin is None or t > motion.release):  # it is being carried
            return self._tremble(self._hold_pose(held, 1.0), t), grasp.point
        if FIXTURES[motion.fixture].kind == "button" and motion.kind == "act":
            press = np.sin(np.pi * min(1, max(0, (t - motion.contact) / (motion.release - motion.contact))))
            grasp = blend(grasp, self._moved(grasp, (0, 0.02, 0)), press)
        rising = t < motion.contact
        w = (
            smooth((t - motion.start) / (motion.contact - motion.start))
            if rising
            else 1 - smooth((t - motion.release) / (motion.stop - motion.release))
        )
        rest = idle if rising else self._idle_pose(motion.idle)
        pose = blend(rest, grasp, w * motion.depth)
        return self._tremble(self._moved(pose, (0, -motion.bow * np.sin(np.pi * w), 0)), t), grasp.point

    @staticmethod
    def _moved(pose: HandPose, shift) -> HandPose:
        return HandPose(pose.point + np.asarray(shift), pose.forward, pose.back, pose.contact, pose.bends)

    def _tremble(self, pose: HandPose, t: float) -> HandPose:
        return self._moved(pose, 0.008 * np.sin(2 * np.pi * self.rates[:3, 1] * 2 * t + self.phases[:3, 1]))

    def _put_hand(self, pose: HandPose) -> None:
        data = self.data
        wrist, rotation = frame_of(pose)
        _set_mocap(data, self.mocap["hand"], wrist, rotation)
        shoulder = np.array(self.person.eye) + (0.3 * self.side, -0.1, -0.5)
        along = wrist - shoulder
        y = along / np.linalg.norm(along)
        y = y + 0.25 * rotation[:, 1]  # the forearm bends towards the hand's direction
        y /= np.linalg.norm(y)
        z = np.array([0, 0, 1.0]) - y * y[2]
        z /= np.linalg.norm(z)
        _set_mocap(data, self.mocap["arm"], wrist, np.stack([np.cross(y, z), y, z], 1))
        for k, joints in enumerate(self.finger):
            bend = pose.bends[0 if k == 0 else 2 if k == 4 else 1]
            for j, joint in enumerate(joints):
                data.qpos[joint] = bend * (0.85 if j == 0 else 1.1)

    def _put_head(self, t: float, target: np.ndarray) -> None:
        """The head sways slowly and follows the hand's target a little (smoothed over half a second)."""
        person, dials = self.person, self.dials
        follow = getattr(self, "_followed", None)
        follow = target if follow is None or abs(t - self._follow_time) > 1 else follow + 0.2 * (target - follow)
        self._followed, self._follow_time = follow, t
        waves = np.sin(2 * np.pi * self.rates * t + self.phases) @ np.array([0.7, 0.3])
        eye = np.array(person.eye) + 0.02 * waves[:3]
        gaze = np.array(person.gaze)
        gaze = gaze + dials.gaze_gain * (follow - gaze)
        ahead = gaze - eye
        ahead = ahead / np.linalg.norm(ahead) + np.radians(dials.head_sway) * np.array([waves[3], 0, waves[4]])
        ahead /= np.linalg.norm(ahead)
        roll = np.radians(person.roll + dials.head_sway * waves[5])
        right = np.cross(ahead, (0, 0, 1.0))
        right /= np.linalg.norm(right)
        up = np.cross(right, ahead)
        x, y = np.cos(roll) * right + np.sin(roll) * up, np.cos(roll) * up - np.sin(roll) * right
        _set_mocap(self.data, self.mocap["head"], eye, np.stack([x, y, -ahead], 1))


def _set_mocap(data: mujoco.MjData, number: int, position: np.ndarray, rotation: np.ndarray) -> None:
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation).ravel())
    data.mocap_pos[number], data.mocap_quat[number] = position, quaternion
