"""rooms-group: what its script, voices, files and card promise; the simulator only in the slow tests."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from cm3t import config
from cm3t.data.media import read_frames, read_sound
from cm3t.data.mpiigi import BEHAVIOURS, MpiiGroupInteraction
from cm3t.data.mpiigi_samples import read_recordings, read_samples
from cm3t.data.rooms import files, group, group_card, group_files, group_voice, kitchen_world
from cm3t.data.rooms.group_script import plan
from cm3t.data.rooms.group_world import KINDS, LEGS, SEATS, SECONDS, SHARES, VOICES, Dials
from cm3t.data.rooms.recorder import RecordingError, write_recording, write_sound
from cm3t.records import save_record

DIALS = Dials()
SMALL = replace(DIALS, train=(3,), tune=(2,), val=(2,), silent=(2,))


@pytest.fixture(scope="module")
def scripts():
    return plan(DIALS)


def snippets_of(scripts, split):
    return [snippet for script in scripts if script.take.split == split for snippet in script.snippets]


def test_names_are_the_official_ones():
    assert set(SHARES) | set(LEGS) == set(BEHAVIOURS) and sum(SHARES.values()) < 1


@pytest.mark.slow
def test_scripts_repeat_and_follow_the_seed(scripts):
    assert plan(Dials()) == scripts
    assert plan(replace(DIALS, seed=1))[0].snippets != scripts[0].snippets


def test_sizes_and_people(scripts):
    assert [len(snippets_of(scripts, split)) for split in ("train", "tune", "val")] == [320, 80, 150]
    everyone = [snippet for script in scripts for snippet in script.snippets]
    assert len({snippet.sample_id for snippet in everyone}) == 550
    looks = {script.seed for script in scripts}
    assert len(looks) == len(scripts)  # a session has people of its own
    numbers = Counter(snippet.recording for snippet in everyone)
    assert len({(s.recording, s.seat) for s in everyone}) == len(numbers)  # one target a recording


def test_labels_are_skewed_and_none_is_absent(scripts):
    for split in ("train", "tune", "val"):
        counts = group_files.positives(scripts, split)
        ranked = sorted(counts.values())
        assert ranked[0] >= 2 and ranked[-1] > 8 * ranked[0]
        assert max(counts, key=counts.get) == "Legs crossed"


def test_labels_are_what_is_acted(scripts):
    for snippet in snippets_of(scripts, "train"):
        shown = {name for name, label in zip(BEHAVIOURS, snippet.labels, strict=True) if label}
        crossed = {"Legs crossed"} if snippet.crossed[snippet.seat] else set()
        assert shown == {act.name for act in snippet.acts[snippet.seat]} | crossed
        assert not {"Gesture", "Fumble"} <= shown
        for act in snippet.acts[snippet.seat]:
            assert min(act.stop, SECONDS) - max(act.start, 0) > 0.5


def test_times_are_ordered_in_every_recording(scripts):
    for script in scripts:
        for seat in SEATS:
            before = 0.0
            for snippet in script.of_seat(seat):
                assert before < snippet.start and snippet.stop < script.seconds(seat)
                assert all(before < turn.stop and turn.start < snippet.stop + 0.5 for turn in snippet.turns)
                assert abs(snippet.start * 30 - round(snippet.start * 30)) < 1e-6
                before = snippet.stop


def test_who_speaks_follows_what_is_done(scripts):
    own = {name: [] for name in ("Gesture", "Fumble")}
    for snippet in (s for script in scripts for s in script.snippets):
        for act in snippet.acts[snippet.seat]:
            if act.name in own:
                own[act.name].append(any(t.seat == snippet.seat and t.level == 1 for t in snippet.turns))
    assert np.mean(own["Gesture"]) > 0.85 and np.mean(own["Fumble"]) < 0.15


def test_gesture_and_fumble_look_nearly_alike(scripts):
    """The declared ambiguity: no rule on what the hands do is right much more often than seven times in ten."""
    hands, names = [], []
    for snippet in (s for script in scripts for s in script.snippets):
        for act in snippet.acts[snippet.seat]:
            if act.name in ("Gesture", "Fumble"):
                hands.append(act.hands)
                names.append(act.name == "Gesture")
    hands, names = np.array(hands), np.array(names)
    spread = hands.std(0)
    direction = (hands[names].mean(0) - hands[~names].mean(0)) / spread**2
    right = ((hands @ direction > np.median(hands @ direction)) == names).mean()
    assert 0.55 < right < 0.8


def test_voices_differ_by_pitch(scripts):
    rate, pitches = 16000, {}
    for seat in SEATS:
        voice = group_voice.person_voice(scripts[0], seat)
        wave = group_voice.speak(voice, 2.0, rate, np.random.default_rng(seat))
        assert wave.shape == (32000,) and wave.dtype == np.float32 and 0.03 < np.sqrt(np.mean(wave**2)) < 0.3
        spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
        around = np.fft.irfft(np.log(spectrum + 1e-3))  # cepstrum: its peak is the period
        low, high = rate // 400, rate // 70
        pitches[seat] = rate / (low + around[low:high].argmax())
    kinds = {kind: [pitches[seat] for seat in SEATS if KINDS[seat] == kind] for kind in ("low", "high")}
    assert max(kinds["low"]) < min(kinds["high"])
    assert all(abs(pitches[seat] / VOICES[seat].pitch - 1) < 0.25 for seat in SEATS)


def test_the_target_is_near_and_the_others_are_far():
    script = plan(SMALL)[0]
    snippet = script.snippets[0]
    wave = group_voice.sound_of(script, snippet.seat, SMALL)
    assert wave.dtype == np.float32 and wave.shape == (round(script.seconds(snippet.seat) * 16000),)
    assert np.abs(wave).max() < 1 and np.array_equal(wave, group_voice.sound_of(script, snippet.seat, SMALL))
    turn = snippet.turns[0]
    level = [
        np.sqrt(np.mean(group_voice._said(turn, script, near, SMALL, np.random.default_rng(0)) ** 2))
        for near in (True, False)
    ]
    assert level[1] < 0.6 * level[0]


def test_lists_round_trip_through_the_reader(scripts, tmp_path):
    group_files.write_lists(tmp_path, scripts)
    train, val = (read_samples(tmp_path / "bbr" / f"{name}_samples.csv") for name in ("train", "val"))
    assert (len(train), len(val)) == (400, 150)
    assert np.allclose(train.end_time - train.start_time, 64 / 30 * 1000, atol=1e-3)
    tune = read_recordings(tmp_path / "bbr" / "tune_recordings.csv")
    assert train.rec_no.isin(tune).sum() == 80 and not set(tune) & set(val.rec_no)
    assert not set(train.rec_no) & set(val.rec_no)
    first = files.digest(tmp_path)
    group_files.write_lists(tmp_path, scripts)
    assert files.digest(tmp_path) == first


def test_two_generations_never_mix(tmp_path):
    group._begin(tmp_path, DIALS)
    group._begin(tmp_path, DIALS)  # goes on
    with pytest.raises(SystemExit, match="other dials"):
        group._begin(tmp_path, SMALL)
    with pytest.raises(SystemExit, match="no session"):
        group.generate(tmp_path / "x", SMALL, only=(9,))


def test_sound_files_are_read_where_they_were_written(tmp_path):
    wave = np.zeros(64000, np.float32)
    wave[32000:32800] = 0.8 * np.sin(np.arange(800) * 0.3)
    for name in ("a", "b"):
        write_sound(tmp_path / name / "audio.opus", wave, rate=16000)
    assert (tmp_path / "a/audio.opus").read_bytes() == (tmp_path / "b/audio.opus").read_bytes()
    heard = np.abs(read_sound(tmp_path / "a/audio.opus", 1.5, 2.5, 16000))
    assert heard.shape == (16000,)
    assert abs(np.argmax(heard > 0.3 * heard.max()) / 16000 - 0.5) < 0.03
    with pytest.raises(RecordingError, match="mono"):
        write_sound(tmp_path / "c.opus", wave[None])
    assert not list(tmp_path.glob("*.opus"))


@pytest.mark.slow
def test_a_generated_layout_is_read(tmp_path):
    """Everything but the pictures, which are grey here."""
    scripts = plan(SMALL)
    group_files.write_lists(tmp_path, scripts)
    group.write_sounds(tmp_path, scripts, SMALL)
    for snippet in (s for script in scripts for s in script.snippets):
        for view in group.VIEWS:
            pictures = [np.full((32, 32, 3), 60 + 10 * view, np.uint8)] * 16
            write_recording(group_files.clip_path(tmp_path, snippet, view), pictures, SMALL.fps, gop=16)
    data = MpiiGroupInteraction(tmp_path, split="train", view=1, modalities=("audio",))
    assert len(data) == 3 and data.decode_side("audio")[1].all() and data.decode_all().shape == (3, 3, 8, 32, 32)
    assert data.targets["behaviour"].tolist() == [list(s.labels) for s in scripts[0].snippets]
    assert len(MpiiGroupInteraction(tmp_path, split="tune")) == 2
    facts = group.facts_of(tmp_path, SMALL, scripts)
    assert facts["snippets"] == {"train": 3, "tune": 2, "val": 2} and facts["digest"] == files.digest(tmp_path)


# --- probes and card ----------------------------------------------------------------------------------------------
def test_card_says_what_the_files_say(tmp_path):
    with pytest.raises(FileNotFoundError, match="rooms.json"):
        group_card.render(tmp_path)
    scripts = plan(DIALS)
    group_files.write_lists(tmp_path, scripts)
    (tmp_path / "rooms.json").write_text(json.dumps(group.facts_of(tmp_path, DIALS, scripts)))
    assert "No difficulty records" in group_card.render(tmp_path)
    records = tmp_path / "records"
    records.mkdir()
    for seed, score in ((0, 50.0), (1, 52.0)):
        scores = {"map": score, "map_micro": 60.0} | {f"ap_{c}": 10.0 for c in range(14)}
        record = {
            "run_info": {"config": {"method": "joint", "seed": seed}},
            "train_info": {"status": "ok", "metrics": {"validation": {"all": scores, "no_audio": scores}}},
        }
        (records / f"joint-s{seed}.json").write_text(json.dumps(record))
    text = group_card.render(tmp_path, records)
    assert "| eight frames and sound | 2 |  | 51.0 ± 1.4 | 60.0 ± 0.0 | 10.0 ± 0.0 |" in text
    assert "_Not measured yet: random scores; sound alone" in text
    kitchen = kitchen_world.Dials()
    assert f"rooms-kitchen {kitchen.size} x {kitchen.size} at {kitchen.fps:g}" in text and "Both are Opus" in text
    stale = json.loads((records / "joint-s0.json").read_text())
    stale["run_info"]["config"]["data"] = "rooms-group"  # heard by other settings than those in force
    (records / "joint-s0.json").write_text(json.dumps(stale))
    assert "| eight frames and sound | 1 |  | 52.0 |" in group_card.render(tmp_path, records)
    assert "{" not in text.replace("{train,val}", "").split("The dials")[0]
    counts = group_files.positives(scripts, "val")
    assert all(f"| {name} |" in text and f"| {counts[name]} |" in text for name in BEHAVIOURS)


def test_card_holds_small_networks_beside_the_studys_runs(tmp_path, make_record):
    for seed, method, score in ((0, "full", 70.0), (1, "full", 72.0), (0, "mhva+pt", 66.0)):
        run = make_record("full", method=method, data="rooms-group", study="07", seed=seed)
        run.train_info["metrics"]["validation"]["all"]["map"] = score
        save_record(run, tmp_path)
    found = {("joint", "all"): {"map": [80.0]}, ("sound", "all"): {"map": [20.0]}}
    text = group_card.standing(found, tmp_path)
    assert "20.0 % from sound alone, 80.0 % from both. Of the study: " in text
    assert "on pictures 71.0 %, MHVA + PT 66.0 %. Better than all of these: both." in text
    assert group_card.standing(found, None) == "" == group_card.standing({}, tmp_path)


# --- what ships ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def shipped():
    root = config.data_dir() / "rooms-group"
    if not (root / "rooms.json").is_file():
        pytest.skip(f"{root.name} is not here")
    return root


def test_shipped_lists_are_the_scripts(shipped, scripts, tmp_path):
    facts = json.loads((shipped / "rooms.json").read_text())
    assert facts["dials"] == json.loads(json.dumps(DIALS.as_dict())) and facts["generator"] == group.VERSION
    group_files.write_lists(tmp_path, scripts)
    for path in (tmp_path / "bbr").iterdir():
        assert (shipped / "bbr" / path.name).read_text() == path.read_text(), path.name


def test_card_is_rendered_from_its_records(shipped):
    text = group_card.render(shipped, config.results_dir() / "records" / "card-group", config.records_dir("full"))
    assert text == (shipped / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_shipped_files_are_complete_and_small(shipped):
    facts = json.loads((shipped / "rooms.json").read_text())
    assert files.digest(shipped) == facts["digest"] and facts["bytes"]["total"] < 10e6
    for view in group.VIEWS:
        for split in ("train", "tune", "validation"):
            MpiiGroupInteraction(shipped, split=split, view=view)  # refuses a list whose clips are missing


@pytest.mark.slow
def test_shipped_clips_are_read(shipped):
    data = MpiiGroupInteraction(shipped, split="validation", modalities=("audio",), size=96, limit=4)
    clip = data[0]
    assert clip.video.shape == (3, 8, 96, 96) and clip.video.float().std() > 20
    _, present = MpiiGroupInteraction(shipped, split="validation").decode_side("audio")
    assert 0.8 < present.float().mean() < 1.0
    assert torch.equal(present, MpiiGroupInteraction(shipped, split="validation").subsets["with_sound"])


# --- the simulator ------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_part_made_again_is_what_ships(shipped, scripts):
    if importlib.util.find_spec("mujoco") is None:
        pytest.skip("mujoco is not installed: pip install -e '.[simulate]'")
    from cm3t.data.rooms.group_stage import Stage

    script = next(s for s in scripts if s.take.split == "val")
    snippet = script.snippets[0]
    with Stage(script, DIALS) as stage:
        made = list(stage.frames(snippet))
    with Stage(script, DIALS) as stage:
        again = next(iter(stage.frames(snippet)))
    assert all(np.array_equal(a, b) for a, b in zip(made[0], again, strict=True))
    for view in group.VIEWS:
        there = read_frames(group_files.clip_path(shipped, snippet, view), (np.arange(16) + 0.5) / DIALS.fps)
        difference = np.abs(np.stack([pictures[view] for pictures in made]).astype(float) - there).mean()
        assert difference < 6  # compression, and other processors' rounding
    wave = group_voice.sound_of(script, snippet.seat, DIALS)
    heard = read_sound(group_files.sound_path(shipped, snippet.recording), 0, 4, DIALS.sound_rate)

    def envelope(x):
        return np.sqrt((x[:64000].reshape(-1, 1600) ** 2).mean(1))

    assert np.corrcoef(envelope(wave), envelope(heard))[0, 1] > 0.9
