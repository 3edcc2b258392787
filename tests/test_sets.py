"""Decoded clips: checked, shared, kept on disk; and the controls that say what a modality is worth."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import Behaviours, Toy, Traits, clip_set, small_world

from cm3t import dryrun, train
from cm3t.config import cache_dir, resolve
from cm3t.data import READERS, Clip, open_data
from cm3t.metrics import average_precision
from cm3t.training import sets
from cm3t.training.controls import (
    DRAWS,
    PERCENT,
    controls,
    drop,
    dropped,
    gone,
    mean_of_draws,
    others,
    partly,
    shuffled,
    trivial_scores,
)
from cm3t.training.sets import AbsentModality, decode, open_sets


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """Toys for data, a tiny backbone."""
    small_world(monkeypatch)


def settings(**given):
    return resolve("smoke", **({"weights": None, "train_clips": 16, "eval_clips": 8} | given))


def test_clips_carry_what_the_model_takes():
    clips = clip_set(Toy(8, 0), ("audio", "flow"))
    assert clips.side["audio"].shape == (8, 5, 8) and clips.present["flow"].tolist() == [False, True, True, True] * 2
    given = clips.inputs(torch.tensor([1, 4]), torch.device("cpu"))
    assert given["side"]["flow"].shape == (2, 2, 4) and given["present"]["flow"].tolist() == [True, False]
    assert clips.only("flow").side.keys() == {"flow"} and clips.only().inputs(torch.arange(2), "cpu") == {}
    assert clip_set(Toy(8, 0)).inputs(torch.arange(2), "cpu") == {}


def test_tasks_and_groups_come_along():
    assert clip_set(Behaviours(8, 0)).task == "behaviours"
    traits = clip_set(Traits(8, 0))
    assert traits.task == "traits" and traits.groups[:2] == ("000/0/T", "001/0/T")


def spoiled(monkeypatch, change):
    whole = Toy.decode_side
    monkeypatch.setattr(Toy, "decode_side", lambda self, name: change(*whole(self, name)))


def test_tokens_that_are_no_numbers_name_clip_and_modality(monkeypatch):
    def spoil(tokens, present):
        tokens[5, 1, 0] = float("nan")
        return tokens, present

    spoiled(monkeypatch, spoil)
    with pytest.raises(ValueError, match="audio of 1 clips holds values that are no numbers; the first is clip 5"):
        clip_set(Toy(8, 0), ("audio",))


def test_what_stands_in_an_absent_clip_does_not_matter(monkeypatch):
    spoiled(monkeypatch, lambda tokens, present: (tokens.masked_fill(~present[:, None, None], torch.nan), present))
    assert clip_set(Toy(8, 0), ("flow",)).side["flow"][0].isnan().all()


def test_a_modality_that_no_clip_has(monkeypatch):
    spoiled(monkeypatch, lambda tokens, present: (tokens, present & False))
    with pytest.raises(AbsentModality, match="no clip of the train split has flow; leave the modality out"):
        clip_set(Toy(8, 0), ("flow",))

    def lacking(tokens, present):
        raise LookupError("no sound track anywhere")

    spoiled(monkeypatch, lacking)
    with pytest.raises(AbsentModality, match="no clip of the train split has audio: no sound track anywhere"):
        clip_set(Toy(8, 0), ("audio",))


def test_an_unknown_modality_and_a_mistake_of_a_reader_keep_their_own_errors(monkeypatch):
    with pytest.raises(ValueError, match="unknown modality 'smell'; known are audio, flow"):
        clip_set(Toy(8, 0), ("smell",))
    spoiled(monkeypatch, lambda tokens, present: {}["oops"])
    with pytest.raises(KeyError):
        clip_set(Toy(8, 0), ("audio",))


def test_targets_that_are_missing_or_no_numbers():
    traits = Traits(8, 0)
    traits.targets["traits"][3, 2] = float("nan")
    with pytest.raises(ValueError, match="target 'traits' of clip 3 is no number"):
        clip_set(traits)
    hidden = Toy(8, 0)
    hidden.targets = {}
    with pytest.raises(ValueError, match="the train split has no targets verb, noun"):
        clip_set(hidden)


def test_tokens_are_made_once_and_then_read_from_disk(monkeypatch):
    made = []
    whole = Toy.decode_side
    monkeypatch.setattr(Toy, "decode_side", lambda self, name: made.append(name) or whole(self, name))
    config = settings(method="mhva+pt+caa", side="audio")
    first = decode(open_sets(config)["train"], config.side)
    assert decode(open_sets(config)["train"], config.side).side["audio"] is first.side["audio"] and len(made) == 1
    for remembered in (sets.side_tokens, sets._open_set):
        remembered.cache_clear()  # as in the next process
    again = decode(open_sets(config)["train"], config.side)
    assert torch.equal(again.side["audio"], first.side["audio"]) and len(made) == 1
    decode(open_sets(config)["tune"], config.side)
    decode(open_sets(settings(method="mhva+pt+caa", side="audio", train_clips=12))["train"], config.side)
    assert len(made) == 3 and len(list(cache_dir().glob("rooms-kitchen-*-audio-*.safetensors"))) == 3


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"half"), lambda path: path.unlink()])
def test_a_damaged_cache_is_made_again(damage):
    config = settings(method="mhva+pt+caa", side="flow")
    first = decode(open_sets(config)["train"], config.side)
    (path,) = cache_dir().iterdir()
    damage(path)
    sets.side_tokens.cache_clear()
    assert torch.equal(decode(open_sets(config)["train"], config.side).side["flow"], first.side["flow"])
    assert [p.suffix for p in cache_dir().iterdir()] == [".safetensors"]


class Padded(Toy):
    """Clips of which every third has sound that is partly silence; flow lacks in some."""

    def __init__(self, clips, seed, gaps=()):
        super().__init__(clips, seed, gaps)
        self.counts = Counter({"clamped": 1})

    def side_tokens(self, name, index):
        """Tokens of one clip."""
        self.counts["padded sound"] += name == "audio" and index % 3 == 0
        tokens, present = Toy.decode_side(self, name)
        return tokens[index] if present[index] else None

    def decode_side(self, name):
        """Tokens of all."""
        found = [self.side_tokens(name, i) for i in range(len(self))]
        return super().decode_side(name)[0], torch.tensor([tokens is not None for tokens in found])

    def clip(self, index, generator=None):
        """Clip `index`."""
        return Clip(self.decode_all()[index])

    def lacking(self, name):
        """Nothing lacks."""


@pytest.fixture
def padded(monkeypatch):
    small_world(monkeypatch, Padded)
    return settings(method="mhva+pt+caa", side="audio,flow", epochs=1, lr=1e-2, batch_size=8)


def test_what_was_counted_stays_with_the_tokens_on_the_disk(padded):
    for workers in (None, 0, None, 0):  # made, from memory or a file; then all from the disk
        sets.side_tokens.cache_clear()
        data = open_sets(padded)["train"]
        assert sets.side_counts(data, "audio", workers) == {"padded sound": 6}
        assert sets.side_counts(data, "flow", workers) == {"without flow": 4}
        assert data.counts == {"clamped": 1}  # not the pictures'
    assert len(list(cache_dir().iterdir())) == 2
    for path in cache_dir().iterdir():  # as they were before they held counts
        save_file(load_file(path), path)
    sets.side_tokens.cache_clear()
    assert sets.side_counts(data, "audio") == {} and sets.side_counts(data, "flow") == {"without flow": 4}


@pytest.mark.parametrize("workers", [None, 0])
def test_a_run_says_and_records_what_happened_to_its_modalities(padded, tmp_path, workers):
    found = []
    for again in range(2):
        sets.side_tokens.cache_clear()
        lines = []
        info = train.run(replace(padded, workers=workers), tmp_path / str(again), lines.append).train_info
        found.append((info["side_reading"], [line for line in lines if line.startswith("reading")]))
    assert found[0] == found[1]  # of made tokens, and of those from the disk
    read, said = found[0]
    few = {"audio": {"padded sound": 3}, "flow": {"without flow": 2}}
    assert read == {
        "train": {"audio": {"padded sound": 6}, "flow": {"without flow": 4}},
        "tune": few,
        "validation": few,
    }
    assert "reading train, audio of 16 clips: 6 padded sound" in said
    assert "reading tune, flow of 8 clips: 2 without flow" in said


def test_a_dry_run_says_what_was_counted_of_the_clips_that_it_tries():
    found = dryrun.Found()
    dryrun._try(Padded(10, 0), ["audio", "flow"], {}, found)
    assert "  train, audio of 4 clips tried: 4 padded sound" in found.said  # clips 0, 3, 6 and 9
    assert not any("flow of" in line for line in found.said) and not found.missing


def test_another_reader_makes_other_tokens(monkeypatch):
    config = settings(method="mhva+pt+caa", side="audio")
    train = open_sets(config)["train"]
    paths = {sets._cache_path(train, "audio"), sets._cache_path(train, "flow")}
    monkeypatch.setattr(sets, "_readers", lambda: "changed")
    paths.add(sets._cache_path(train, "audio"))
    train.digest = "other"
    assert len(paths | {sets._cache_path(train, "audio")}) == 4


def test_the_controls_of_two_modalities():
    clips = clip_set(Toy(16, 0), ("audio", "flow"))
    found = dict(controls(clips))
    names = [f"{what}_{name}" for name in ("audio", "flow") for what in ("no", "shuffled", "muted")]
    assert list(found) == [*names, "no_side"]
    assert found["no_audio"].side.keys() == {"flow"} and found["no_side"].side == {}
    muted = found["muted_flow"]
    assert not muted.side["flow"].any() and torch.equal(muted.present["flow"], clips.present["flow"])
    assert torch.equal(muted.side["audio"], clips.side["audio"])
    lower = replace(clips, side=clips.side | {"audio": clips.side["audio"] - 3})  # as logarithms are
    assert dict(controls(lower))["muted_audio"].side["audio"].unique() == lower.side["audio"].min() < 0
    assert list(controls(clip_set(Toy(16, 0)))) == []


def test_a_shuffled_modality_is_always_another_clips():
    clips = clip_set(Toy(16, 0), ("flow",))
    marked = torch.arange(16.0)[:, None, None].expand(16, 2, 4)
    clips.side["flow"] = marked
    moved = shuffled(clips, "flow")
    source = moved.side["flow"][:, 0, 0].int().tolist()
    assert sorted(source) == list(range(16)) and all(i != j for i, j in enumerate(source))
    assert torch.equal(moved.present["flow"], clips.present["flow"][source])
    assert torch.equal(moved.side["flow"], shuffled(clips, "flow").side["flow"])
    assert not torch.equal(others(clips, seed=1), others(clips, seed=2))


def test_shuffled_traits_are_another_persons():
    clips = clip_set(Traits(16, 0), ("audio",))
    clips.side["audio"] = torch.arange(16.0)[:, None, None].expand(16, 5, 8)
    source = shuffled(clips, "audio").side["audio"][:, 0, 0].int().tolist()
    assert sorted(source) == list(range(16))
    assert all(clips.groups[i] != clips.groups[j] for i, j in enumerate(source))
    pairs = [
        {(clips.groups[i], clips.groups[j]) for i, j in enumerate(others(clips, seed).tolist())} for seed in range(9)
    ]
    assert len(set.union(*pairs)) > 2 * len(pairs[0]), "each draw has its own pairs of people"


def test_people_are_exchanged_in_several_draws_whose_mean_counts():
    clips = clip_set(Traits(16, 0), ("audio",))
    clips.side["audio"] = torch.arange(16.0)[:, None, None].expand(16, 5, 8)
    drawn = [own.side["audio"][:, 0, 0].tolist() for name, own in controls(clips) if name.startswith("shuffled_audio")]
    assert len(drawn) == DRAWS and len(set(map(tuple, drawn))) > DRAWS / 2
    one, two = ({"mse": error, "of_none": None, "n": 4} for error in (1.0, 2.0))
    found = mean_of_draws({"shuffled_audio": one, "shuffled_audio/1": two, "no_audio": {"mse": 5.0, "n": 4}})
    assert found["shuffled_audio"] == {"mse": 1.5, "of_none": None, "n": 4, "draws": 2}
    assert found["no_audio"] == {"mse": 5.0, "n": 4}


def test_dropping_by_share_and_by_chance():
    clips = clip_set(Toy(20, 0), ("audio",))
    kept = [dropped(clips, "audio", share).present["audio"] for share in (0, 0.25, 0.5, 1)]
    assert [int(mask.sum()) for mask in kept] == [20, 15, 10, 0] and (kept[2] <= kept[1]).all()
    present = {"audio": torch.ones(4000, dtype=torch.bool), "flow": torch.arange(4000) % 2 == 0}
    one, two = (drop(present, 0.3, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert 0.67 < one["audio"].float().mean() < 0.73 and (one["flow"] <= present["flow"]).all()
    assert not torch.equal(one["audio"], two["audio"])


def test_a_share_of_the_clips_loses_a_modality():
    clips = clip_set(Toy(16, 0), ("audio",))
    had = int(clips.present["audio"].sum())
    left = [int(dropped(clips, "audio", percent / 100).present["audio"].sum()) for percent in (0, *PERCENT, 100)]
    assert left[0] == had and left[-1] == 0 and sorted(left, reverse=True) == left and len(set(left)) == 5
    with pytest.raises(ValueError, match="between 0 and 1, not at 25; divide percent by 100"):
        dropped(clips, "audio", 25)


def test_what_a_part_of_the_clips_loses_is_told_from_all_and_none():
    clips, part = clip_set(Toy(20, 0), ("audio",)), gone(20, 0.25).numpy()
    own, without = {"verb": np.zeros((20, 3))}, {"verb": np.ones((20, 3))}
    found = dict(partly(own, {"no_audio": without, "shuffled_audio": without, "no_side": without}))
    assert list(found) == [f"no_{name}_{share}" for name in ("audio", "side") for share in (25, 50, 75)]
    assert found["no_audio_25"]["verb"][:, 0].tolist() == part.astype(float).tolist() and part.sum() == 5
    assert (~part == dropped(clips, "audio", 0.25).present["audio"].numpy()).all()


def test_the_trivial_answer_of_every_task():
    train, clips = clip_set(Toy(40, 0)), clip_set(Toy(20, 1))
    common = train.target["verb"].bincount().argmax()
    verb = trivial_scores(train, clips)["all"]["verb_top1"]
    assert verb == pytest.approx(100 * (clips.target["verb"] == common).float().mean().item())
    behaviours = clip_set(Behaviours(20, 1))
    found = trivial_scores(clip_set(Behaviours(40, 0)), behaviours)["all"]
    labels = behaviours.target["behaviour"][:, 0].numpy()
    assert found["ap_0"] == pytest.approx(100 * average_precision(labels * 0, labels)) and found["ap_1"] is None
    assert found["classes_averaged"] == 2
    assert trivial_scores(clip_set(Traits(40, 0)), clip_set(Traits(20, 1)))["all"]["mse"] == pytest.approx(5 / 9)


@pytest.mark.parametrize("name", READERS)
def test_every_data_set_opens_by_name_and_says_what_is_missing(name, tmp_path):
    with pytest.raises(FileNotFoundError, match="rooms-"):
        open_data(name, tmp_path)


def test_a_wrong_name_is_told():
    with pytest.raises(ValueError, match="did you mean 'rooms-group'"):
        open_data("room-group")
