"""UDIVA's landmarks: cut by time, zeros for what was not found, nearest frames counted, and files of another form."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from test_udiva import dyads  # noqa: F401

from cm3t.data.landmarks import PARTS, WIDTH, landmark_tokens
from cm3t.data.media import MediaError
from cm3t.data.udiva import Udiva

h5py = pytest.importorskip("h5py")


def put(path, frames, *, invalid=(), without=(), shape=None):
    """A file of landmarks: in frame k every number is k."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for k in frames:
            for name, count in PARTS.items():
                if name not in without:
                    part = file.create_dataset(f"{k:05d}/{name}", data=np.full(shape or (count, 3), k, "f4"))
                    part.attrs["valid"] = name not in invalid
    return path


def test_frames_by_time(tmp_path):
    counts = Counter()
    tokens = landmark_tokens(put(tmp_path / "a.hdf5", range(20)), [0.0, 0.2, 0.39], counts=counts)
    assert tokens.shape == (3, WIDTH) == (3, 402) and tokens.dtype == torch.float32
    assert tokens[:, 0].tolist() == tokens[:, -1].tolist() == [0, 5, 9] and not counts["nearest landmarks"]


def test_gaps_give_the_nearest_and_what_is_not_valid_is_zero(tmp_path):
    counts = Counter()
    path = put(tmp_path / "a.hdf5", [0, 10], invalid=["face"], without=["hands/left"])
    tokens = landmark_tokens(path, [0.2, 0.28, 9.0], counts=counts)
    assert tokens[:, 0].tolist() == [0, 10, 10] and counts["nearest landmarks"] == 3
    body, face, left, right = tokens[1].split([3 * count for count in PARTS.values()])
    assert (body == 10).all() and not face.any() and not left.any() and (right == 10).all()
    assert not counts["replaced landmarks"]


def test_what_is_no_number_is_zero_and_counted(tmp_path):
    counts, path = Counter(), put(tmp_path / "a.hdf5", [5, 6, 7])
    with h5py.File(path, "a") as file:
        file["00005/body"][0, :2] = np.nan, np.inf
        file["00007/face"][...] = np.nan
        file["00007/face"].attrs["valid"] = False  # zero as it is
    tokens = landmark_tokens(path, [0.2, 0.24, 0.28], counts=counts)
    assert tokens[0, :3].tolist() == [0, 0, 5] and (tokens[1] == 6).all() and tokens.isfinite().all()
    assert counts["replaced landmarks"] == 1 and not counts["nearest landmarks"]


def test_files_of_another_form(tmp_path):
    with pytest.raises(MediaError, match=r"frame 00001: body is \(5, 2\), \(24, 3\) is expected"):
        landmark_tokens(put(tmp_path / "a.hdf5", [1], shape=(5, 2)), [0.0])
    with pytest.raises(MediaError, match="holds no frames"):
        landmark_tokens(put(tmp_path / "b.hdf5", []), [0.0])
    (tmp_path / "c.hdf5").write_bytes(b"no HDF5")
    with pytest.raises(MediaError, match=r"c\.hdf5: cannot be read as HDF5"):
        landmark_tokens(tmp_path / "c.hdf5", [0.0])


@pytest.mark.slow
def test_a_modality_of_the_dyads(dyads, tmp_path):  # noqa: F811
    root = Path(shutil.copytree(dyads, tmp_path / "udiva"))
    data = Udiva(root, tasks=("talk",), seconds=2.0, frames=4)
    with pytest.raises(LookupError, match="has landmarks; leave the modality out"):
        data.decode_side("landmarks")
    put(root / "train/annotations/talk_annotations_train/000001/FC2_T/annotations_raw.hdf5", range(100))
    put(root / "train/annotations/000001/FC1_T/annotations_raw.hdf5", [7])
    put(root / "train/annotations/000001/FC1_T/annotations_cleaned.hdf5", range(100))
    tokens, present = data.decode_side("landmarks")
    assert tokens.shape == (12, 4, WIDTH) and int(present.sum()) == 4
    second = data.annotations.index[data.annotations.id == "000001_talk_01_1"][0]
    assert tokens[second, :, 0].tolist() == [56, 68, 81, 93]  # 2.25, 2.75, .. s at 25 a second, of the cleaned file
    assert data.digest != Udiva(dyads).digest
