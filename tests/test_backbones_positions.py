"""Position embeddings of a file of another clip lie where they lay, and no clip is guessed where two would do."""

import json
import re

import pytest
import torch
from safetensors.torch import save_file
from test_weights import vivit

import cm3t
from cm3t import backbones
from cm3t.backbones import formats, weights


def positions(grid):
    """Position embeddings (1, 1 + N, 24) of a grid (T, H, W): every row says where it lies."""
    t, h, w = (torch.arange(float(n)) for n in grid)
    places = 100 * t[:, None, None] + 10 * h[:, None] + w
    return torch.cat([torch.zeros(1), places.flatten()])[None, :, None].expand(1, -1, 24).contiguous()


def placed(tmp_path, grid, **clips):
    """The positions (T, H, W) that a ViViT of 16 x 14 x 14 tokens reads out of a file of `grid`, and the report."""
    native, model = (32, 56, 56), vivit(clip=(32, 56, 56), classes=None, patch=(2, 4, 4))
    save_file(model.state_dict() | {"pos_embed": positions(grid)}, tmp_path / "w.safetensors")
    report = weights.load(model, tmp_path / "w.safetensors", native=native, **clips)
    return model.pos_embed[0, 1:, 0].reshape(model.grid), report


def test_positions_of_fewer_frames_keep_their_places(tmp_path):
    """1176 rows are 6 x 14 x 14 and nothing else that is near: the model's own frames, and the report tells."""
    read, report = placed(tmp_path, (6, 14, 14))
    torch.testing.assert_close(read[:, 3, 5] - read[:, 0, 0], torch.full((16,), 35.0))
    assert read[0, 0, 0] == 0 and read[-1, 0, 0] == 500
    assert report.interpolated == ["pos_embed (1, 1177, 24) of 6 x 14 x 14 -> (1, 3137, 24) of 16 x 14 x 14"]
    assert "of 16 x 12 x 12 ->" in placed(tmp_path, (16, 12, 12))[1].interpolated[0]


def test_positions_that_may_be_fewer_frames_or_smaller_ones_are_not_guessed(tmp_path):
    """784 rows are 4 x 14 x 14, and 16 x 7 x 7: at full size 8 frames of 224 pixels, or 32 frames of 112."""
    words = r"such as weights_clip=\(32, 28, 28\) or weights_clip=\(8, 56, 56\)\n"
    with pytest.raises(weights.WeightsError, match=words):
        placed(tmp_path, (16, 7, 7))
    smaller = placed(tmp_path, (16, 7, 7), told=(32, 28, 28))[1]
    assert smaller.interpolated == ["pos_embed (1, 785, 24) of 16 x 7 x 7 -> (1, 3137, 24) of 16 x 14 x 14"]
    shorter = placed(tmp_path, (4, 14, 14), told=(8, 56, 56))[1]
    assert shorter.interpolated == ["pos_embed (1, 785, 24) of 4 x 14 x 14 -> (1, 3137, 24) of 16 x 14 x 14"]


def test_the_clip_that_hugging_faces_config_tells_needs_no_other_word(tmp_path):
    about = {"model_type": "vivit", "image_size": 28, "num_frames": 32, "tubelet_size": [2, 4, 4]}
    for size in (28, [28, 28]):
        (tmp_path / "config.json").write_text(json.dumps(about | {"image_size": size}))
        assert "of 16 x 7 x 7 ->" in placed(tmp_path, (16, 7, 7))[1].interpolated[0]
    assert "of 4 x 14 x 14 ->" in placed(tmp_path, (4, 14, 14), told=(8, 56, 56))[1].interpolated[0]
    stills = {"model_type": "vit", "image_size": 28}
    for text in ("{", "[]", json.dumps(stills), json.dumps(about | {"num_frames": "32"})):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(weights.WeightsError, match="784 positions"):
            placed(tmp_path, (16, 7, 7))


def test_positions_of_which_no_grid_is_known_ask_for_the_clip(tmp_path):
    """392 rows are 8 x 7 x 7 and 2 x 14 x 14: a guess could scramble them."""
    words = r"392 positions, the model 16 x 14 x 14 of them.*cm3t.backbone\('small', weights=FILE, weights_clip=\(T,"
    with pytest.raises(weights.WeightsError, match=words + r".* such as weights_clip=\(16, 28, 28\) or .*\(4, 56, 56"):
        placed(tmp_path, (8, 7, 7))
    assert "of 8 x 7 x 7 ->" in placed(tmp_path, (8, 7, 7), told=(16, 28, 28))[1].interpolated[0]
    with pytest.raises(weights.WeightsError, match=r"has 16 x 7 x 7 = 784 positions, the file has 392; give the clip"):
        placed(tmp_path, (8, 7, 7), told=(32, 28, 28))


def test_positions_that_suit_the_published_frames_and_the_models_own_are_not_guessed(tmp_path):
    """1568 rows for 16 x 7 x 7: 8 x 14 x 14 of the published frames, or 32 x 7 x 7."""
    model = vivit(clip=(32, 28, 28), classes=None, patch=(2, 4, 4))
    save_file(model.state_dict() | {"pos_embed": positions((8, 14, 14))}, tmp_path / "w.safetensors")
    words = r"1568 positions.* such as weights_clip=\(64, 28, 28\) or weights_clip=\(16, 56, 56\)"
    with pytest.raises(weights.WeightsError, match=words):
        weights.load(model, tmp_path / "w.safetensors", native=(32, 56, 56))


def test_the_clip_of_a_file_is_given_by_whoever_makes_the_backbone(tmp_path):
    whole, path = backbones.backbone("vivit_mini", clip=(16, 32, 32)), tmp_path / "w.safetensors"
    save_file(whole.state_dict(), path)
    with pytest.raises(weights.WeightsError, match=r"32 positions.*weights_clip=\(4, 64, 64\)"):
        backbones.backbone("vivit_mini", weights=path)
    told = dict(weights=path, weights_clip=(16, 32, 32))
    for model in (backbones.backbone("vivit_mini", **told), cm3t.create("vivit_mini", **told).backbone):
        assert "of 8 x 2 x 2 ->" in model.loaded.interpolated[0]
    assert cm3t.create("vivit_mini", method="scratch", **told).backbone.loaded is None
    with pytest.raises(ValueError, match="weights_clip=.16, 32, 32.: no weights are loaded; leave it out"):
        backbones.backbone("vivit_mini", weights_clip=(16, 32, 32))
    with pytest.raises(ValueError, match="100"):
        backbones.backbone("vivit_mini", weights=path, weights_clip=(8, 100, 100))
    with pytest.raises(ValueError, match="weights_clip=7: give"):
        backbones.backbone("vivit_mini", weights=path, weights_clip=7)


def test_positions_that_are_none_are_told_as_any_key_that_does_not_fit(tmp_path):
    model = vivit(clip=(8, 32, 32), classes=None, patch=(2, 4, 4))
    for shape in ((1, 0, 24), (1, 1, 24), (9, 24)):
        save_file(model.state_dict() | {"pos_embed": torch.zeros(shape)}, tmp_path / "w.safetensors")
        with pytest.raises(
            weights.WeightsError, match=re.escape(f"pos_embed has shape {shape}, the model's is (1, 257")
        ):
            weights.load(model, tmp_path / "w.safetensors")


def test_frames_that_share_their_positions_suggest_no_clip(tmp_path):
    model = backbones.backbone("clip_mini")
    width = model.width
    state = model.state_dict() | {"pos_embed": torch.zeros(1, 1 + 72, width)}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(weights.WeightsError, match="the file has 72 positions") as caught:
        backbones.backbone("clip_mini", weights=tmp_path / "w.safetensors")
    assert "such as" not in str(caught.value)


def test_an_image_of_as_many_patches_as_a_video_has_is_read_as_an_image():
    model = vivit(clip=(8, 32, 32), classes=None, patch=(2, 4, 4))
    state = {"pos_embed": positions((1, 16, 16)), "patch_embed.proj.weight": torch.zeros(24, 3, 4, 4)}
    report = formats.translate(state, model)[1]
    assert report.inflated[0] == "pos_embed (1, 257, 24) of 1 x 16 x 16 -> (1, 257, 24) of 4 x 8 x 8"
