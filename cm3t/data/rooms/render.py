"""MuJoCo's own renderer made fast on a CPU, and what varies from clip to clip: camera, light, colours.

Five things make the default renderer 25 to 70 times too slow or wrong here, and are hidden in `Renderer`: shadows and
reflections, the huge offscreen buffer, multisampling, dense meshes (see `assets.thinned`), and goal sites, which would
print the label into the picture.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from dataclasses import dataclass, field

if "MUJOCO_GL" not in os.environ:  # must be settled before mujoco is imported
    if "mujoco" in sys.modules and "DISPLAY" not in os.environ:
        raise ImportError("mujoco was imported before cm3t.data.rooms.render: import it after, or set MUJOCO_GL=egl")
    os.environ["MUJOCO_GL"] = "egl" if ctypes.util.find_library("EGL") else "osmesa"
os.environ.setdefault("LP_NUM_THREADS", "0")  # llvmpipe draws in the calling thread

import cv2
import mujoco
import numpy as np

UNSET = np.array([0.5, 0.5, 0.5, 1.0], np.float32)  # MuJoCo's default geom colour
COSTLY = ("SHADOW", "REFLECTION", "HAZE", "FOG", "SKYBOX")


class Renderer:
    """Draws a MuJoCo model at (size, size), cheaply; a context manager.

    Args:
        model: the compiled model; its offscreen settings are changed.
        size: side of the square picture in pixels.
        supersample: draws at ``size * supersample`` and averages (Choice: 2, so that thin objects keep their pixels).
        lights: greatest number of lights that are drawn besides the headlight.
        skybox: draw the sky (off: black behind the scene).
    """

    def __init__(
        self, model: mujoco.MjModel, size: int, *, supersample: int = 2, lights: int = 2, skybox: bool = False
    ):
        self.model, self.size, self.supersample, self.lights = model, size, supersample, lights
        side = size * supersample
        model.vis.global_.offwidth = model.vis.global_.offheight = side
        model.vis.quality.offsamples = model.vis.quality.shadowsize = 0
        self._inner = mujoco.Renderer(model, side, side)
        self._option = mujoco.MjvOption()
        self._option.sitegroup[:] = 0  # sites mark goals
        self._flags = [
            getattr(mujoco.mjtRndFlag, f"mjRND_{name}") for name in COSTLY if not (skybox and name == "SKYBOX")
        ]

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the graphics context."""
        self._inner.close()

    def frame(self, data: mujoco.MjData, camera: mujoco.MjvCamera | str | int = -1) -> np.ndarray:
        """One picture, uint8 (size, size, 3), of ``data`` as it stands (call `place` after changing ``qpos``)."""
        self._inner.update_scene(data, camera, self._option)
        scene = self._inner.scene
        for flag in self._flags:
            scene.flags[flag] = 0
        scene.nlight = min(self.lights + 1, scene.nlight)
        picture = self._inner.render()
        if self.supersample == 1:
            return picture.copy()
        return cv2.resize(picture, (self.size, self.size), interpolation=cv2.INTER_AREA)


def place(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Forward kinematics only: bodies, cameras and lights follow ``data.qpos`` (no dynamics, no contacts)."""
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)


@dataclass(frozen=True)
class View:
    """An orbiting camera: it looks at ``lookat`` (x, y, z in metres) from ``distance``, degrees for the angles."""

    lookat: tuple[float, float, float]
    distance: float
    azimuth: float
    elevation: float
    drift: tuple[float, float, float] = (0.0, 0.0, 0.0)  # azimuth, elevation (degrees), distance (share), over a clip

    def camera(self, progress: float = 0.0, shift: np.ndarray | None = None) -> mujoco.MjvCamera:
        """MuJoCo camera at ``progress`` in [0, 1] of the clip; ``shift`` (3,) moves the looked-at point."""
        camera = mujoco.MjvCamera()
        camera.lookat[:] = np.asarray(self.lookat) + (0 if shift is None else shift)
        along = progress - 0.5
        camera.azimuth = self.azimuth + along * self.drift[0]
        camera.elevation = self.elevation + along * self.drift[1]
        camera.distance = self.distance * (1 + along * self.drift[2])
        return camera


@dataclass
class Appearance:
    """Remembers a model's colours and lights, varies them, and puts them back.

    Colours are changed in place on the model (``mat_rgba``, ``geom_rgba``, headlight, lights): no recompilation.
    """

    model: mujoco.MjModel
    _saved: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        names = ("mat_rgba", "geom_rgba", "light_diffuse", "light_dir")
        self._saved = {name: getattr(self.model, name).copy() for name in names}
        head = self.model.vis.headlight
        self._saved |= {name: np.array(getattr(head, name)) for name in ("ambient", "diffuse", "specular")}

    def reset(self) -> None:
        """Colours and lights as they were."""
        for name in ("mat_rgba", "geom_rgba", "light_diffuse", "light_dir"):
            getattr(self.model, name)[:] = self._saved[name]
        for name in ("ambient", "diffuse", "specular"):
            getattr(self.model.vis.headlight, name)[:] = self._saved[name]

    def vary(self, rng: np.random.Generator, *, light: float = 0.2, tint: float = 0.1) -> None:
        """Reset, then draw a new light level, light direction and a tint per material and per geom.

        Args:
            light: relative spread of the light level (0.2: between 80 and 120 %), also of its colour balance (a third).
            tint: relative spread of every colour channel of every material.
        """
        self.reset()
        level = 1 + rng.uniform(-light, light)
        warmth = 1 + rng.uniform(-light, light, 3) / 3
        head = self.model.vis.headlight
        for name in ("ambient", "diffuse"):
            getattr(head, name)[:] = np.clip(self._saved[name] * level * warmth, 0, 1)
        self.model.light_diffuse[:] = np.clip(self._saved["light_diffuse"] * level * warmth, 0, 1)
        turned = self._saved["light_dir"] + rng.uniform(-0.3, 0.3, self._saved["light_dir"].shape)
        self.model.light_dir[:] = turned / np.maximum(np.linalg.norm(turned, axis=-1, keepdims=True), 1e-9)
        shows_material = (self.model.geom_matid >= 0) & (self._saved["geom_rgba"] == UNSET).all(1)
        for name, kept in (("mat_rgba", None), ("geom_rgba", shows_material)):
            colours, factor = getattr(self.model, name), 1 + rng.uniform(-tint, tint, (len(self._saved[name]), 3))
            if kept is not None:
                factor[kept] = 1.0  # a geom shows its material only while its own colour is MuJoCo's default
            colours[:, :3] = np.clip(self._saved[name][:, :3] * factor, 0, 1)

    def paint(self, *, material: str | None = None, geom: str | None = None, rgb: tuple[float, float, float]) -> None:
        """Set one material's or one geom's colour (stays until the next `reset` or `vary`)."""
        if material is not None:
            self.model.mat_rgba[self.model.material(material).id, :3] = rgb
        if geom is not None:
            self.model.geom_rgba[self.model.geom(geom).id, :3] = rgb
