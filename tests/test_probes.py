"""The difficulty probes of kitchen and group: what they are given, how scores meet, controls, pairs, records."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from toys import Behaviours, Toy, clip_set, small_world

from cm3t import config
from cm3t.data.rooms import cards, group_probes, probes, probing
from cm3t.data.rooms.kitchen_world import PAIRS
from cm3t.data.rooms.probe_nets import Frame, Probe, Stack, Tokens
from cm3t.data.rooms.probing import Design, Recipe, Room
from cm3t.data.side import sound_options
from cm3t.sides import SOUNDS
from cm3t.training.sets import ClipSet

torch.set_num_threads(1)
BOTH = ("audio", "flow")


@pytest.mark.parametrize("kept", [None, 8])
def test_what_is_absent_adds_nothing(kept):
    torch.manual_seed(0)
    model = Probe({"verb": 4, "noun": 3}, Stack(), {"audio": Tokens(16), "flow": Tokens(6)}, kept).eval()
    pictures = torch.randint(0, 256, (3, 3, 8, 24, 24), dtype=torch.uint8)
    side = {"audio": torch.randn(3, 9, 16), "flow": torch.randn(3, 5, 6)}
    present = {"audio": torch.tensor([True, False, True]), "flow": torch.ones(3, dtype=torch.bool)}
    with torch.no_grad():
        first = model(pictures, side, present)
        other = model(pictures, side | {"audio": torch.randn(3, 9, 16)}, present)
        deaf = model(pictures, {"flow": side["flow"]}, {"flow": present["flow"]})
        still = model(pictures, side | {"flow": torch.randn(3, 5, 6)}, present)
    assert {head: tuple(scores.shape) for head, scores in first.items()} == {"verb": (3, 4), "noun": (3, 3)}
    assert torch.allclose(first["verb"][1], other["verb"][1], atol=1e-6)
    assert torch.allclose(first["verb"][1], deaf["verb"][1], atol=1e-6)
    assert not torch.allclose(first["verb"][0], other["verb"][0], atol=1e-4)
    assert not torch.allclose(first["noun"][1], still["noun"][1], atol=1e-4)


def test_a_probe_of_sound_alone_looks_at_nothing():
    model = Probe({"verb": 2}, sides={"audio": Tokens(8)}, kept=8).eval()
    tokens, there = {"audio": torch.randn(3, 5, 8)}, {"audio": torch.ones(3, dtype=torch.bool)}
    assert model(torch.empty(3, 0), tokens, there)["verb"].shape == (3, 2) and model.by_side["audio"].in_features == 256


@pytest.mark.parametrize("room", [probes.ROOM, group_probes.ROOM], ids=["kitchen", "group"])
def test_probes_hear_what_the_study_hears(room):
    if not (config.data_dir() / f"rooms-{room.name}" / "rooms.json").is_file():
        pytest.skip(f"rooms-{room.name} is not here")
    data = probing.splits_of(room, None, Design(side=("audio",)))["validation"]
    assert data.sound == sound_options(SOUNDS[f"rooms-{room.name}"]) and data.side_tokens("audio", 0).shape == (101, 64)


def test_what_a_design_is_given():
    toy = Toy(12, seed=0)
    joint = probing.clips_of(toy, Design(Stack, BOTH))
    assert joint.video.shape == (12, 3, 2, 12, 12) and joint.side["audio"].shape == (12, 40, 8)
    assert probing.clips_of(toy, Design(Frame)).video.shape == (12, 3, 12, 12)
    blind = probing.clips_of(toy, Design(side=("flow",)))
    assert blind.video.shape == (12, 0) and len(blind) == 12 and set(blind.side) == {"flow"}
    mixed = probing.clips_of(toy, Design(Stack, BOTH, exchanged=True))
    for name in BOTH:
        own, others = (dict(zip(x.side[name], x.present[name], strict=True)) for x in (joint, mixed))
        assert Counter(map(float, (t.sum() for t in own))) == Counter(map(float, (t.sum() for t in others)))
        assert not torch.equal(joint.side[name], mixed.side[name])


class Snow(Toy):
    """Pictures of noise, so that only sound tells the verb."""

    def decode_all(self):
        """(n, 3, 2, 24, 24)."""
        rng = torch.Generator().manual_seed(self.clips)
        return torch.randint(0, 256, (self.clips, 3, 2, 24, 24), generator=rng, dtype=torch.uint8)


def room_of(recipe, **designs):
    seeded = tuple(designs)
    return Room(name="kitchen", recipe=recipe, designs=designs, trivial={"majority": probes.majority}, seeded=seeded)


def test_the_sound_that_tells_all_is_worth_nothing_from_other_clips():
    toys = {split: Snow(48 + 8 * k, seed=k) for k, split in enumerate(("train", "validation"))}
    room = room_of(Recipe(epochs=15, batch_size=8, dropped=0.2), joint=Design(Frame, ("audio",)),
                   shuffled=Design(Frame, ("audio",), exchanged=True))  # fmt: skip
    verb = {}
    for probe, design in room.designs.items():
        clips = {split: probing.clips_of(toy, design) for split, toy in toys.items()}
        found = probing.run(room, probe, clips, toys["train"].classes, 0)["validation"]
        verb |= {(probe, name): found[name]["verb_top1"] for name in found if "verb_top1" in found[name]}
    assert verb["joint", "all"] > 95
    for name in (("joint", "no_audio"), ("joint", "shuffled_audio"), ("joint", "muted_audio"), ("shuffled", "all")):
        assert verb[name] < 75, name
    assert ("shuffled", "no_audio") not in verb


def test_behaviours_are_learned_and_scored_as_such():
    toys = {split: Behaviours(24, seed=k) for k, split in enumerate(("train", "validation"))}
    room = room_of(Recipe(epochs=2, kept=4), joint=Design(Frame, ("audio",)))
    clips = {split: probing.clips_of(toy, room.designs["joint"]) for split, toy in toys.items()}
    found = probing.run(room, "joint", clips, toys["train"].classes, 0)["validation"]
    assert {"map", "map_micro", "ap_0"} <= found["all"].keys() & found["no_audio"].keys()


def test_a_pair_is_told_by_its_two_verbs_alone():
    (two, noun), other = PAIRS["turn-on / turn-off microwave"], PAIRS["open / close microwave"][0]
    clips = clip_set(Toy(4, seed=0))
    verbs = torch.tensor([two[0], two[1], two[1], other[0]])
    clips = ClipSet(clips.video, {"verb": verbs, "noun": torch.full((4,), noun)}, clips.subsets)
    scores = np.zeros((4, 12))
    scores[:, 11] = 9  # another verb is named, which is no matter
    scores[0, two[0]] = scores[1, two[1]] = scores[2, two[0]] = scores[3, other[0]] = 1
    found = probes.pair_scores(clips, {"verb": scores})["pairs"]
    assert {name: round(pair["accuracy"]) for name, pair in found.items()} == {
        "turn-on / turn-off microwave": 67, "open / close microwave": 100,
    }  # fmt: skip
    assert found["turn-on / turn-off microwave"]["n"] == 3


def test_records_are_made_once_and_again_where_sound_was_read_otherwise(monkeypatch, tmp_path):
    small_world(monkeypatch)
    room = room_of(Recipe(epochs=1), joint=Design(Frame, BOTH), flow=Design(side=("flow",)), frame=Design(Frame))
    said = []
    for _ in range(2):
        probing.measure(room, None, tmp_path, probes=("majority", *room.designs), seeds=2, log=said.append)
    assert len(said) == len(list(tmp_path.glob("*.json"))) == 1 + 3 * 2
    found = json.loads((tmp_path / "joint-s1.json").read_text())
    assert found["run_info"]["config"] | {"sound": "small", "data": "rooms-kitchen"} == found["run_info"]["config"]
    assert found["run_info"]["command"] == "python -m cm3t.data.rooms probes --probes joint"
    metrics = found["train_info"]["metrics"]
    assert set(metrics) == {"tune", "validation"}  # what was filmed again is silent
    assert {f"{how}_{name}" for how in ("no", "shuffled", "muted") for name in BOTH} < set(metrics["validation"])
    assert "gap1" in json.loads((tmp_path / "flow-s0.json").read_text())["train_info"]["metrics"]
    for name in ("joint-s1", "frame-s0"):
        record = json.loads((tmp_path / f"{name}.json").read_text())
        record["run_info"]["config"].pop("sound", None)
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    assert len(list(cards.read_probes(tmp_path))) == 6
    probing.measure(room, None, tmp_path, probes=tuple(room.designs), seeds=2, log=said.append)
    assert len(said) == 8 and said[-1].startswith("joint seed 1") and len(list(cards.read_probes(tmp_path))) == 7
