"""EPIC-KITCHENS-100 from extracted pictures, motion and sound, and every trap of its downloads."""

import hashlib
import os
import shutil
import warnings
from datetime import datetime

import numpy as np
import pytest
import torch
from test_epic import copy, kitchen  # noqa: F401
from test_epic_annotations import TRAIN, row, table
from test_flow_files import planes
from test_frames import extract
from test_media import click_track, number

from cm3t.data import collate
from cm3t.data.epic import EpicKitchens
from cm3t.data.epic_files import ARCHIVE, EpicFiles
from cm3t.data.features import FeatureError, open_features
from cm3t.data.frames import PICTURE, NearestFrameWarning
from cm3t.data.side import SMALL_SOUND, archived_audio_tokens, audio_tokens, sound_options

VIDEOS = ("P01_01", "P01_101", "P02_01")


@pytest.fixture
def extracted(copy):  # noqa: F811
    """The invented data set with extracted pictures in the place of its training recordings; picture k shows k."""
    for video in VIDEOS:
        extract(copy / video[:3] / "rgb_frames" / video, 240)
        for path in (copy / video[:3] / "videos").glob(f"{video}.*"):
            path.unlink()
    table(copy / "annotations/EPIC_100_video_info.csv", [("P01_01", "4.0", "60", "64x64")], DURATIONS)
    table(copy / "annotations/EPIC_100_train.csv", [*SHORT, row("P03_01_0")])
    return copy


DURATIONS = ("video_id", "duration", "fps", "resolution")
SHORT = [row("P01_01_0"), row("P01_101_0", "00:00:01.00", "00:00:03.00", 1, 2), row("P02_01_0")]


def archive(root, rate=24000, kind=np.int16, **waves):
    h5py = pytest.importorskip("h5py")
    with h5py.File(root / ARCHIVE, "w") as file:
        for video, wave in waves.items():
            scale = 32767 if np.issubdtype(kind, np.integer) else 1
            file[video] = (wave * scale).astype(kind)
    return root / ARCHIVE


@pytest.mark.slow
def test_extracted_pictures(extracted):
    data = EpicKitchens(extracted, frames=4, source="frames")
    shown = [[number(clip.video[:, t].permute(1, 2, 0).numpy()) for t in range(4)] for clip in data]
    assert shown[0] == [45, 75, 105, 135]  # 0.75, 1.25, .. s at 60 a second
    assert shown[1] == [62, 87, 112, 137]  # 1.25, 1.75, .. s at 50
    assert torch.equal(data.decode_all(), torch.stack([clip.video for clip in data]))
    assert data.decode_all(oversample=2).shape == (3, 3, 8, 64, 64) and data.task == "actions"


def test_what_is_on_disk_is_taken(extracted, copy):  # noqa: F811
    assert EpicFiles(extracted).source == "video"  # other recordings are there as MP4
    for path in [*extracted.glob("P*/videos"), extracted / "gap1"]:
        shutil.rmtree(path)
    files = EpicKitchens(extracted).files
    assert (files.source, files.flow) == ("frames", "compute")
    planes(extracted / "P01/flow_frames/P01_01", [(1.0, 0.0)] * 9, 25)
    assert EpicKitchens(extracted).files.flow == "files"


def test_the_other_form_is_named_where_one_is_missing(extracted):
    with pytest.raises(FileNotFoundError, match=r'3 of 3 recordings.*; their frames are there: give source="frames"'):
        EpicKitchens(extracted, source="video")
    shutil.rmtree(extracted / "P02/rgb_frames/P02_01")
    with pytest.raises(
        FileNotFoundError, match=r"1 of 3 recordings are missing: \S+rgb_frames/P02_01; all of them are"
    ):
        EpicKitchens(extracted, source="frames")
    (extracted / "P02/rgb_frames/P02_01.tar").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"\.tar archives of their frames: unpack each"):
        EpicKitchens(extracted, source="frames")


def test_the_two_downloads_and_the_old_layout(copy):  # noqa: F811
    (copy / "P01/videos/P01_101.MP4").unlink()
    with pytest.raises(FileNotFoundError, match=r"all of them are of the extension \(PXX_1YY\), which is a download"):
        EpicKitchens(copy)
    (copy / "videos/train/P01").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="layout of EPIC-55, whose train and test folders are other splits"):
        EpicKitchens(copy)


def test_gaps_and_cuts_are_bridged_counted_and_warned_of(extracted):
    folder = extracted / "P01/rgb_frames/P01_01"
    for k in range(40, 80):
        (folder / PICTURE.format(k)).unlink()
    (folder / PICTURE.format(105)).write_bytes(b"")
    data = EpicKitchens(extracted, frames=4, source="frames")
    with pytest.warns(NearestFrameWarning, match="P01_01: 3 of 4 pictures"):
        clip = data[0]
    shown = [number(clip.video[:, t].permute(1, 2, 0).numpy()) for t in range(4)]
    assert shown == [39, 80, 104, 135] and data.counts["nearest frames"] == 3
    assert clip.video.amax((0, 2, 3)).min() > 50  # no picture is black


def test_an_unpacking_that_stopped_is_seen_at_once(extracted):
    for k in range(150, 241):
        (extracted / "P01/rgb_frames/P01_01" / PICTURE.format(k)).unlink()
    with pytest.warns(UserWarning, match=r"1 of 3 recordings end more than a second early \(first: P01_01\)"):
        data = EpicKitchens(extracted, source="frames")
    assert data.counts["recordings cut short"] == 1
    with pytest.warns(NearestFrameWarning, match=r"lie outside 1\.\.149"):
        data.files.pictures("P01_01", [[3.5]], None)


@pytest.mark.slow
@pytest.mark.parametrize(("day", "old"), [("2020-08-01", True), ("2021-08-01", False)])
def test_reissued_pictures(extracted, day, old):
    table(extracted / "annotations/EPIC_100_train.csv", [row("P01_109_0"), row("P03_01_0")])
    path = extract(extracted / "P01/rgb_frames/P01_109", 240) / PICTURE.format(1)
    os.utime(path, (datetime.fromisoformat(day).timestamp(),) * 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        EpicKitchens(extracted, source="frames")
    said = [str(w.message) for w in caught if "replaced" in str(w.message)]
    assert len(said) == old and all("P01_109" in text and "download them again" in text for text in said)


@pytest.mark.slow
def test_motion_computed_from_extracted_pictures_or_read(extracted):
    data = EpicKitchens(extracted, frames=2, source="frames", modalities=("flow",), flow="compute")
    assert data[0].side["flow"].shape == (2, 128)
    for video, bound in (("P01_01", 25), ("P01_101", 8)):
        planes(extracted / video[:3] / "flow_frames" / video, [(2.0, 0.0)] * 240, bound)
    data = EpicKitchens(extracted, frames=2, source="frames", modalities=("flow",))
    tokens, present = data.decode_side("flow")
    assert present.tolist() == [True, True, False] and data.counts["without flow"] == 1
    assert tokens.shape == (3, 2, 128) and float(tokens[0, :, :64].mean()) == pytest.approx(4, abs=0.4)
    stored = EpicKitchens(extracted, frames=2, source="frames", modalities=("flow",), flow_scale="stored")
    assert float(stored[0].side["flow"][:, :64].mean()) == pytest.approx(2 / 25, abs=0.01)
    assert stored.digest != data.digest


def test_sound_from_the_archive(copy):  # noqa: F811
    """The same spectrogram as from the MP4, up to the coding of its sound."""
    path = archive(copy, P01_01=click_track(24000, 5, 1.5), P02_01=click_track(24000, 5, 1.0))
    data = EpicKitchens(copy, frames=1, modalities=("audio",), audio="archive")
    tokens, present = data.decode_side("audio")
    assert tokens.shape == (4, 400, 128) and present.tolist() == [True, True, False, True]
    from_video = EpicKitchens(copy, frames=1, modalities=("audio",), audio="video").decode_side("audio")[0][0]
    loud = [float(t.mean(-1).argmax()) for t in (tokens[0], from_video)]
    assert abs(loud[0] - loud[1]) <= 4  # hops of 5 ms
    assert torch.equal(archived_audio_tokens(path, "P01_01", 0.5, 2.5), tokens[0])
    archive(copy, kind=np.float32, P01_01=click_track(24000, 5, 1.5))
    as_floats = archived_audio_tokens(path, "P01_01", 0.5, 2.5).exp()
    assert (as_floats - tokens[0].exp()).abs().max() < 1e-3 * as_floats.max()
    small = archived_audio_tokens(path, "P01_01", 0.5, 2.5, "small")
    assert small.shape == audio_tokens(copy / "P01/videos/P01_01.MP4", 0.5, 2.5, "small").shape == (101, 64)


def test_sound_of_the_archive_before_a_recordings_start_is_padding_and_not_its_first_second(copy):  # noqa: F811
    """A window of two seconds about 0.25 s begins 0.75 s before the recording does."""
    path = archive(copy, P01_01=click_track(24000, 5, 0.2))
    counts = EpicKitchens(copy, split="tune").counts
    tokens = archived_audio_tokens(path, "P01_01", 0.0, 0.5, counts=counts)
    steps = len(tokens) / 2  # a second
    assert abs(float(tokens.mean(-1).argmax()) / steps - (0.75 + 0.2)) < 0.03 and counts["padded sound"] == 1


def test_whichever_sound_is_there(copy):  # noqa: F811
    archive(copy, P02_01=click_track(24000, 5, 1.0))
    data = EpicKitchens(copy, frames=1, modalities=("audio",))
    assert data.decode_side("audio")[1].tolist() == [True, True, False, False]  # the MP4s are there: they are taken
    files = EpicFiles(copy, sound=sound_options())
    (copy / "P02/videos/P02_01.MP4").unlink()
    assert files.spectrogram("P02_01", 0.5, 2.5).shape == (400, 128)
    with pytest.raises(FileNotFoundError, match=r"no sound archive \S+nowhere\.hdf5"):
        EpicKitchens(copy, split="tune", audio=copy / "nowhere.hdf5")


def test_sound_shorter_than_the_clip_is_padded_with_silence_and_counted(copy):  # noqa: F811
    path = archive(copy, P01_01=np.full(24000 * 2, 0.5))
    counts = EpicKitchens(copy, split="tune").counts
    tokens = archived_audio_tokens(path, "P01_01", 1.0, 3.0, counts=counts)
    assert tokens.shape == (400, 128) and counts["padded sound"] == 1
    assert torch.allclose(tokens[300:], torch.tensor(1e-6).log()) and tokens[:150].mean() > tokens[300:].mean() + 1
    assert archived_audio_tokens(path, "P01_01", 0.0, 2.0, counts=counts) is not None and counts["padded sound"] == 1
    assert archived_audio_tokens(path, "P01_01", 5.0, 7.0, counts=counts) is None and counts["no sound there"] == 1
    data = EpicKitchens(copy, frames=1, modalities=("audio",), audio="video")
    table(copy / "annotations/EPIC_100_train.csv", [row("P01_01_0", "00:00:04.00", "00:00:05.00"), *TRAIN[4:]])
    data = EpicKitchens(copy, frames=1, modalities=("audio",), audio="video")
    assert data[0].side["audio"].shape == (400, 128) and data.counts["padded sound"] == 1


def test_sound_of_another_rate_is_warned_of(copy):  # noqa: F811
    archive(copy, P01_01=np.zeros(44100 * 5), P02_01=np.zeros(24000 * 5))
    with pytest.warns(UserWarning, match=r"1 of 3 recordings do not hold 24000 samples.*P01_01, 44100"):
        EpicKitchens(copy, modalities=("audio",), audio="archive")


def test_sound_settings():
    assert (SMALL_SOUND["win"], SMALL_SOUND["hop"]) == (0.025 * 16000, 0.02 * SMALL_SOUND["rate"])
    assert sound_options("small") == SMALL_SOUND and sound_options("epic") == sound_options() == sound_options({})
    assert sound_options({"rate": 8000})["seconds"] == 1.999
    for sound, message in (
        ("big", "unknown sound settings 'big'; known are epic, small"),
        ({"nfft": 512}, "sound: unknown option 'nfft'; did you mean 'n_fft'"),
        ({"hop": 0}, "sound: hop=0 must be a positive number"),
        ({"seconds": "3"}, "sound: seconds='3' must be a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            sound_options(sound)


def test_features_in_the_place_of_a_modality(kitchen, tmp_path):  # noqa: F811
    for name, rows in (("P01_01_0", 5), ("P01_01_1", 5), ("P02_01_0", 5)):
        np.save(tmp_path / f"{name}.npy", np.full((rows, 16), rows, np.float32))
    data = EpicKitchens(kitchen, frames=1, modalities=("audio", "gaze"), features={"audio": tmp_path, "gaze": tmp_path})
    batch = collate(list(data), {"audio": 16, "gaze": 16})
    assert batch.side["audio"].shape == (4, 5, 16) and batch.present["gaze"].tolist() == [True, True, False, True]
    assert data.counts["without gaze"] == 1 and data.digest != EpicKitchens(kitchen).digest
    np.save(tmp_path / "P01_101_0.npy", np.full((2, 16), np.nan))
    with pytest.raises(FeatureError, match=r"features of P01_101_0 hold NaN"):
        data.decode_side("audio")
    np.save(tmp_path / "P01_101_0.npy", np.zeros((2, 16), np.float32))
    with pytest.raises(ValueError, match=r"audio tokens of train differ in shape.*`length`"):
        data.decode_side("audio")
    data = EpicKitchens(kitchen, frames=1, features={"gaze": open_features(tmp_path, length=3)})
    assert data.decode_side("gaze")[0].shape == (4, 3, 16)
    with pytest.raises(ValueError, match="unknown modalities .* audio, flow, gaze"):
        EpicKitchens(kitchen, modalities=("depth",), features={"gaze": tmp_path})
    np.save(tmp_path / "P03_01_9.npy", np.zeros((2, 16), np.float32))
    with pytest.raises(
        LookupError, match=f"{tmp_path} holds nothing .* tune split; the first would be called P03_01_0 or"
    ):
        EpicKitchens(kitchen, split="tune", features={"gaze": tmp_path}).decode_side("gaze")


def test_the_digest_of_recordings_alone_is_that_of_names_sizes_and_contents(kitchen):  # noqa: F811
    """Runs are found again by it: what else can be read must not change it where it is not there."""
    digest, root = hashlib.sha256(), kitchen
    for path in sorted((root / "annotations").glob("*.csv")):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode() + path.read_bytes())
    for path in sorted([*root.glob("P*/videos/*"), *root.glob("gap*/P*/videos/*")]):
        digest.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    assert EpicKitchens(root).digest == EpicKitchens(root, modalities=("audio", "flow")).digest == digest.hexdigest()


def test_choices_are_checked(kitchen):  # noqa: F811
    for name in ("source", "flow", "flow_scale", "head", "sampling"):
        with pytest.raises(ValueError, match=f"unknown {name} 'other'; known are "):
            EpicKitchens(kitchen, **{name: "other"})
