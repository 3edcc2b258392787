"""Collation never loses a clip; augmentation depends on the generator alone."""

import dataclasses

import pytest
import torch

from cm3t.data.clip import Batch, Clip, augment, collate, normalise, subsample, unanchor

torch.set_num_threads(1)


def clip(i, side=(), **kw):
    video = torch.randint(0, 256, (3, 4, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))
    tokens = {name: torch.full((5, 7), float(i + 1)) for name in side}
    return Clip(video=video, side=tokens, target={"verb": i, "noun": 2 * i}, id=f"P01_01_{i}", group="P01", **kw)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_collate_shapes_and_order():
    batch = collate([clip(i, ["audio"]) for i in range(3)], ["audio"])
    assert batch.video.shape == (3, 3, 4, 24, 24) and batch.video.dtype == torch.uint8 and len(batch) == 3
    assert batch.side["audio"].shape == (3, 5, 7) and batch.side["audio"].dtype == torch.float32
    assert batch.present["audio"].tolist() == [True] * 3 and batch.target["noun"].tolist() == [0, 2, 4]
    assert batch.ids == ("P01_01_0", "P01_01_1", "P01_01_2") and batch.groups == ("P01",) * 3


def test_missing_modality_is_zeros_and_a_mask():
    batch = collate([clip(0), clip(1, ["audio"]), clip(2)], ["audio"])
    assert batch.present["audio"].tolist() == [False, True, False]
    assert batch.side["audio"].abs().sum((1, 2)).tolist() == [0.0, 70.0, 0.0] and len(batch) == 3


def test_a_modality_that_was_not_asked_for_is_left_out():
    assert collate([clip(0, ["audio"]), clip(1)]).side == {}


def test_modality_absent_from_the_whole_batch_needs_its_width():
    batch = collate([clip(0), clip(1)], {"audio": 7})
    assert batch.side["audio"].shape == (2, 1, 7) and not batch.present["audio"].any()
    with pytest.raises(ValueError, match=r"no clip of this batch has 'audio'.*P01_01_0.*declare its width"):
        collate([clip(0), clip(1)], ["audio"])
    with pytest.raises(ValueError, match=r"must be \(L, 9\)"):
        collate([clip(0, ["audio"])], {"audio": 9})


def test_odd_clips_are_errors_that_name_them():
    short = dataclasses.replace(clip(1), video=torch.zeros(3, 2, 24, 24, dtype=torch.uint8))
    with pytest.raises(ValueError, match="video of clip P01_01_1"):
        collate([clip(0), short])
    long = dataclasses.replace(clip(1), side={"audio": torch.zeros(6, 7)})
    with pytest.raises(ValueError, match="audio of clip P01_01_1"):
        collate([clip(0, ["audio"]), long], ["audio"])
    bad = dataclasses.replace(clip(1), side={"audio": torch.full((5, 7), float("nan"))})
    with pytest.raises(ValueError, match="'audio' of clip P01_01_1 holds NaN or infinity: .* leave it out"):
        collate([clip(0, ["audio"]), bad], ["audio"])
    with pytest.raises(ValueError, match="P01_01_0 and P01_01_1 have targets for different heads"):
        collate([clip(0), dataclasses.replace(clip(1), target={"verb": 1})])
    with pytest.raises(ValueError, match="at least one clip"):
        collate([])


def test_tensor_targets_and_no_targets():
    labels = dataclasses.replace(clip(0), target={"behaviour": torch.tensor([0.0, 1.0])})
    assert collate([labels, labels]).target["behaviour"].shape == (2, 2)
    assert collate([dataclasses.replace(clip(0), target={})]).target == {}


def test_batch_is_frozen_and_moves_as_a_whole():
    batch = collate([clip(0, ["audio"])], ["audio"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.video = None
    moved = batch.to("meta")
    assert isinstance(moved, Batch) and moved.ids == batch.ids
    for tensor in (moved.video, moved.side["audio"], moved.present["audio"], moved.target["verb"]):
        assert tensor.device.type == "meta"


def test_normalise():
    video = torch.tensor([0, 128, 255], dtype=torch.uint8).repeat(3, 1).reshape(1, 3, 1, 1, 3)
    expected = (video / 255 - torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).reshape(1, 3, 1, 1, 1)
    assert torch.allclose(normalise(video), expected, atol=1e-6) and normalise(video).dtype == torch.float32
    with pytest.raises(TypeError, match="normalised already"):
        normalise(video.float())


@pytest.mark.parametrize("change", [augment, lambda v, g: augment(v, g, anchored=False), unanchor])
def test_augmentation_comes_from_the_generator(change):
    video = torch.stack([clip(i).video for i in range(4)])
    before = video.clone()
    one, two, other = change(video, seeded()), change(video, seeded()), change(video, seeded(1))
    assert one.dtype == torch.uint8 and one.shape == video.shape and torch.equal(video, before)
    assert torch.equal(one, two) and not torch.equal(one, other)
    with pytest.raises(TypeError, match="uint8"):
        change(video.float(), seeded())


def ramp(width=48, batch=64):
    """Every column has its own grey, so that a shift can be read off; uint8 (B, 3, 2, width, width)."""
    return torch.arange(0, 4 * width, 4, dtype=torch.uint8).expand(batch, 3, 2, width, width).contiguous()


def test_shift_and_mirror_of_unanchor():
    moved = unanchor(ramp(), seeded())
    row = moved[:, 0, 0, 0].int()
    mirrored = row[:, 0] > row[:, -1]
    row = torch.where(mirrored[:, None], row.flip(-1), row)
    shifts = (24 * 4 - row[:, 24]) // 4
    assert 16 < mirrored.sum() < 48
    assert shifts.abs().max() <= 12 and shifts.unique().numel() > 12 and shifts.min() < -8 and shifts.max() > 8
    for line, shift in zip(row, shifts, strict=True):  # replicated edge: no black border
        assert line.tolist() == [4 * min(max(x - int(shift), 0), 47) for x in range(48)]
    assert (moved == moved[:, :1, :1, :1]).all()  # colours, frames and rows of one clip move alike


def test_anchored_augmentation_stays_in_place():
    video = ramp() // 4 + 100
    moved = augment(video, seeded())[:, 0, 0, 0].float()
    assert (moved[:, 0] <= moved[:, -1]).all()  # never mirrored
    gain = (moved.max(-1).values - moved.min(-1).values) / 47
    assert gain.min() >= 0.7 and gain.max() <= 1.25 and gain.std() > 0.05
    light = moved.mean(-1) / video[:, 0, 0, 0].float().mean(-1)
    assert light.min() > 0.75 and light.max() < 1.25 and light.std() > 0.05


def test_augmentation_saturates_instead_of_wrapping():
    assert augment(torch.full((8, 3, 1, 8, 8), 255, dtype=torch.uint8), seeded()).min() >= 200


def test_subsample():
    video = torch.arange(12).reshape(1, 1, 12, 1, 1).expand(5, 3, 12, 2, 2)
    middle = subsample(video, 4)
    assert middle.shape == (5, 3, 4, 2, 2) and middle[0, 0, :, 0, 0].tolist() == [1, 4, 7, 10]
    assert subsample(video, 8)[0, 0, :, 0, 0].tolist() == [0, 2, 3, 5, 6, 8, 9, 11]
    drawn = subsample(video, 4, seeded())[:, 0, :, 0, 0]
    assert torch.equal(drawn, subsample(video, 4, seeded())[:, 0, :, 0, 0])
    assert (drawn // 3 == torch.arange(4)).all() and not torch.equal(drawn[0], drawn[1])
    assert subsample(video, 12) is video
    with pytest.raises(ValueError, match="13 frames out of 12"):
        subsample(video, 13)


def test_normalise_takes_a_backbones_own_pixels():
    video = torch.full((1, 3, 2, 4, 4), 255, dtype=torch.uint8)
    assert torch.equal(normalise(video, (0.5,) * 3, (0.5,) * 3), torch.ones(video.shape))


def test_normalise_refuses_what_decoders_give():
    decoded = torch.zeros(1, 8, 24, 32, 3, dtype=torch.uint8)
    with pytest.raises(
        ValueError, match=r"colours before frames, got \(1, 8, 24, 32, 3\).*'... t h w c -> ... c t h w'"
    ):
        normalise(decoded)
    with pytest.raises(ValueError, match="'... t c h w -> ... c t h w'"):
        normalise(decoded.movedim(4, 2).float())
    with pytest.raises(TypeError, match="got a ndarray: torch.from_numpy"):
        normalise(decoded.numpy())
    assert normalise(decoded[0].movedim(3, 0)).shape == (3, 8, 24, 32)
