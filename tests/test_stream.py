"""Clips read as they are needed: the same numbers as from memory, whoever reads them, and what a bad file does."""

import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from toys import Toy, clip_set, quiet, small_world

from cm3t import train
from cm3t.config import cache_dir, resolve
from cm3t.data import Clip
from cm3t.data.media import MediaError
from cm3t.data.workers import VIDEO, Workers
from cm3t.model import create
from cm3t.training import loop, sets
from cm3t.training.sets import decode, open_sets
from cm3t.training.stream import Stream, UnreadableWarning, read_side


class Filmed(Toy):
    """Clips that are read one by one; some cannot be, and some lack sound."""

    broken: tuple[int, ...] = ()

    def __init__(self, clips, seed, gaps=()):
        super().__init__(clips, seed, gaps)
        self.counts, self.asked = Counter(), []

    def clip(self, index, generator=None):
        """Clip `index`; a generator makes it lighter."""
        self.asked.append(index)
        if index in self.broken:
            raise MediaError(f"recording {index // 4} is cut off")
        video = self.decode_all()[index]
        return Clip(video if generator is None else video + int(generator.integers(1, 30)))

    def side_tokens(self, name, index):
        """Tokens of one clip."""
        if name == "flow" and index in self.broken:
            raise MediaError(f"flow of {index} is damaged")
        tokens, present = self.decode_side(name)
        return tokens[index] if present[index] else None

    def lacking(self, name):
        """What to say where nothing has it."""
        return f"nothing has {name}"


@pytest.fixture
def toy(monkeypatch):
    small_world(monkeypatch, Filmed)
    sets._stream.cache_clear()


def broken(count=24, *clips):
    data = Filmed(count, 0)
    data.broken = clips
    return data


def settings(**given):
    common = dict(weights=None, lr=1e-2, epochs=2, train_clips=16, eval_clips=8, batch_size=6)
    return resolve("smoke", **(common | given))


def test_clips_of_the_kitchen_are_the_same_as_in_memory():
    data = open_sets(resolve("smoke", train_clips=5, eval_clips=2))["train"]
    whole, parts = decode(data), torch.tensor([3, 0, 4, 1, 2]).split(2)
    read = list(decode(data, (), 0).batches(parts))
    assert [clips.tolist() for clips, _ in read] == [[3, 0], [4, 1], [2]]
    assert all(torch.equal(video, whole.video[clips]) for clips, video in read)


@pytest.mark.parametrize(
    "given",
    [
        {},
        pytest.param({"method": "mhva+pt+caa", "side": "audio,flow", "modality_dropout": 0.3}, marks=pytest.mark.slow),
    ],
)
def test_a_streamed_run_has_the_numbers_of_one_in_memory(toy, tmp_path, given):
    found = []
    for workers in (None, 0):
        sets.side_tokens.cache_clear()
        info = train.run(settings(workers=workers, **given), tmp_path / str(workers), quiet).train_info
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in info["epochs"]]
        found.append((rows, info["metrics"]))
    assert found[0] == found[1] and info["reading"].keys() == {"train", "tune", "validation", "gap1"}


def test_every_video_is_scored_under_all_controls_at_one_reading(toy):
    data = Filmed(8, 0)
    model = train.build(settings(method="mhva+caa", side="audio"), data, clip_set(data, ("audio",)))
    found = loop.evaluate(model, decode(data, ("audio",), 0), controlled=True)
    assert {"all", "no_audio", "no_side"} <= set(found) and data.asked == list(range(8))


def test_a_bad_clip_is_left_out_warned_of_once_a_file_and_not_tried_again():
    stream = Stream(broken(24, 8, 9))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            read = list(stream.batches(torch.arange(24).split(8)))
    assert [clips.tolist() for clips, _ in read] == [list(range(8)), list(range(10, 16)), list(range(16, 24))]
    assert [len(video) for _, video in read] == [8, 6, 8]
    said = [str(w.message) for w in caught]
    assert len(said) == 1 and said[0].startswith("clips of the train split cannot be read (MediaError: recording 2 is")
    assert said[0].endswith("left out of training, scored with the mean answer")
    assert stream.data.asked.count(8) == 1 and stream.tally == {"unreadable": 2}


def test_a_batch_of_bad_clips_is_left_out_whole_and_too_many_are_an_error():
    with pytest.warns(UnreadableWarning):
        read = list(Stream(broken(24, 2, 3)).batches([torch.tensor([2, 3]), torch.tensor([4, 5])]))
    assert [clips.tolist() for clips, _ in read] == [[4, 5]]
    few = "3 of 24 clips of the train split cannot be read, more than a tenth; the last: MediaError: recording 1 is"
    with pytest.warns(UnreadableWarning), pytest.raises(MediaError, match=few):
        list(Stream(broken(24, 2, 3, 4)).batches(torch.arange(24).split(8)))


def test_a_clip_that_cannot_be_read_is_scored_with_the_mean_answer():
    torch.manual_seed(0)
    model = create("video_swin_mini", method="linear", heads={"verb": 2, "noun": 3}, clip=(2, 24, 24), weights=None)
    whole = loop.predict(model, decode(broken(12), (), 0))
    with pytest.warns(UnreadableWarning):
        found = loop.predict(model, decode(broken(12, 5), (), 0))
    others = [i for i in range(12) if i != 5]
    for head, values in found.items():
        assert np.allclose(values[others], whole[head][others], atol=1e-6)
        assert np.allclose(values[5], values[others].mean(0), atol=1e-6)


def test_a_run_goes_on_past_bad_files_and_its_record_counts_them(toy, monkeypatch):
    monkeypatch.setattr(Filmed, "broken", (3,))
    lines = []
    with pytest.warns(UnreadableWarning):
        record = train.run(settings(workers=0, method="linear"), log=lines.append)
    assert record.status == "ok" and record.train_info["reading"]["train"] == {"unreadable": 1}
    assert record.train_info["metrics"]["validation"]["all"]["n"] == 8  # every clip counts
    assert "reading validation: 1 unreadable" in lines


def test_draws_are_of_seed_epoch_and_clip():
    stream, parts = Stream(Filmed(6, 0)), [torch.arange(6)]
    one, again, other, plain = (next(stream.batches(parts, draw))[1] for draw in ((0, 1), (0, 1), (0, 2), None))
    assert torch.equal(one, again) and not torch.equal(one, other) and not torch.equal(one, plain)
    assert torch.equal(next(stream.batches([torch.tensor([4])], (0, 1)))[1][0], one[4])


@pytest.mark.parametrize(
    "given", [{"jitter": True}, {"transform": "flip+colour"}, {"transform": "flip", "anchored": 0}]
)
def test_jitter_and_transforms_draw_for_training_alone(toy, monkeypatch, given):
    drawn = []
    whole = Stream.batches
    monkeypatch.setattr(
        Stream, "batches", lambda self, parts, draw=None: drawn.append(draw) or whole(self, parts, draw)
    )
    train.run(settings(workers=0, method="linear", **given), log=quiet)
    assert [draw for draw in drawn if draw] == [(0, 1), (0, 2)] and drawn.count(None) == 4


def test_tokens_that_cannot_be_read_are_absent_and_remembered(toy):
    data = broken(24, 6)
    with pytest.warns(UnreadableWarning, match="flow of 6 is damaged.*: absent from these clips"):
        tokens, present, unreadable = read_side(data, "flow")
    whole, there = Filmed(24, 0).decode_side("flow")
    assert unreadable.nonzero().tolist() == [[6]] and not present[6] and not tokens[6].any()
    others = present.clone()
    assert torch.equal(present | unreadable, there) and torch.equal(tokens[others], whole[others])
    with pytest.raises(ValueError, match="unknown modality 'smell'"), pytest.warns(UnreadableWarning):
        raise_text(data)


def raise_text(data):
    try:
        read_side(data, "smell")
    except MediaError as error:
        raise ValueError(str(error)) from error


def test_the_cache_remembers_what_could_not_be_read(toy, monkeypatch):
    monkeypatch.setattr(Filmed, "broken", (6,))
    config = settings(workers=0, method="mhva+pt+caa", side="flow")
    with pytest.warns(UnreadableWarning, match="flow of 6"):
        first = decode(open_sets(config)["train"], config.side, 0)
    sets.side_tokens.cache_clear()
    with pytest.warns(UnreadableWarning, match="flow of 1 clips of the train split could not be read when it was made"):
        again = decode(open_sets(config)["train"], config.side, 0)
    assert torch.equal(again.side["flow"], first.side["flow"]) and len(list(cache_dir().iterdir())) == 1


@pytest.mark.slow
def test_processes_read_the_same_and_their_counts_come_home():
    data = open_sets(resolve("smoke", train_clips=6, eval_clips=2))["train"]
    parts = torch.arange(6).split(4)
    one, other = (list(Stream(data, workers).batches(parts, (1, 2))) for workers in (0, 2))
    assert all(torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))
    with Workers(Counting(4), 1) as readers:
        assert [r.array[0] for r in readers.read(VIDEO, range(4))] == [0, 1, 2, 3]
        assert readers.data.counts == {"nearest frames": 4}


class Counting:
    """Clips that are counted where they are read."""

    def __init__(self, clips):
        self.clips, self.counts = clips, Counter()

    def clip(self, index, generator=None):
        """A clip of one number."""
        self.counts["nearest frames"] += 1
        return Clip(torch.tensor([index]))
