"""rooms-dyad: what its people, words, scripts and files promise; the simulator and the voice only in the slow tests."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from cm3t import config
from cm3t.data import open_data
from cm3t.data.media import duration_of, read_frames
from cm3t.data.rooms import dyad, dyad_card, dyad_files, dyad_probes, dyad_words
from cm3t.data.rooms.dyad_script import HOST
from cm3t.data.rooms.dyad_voice import delivery_of, session_cues, track
from cm3t.data.rooms.dyad_world import CORRELATIONS, CUES, SPLITS, TASKS, TRAITS, Dials, make_people, make_sessions
from cm3t.data.transcripts import HashingEncoder, read_srt
from cm3t.data.udiva import Udiva
from cm3t.data.udiva_metadata import read_ids, read_limits, read_parts, read_sessions
from cm3t.metrics import trait_scores
from cm3t.sides import SOUNDS

torch.set_num_threads(1)
DIALS = Dials()
PEOPLE = make_people(DIALS)
SESSIONS = make_sessions(DIALS, PEOPLE)
ROOT = config.data_dir() / "rooms-dyad"


def hum(text, how, rate):
    """A voice that needs no synthesiser: as long as its words take, as loud as its gain."""
    time = np.arange(round(rate * 60 / how.rate * len(text.split()))) / rate
    return (0.05 * how.gain * np.sin(2 * np.pi * 120 * time)).astype(np.float32)


@pytest.fixture(scope="module")
def scripts():
    return [script for session in SESSIONS[:8] for script in dyad.scripts_of(session, DIALS, hum)]


def test_traits_have_the_published_correlations_in_every_split():
    for split, count in zip(SPLITS, DIALS.people, strict=True):
        traits = np.array([[p.traits[t] for t in TRAITS] for p in PEOPLE if p.split == split])
        assert len(traits) == count and np.abs(traits.mean(0)).max() < 1e-3
        assert np.allclose(traits.T @ traits / count, CORRELATIONS, atol=1e-3)


def test_a_cue_tells_as_much_of_its_trait_as_its_dial_says():
    for name, (trait, dial) in CUES.items():
        for split in SPLITS:
            own = [p for p in PEOPLE if p.split == split]
            pair = np.corrcoef([p.cues[name] for p in own], [p.traits[trait] for p in own])
            assert pair[0, 1] == pytest.approx(getattr(DIALS, dial), abs=1e-3)
    cues = session_cues(PEOPLE[0], 5, DIALS)
    assert cues["words_o"] == PEOPLE[0].cues["words_o"] and cues["gesture"] != PEOPLE[0].cues["gesture"]
    assert cues == session_cues(PEOPLE[0], 5, DIALS) != session_cues(PEOPLE[0], 6, DIALS)


def test_sessions_keep_splits_apart_and_seat_everybody():
    seats = Counter(p.name for s in SESSIONS for p in s.people)
    assert set(seats) == {p.name for p in PEOPLE} and max(seats.values()) == 2
    assert Counter(s.split for s in SESSIONS) == dict(zip(SPLITS, DIALS.sessions, strict=True))
    assert all({p.split for p in s.people} == {s.split} and len(s.name) == 6 for s in SESSIONS)
    assert len({s.name for s in SESSIONS}) == len(SESSIONS)
    assert make_people(DIALS) == PEOPLE and make_people(replace(DIALS, seed=1)) != PEOPLE
    with pytest.raises(ValueError, match="cannot seat"):
        make_sessions(replace(DIALS, sessions=(20, 6, 8, 8)), PEOPLE)


def test_the_lexicon_denies_nothing_and_is_balanced():
    clauses = [c for pole in dyad_words.CLAUSES.values() for c in pole]
    assert len(clauses) == len(set(clauses)) and len({len(p) for p in dyad_words.CLAUSES.values()}) == 1
    for clause in clauses:
        words = clause.replace("{x}", "").lower().split()
        assert clause.count("{x}") == 1 and not {"not", "never", "no", "cannot"} & set(words) and "n't" not in clause
    assert set(dyad_words.TOPICS) == set(TASKS)


def test_words_follow_openness_and_conscientiousness():
    poles = {
        " ".join(c.replace("{x}", "").lower().split()): pole for pole, cs in dyad_words.CLAUSES.items() for c in cs
    }

    def share(trait, cue):
        rng, found = np.random.default_rng(0), Counter()
        for _ in range(300):
            cues = {"words_o": 0.0, "words_c": 0.0, f"words_{trait.lower()}": cue}
            text = dyad_words.sentence("lego", cues, dict.fromkeys("EAN", 0.0), rng, word_slope=3, opener_share=0.5,
                                       opener_slope=1, used=set())  # fmt: skip
            for topic in dyad_words.TOPICS["lego"]:
                text = text.replace(topic, "").replace(topic.capitalize(), "")
            found[next(pole for key, pole in poles.items() if key in " ".join(text.lower()[:-1].split()))] += 1
        return found[trait, 1] / (found[trait, 1] + found[trait, -1])

    for trait in "OC":
        assert share(trait, -1) < 0.15 < 0.4 < share(trait, 0) < 0.6 < 0.85 < share(trait, 1)


def test_scripts(scripts):
    assert scripts[:4] == dyad.scripts_of(SESSIONS[0], DIALS, hum)
    for script in scripts:
        begin, end = script.limits
        spoken = [line for line in script.lines if line.seat != HOST]
        assert all(begin <= line.start < line.stop <= end and line.text[-1] == "." for line in spoken)
        for seat in (0, 1):
            own = [line for line in spoken if line.seat == seat]
            assert all(a.stop < b.start for a, b in zip(own, own[1:], strict=False))  # nobody talks over himself
        assert (script.task == "talk") == any(line.seat == HOST for line in script.lines)
        assert end < script.duration < end + 1 and script.duration * DIALS.fps == round(script.duration * DIALS.fps)
    said = [line.text for script in scripts for line in script.lines if line.seat != HOST]
    assert 4 < len(said) / len(scripts) < 9


def test_voices_follow_their_cues():
    person, rate = PEOPLE[0], DIALS.sound_rate

    def mean(field, **cues):
        own = dict.fromkeys(CUES, 0.0) | cues
        return np.mean([getattr(delivery_of(person, own, np.random.default_rng(i)), field) for i in range(40)])

    assert mean("rate", pace=1.0) > 1.15 * mean("rate") and mean("gain", pace=1.0) > 1.4 * mean("gain")
    assert mean("spread", pitch=1.0) > 1.5 * mean("spread") and mean("pause", pitch=1.0) > 1.5 * mean("pause")
    line = np.full(rate, 0.1, np.float32)
    own, other = (track([(0.5, 0, line)], [], 2.0, seat, DIALS, 1) for seat in (0, 1))
    assert own.shape == (2 * rate,) and np.abs(own[: rate // 2]).mean() < 0.01
    assert own[rate:].std() > 0 and np.abs(own[rate]) > 2.5 * np.abs(other[rate])


def test_files_are_read_back_by_the_readers(tmp_path, scripts):
    dyad_files.write_tables(tmp_path, PEOPLE, SESSIONS)
    dyad_files.write_limits(tmp_path, scripts)
    dyad_files.write_transcripts(tmp_path, scripts)
    meta = tmp_path / "train" / "metadata"
    assert len(read_parts(meta / "parts_train.csv")) == sum(DIALS.people[:2])
    assert len(read_ids(meta / "tune_participant_ids.csv")) == DIALS.people[1]
    assert "_Z" not in (tmp_path / "val/metadata/parts_val.csv").read_text()
    table = read_sessions(tmp_path / "test/metadata/sessions_test.csv")
    seats = {s.name: tuple(p.name for p in s.people) for s in SESSIONS if s.split == "test"}
    assert {r.session: (r.part1, r.part2) for r in table.itertuples()} == seats
    for script in scripts:
        split, name = dyad_files.folder_of(script.session.split), script.session.name
        limits = read_limits(tmp_path / split / "metadata" / "task_limits.json")[name]
        assert limits[script.task] == [tuple(round(t, 2) for t in script.limits)]
        path = tmp_path / split / "transcriptions" / name / f"{name}_{script.task}.srt"
        assert path.is_file() != script.unwritten
        if not script.unwritten:
            assert path.read_bytes().startswith(b"\xef\xbb\xbf")
            assert [u.text for u in read_srt(path)] == [line.text for line in script.lines]


def test_ridge_and_words():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 3)), rng.standard_normal((3, 2))
    assert np.allclose(dyad_probes.ridge(x, x @ y + 5, 1e-9)(x[:4]), x[:4] @ y + 5, atol=1e-6)
    assert np.allclose(dyad_probes.ridge(x, x @ y, 1e12)(x[:4]), (x @ y).mean(0), atol=1e-3)
    tokens = torch.zeros(2, 3, 4)
    tokens[0, :2] = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]])
    assert dyad_probes.mean_words(tokens).tolist() == [[0.5, 0.5, 0, 0], [0.0] * 4]


class People:
    """Forty people of four clips each, whose first trait is in the first block, and the second in the second."""

    def __init__(self, seed):
        self.participants = {f"{p:03}": None for p in range(40)}
        self.groups = [p for p in self.participants for _ in range(4)]
        self.units = [f"{p}/0/talk" for p in self.groups]
        traits = np.repeat(np.random.default_rng(seed).standard_normal((40, 5)), 4, 0)
        self.targets, self.subsets = {"traits": torch.from_numpy(traits)}, {"all": torch.ones(160, dtype=torch.bool)}
        self.inputs = {n: self.targets["traits"][:, [k]].float() for k, n in enumerate(("words", "levels", "motion"))}

    def __len__(self):
        return 160


def test_what_is_shuffled_is_another_persons():
    data = People(0)
    first, other = (dyad_probes.of_another(data, seed) for seed in (0, 1))
    for source in (first, other):
        assert sorted(source) == list(range(160))
        assert all(data.groups[i] != data.groups[j] for i, j in enumerate(source))
    assert [data.groups[i] for i in first] != [data.groups[i] for i in other]


def test_words_of_another_person_add_nothing():
    splits = {name: People(k) for k, name in enumerate(dyad_probes.SPLITS)}
    inputs = {name: data.inputs for name, data in splits.items()}
    error = {}
    for probe in ("sound+motion", "joint", "joint_shuffled", "words_shuffled"):
        error[probe] = dyad_probes.measured(probe, 0, inputs, splits)["test"]
    own, without, others = (error[p]["all"]["mse_openmindedness"] for p in ("joint", "sound+motion", "joint_shuffled"))
    assert own < 0.2 * without and others > 0.5 * without
    assert error["joint"]["shuffled_words"]["mse_openmindedness"] > 5 * own
    assert error["joint_shuffled"]["all"]["mse_conscientiousness"] < 0.5 * error["words_shuffled"]["all"]["mse"]


@pytest.fixture(scope="module")
def shipped():
    if not (ROOT / "rooms.json").is_file():
        pytest.skip(f"{ROOT} is not there")
    return {split: Udiva(ROOT, split=split) for split in dyad_card.SPLITS}


def test_shipped_data_are_the_generators(shipped):
    facts = json.loads((ROOT / "rooms.json").read_text())
    assert facts["digest"] == shipped["train"].digest and facts["dials"] == DIALS.as_dict()
    assert facts["generator"] == dyad.VERSION
    assert sum(p.stat().st_size for p in ROOT.rglob("*") if p.is_file()) <= 12.5e6
    for split, data in shipped.items():
        own = {p.name: p for p in PEOPLE if p.split == split.replace("validation", "val")}
        assert set(data.participants) == set(own) and data.classes == {"traits": 5}
        for name, traits in data.participants.items():
            assert traits.tolist() == pytest.approx([own[name].traits[t] for t in TRAITS], abs=1e-4)
        people = set(data.groups)
        assert people == set(own) and not any(set(own) & set(d.participants) for s, d in shipped.items() if s != split)


def test_shipped_mean_predictor_errs_by_one(shipped):
    mean = np.asarray(shipped["train"].targets["traits"]).mean(0)
    for split in ("tune", "validation", "test"):
        data = shipped[split]
        scores = trait_scores(np.tile(mean, (len(data), 1)), np.asarray(data.targets["traits"]), data.units)
        assert all(abs(v - 1) < 0.1 for k, v in scores.items() if k.startswith("mse"))


def test_shipped_clips(shipped):
    data = open_data("rooms-dyad", split="validation", modalities=("audio", "transcript"), frames=4, limit=6)
    clips = list(data)
    assert all(clip.video.shape == (3, 4, DIALS.size, DIALS.size) for clip in clips)
    assert {name: tuple(t.shape) for c in clips for name, t in c.side.items()} == {
        "audio": (400, 128), "transcript": (8, 256),
    }  # fmt: skip
    row = shipped["test"].annotations.iloc[0]
    assert row.stop <= duration_of(row.path) and read_frames(row.path, [row.start]).std() > 10
    words, present = shipped["validation"].decode_side("transcript")
    assert 0.8 < present.float().mean() < 1 and words[present].any(-1).any(-1).float().mean() > 0.85


@pytest.mark.slow
def test_shipped_words_tell_o_and_c_and_shuffled_ones_nothing(shipped):
    splits = {s: shipped[s] for s in ("train", "tune", "validation", "test")}
    inputs = {s: dyad_probes.read_inputs(d, {"words"}) for s, d in splits.items()}
    found = dyad_probes.measured("words", 0, inputs, splits)
    for trait in ("openmindedness", "conscientiousness"):
        assert np.mean([found[s]["all"][f"mse_{trait}"] for s in found]) < 0.8
    mixed = dyad_probes.measured("words_shuffled", 0, inputs, splits)
    assert np.mean([mixed[s]["all"]["mse"] for s in mixed]) > 0.95


@pytest.mark.slow
def test_card_is_rendered_from_its_records(shipped):
    card = dyad_card.render(ROOT, config.results_dir() / "records" / "card-dyad", config.records_dir("full"))
    assert card == (ROOT / "README.md").read_text(encoding="utf-8")
    assert "No difficulty records yet" in dyad_card.render(ROOT)
    for row in ("words alone", "sound alone", "pictures alone", "one frame", "chance", "own cues"):
        assert row in card


def test_pilot_and_full_runs_do_not_mix(tmp_path):
    (tmp_path / "rooms.json").write_text("{}")
    with pytest.raises(SystemExit, match="holds recordings already"):
        dyad.generate(tmp_path, DIALS)


@pytest.mark.slow
def test_a_session_is_generated_twice_alike_and_as_shipped(tmp_path):
    if importlib.util.find_spec("mujoco") is None or shutil.which("espeak-ng") is None:
        pytest.skip("needs pip install -e '.[simulate]' and espeak-ng")
    session = SESSIONS[0]
    runs = []
    for name in ("a", "b"):
        four = dyad.scripts_of(session, DIALS)
        dyad.render(session, four[3:], 1, DIALS, tmp_path / name)
        runs.append(dyad_files.recording_path(tmp_path / name, session, "ghost", 1))
    assert runs[0].read_bytes() == runs[1].read_bytes()
    path = ROOT / runs[0].relative_to(tmp_path / "a")
    times = np.arange(0.5, duration_of(path) - 0.5, 1.0)
    gap = np.abs(read_frames(path, times).astype(int) - read_frames(runs[0], times))
    assert gap.mean() < 3  # another machine draws a little differently
    words = path.parents[3] / "transcriptions" / session.name / f"{session.name}_ghost.srt"
    if words.is_file():
        assert [u.text for u in read_srt(words)] == [line.text for line in four[3].lines]


def test_hashing_keeps_the_lexicon_apart():
    names = [c.format(x="it") for pole in dyad_words.CLAUSES.values() for c in pole]
    near = HashingEncoder()(names)
    assert float((near @ near.T - 2 * torch.eye(len(names))).max()) < 0.85


@pytest.mark.parametrize("name", SOUNDS)
def test_rooms_whose_adapters_are_reused_are_heard_alike(name):
    data = open_data(name, split="validation", frames=4, limit=2)
    assert data.decode_side("audio")[0].shape[1:] == (101, 64)  # 2 s at 16 kHz
    assert open_data(name, split="validation", frames=4, limit=2, sound="epic").decode_side("audio")[0].shape[1:] == (
        400,
        128,
    )
