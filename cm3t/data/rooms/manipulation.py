"""Fifty manipulation actions: Meta-World tasks played by their scripted experts, with contact physics.

Each rollout starts from its own object and hand position, follows the expert with smooth noise on its actions, and is
drawn from several close third-person cameras. Goal sites are never drawn: they would print the label into the picture.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .assets import package_folder, thinned
from .render import Appearance, Renderer, View, mujoco, place
from .shots import Shot, child_rng, steps_between

STEPS = 300  # experts need 77 steps on average; the slowest tasks about 200
AFTERWARDS = 12  # steps shown after success, so that the end state is in the picture
SUFFIX = "-v3-goal-observable"  # the experts must see the goal; the pictures must not show it
TABLE = "table_wood"  # the table's material in every scene
# Choice: eight base poses (azimuth, elevation), from the two sides where neither arm nor fixture hides the hand.
POSES = ((348, -28), (0, -38), (8, -30), (356, -46), (168, -28), (178, -40), (158, -32), (190, -34))


@dataclass(frozen=True)
class Rollout:
    """States of one played task: ``qpos`` (n, nq), ``mocap`` (n, 3), and tracked ``points`` (n, 2, 3): hand, object."""

    qpos: np.ndarray
    mocap: np.ndarray
    points: np.ndarray
    body_pos: np.ndarray
    body_quat: np.ndarray
    success: bool


def class_names() -> list[str]:
    """The fifty task names without their version suffix, sorted: ``"drawer-open"``, ..."""
    return sorted(name.removesuffix(SUFFIX) for name in _environments())


def _environments() -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
    return ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE


def drawn_model(path: str) -> mujoco.MjModel:
    """The model that is drawn: thinned meshes, a plain light table, more light.

    Choice: as shipped the scenes are dark, and brown or dark red objects vanish on the brown wooden table.
    """
    spec = mujoco.MjSpec.from_file(path)
    for material in spec.materials:
        if material.name == TABLE:
            material.textures = [""] * len(material.textures)
    model = spec.compile()
    model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:] = 0.5, 0.5
    return model


class Task:
    """One Meta-World task: plays rollouts and draws them."""

    def __init__(self, name: str):
        from metaworld.policies import ENV_POLICY_MAP

        self.name = name
        self.env = _environments()[name + SUFFIX](seed=0)
        self.env._freeze_rand_vec, self.env.seeded_rand_vec = False, True
        self.env.max_path_length = 10_000
        self.policy = ENV_POLICY_MAP[f"{name}-v3"]
        self.hand_init = np.array(self.env.hand_init_pos, dtype=float)
        assets = package_folder("metaworld", "assets")
        self.model = drawn_model(self.env.model_name.replace(str(assets), str(thinned(assets))))

    def play(self, rng: np.random.Generator, *, tries: int = 4) -> Rollout:
        """A successful rollout; each further try is less noisy, the last is the bare expert (kept even if it fails)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the experts ask for more than the actuators give, and are clipped
            for k in range(tries):
                rollout = self._play_once(rng, calm=k / (tries - 1))
                if rollout.success:
                    break
        return rollout

    def _play_once(self, rng: np.random.Generator, calm: float) -> Rollout:
        env = self.env
        env.np_random = np.random.default_rng(int(rng.integers(2**31)))
        env.hand_init_pos = self.hand_init + (1 - calm) * rng.uniform([-0.05, -0.04, -0.02], [0.05, 0.04, 0.06])
        observed, _ = env.reset()
        policy, noise, scale = self.policy(), np.zeros(4), (1 - calm) * rng.uniform(0.05, 0.25)
        qpos, mocap, points, left = [], [], [], None
        for _ in range(STEPS):
            qpos.append(env.data.qpos.copy())
            mocap.append(env.data.mocap_pos.copy())
            points.append(np.stack([observed[0:3], observed[4:7]]))
            noise = 0.8 * noise + 0.6 * scale * rng.standard_normal(4) * (1, 1, 1, 0)
            observed, _, _, _, info = env.step(np.clip(policy.get_action(observed) + noise, -1, 1))
            if left is None and info["success"]:
                left = AFTERWARDS
            if left is not None:
                left -= 1
                if left < 0:
                    break
        states = (np.asarray(qpos), np.asarray(mocap), np.asarray(points))
        return Rollout(*states, env.model.body_pos.copy(), env.model.body_quat.copy(), left is not None)

    def shots(
        self,
        rollout: Rollout,
        rng: np.random.Generator,
        renderer: Renderer,
        look: Appearance,
        poses: list[int],
        frames: int,
    ) -> Iterator[tuple[str, np.ndarray]]:
        """One clip per pose index: (camera name, uint8 (frames, H, W, 3))."""
        model, data = self.model, mujoco.MjData(self.model)
        model.body_pos[:], model.body_quat[:] = rollout.body_pos, rollout.body_quat
        for pose in poses:
            steps = steps_between(len(rollout.qpos), rng, frames=frames)
            view = frame_view(rollout.points[steps], POSES[pose], rng)
            look.vary(rng, light=0.22, tint=0.12)
            look.paint(material=TABLE, rgb=tuple(rng.uniform(0.35, 0.6) + rng.uniform(-0.05, 0.05, 3)))
            pictures = []
            for k, step in enumerate(steps):
                data.qpos[:], data.mocap_pos[:] = rollout.qpos[step], rollout.mocap[step]
                place(model, data)
                pictures.append(renderer.frame(data, view.camera(k / (frames - 1))))
            yield f"side{pose}", np.stack(pictures)


def frame_view(points: np.ndarray, pose: tuple[float, float], rng: np.random.Generator) -> View:
    """A close camera that keeps the tracked points (n, k, 3) of a clip in the picture, off centre by chance."""
    flat = points.reshape(-1, 3)
    low, high = flat.min(0), flat.max(0)
    centre, radius = (low + high) / 2, np.linalg.norm(high - low) / 2
    distance = np.clip(0.36 + 1.75 * radius, 0.58, 1.05) * rng.uniform(0.95, 1.12)
    centre = centre + rng.uniform(-1, 1, 3) * (0.06, 0.06, 0.04) * distance
    drift = tuple(rng.uniform(-1, 1, 3) * (14, 6, 0.1)) if rng.random() < 0.35 else (0.0, 0.0, 0.0)
    azimuth, elevation = pose[0] + rng.normal(0, 4), pose[1] + rng.normal(0, 3)
    return View(tuple(centre), float(distance), float(azimuth), float(elevation), drift)


def perform(name: str, *, seed: int, rollouts: int, views: int, size: int, frames: int) -> Iterator[Shot]:
    """All clips of one task, rollout after rollout.

    Args:
        name: task name of `class_names`.
        seed: seed of the whole set; every rollout has its own generator derived from (seed, name, rollout).
        rollouts, views: number of rollouts and of cameras for each.
        size, frames: side in pixels and pictures a clip.
    Yields:
        `Shot` with frames uint8 (frames, size, size, 3).
    """
    task = Task(name)
    look = Appearance(task.model)
    with Renderer(task.model, size, skybox=True) as renderer:
        for k in range(rollouts):
            rng = child_rng(seed, name, k)
            rollout = task.play(rng)
            poses = [int(p) for p in rng.permutation(len(POSES))[:views]]
            for camera, pictures in task.shots(rollout, rng, renderer, look, poses, frames):
                yield Shot(pictures, rollout=k, camera=camera)
