"""The kitchen as a MuJoCo model: the Franka kitchen dressed for one participant, with our drawer, tap, cup and hand.

Meshes and textures are read from the installed gymnasium-robotics (thinned copies in a cache) and never shipped.
Kinematic: joints are set, never simulated.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from cm3t.data.rooms.assets import package_folder, thinned
from cm3t.data.rooms.kitchen_hand import hand_xml
from cm3t.data.rooms.kitchen_world import Dials, Participant
from cm3t.data.rooms.render import mujoco

TEXTURES = {"wood1": "wood1.png", "marble1": "marble1.png", "metal1": "metal1.png"}
KNOBS = ("knob 4", "knob 2", "knob 1", "knob 3")  # from left to right: oven, hob left, hob right, extractor fan
# Materials of the assets, by what a participant's palette colours.
DRESS = {
    "doors": ("M_hinge_blue", "M_slide_blue", "counter_blue"),
    "worktop": ("counter_marble",),
    "wall": ("wall_blue",),
    "appliances": ("micro_black", "oven_black"),
    "handles": ("M_hinge_metal", "M_slide_metal", "micro_metal", "counter_metal"),
    "splash": ("wall_white",),
}
OVEN_FRONT, OVEN_HANDLE = (0.0, 0.132, 1.438), (0.0, 0.068, 1.237)  # fixed parts that our drawer replaces


def scene_folder() -> Path:
    """The thinned copy of the kitchen's assets."""
    return thinned(package_folder("gymnasium_robotics", "envs", "assets", "kitchen_franka"), faces=300, texture=128)


def _textures() -> str:
    files = "".join(f'<texture name="X_{k}" type="cube" file="{v}"/>' for k, v in TEXTURES.items())
    grain = "".join(
        f'<texture name="X_{name}" type="cube" builtin="{kind}" width="64" height="64" rgb1="{a}" rgb2="{b}" {mark}/>'
        for name, kind, a, b, mark in (
            ("speckle", "flat", "1 1 1", "1 1 1", 'mark="random" random="0.12" markrgb=".55 .55 .55"'),
            ("stripes", "checker", "1 1 1", ".82 .82 .82", ""),
        )
    )
    return files + grain


def _clutter(person: Participant) -> str:
    """Jars, boxes and boards against the wall: every kitchen has its own."""
    rng = np.random.default_rng([person.seed, 3])
    places = ((-0.45, 0.98), (0.44, 1.06), (-1.1, 0.2), (-1.15, -0.1), (0.57, 1.05), (-1.2, 0.42))
    parts = []
    for x, y in places:
        if rng.random() < 0.3:
            continue
        colour = " ".join(f"{c:.3f}" for c in rng.uniform(0.15, 0.95, 3)) + " 1"
        height, width = rng.uniform(0.07, 0.2), rng.uniform(0.035, 0.07)
        shape = f'type="cylinder" size="{width:.3f} {height:.3f}"'
        if rng.random() < 0.5:
            shape = f'type="box" size="{width:.3f} {0.6 * width:.3f} {height:.3f}"'
        parts.append(f'<geom {shape} pos="{x + rng.normal(0, 0.02):.3f} {y:.3f} {1.6 + height:.3f}" rgba="{colour}"/>')
    return "".join(parts)


def kitchen_xml(person: Participant) -> str:
    """MJCF text of the participant's kitchen; file names are relative to the assets' folder ``kitchen_assets``."""
    items = ("oven", "counters", "backwall", "slidecabinet", "hingecabinet", "microwave", "kettle")
    assets = "".join(f'<include file="item_assets/{item}_asset.xml"/>' for item in items)
    hand = hand_xml(scale=person.hand_scale, left=person.left_handed, skin=person.skin, sleeve=person.sleeve)
    doors = 'material="M_hinge_blue"'
    return f"""<mujoco model="kitchen">
  {assets}
  <compiler angle="radian" inertiafromgeom="true" inertiagrouprange="0 5" texturedir="textures"
    meshdir="../franka_assets/meshes"/>
  <statistic center="0 0.4 2" extent="2"/>
  <visual><map znear="0.02" zfar="10"/><quality numslices="12" numstacks="6" numquads="2"/></visual>
  <default><default class="hand"><geom contype="0" conaffinity="0"/></default></default>
  <asset>{_textures()}
    <material name="drawer_inside" rgba=".86 .78 .62 1"/>
    <material name="steel" rgba=".8 .8 .82 1" specular=".6"/>
    <material name="water" rgba=".75 .85 .95 .75"/><material name="lamp" rgba="1 .97 .85 1"/>
    <material name="ceramic" rgba=".9 .9 .9 1"/>
  </asset>
  <worldbody>
    <light name="ceiling" directional="true" dir="0.2 0.5 -1" pos="0 -1 4" diffuse=".4 .4 .4" castshadow="false"/>
    <geom type="box" size="3 3 .05" pos="0 0 -.05" rgba=".5 .45 .4 1"/>
    <geom type="box" size="3 .05 1.6" pos="0 1.42 2.9" material="wall_blue"/>
    <geom type="box" size=".05 3 2.2" pos="1.9 0 2.2" material="wall_blue"/>
    <geom type="box" size=".05 3 2.2" pos="-1.62 0 2.2" material="wall_blue"/>
    <geom type="box" size="3 3 .05" pos="0 0 3.6" rgba=".9 .9 .88 1"/>
    {_clutter(person)}
    <body name="desk" pos="-0.1 0.75 0">
      <body name="counters1"><include file="item_assets/counters_chain.xml"/></body>
      <body name="oven"><include file="item_assets/oven_chain.xml"/></body>
      <body name="backwall"><include file="item_assets/backwall_chain.xml"/></body>
      <body name="slidecabinet" pos="0.4 0.3 2.6"><include file="item_assets/slidecabinet_chain.xml"/></body>
      <body name="hingecabinet" pos="-0.504 0.28 2.6">
        <include file="item_assets/hingecabinet_chain.xml"/></body>
      <body name="microwave" pos="-0.750 -0.025 1.6" euler="0 0 0.3">
        <include file="item_assets/microwave_chain.xml"/>
        <site name="microbutton_site" pos="0.26 -0.24 0.2"/>
        <geom name="microbutton" type="cylinder" size="0.032 0.012" euler="1.5708 0 0" pos="0.26 -0.222 0.2"
          material="steel"/>
      </body>
    </body>
    <body name="kettle" pos="-0.22 0.34 1.626" mocap="true"><include file="item_assets/kettle_chain.xml"/></body>
    <body name="cup" pos="-0.6 0.06 1.6" mocap="true">
      <geom type="cylinder" size=".062 .068" pos="0 0 .068" material="ceramic"/>
      <geom type="cylinder" size=".05 .002" pos="0 0 .136" rgba=".2 .12 .08 1"/>
      <geom type="capsule" size=".013" fromto=".06 0 .1 .1 0 .09" material="ceramic"/>
      <geom type="capsule" size=".013" fromto=".1 0 .09 .06 0 .035" material="ceramic"/>
      <site name="cup_site" pos="0 -.06 .07"/>
    </body>
    <body name="drawer" pos="0 0.13 1.438">
      <joint name="drawer" type="slide" axis="0 -1 0"/>
      <geom type="box" size=".48 .018 .115" {doors}/>
      <geom type="capsule" size=".02" fromto="-.2 -.075 .02 .2 -.075 .02" material="M_hinge_metal"/>
      <geom type="capsule" size=".014" fromto="-.18 -.075 .02 -.18 0 .02" material="M_hinge_metal"/>
      <geom type="capsule" size=".014" fromto=".18 -.075 .02 .18 0 .02" material="M_hinge_metal"/>
      <geom type="box" size=".45 .22 .01" pos="0 .23 -.09" material="drawer_inside"/>
      <geom type="box" size=".01 .22 .09" pos="-.45 .23 -.01" material="drawer_inside"/>
      <geom type="box" size=".01 .22 .09" pos=".45 .23 -.01" material="drawer_inside"/>
      <geom type="box" size=".12 .03 .02" pos="-.15 .2 -.06" material="steel"/>
      <geom type="box" size=".1 .04 .02" pos=".2 .22 -.06" rgba=".7 .3 .2 1"/>
      <site name="drawer_site" pos="0 -.075 .02"/>
    </body>
    <body name="tap" pos="0.8 1.02 2.03">
      <joint name="tap" axis="-1 0 0"/>
      <geom type="capsule" size=".018" fromto="0 0 0 0 -.13 .02" material="steel"/>
      <site name="tap_site" pos="0 -.12 .03"/>
    </body>
    <geom name="water" type="cylinder" size=".017 .16" pos="0.8 0.835 1.62" material="water"/>
    <geom name="lamp" type="box" size=".16 .05 .01" pos="0 .68 2.17" material="lamp"/>
    <body name="head" mocap="true" pos="0 -0.5 2.6"><camera name="eye" fovy="{person.fov:.3f}"/></body>
    {hand}
  </worldbody>
</mujoco>"""


def build(person: Participant, dials: Dials) -> mujoco.MjModel:
    """The compiled, dressed model. Raises assets.MissingAsset when gymnasium-robotics is not installed."""
    folder = scene_folder() / "kitchen_assets"
    path = folder / f"cm3t_{person.name}_{os.getpid()}.xml"  # includes are found relative to a file
    try:
        path.write_text(kitchen_xml(person))
        model = mujoco.MjModel.from_xml_path(str(path))
    finally:
        path.unlink(missing_ok=True)
    _arrange(model, dials)
    _dress(model, person)
    return model


def _arrange(model: mujoco.MjModel, dials: Dials) -> None:
    """Knobs in a row, collision shapes and replaced parts away, everything movable by hand only."""
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    for k, name in enumerate(KNOBS):
        body = model.body(name).id
        shift = np.array([(k - 1.5) * dials.knob_spacing + 0.04, data.xpos[body][1], 2.285]) - data.xpos[body]
        model.body_pos[body] += shift  # the parents are not turned
    hidden = model.geom_group >= 3
    front = np.array(OVEN_FRONT), np.array(OVEN_HANDLE)
    for geom in range(model.ngeom):
        near = min(np.linalg.norm(data.geom_xpos[geom] - f) for f in front)
        if model.body(model.geom_bodyid[geom]).name == "ovenroot" and near < 0.03:
            hidden[geom] = True
        standoff = abs(data.geom_xpos[geom] - np.array([0, 0.098, 1.237]))
        if model.body(model.geom_bodyid[geom]).name == "ovenroot" and standoff[1] < 0.02 and standoff[2] < 0.02:
            hidden[geom] = True
    model.geom_rgba[hidden, 3] = 0
    model.geom_matid[hidden] = -1
    red = np.all(model.geom_rgba[:, :3] == (1, 0, 0), axis=1) & (model.geom_matid < 0)
    model.geom_rgba[red, :3] = (0.95, 0.95, 0.9)  # the knobs' pointers


def _dress(model: mujoco.MjModel, person: Participant) -> None:
    colours = dict(zip(DRESS, person.palette, strict=True))
    for part, materials in DRESS.items():
        for name in materials:
            material = model.material(name).id
            model.mat_rgba[material, :3] = colours[part]
            model.mat_reflectance[material] = 0
    for part, texture in zip(("doors", "worktop"), person.textures, strict=True):
        for name in DRESS[part]:
            material = model.material(name).id
            number = -1 if texture == "plain" else model.texture(f"X_{texture}").id
            model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB] = number
    rng = np.random.default_rng([person.seed, 5])
    for name in ("ceramic", "kettle_white"):
        model.mat_rgba[model.material(name).id, :3] = rng.uniform(0.3, 1, 3)
    level, ceiling, warmth = person.light
    tone = np.array([1 + warmth, 1, 1 - warmth])
    model.vis.headlight.ambient[:] = np.clip(0.34 * level * tone, 0, 1)
    model.vis.headlight.diffuse[:] = np.clip(0.32 * level * tone, 0, 1)
    model.vis.headlight.specular[:] = 0.05
    model.light_diffuse[model.light("ceiling").id] = np.clip(0.4 * ceiling * tone, 0, 1)
