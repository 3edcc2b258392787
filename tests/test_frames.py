"""Extracted pictures: the official numbering, and no black frame whatever is missing or cut off."""

import warnings
from collections import Counter
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from test_media import number, picture

from cm3t.data.frames import PICTURE, FrameFolder, NearestFrameWarning, read_frame_files, write_picture
from cm3t.data.media import MediaError


@cache
def encoded(k):
    with TemporaryDirectory() as folder:
        return write_picture(Path(folder), k, picture(k)).read_bytes()


def extract(folder, count=40, skip=()):
    """Pictures 1..count, picture k showing the number k."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in set(range(1, count + 1)) - set(skip):
        (folder / PICTURE.format(k)).write_bytes(encoded(k))
    return folder


def shown(pictures):
    return [number(p) for p in pictures]


@pytest.mark.parametrize(("video", "fps"), [("P01_01", 60), ("P01_101", 50)])
def test_the_official_numbering(tmp_path, video, fps):
    """Number max(1, floor(time * fps)): what start_frame and stop_frame of the annotation files follow."""
    folder = extract(tmp_path / video)
    times = [0.0, 0.5 / fps, 1.0 / fps, 1.5 / fps, 20.01 / fps, 39.99 / fps]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (pictures,) = read_frame_files(folder, video, [times])
    assert shown(pictures) == [1, 1, 1, 1, 20, 39]
    assert pictures.dtype == np.uint8 and pictures.shape == (6, 64, 64, 3)


def test_segments_sizes_and_colours(tmp_path):
    folder, red = tmp_path / "P01_01", np.zeros((32, 64, 3), np.uint8)
    folder.mkdir()
    red[..., 0] = 200
    write_picture(folder, 1, red)
    one, none = read_frame_files(folder, "P01_01", [[0.0, 0.0], []], 16)
    assert one.shape == (2, 16, 16, 3) and len(none) == 0
    assert np.abs(one.mean((0, 1, 2)) - [200, 0, 0]).max() < 3


def test_missing_pictures_give_the_nearest_counted_and_warned_of(tmp_path):
    folder, counts = extract(tmp_path / "P01_01", skip=range(10, 15)), Counter()
    with pytest.warns(NearestFrameWarning, match=r"P01_01: 5 of 5 pictures are missing or cut off"):
        (pictures,) = read_frame_files(folder, "P01_01", [[(k + 0.5) / 60 for k in range(10, 15)]], counts=counts)
    assert shown(pictures) == [9, 9, 9, 15, 15] and counts == {"nearest frames": 5}


def test_past_the_last_picture_is_clamped(tmp_path):
    folder, counts = extract(tmp_path / "P01_01"), Counter()
    with pytest.warns(NearestFrameWarning, match=r"1 of 2 pictures lie outside 1\.\.40"):
        (pictures,) = read_frame_files(folder, "P01_01", [[0.6, 0.9]], counts=counts)
    assert shown(pictures) == [36, 40] and counts == {"clamped": 1}


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_cut_off_pictures_are_replaced_too(tmp_path, damage):
    folder, counts = extract(tmp_path / "P01_01"), Counter()
    path = folder / PICTURE.format(20)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"not a picture"}[damage])
    with pytest.warns(NearestFrameWarning, match="1 of 1 pictures"):
        (pictures,) = read_frame_files(folder, "P01_01", [[20.5 / 60]], counts=counts)
    assert shown(pictures) == [19] and pictures.min() > 20 and counts["nearest frames"] == 1


def test_padding_after_the_end_is_no_damage(tmp_path):
    path = extract(tmp_path / "P01_01", 3) / PICTURE.format(2)
    path.write_bytes(path.read_bytes() + b"\0" * 512)
    assert number(FrameFolder(path.parent).read(2)) == 2


def test_nothing_whole_is_an_error(tmp_path):
    folder = extract(tmp_path / "P01_01", 2)
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(MediaError, match=r"P01_01: holds no whole picture"):
        read_frame_files(folder, "P01_01", [[0.0]])
    (tmp_path / "P01_02").mkdir()
    with pytest.raises(MediaError, match="no whole picture"):
        read_frame_files(tmp_path / "P01_02", "P01_02", [[0.0]])


def test_no_folder_says_so_and_names_the_archive(tmp_path):
    with pytest.raises(FileNotFoundError, match="no pictures at .*P01_03"):
        FrameFolder(tmp_path / "P01_03")
    (tmp_path / "P01_03.tar").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"unpack P01_03\.tar"):
        FrameFolder(tmp_path / "P01_03")


def test_other_files_do_not_disturb(tmp_path):
    folder = extract(tmp_path / "P01_01", 3)
    for name in ("Thumbs.db", "frame_1.jpg", "frame_0000000009.jpg.part"):
        (folder / name).write_bytes(b"")
    assert FrameFolder(folder).numbers == [1, 2, 3]


def test_grey_planes(tmp_path):
    folder = tmp_path / "u"
    folder.mkdir()
    plane = np.full((16, 24), 128, np.uint8)
    write_picture(folder, 1, plane)
    got = FrameFolder(folder).read(1, grey=True)
    assert got.shape == (16, 24) and np.abs(got.astype(int) - 128).max() <= 1
    assert [p.name for p in folder.iterdir()] == [PICTURE.format(1)]
