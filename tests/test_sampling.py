"""Which frames of a segment are taken, and what augmentation does to them."""

import pickle

import numpy as np
import pytest
import torch
from test_epic import kitchen  # noqa: F401
from test_media import number

from cm3t.data import subsample
from cm3t.data.epic import EpicKitchens
from cm3t.data.sampling import STEP, dense_times, frame_times
from cm3t.data.transforms import WORDS, ClipTransform

torch.set_num_threads(1)


def test_dense_times_about_the_middle():
    times = dense_times(1.0, 5.0, 4, 0.5)
    assert np.allclose(times, [2.25, 2.75, 3.25, 3.75]) and np.isclose(times.mean(), 3.0)
    assert np.allclose(np.diff(dense_times(0.0, 60.0, 32)), STEP)


def test_dense_times_anywhere_but_never_outside():
    drawn = np.stack([dense_times(1.0, 5.0, 4, 0.5, np.random.default_rng(i)) for i in range(300)])
    assert np.allclose(np.diff(drawn, axis=1), 0.5) and drawn.min() >= 1.0 and drawn.max() <= 5.0
    assert drawn[:, 0].min() < 1.5 and drawn[:, -1].max() > 4.5
    assert np.array_equal(drawn[0], dense_times(1.0, 5.0, 4, 0.5, np.random.default_rng(0)))


def test_a_short_segment_repeats_its_ends():
    times = dense_times(2.0, 3.0, 8, 0.5)
    assert times.min() == 2.0 and times.max() == 3.0 and (np.diff(times) >= 0).all() and len(times) == 8
    assert np.array_equal(times, dense_times(2.0, 3.0, 8, 0.5, np.random.default_rng(0)))


@pytest.mark.parametrize(
    "bad", [(1.0, 1.0, 4, 0.5), (1.0, 2.0, 0, 0.5), (1.0, 2.0, 4, 0.0), (1.0, 2.0, 4, float("nan"))]
)
def test_dense_times_that_cannot_be(bad):
    with pytest.raises(ValueError, match="has no"):
        dense_times(*bad)


def test_a_data_set_sampled_densely(kitchen):  # noqa: F811
    data = EpicKitchens(kitchen, frames=3, sampling="dense", step=0.25)
    clip = data[1]  # 1.0 to 3.125 s, at 12 fps
    assert [number(clip.video[:, t].permute(1, 2, 0).numpy()) for t in range(3)] == [
        int(t * 12) for t in (2.0625 - 0.25, 2.0625, 2.0625 + 0.25)
    ]
    videos = data.decode_all(oversample=3)
    assert torch.equal(subsample(videos, 3), data.decode_all())
    assert not torch.equal(data.decode_all(), EpicKitchens(kitchen, frames=3).decode_all())
    assert frame_times(0.0, 1.0, 2).tolist() == [0.25, 0.75]


@pytest.mark.parametrize("word", WORDS)
def test_every_word_draws_once_a_clip_and_repeats(word):
    video = torch.randint(0, 255, (3, 1, 32, 32), dtype=torch.uint8).expand(3, 4, 32, 32).contiguous()
    transform = ClipTransform(word, size=24)
    before = torch.get_rng_state()
    outs = [transform(video, np.random.default_rng(i)) for i in range(6)]
    side = 24 if word == "crop" else 32
    assert all(out.shape == (3, 4, side, side) and out.dtype == torch.uint8 for out in outs)
    assert all((out == out[:, :1]).all() for out in outs), "frames of one clip are treated alike"
    assert any(not torch.equal(outs[0], out) for out in outs[1:]), "clips are not"
    assert torch.equal(outs[2], transform(video, np.random.default_rng(2)))
    assert torch.equal(torch.get_rng_state(), before)


def test_words_are_checked():
    with pytest.raises(ValueError, match="unknown augmentation 'color': did you mean 'colour'"):
        ClipTransform("crop+color", size=24)
    with pytest.raises(ValueError, match="crop needs size"):
        ClipTransform("crop")


def test_only_clips_read_with_a_generator_are_transformed(kitchen):  # noqa: F811
    plain = EpicKitchens(kitchen, frames=2)
    data = EpicKitchens(kitchen, frames=2, transform=ClipTransform("crop+flip+colour", size=32))
    assert torch.equal(data[0].video, plain[0].video)
    data = pickle.loads(pickle.dumps(data))  # as a loader's processes get it
    drawn = data.clip(0, np.random.default_rng(3)).video
    assert drawn.shape == (3, 2, 32, 32) and torch.equal(drawn, data.clip(0, np.random.default_rng(3)).video)
