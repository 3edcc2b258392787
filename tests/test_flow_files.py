"""EPIC's flow files: grey values both ways, the two halves' numbers, and the same tokens as computed flow."""

import math
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from test_frames import extract
from test_media import write

from cm3t.data import flow_files
from cm3t.data.flow_files import EPIC_55, EXTENSION, decode_flow, encode_flow, flow_file_tokens, flow_format
from cm3t.data.frames import PICTURE, FrameFolder, NearestFrameWarning, write_picture
from cm3t.data.signals import dense_flow


def test_the_two_halves():
    assert flow_format("P01_01") is EPIC_55 and flow_format("P37_101") is EXTENSION
    assert (EPIC_55.bound, EPIC_55.stride, EPIC_55.dilation, EPIC_55.fps) == (25, 2, 3, 60)
    assert (EXTENSION.bound, EXTENSION.stride, EXTENSION.dilation, EXTENSION.fps) == (8, 1, 1, 50)
    for bad in ("P01", "../../etc", "P01_1011"):
        with pytest.raises(ValueError, match="no video id"):
            flow_format(bad)


@pytest.mark.parametrize("bound", [25, 8])
def test_grey_values_by_the_definition(bound):
    for x in np.linspace(-1.2 * bound, 1.2 * bound, 97):
        wanted = min(255, max(0, round(255 * (x + bound) / (2 * bound))))  # Python rounds halves to even, as OpenCV
        assert int(encode_flow(np.array([x]), bound)[0]) == wanted
    assert encode_flow(np.zeros(1), bound)[0] == 128
    assert encode_flow(np.array([-bound, bound, -99.0, 99.0]), bound).tolist() == [0, 255, 0, 255]


@pytest.mark.parametrize("bound", [25, 8])
def test_there_and_back(bound):
    grey = np.arange(256, dtype=np.uint8)
    assert (encode_flow(decode_flow(grey, bound), bound) == grey).all()
    for flow, wide in ((np.array([0.0, np.nan]), bound), (np.zeros(2), 0.0)):
        with pytest.raises(ValueError, match="needs bound > 0 and no NaN"):
            encode_flow(flow, wide)
    flow = np.random.default_rng(0).uniform(-bound, bound, (8, 9, 2)).astype(np.float32)
    assert np.abs(decode_flow(encode_flow(flow, bound), bound) - flow).max() <= bound / 255 + 1e-5


@pytest.mark.parametrize("form", [EPIC_55, EXTENSION])
def test_index_and_count_against_a_list_of_all_flows(form):
    for frames in range(1, 40):
        starts = [s for s in range(1, frames + 1, form.stride) if s + form.dilation <= frames]
        assert form.count(frames) == len(starts) == max(0, math.ceil((frames - form.dilation) / form.stride))
        for frame in range(1, frames + 1):
            before = [k for k, start in enumerate(starts, 1) if start <= frame]
            if before:
                assert min(form.index(frame), len(starts)) == before[-1]


def planes(folder, flows, bound):
    """Flow files of constant motion: flows is a list of (right, down)."""
    for plane, name in enumerate("uv"):
        (folder / name).mkdir(parents=True)
        for k, flow in enumerate(flows, 1):
            write_picture(folder / name, k, np.full((32, 48), encode_flow(np.array(flow[plane]), bound), np.uint8))
    return folder


@pytest.mark.parametrize(("video", "files"), [("P01_01", 2), ("P01_101", 5)])
def test_unified_tokens_are_pixels_in_a_tenth_of_a_second(tmp_path, video, files):
    form = flow_format(video)
    folder = planes(tmp_path / video, [(2.0, -1.0)] * 30, form.bound)
    tokens = flow_file_tokens(folder, video, [0.2, 0.3])
    assert tokens.shape == (2, 128) and tokens.dtype == torch.float32
    error = files * form.bound / 255 * 1.6  # of the grey values, and of JPEG
    assert (tokens[:, :64] - 2.0 * files).abs().max() < error and (tokens[:, 64:] + files).abs().max() < error
    small = flow_file_tokens(folder, video, [0.2], 16)  # half the size: half the pixels
    assert torch.allclose(small, tokens[:1] / 2, atol=1e-3)
    wide = flow_file_tokens(folder, video, [0.2], (32, 96))
    assert torch.allclose(wide[:, :64], tokens[:1, :64] * 2, atol=1e-3)
    assert torch.allclose(wide[:, 64:], tokens[:1, 64:], atol=1e-3)


def test_stored_scale_is_what_the_files_say(tmp_path):
    """Half the bound is the same grey value in both halves, though not the same motion."""
    got = {}
    for video in ("P01_01", "P01_101"):
        bound = flow_format(video).bound
        folder = planes(tmp_path / video, [(bound / 2, -bound / 2)] * 30, bound)
        got[video] = flow_file_tokens(folder, video, [0.2], scale="stored")
        assert (got[video][:, :64] - 0.5).abs().max() < 0.02 and (got[video][:, 64:] + 0.5).abs().max() < 0.02
    with pytest.raises(ValueError, match="unknown flow scale 'raw'; known are unified, stored"):
        flow_file_tokens(folder, "P01_101", [0.2], scale="raw")


def test_the_right_files_are_read(tmp_path):
    """File k holds motion k to the right: 0.1 s before picture 24 are the files of pictures 18 and 21."""
    folder = planes(tmp_path / "P01_01", [(k, 0) for k in range(1, 20)], 25)
    tokens = flow_file_tokens(folder, "P01_01", [24.01 / 60])
    assert float(tokens[0, :64].mean()) == pytest.approx((18 - 1) // 2 + 1 + (21 - 1) // 2 + 1, abs=0.5)


def test_fewer_flow_files_than_pictures(tmp_path):
    folder, counts = planes(tmp_path / "P01_101", [(1.0, 0.0)] * 9 + [(4.0, 0.0)], 8), Counter()
    with pytest.warns(NearestFrameWarning, match=r"lie outside 1\.\.10"):
        tokens = flow_file_tokens(folder, "P01_101", [0.4], counts=counts)
    assert float(tokens[0, :64].mean()) == pytest.approx(20, abs=0.5) and counts["clamped"] == 10  # 5 of u, 5 of v


def test_missing_and_cut_off_flow_files(tmp_path):
    folder, counts = planes(tmp_path / "P01_101", [(1.0, 0.0)] * 20, 8), Counter()
    (folder / "u" / PICTURE.format(7)).unlink()
    (folder / "v" / PICTURE.format(8)).write_bytes(b"\xff\xd8")
    with pytest.warns(NearestFrameWarning, match="1 of 5 pictures are missing"):
        tokens = flow_file_tokens(folder, "P01_101", [10.5 / 50], counts=counts)
    assert float(tokens[0, :64].mean()) == pytest.approx(5, abs=0.3) and counts["nearest frames"] == 2


def texture_walk(folder, count, step):
    """A texture that moves `step` pixels to the right from picture to picture."""
    import cv2

    noise = np.random.default_rng(0).integers(0, 255, (160, 400), np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.0), None, 0, 255, cv2.NORM_MINMAX)
    folder.mkdir(parents=True)
    for k in range(count):
        view = texture[10:138, 200 - k * step : 328 - k * step]
        write_picture(folder, k + 1, np.repeat(view[..., None], 3, -1))


@pytest.mark.parametrize(("video", "step", "files"), [("P01_01", 2, 7), ("P01_101", 1, 15)])
def test_written_files_hold_what_was_computed(tmp_path, video, step, files):
    form = flow_format(video)
    texture_walk(tmp_path / "P01/rgb_frames" / video, 16, step)
    assert flow_files.main([str(tmp_path), "--videos", video, "--size", "0"]) == 0
    folder = tmp_path / "P01/flow_frames" / video
    u, v = (FrameFolder(folder / name) for name in "uv")
    assert u.numbers == v.numbers == list(range(1, files + 1)) and form.count(16) == files
    moved = decode_flow(u.read(2, grey=True), form.bound)[16:-16, 16:-16]
    assert np.abs(moved - step * form.dilation).mean() < 0.4
    source = FrameFolder(tmp_path / "P01/rgb_frames" / video)
    first = form.stride + 1
    computed = dense_flow(np.stack([source.read(first), source.read(first + form.dilation)]))[0, ..., 0]
    assert np.abs(decode_flow(u.read(2, grey=True), form.bound) - computed).mean() < form.bound / 255 + 0.1


def test_writing_goes_on_where_it_stopped(tmp_path, capsys):
    texture_walk(tmp_path / "P01/rgb_frames/P01_01", 12, 1)
    assert flow_files.main([str(tmp_path)]) == 0
    folder = tmp_path / "P01/flow_frames/P01_01"
    before = {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*.jpg"))}
    gone = folder / "v" / PICTURE.format(3)
    gone.unlink()
    assert flow_files.main([str(tmp_path)]) == 0 and "P01_01: 5 pairs" in capsys.readouterr().out
    changed = {path.name for path, stamp in before.items() if path.stat().st_mtime_ns != stamp}
    assert len(before) == 10 and changed == {gone.name}


def test_writing_from_a_video_and_bad_input(tmp_path, capsys):
    (tmp_path / "P01/videos").mkdir(parents=True)
    write(tmp_path / "P01/videos/P01_101.MP4", count=6, fps=12)  # half a second: 25 pictures at 50 a second
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert flow_files.main([str(tmp_path), "--size", "0"]) == 0
    assert "P01_101: 24 pairs" in capsys.readouterr().out
    assert flow_files.main([str(tmp_path), "--videos", "P01_09,../x"]) == 1
    error = capsys.readouterr().err
    assert "P01_09.MP4: there is nothing to compute flow from" in error and "'../x' is no video id" in error
    (tmp_path / "empty").mkdir()
    assert flow_files.main([str(tmp_path / "empty")]) == 1 and "no recordings under" in capsys.readouterr().err
    with pytest.raises(ValueError, match="4 are the fewest"):
        flow_files.write_flow(lambda numbers: None, 3, tmp_path / "x", EPIC_55)


def test_the_official_solver_is_optional():
    import cv2

    frames = np.zeros((2, 128, 128, 3), np.uint8)
    with pytest.raises(ValueError, match="unknown flow method 'raft'; known are dis, tvl1"):
        dense_flow(frames, "raft")
    if hasattr(getattr(cv2, "optflow", None), "DualTVL1OpticalFlow_create"):
        noise = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (140, 140), np.uint8), (0, 0), 2.0)
        noise = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX)
        pair = np.stack([noise[2:130, 4:132], noise[2:130, 2:130]])
        flow = dense_flow(np.repeat(pair[..., None], 3, -1), "tvl1")
        assert np.abs(flow[0, 16:-16, 16:-16] - [2, 0]).mean() < 0.3
    else:
        with pytest.raises(ImportError, match="opencv-contrib-python-headless"):
            dense_flow(frames, "tvl1")


def test_flow_folders_may_lie_beside_extracted_pictures(tmp_path):
    """What is written from pictures is read back at their times."""
    extract(tmp_path / "P02/rgb_frames/P02_101", 12)
    assert flow_files.main([str(tmp_path), "--size", "0"]) == 0
    tokens = flow_file_tokens(tmp_path / "P02/flow_frames/P02_101", "P02_101", [0.12])
    assert tokens.shape == (1, 128) and torch.isfinite(tokens).all()
