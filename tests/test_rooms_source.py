"""The source set's orchestration with an invented performer, and its own performers where simulators are installed."""

import ast
import csv
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from cm3t.data.rooms import source
from cm3t.data.rooms.__main__ import main
from cm3t.data.rooms.assets import MissingAsset, package_folder, thinned
from cm3t.data.rooms.shots import Shot, child_rng, steps_between

RECIPE = source.Recipe(clips=9, views=2, size=32, frames=6)
CLASSES = [("push", "manipulation"), ("jump", "mocap"), ("wave", "person")]
SIMULATORS = {"mujoco", "metaworld", "pybullet", "pybullet_data", "gymnasium", "gymnasium_robotics", "trimesh"}
PACKAGE = Path(source.__file__).parents[2]


def needs(*packages):
    """Skip unless all are installed; without importing them: mujoco must meet `render`'s choice of OpenGL first."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (extra cm3t[simulate])")


class Performer:
    """Plain grey clips whose level tells class and rollout; counts what it was asked for."""

    def __init__(self, broken=None):
        self.asked, self.broken = [], broken

    def __call__(self, name, kind, recipe):
        self.asked.append(name)
        for k in range(recipe.rollouts):
            if name == self.broken and k == 2:
                raise KeyboardInterrupt
            for view in range(recipe.views):
                level = child_rng(recipe.seed, name, k).integers(40, 200)
                yield Shot(np.full((recipe.frames, recipe.size, recipe.size, 3), level, np.uint8), k, f"view{view}")


def make(out, performer=None, recipe=RECIPE):
    performer = performer or Performer()
    lines = []
    summary = source.generate(out, recipe, classes=CLASSES, workers=1, log=lines.append, perform=performer)
    return summary, performer, lines


def rows_of(out):
    with (out / "annotations.csv").open() as file:
        return list(csv.DictReader(file))


def test_annotations_tell_where_every_clip_is(tmp_path):
    summary, _, lines = make(tmp_path)
    rows = rows_of(tmp_path)
    assert tuple(rows[0]) == source.COLUMNS
    assert len(rows) == summary["clips"] == 3 * RECIPE.clips
    assert [(r["class"], r["label"], r["kind"]) for r in rows[:: RECIPE.clips]] == [
        ("push", "0", "manipulation"), ("jump", "1", "mocap"), ("wave", "2", "person"),
    ]  # fmt: skip
    assert len({r["clip_id"] for r in rows}) == len(rows)
    assert all(float(r["stop"]) - float(r["start"]) == pytest.approx(RECIPE.frames / RECIPE.fps) for r in rows)
    assert "ETA" in lines[1] and summary["digest"] in lines[-1]
    assert json.loads((tmp_path / "source.json").read_text()) == summary


@pytest.mark.slow
def test_a_clip_begins_with_a_key_frame_and_holds_its_rollout(tmp_path):
    make(tmp_path)
    with av.open(str(tmp_path / "videos" / "jump.mp4")) as container:
        frames = [(f.key_frame, f.time, f.to_ndarray(format="rgb24").mean()) for f in container.decode(video=0)]
    assert len(frames) == RECIPE.clips * RECIPE.frames
    for k, row in enumerate(r for r in rows_of(tmp_path) if r["class"] == "jump"):
        clip = frames[k * RECIPE.frames : (k + 1) * RECIPE.frames]
        level = child_rng(RECIPE.seed, "jump", int(row["rollout"])).integers(40, 200)
        assert clip[0][0] and not any(key for key, _, _ in clip[1:])
        assert clip[0][1] == pytest.approx(float(row["start"]), abs=1e-3)
        assert clip[0][2] == pytest.approx(level, abs=6)


def test_split_is_by_rollout_and_about_a_seventh(tmp_path):
    make(tmp_path, recipe=replace(RECIPE, clips=56))
    sides = {}
    for row in rows_of(tmp_path):
        sides.setdefault((row["class"], row["rollout"]), set()).add(row["split"])
    assert all(len(found) == 1 for found in sides.values())
    held = sum(found == {"validation"} for found in sides.values()) / len(sides)
    assert held == pytest.approx(1 / 7, abs=0.02)


def test_a_second_run_makes_nothing(tmp_path):
    first, _, _ = make(tmp_path)
    again, performer, lines = make(tmp_path)
    assert performer.asked == [] and again == first and "3 already there" in lines[0]


@pytest.mark.parametrize("damage", ["cut", "gone", "garbled"])
def test_only_the_damaged_class_is_made_again(tmp_path, damage):
    first, _, _ = make(tmp_path)
    video, part = tmp_path / "videos" / "jump.mp4", tmp_path / "parts" / "jump.json"
    if damage == "cut":
        video.write_bytes(video.read_bytes()[:-10])
    elif damage == "gone":
        video.unlink()
    else:
        part.write_text("{")
    again, performer, _ = make(tmp_path)
    assert performer.asked == ["jump"] and again["digest"] == first["digest"]


def test_an_interrupted_run_keeps_what_is_complete(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, Performer(broken="jump"))
    assert sorted(p.name for p in (tmp_path / "videos").iterdir()) == ["push.mp4"]
    assert not (tmp_path / "annotations.csv").exists()
    summary, performer, _ = make(tmp_path)
    assert performer.asked == ["jump", "wave"] and summary["classes"] == 3


def test_another_recipe_is_another_set(tmp_path):
    first, _, _ = make(tmp_path)
    second, performer, _ = make(tmp_path, recipe=replace(RECIPE, seed=1))
    assert performer.asked == ["push", "jump", "wave"] and second["digest"] != first["digest"]


def test_digest_does_not_depend_on_the_order_of_making(tmp_path):
    one, two = ({"rows": [["a", 0]], "sha256": "x"}, {"rows": [["b", 1]], "sha256": "y"})
    assert source.digest({"a": one, "b": two}) == source.digest({"b": two, "a": one})
    assert source.digest({"a": one, "b": two}) != source.digest({"a": one, "b": {**two, "sha256": "z"}})


def test_class_names_must_not_clash(monkeypatch):
    class Same:
        class_names = staticmethod(lambda: ["wave"])

    monkeypatch.setattr(source.importlib, "import_module", lambda name: Same)
    with pytest.raises(ValueError, match="share a name"):
        source.class_table()


def test_a_window_shows_the_state_before_and_after():
    for k in range(200):
        steps = steps_between(90, np.random.default_rng(k), frames=12)
        assert len(steps) == 12 and (np.diff(steps) > 0).all()
        assert steps[0] <= 0.25 * 89 + 1 and steps[-1] >= 0.92 * 89 - 1


def test_rollouts_have_their_own_reproducible_numbers():
    draws = {(n, k): child_rng(0, n, k).integers(2**60) for n in ("push", "pull") for k in range(3)}
    assert len(set(draws.values())) == 6
    assert draws["push", 1] == child_rng(0, "push", 1).integers(2**60)


def test_command_line_names_its_sets(capsys):
    assert main(["attic"]) == 2
    assert "{source,kitchen" in capsys.readouterr().err


def test_a_missing_package_says_what_to_install():
    with pytest.raises(MissingAsset, match=r"in the clone, pip install -e '\.\[simulate\]'"):
        package_folder("no_such_simulator_here")


def imported(nodes):
    """First part of every absolute import, whole of every relative one, among syntax nodes."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield "." + node.module if node.level else node.module.split(".")[0]


@pytest.mark.slow
def test_simulators_are_imported_by_the_generator_only():
    users = [p for p in PACKAGE.rglob("*.py") if SIMULATORS & set(imported(ast.walk(ast.parse(p.read_text()))))]
    assert users and all(p.relative_to(PACKAGE).parts[:2] == ("data", "rooms") for p in users)


@pytest.mark.parametrize("name", ["__init__", "__main__", "assets", "recorder", "shots", "source"])
def test_orchestration_needs_no_simulator(name):
    performers = {".render", ".figure", ".manipulation", ".mocap", ".people"}
    at_the_top = set(imported(ast.parse((PACKAGE / "data" / "rooms" / f"{name}.py").read_text()).body))
    assert not at_the_top & (SIMULATORS | performers)


@pytest.mark.slow
def test_thinned_assets_are_small_and_made_once(tmp_path, monkeypatch):
    needs("trimesh", "fast_simplification", "PIL")
    import trimesh

    monkeypatch.setenv("CM3T_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "package"
    folder.mkdir()
    trimesh.creation.icosphere(subdivisions=4).export(folder / "ball.stl")
    (folder / "scene.xml").write_text("<mujoco/>")
    small = thinned(folder, faces=200)
    assert len(trimesh.load(small / "ball.stl").faces) <= 220 and (small / "scene.xml").exists()
    assert thinned(folder, faces=200) == small and thinned(folder, faces=100) != small


@pytest.mark.slow
def test_motion_files_give_a_person_of_human_size():
    needs("mujoco", "pybullet_data")
    from cm3t.data.rooms import mocap

    assert len(mocap.class_names()) == 15
    walk = mocap.Motion.load("walk")
    joints, head = mocap.skeleton(walk.at(0.3), 1.0)
    assert 1.3 < joints["head"][2] - min(joints["l_ankle"][2], joints["r_ankle"][2]) < 1.7
    assert np.allclose(head.T @ head, np.eye(3), atol=1e-6) and np.linalg.det(head) > 0
    ahead = mocap.skeleton(walk.at(0.3 + walk.duration), 1.0)[0]["pelvis"] - joints["pelvis"]
    assert ahead[0] > 0.8 and abs(ahead[2]) < 1e-9, "a walk goes on from where the first round ended"


@pytest.mark.slow
def test_arms_reach_their_targets():
    needs("mujoco")
    from cm3t.data.rooms.figure import elbow

    shoulder, pole = np.array([0.2, 0, 0.4]), np.array([0.5, 0, -1.0])
    bend, wrist = elbow(shoulder, np.array([0.3, 0.3, 0.3]), 0.29, 0.26, pole)
    assert np.allclose(wrist, (0.3, 0.3, 0.3)) and np.linalg.norm(bend - shoulder) == pytest.approx(0.29)
    _, short = elbow(shoulder, np.array([5.0, 0, 0.4]), 0.29, 0.26, pole)
    assert np.linalg.norm(short - shoulder) == pytest.approx(0.55, abs=1e-2), "out of reach: as far as the arm goes"


@pytest.mark.slow
@pytest.mark.parametrize("name, kind", [("drawer-open", "manipulation"), ("kick", "mocap"), ("wave", "person")])
def test_the_same_seed_gives_the_same_pictures(name, kind):
    needs("mujoco", "metaworld", "pybullet_data")
    recipe = source.Recipe(clips=2, views=1, size=48, frames=4)
    one, two = (np.stack([s.frames for s in source.perform(name, kind, recipe)]) for _ in range(2))
    other = np.stack([s.frames for s in source.perform(name, kind, replace(recipe, seed=1))])
    assert one.shape == (2, 4, 48, 48, 3) and one.std() > 10
    assert (one == two).all() and (one != other).any()
    motion = np.abs(one[:, 1:].astype(int) - one[:, :-1]).mean()
    assert motion > 0.5, "something moves"
