"""rooms-kitchen: what its script, sounds, files and recorder promise; the simulator only in the slow tests."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cm3t import config
from cm3t.data.media import read_frames, read_sound
from cm3t.data.rooms import card, files, kitchen, kitchen_files, sound
from cm3t.data.rooms.kitchen_script import label_of, plan, write_script
from cm3t.data.rooms.kitchen_sound import sound_of
from cm3t.data.rooms.kitchen_world import (
    ACTIONS,
    FIXTURES,
    NOUNS,
    VERBS,
    Dials,
    gap_look,
    make_participants,
)

DIALS = Dials()
PEOPLE = make_participants(DIALS)


def needs_simulator():
    for package in ("mujoco", "gymnasium_robotics"):  # found, not imported: render.py must be first
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install -e '.[simulate]'")


@pytest.fixture(scope="module")
def scripts():
    return plan(DIALS, PEOPLE)


def test_class_ids_are_the_official_ones(shared_annotations):
    for kind, ours in (("verb", VERBS), ("noun", NOUNS)):
        with open(shared_annotations / f"EPIC_100_{kind}_classes.csv", newline="") as file:
            official = {int(row["id"]): row["key"] for row in csv.DictReader(file)}
        assert {i: official[i] for i in ours} == ours


@pytest.fixture
def shared_annotations():
    folder = os.environ.get("CM3T_EPIC_ANNOTATIONS")
    if not folder:
        pytest.skip("CM3T_EPIC_ANNOTATIONS is not set")
    return Path(folder)


def test_actions_are_consistent():
    assert 20 <= len(ACTIONS) <= 25
    assert len({(a.verb, a.noun) for a in ACTIONS}) == len(ACTIONS)
    assert {a.verb for a in ACTIONS} == set(VERBS) and {a.noun for a in ACTIONS} == set(NOUNS)
    for action in ACTIONS:
        assert all(FIXTURES[name].noun == action.noun for name in action.fixtures)


@pytest.mark.slow
def test_splits_are_disjoint_in_people_and_sized(scripts):
    role = {p.name: p.role for p in PEOPLE}
    assert Counter(role.values()) == {"train": 10, "tune": 2, "unseen": 2}
    train = {s.participant.name for s in scripts if s.split == "train"}
    validation = {s.participant.name for s in scripts if s.split == "validation"}
    assert train == {n for n, r in role.items() if r != "unseen"}
    assert validation == {n for n, r in role.items() if r != "tune"}
    assert sum(len(s.segments) for s in scripts if s.split == "train") == 1600
    assert sum(len(s.segments) for s in scripts if s.split == "validation") == 400
    assert len({s.video for s in scripts}) == len(scripts)


def test_long_tail_and_every_action_in_train(scripts):
    counts = Counter(label_of(m)[:2] for s in scripts if s.split == "train" for m in s.segments)
    ranked = [n for _, n in counts.most_common()]
    assert len(counts) == len(ACTIONS)
    assert ranked[0] > 8 * ranked[-1] and sum(ranked[:5]) > 0.4 * sum(ranked)


def test_times_are_ordered_and_inside_the_recording(scripts):
    for script in scripts:
        before = 0.0
        for motion in script.motions:
            assert before <= motion.start < motion.contact < motion.release < motion.stop
            before = motion.stop
        assert before < script.duration
        for motion in script.segments:
            start, stop = motion.annotation
            assert 0 <= start < stop < script.duration and 0.8 <= round(stop - start, 6) <= 3.5
            assert start < motion.release and stop > motion.contact  # the annotation holds the act


def test_states_change_as_the_verbs_say(scripts):
    for script in scripts[:6]:
        state, held = dict(script.initial), None
        for motion in script.motions:
            fixture = FIXTURES[motion.fixture]
            if motion.kind == "reach":
                assert motion.annotation is None and motion.before == motion.after
                continue
            verb = label_of(motion)[2]
            if fixture.kind == "object":
                assert (held is None) == (verb != "put")
                held = motion.fixture if verb == "take" else None
                continue
            assert held is None
            if fixture.kind != "button":  # a microwave can stop by itself
                assert motion.before == state[motion.fixture]
            assert (motion.after > motion.before) == (verb in ("open", "turn-on"))
            state[motion.fixture] = motion.after


def test_runs_follow_switches(scripts):
    for run in (r for s in scripts for r in s.runs):
        assert FIXTURES[run.fixture].machine == run.machine and run.on < run.off


@pytest.mark.slow
def test_scripts_repeat(scripts):
    again = plan(Dials(), make_participants(Dials()))
    assert again == scripts
    other = write_script(replace(DIALS, seed=1), PEOPLE[0], 1, "train", 5)
    assert other.motions != scripts[0].motions[: len(other.motions)]
    with pytest.raises(ValueError, match="at least one"):
        write_script(DIALS, PEOPLE[0], 1, "train", 0)


def test_gap_moves_further_with_each_level():
    person = PEOPLE[0]
    assert gap_look(person, 0, DIALS) is person
    moved = [np.linalg.norm(np.subtract(gap_look(person, k, DIALS).eye, person.eye)) for k in (1, 2, 3)]
    assert 0 < moved[0] < moved[1] < moved[2]
    assert gap_look(person, 2, DIALS) == gap_look(person, 2, DIALS)


def test_rows_are_official(scripts):
    rows = kitchen_files.rows_of(scripts[0])
    assert list(rows[0]) == list(kitchen_files.COLUMNS) and len(kitchen_files.COLUMNS) == 15
    for row, motion in zip(rows, scripts[0].segments, strict=True):
        assert row["start_frame"] == max(1, int(np.floor(round(motion.annotation[0] * 60, 6))))
        assert row["verb"] == VERBS[row["verb_class"]] and row["all_nouns"] == [NOUNS[row["noun_class"]]]
    assert kitchen_files.timestamp(3725.5) == "01:02:05.50"
    assert kitchen_files.timestamp(59.9996, 3) == "00:01:00.000"


def test_tail_holds_at_most_a_fifth():
    counts = Counter({"a": 50, "b": 30, "c": 12, "d": 5, "e": 3})
    assert kitchen_files.tail_classes(counts) == ["c", "d", "e"]


def test_gap_times_show_every_kept_segment(scripts, tmp_path):
    script = next(s for s in scripts if s.split == "validation")
    job = kitchen.Job(script, DIALS, tmp_path, level=1, keep=4)
    times, spans = kitchen.gap_times(job)
    assert len(spans) == 4
    for motion, (start, stop) in zip(script.segments, spans.values(), strict=False):
        middle = times[int(round(0.5 * (start + stop) * DIALS.fps))]
        assert abs(middle - 0.5 * sum(motion.annotation)) < 1.01 / DIALS.fps
        assert stop < len(times) / DIALS.fps


@pytest.mark.slow
def test_annotation_files(scripts, tmp_path):
    kitchen_files.write_annotations(tmp_path, DIALS, PEOPLE, scripts)
    first = files.digest(tmp_path)
    kitchen_files.write_annotations(tmp_path, DIALS, PEOPLE, scripts)
    assert files.digest(tmp_path) == first
    folder = tmp_path / "annotations"
    train = card.read_rows(folder / "EPIC_100_train.csv")
    durations = {r["video_id"]: float(r["duration"]) for r in card.read_rows(folder / "EPIC_100_video_info.csv")}
    assert len(train) == 1600 and {r["video_id"] for r in train} <= set(durations)
    (folder / "EPIC_100_train.csv").write_text("changed")
    assert files.digest(tmp_path) != first


def test_two_generations_never_mix(tmp_path):
    kitchen._begin(tmp_path, DIALS, 1.0)
    kitchen._begin(tmp_path, DIALS, 1.0)  # goes on
    with pytest.raises(SystemExit, match="other dials"):
        kitchen._begin(tmp_path, replace(DIALS, crf=20), 1.0)


# --- what ships ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def shipped():
    root = config.data_dir() / "rooms-kitchen"
    if not (root / "rooms.json").is_file():
        pytest.skip(f"{root.name} is not here")
    return root


def test_shipped_annotations_are_the_scripts(shipped, scripts, tmp_path):
    facts = json.loads((shipped / "rooms.json").read_text())
    assert facts["dials"] == json.loads(json.dumps(DIALS.as_dict())) and facts["generator"] == kitchen.VERSION
    kitchen_files.write_annotations(tmp_path, DIALS, PEOPLE, scripts)
    for path in (tmp_path / "annotations").iterdir():
        assert (shipped / "annotations" / path.name).read_text() == path.read_text(), path.name


def test_card_is_rendered_from_its_records(shipped):
    text = card.render(shipped, config.results_dir() / "records" / "card", config.records_dir("full"))
    assert text == (shipped / "README.md").read_text(encoding="utf-8")


def test_shipped_files_are_complete_and_small(shipped):
    facts = json.loads((shipped / "rooms.json").read_text())
    assert files.digest(shipped) == facts["digest"]
    assert facts["bytes"]["total"] < 20e6


@pytest.mark.slow
def test_a_part_made_again_is_what_ships(shipped, scripts):
    needs_simulator()
    from cm3t.data.rooms.kitchen_stage import Stage

    script = next(s for s in scripts if s.split == "validation")
    path = shipped / script.participant.name / "videos" / f"{script.video}.MP4"
    steps = np.arange(0, 80, 5)
    with Stage(script, DIALS) as stage:
        made = np.stack(list(stage.frames(np.arange(80) / DIALS.fps)))[steps]
    there = read_frames(path, (steps + 0.5) / DIALS.fps)
    assert np.abs(made.astype(float) - there).mean() < 6  # compression, and other processors' rounding
    wave, heard = sound_of(script, DIALS), read_sound(path, 2, 12, DIALS.sound_rate)
    wave = wave[2 * DIALS.sound_rate :][: len(heard)]

    def envelope(x):
        return np.sqrt((x[: len(x) // 1600 * 1600].reshape(-1, 1600) ** 2).mean(1))

    assert np.corrcoef(envelope(wave), envelope(heard))[0, 1] > 0.9


# --- sound -------------------------------------------------------------------------------------------------------
def test_sound_repeats_and_stays_in_range():
    script = write_script(DIALS, PEOPLE[0], 1, "train", 4)
    wave = sound_of(script, DIALS)
    assert wave.dtype == np.float32 and wave.shape == (round(script.duration * DIALS.sound_rate),)
    assert np.abs(wave).max() < 1 and np.array_equal(wave, sound_of(script, DIALS))


@pytest.mark.parametrize("kind", sound.MACHINES)
def test_machines_are_heard_while_they_run(kind):
    wave = sound.render_sound([], [sound.Hum(kind, 1.0, 2.0)], 3.0, rate=16000, seed=0)
    level = [np.sqrt(np.mean(wave[a : a + 8000] ** 2)) for a in (4000, 20000, 36000)]
    assert level[1] > 3 * max(level[0], level[2])


def test_impacts_differ_by_material():
    def pitch(material):
        wave = sound.impact(material, 1.0, 16000, np.random.default_rng(0))
        spectrum = np.abs(np.fft.rfft(wave, 16000)) ** 2
        return (spectrum * np.arange(len(spectrum))).sum() / spectrum.sum()

    assert pitch("rubber") < pitch("plastic") < pitch("ceramic")


# --- card --------------------------------------------------------------------------------------------------------
def write_facts(root, scripts):
    kitchen_files.write_annotations(root, DIALS, PEOPLE, scripts)
    rows = [r for s in scripts if s.split == "validation" for r in kitchen_files.rows_of(s)]
    kitchen_files.write_gap_annotations(root, 1, rows)
    facts = kitchen._facts(root, DIALS, scripts, PEOPLE, 1.0)
    (root / "rooms.json").write_text(json.dumps(facts))


def test_card_says_what_the_files_say(scripts, tmp_path):
    with pytest.raises(FileNotFoundError, match="rooms.json"):
        card.render(tmp_path)
    write_facts(tmp_path, scripts)
    scored = {"verb_top1": 50.0, "noun_top1": 40.0, "action_top1": 25.0}
    for seed, shift in ((0, 0.0), (1, 2.0)):
        metrics = {"validation": {"all": {k: v + shift for k, v in scored.items()}}}
        record = {
            "run_id": f"frame-s{seed}",
            "run_info": {"config": {"method": "frame", "seed": seed}},
            "train_info": {"status": "ok", "metrics": metrics},
            "meta_info": {},
        }
        (tmp_path / f"frame-s{seed}.json").write_text(json.dumps(record))
    text = card.render(tmp_path)
    assert "No difficulty records" in text and "{" not in text.split("The dials")[0]
    records = tmp_path / "records"
    records.mkdir()
    for path in tmp_path.glob("frame-*.json"):
        path.rename(records / path.name)
    text = card.render(tmp_path, records)
    assert "26.0 ± 1.4" in text and "_Not measured yet: most frequent verb and noun; sound alone" in text
    assert "_Not measured yet: `python -m cm3t.data.rooms probes` writes the records._" in text


def test_card_shows_pairs_and_controls_of_records_in_force(scripts, tmp_path):
    write_facts(tmp_path, scripts)
    records = tmp_path / "records"
    records.mkdir()
    scored = {"verb_top1": 50.0, "noun_top1": 40.0, "action_top1": 25.0}
    for probe, right in (("sound", 60.0), ("flow", 80.0), ("joint", 90.0)):
        pairs = {"open / close drawer": {"accuracy": right, "n": 2}, "take / put cup": {"accuracy": 50.0, "n": 2}}
        scores = scored | {"pairs": pairs}
        metrics = {"validation": {"all": scores, "no_audio": scores | {"action_top1": 12.5}}}
        record = {
            "run_info": {"config": {"data": "rooms-kitchen", "method": probe, "seed": 0, "sound": "small"}},
            "train_info": {"status": "ok", "metrics": metrics},
            "meta_info": {},
        }
        (records / f"{probe}-s0.json").write_text(json.dumps(record))
    text = card.render(tmp_path, records)
    assert "Motion by itself tells better than the other: open / close drawer (80 against 60).\n" in text
    (drawer,) = re.findall(r"\| open / close drawer \| (\d+) \| (\d+) \| 60 \| 80 \| 90 \| 90 \|", text)
    rows = [row for row in card.split_rows(tmp_path)["validation"] if row["noun_class"] == "8"]
    assert int(drawer[0]) == len(rows) and 30 <= int(drawer[1]) < 100
    assert "| - no sound | 1 |  | 50.0 | 40.0 | 12.5 |" in text
    assert "_Not measured yet: one frame; eight frames; all but motion._" in text
    path = records / "sound-s0.json"
    path.write_text(path.read_text().replace('"small"', '"epic"'))
    assert "sound alone (log-mel, small 1-D network) | 1 |" in text
    assert "sound alone (log-mel, small 1-D network) | 1 |" not in card.render(tmp_path, records)


def test_card_holds_small_networks_beside_the_studys_runs(tmp_path, make_record):
    """A run with a part of the modalities is no row of the card's."""
    from cm3t.records import save_record

    runs = (("full", 75.0, {}), ("mhva+pt", 70.0, {}), ("mhva+pt+caa", 82.0, {"side": ("audio", "flow")}))
    for method, score, side in (*runs, ("mhva+pt+caa", 10.0, {"side": ("audio",)})):
        run = make_record("full", method=method, study="04" if side else "02", **side)
        run.train_info["metrics"]["validation"]["all"]["action_top1"] = score
        save_record(run, tmp_path)
    scores = {"flow": 76.0, "joint": 90.0, "frames": 60.0}
    found = {m: {"validation": {"action": {0: score}}} for m, score in scores.items()}
    text = card.standing(found, tmp_path)
    assert "60.0 % from eight frames, 76.0 % from motion" in text
    assert "on pictures 75.0 %, MHVA + PT 70.0 %, CM3T 82.0 %. Better than all of these: all together." in text
    found["joint"]["validation"]["action"][0] = 81.0
    assert "Better than" not in card.standing(found, tmp_path) and card.standing({}, tmp_path) == ""


def test_card_takes_the_bounds_from_the_studys_own_runs(tmp_path, make_record):
    from cm3t.records import save_record

    for seed in range(3):
        for method, score in (("linear", 30.0 + seed), ("full", 60.0 + 2 * seed), ("mhva", 55.0)):
            save_record(make_record("full", method=method, score=score, seed=seed), tmp_path)
        save_record(make_record("full", method="linear", score=12.0, seed=seed, weights=None), tmp_path)
        save_record(make_record("full", method="full", score=1.0, seed=seed, train_clips=150), tmp_path)
        save_record(make_record("full", method="full", score=2.0, seed=seed, score_split="tune"), tmp_path)
    found = card.difficulty(tmp_path / "none", tmp_path)
    assert {m: list(splits["validation"]["action"].values()) for m, splits in found.items()} == {
        "full": [60.0, 62.0, 64.0],
        "linear": [30.0, 31.0, 32.0],
        "linear, untrained": [12.0] * 3,
    }
    assert "31.0 points above" in card.separation(found) and "of 1.0 over 3 of them: 31 times" in card.separation(found)
    assert card.separation({}) == ""
    stale = make_record("full", method="scratch", score=5.0)
    stale.meta_info["digests"]["data"] = "e" * 12
    save_record(stale, tmp_path)
    with pytest.raises(ValueError, match="different data"):
        card.difficulty(tmp_path / "none", tmp_path)


# --- the simulator -----------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_stage_draws_what_the_script_says(tmp_path):
    needs_simulator()
    from cm3t.data.rooms.kitchen_stage import Stage

    script = write_script(DIALS, PEOPLE[0], 1, "train", 12)
    motion = next(m for m in script.motions if FIXTURES[m.fixture].kind in ("door", "drawer") and m.kind == "act")
    with Stage(script, DIALS) as stage:
        pictures = list(stage.frames(np.array([motion.start, 0.5 * (motion.contact + motion.release), motion.stop])))
        assert stage.value(motion.fixture, motion.start) == pytest.approx(motion.before)
        assert stage.value(motion.fixture, motion.stop) == pytest.approx(motion.after)
    assert pictures[0].shape == (DIALS.size, DIALS.size, 3) and pictures[0].std() > 20
    assert np.abs(pictures[0].astype(int) - pictures[1]).mean() > 2
    with Stage(script, DIALS) as stage:
        again = list(stage.frames(np.array([motion.start])))
    assert np.array_equal(again[0], pictures[0])
