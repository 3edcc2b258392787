"""The MPIIGroupInteraction reader on an invented data set: layout, labels, views, sound, and every kind of bad row."""

import csv
import json
import pickle
import shutil
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_media import click_track, number, write

from cm3t.data import collate, subsample
from cm3t.data.features import FeatureError, open_features
from cm3t.data.media import ClampWarning, MediaError
from cm3t.data.mpiigi import BEHAVIOURS, BEHAVIOURS_15, MpiiGroupInteraction, write_predictions
from cm3t.data.mpiigi_samples import COLUMNS, read_samples
from cm3t.data.tables import AnnotationError

torch.set_num_threads(1)
SECONDS = 64 / 30
HEADER = ",".join((*COLUMNS, *BEHAVIOURS))


def sample(number, recording, seat, start, *labels):
    """A row of a sample list, `start` in seconds; labels are behaviours."""
    times = (f"{start * 1000:.4f}", f"{(start + SECONDS) * 1000:.4f}")
    return ",".join([str(number), str(recording), str(seat), *times, *(str(int(b in labels)) for b in BEHAVIOURS)])


TRAIN = [
    sample(3, 7, 1, 1.0, "Gesture", "Legs crossed"),
    sample(4, 7, 3, 1.0, "Fumble"),
    sample(34663, 24, 3, 0.0),
    sample(9, 25, 2, 2.0, "Smearing hands"),
]
VAL = [sample(11, 8, 1, 0.0, "Shrug"), sample(12, 9, 4, 1.0, "Settle", "Shrug")]


def put_sound(root, recording, sound, rate=16000):
    """A WAV file, 16 bit mono, as the real recordings have."""
    folder = root / "data" / recording
    folder.mkdir(parents=True)
    with wave.open(str(folder / "audio.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


def put_list(root, name, rows, header=HEADER):
    path = root / "bbr" / f"{name}_samples.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """An invented data set: 64-frame clips at 30 fps, two recordings with sound."""
    root = tmp_path_factory.mktemp("mpiigi")
    put_list(root, "train", TRAIN)
    put_list(root, "val", VAL)
    put_list(root, "test", ["21,30,2,0,2133.3333"], ",".join(COLUMNS))
    for split, names in (("train", (3, 4, 9)), ("train/clips_2", (34663,)), ("val", (11, 12)), ("test", (21,))):
        folder = root / "bbr" / f"clips_{split}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            write(folder / f"{name:05d}-video.mp4", 64, 30)
    write(root / "bbr/clips_val/00011-video1.mp4", 64, 30, height=32, width=48)
    write(root / "bbr/clips_val/00012-video1.mp4", 64, 30, height=32, width=48)
    put_sound(root, "recording07", click_track(16000, 5, 2.5))
    put_sound(root, "8", click_track(16000, 1, 0.5))
    return root


@pytest.fixture
def copy(group, tmp_path):
    """The same, free to be broken."""
    return Path(shutil.copytree(group, tmp_path / "mpiigi"))


def test_official_names():
    assert len(BEHAVIOURS) == 14 and BEHAVIOURS[7] == "Gesture" and BEHAVIOURS_15[:14] == BEHAVIOURS
    assert BEHAVIOURS_15[14] == "Lean Towards"


def test_splits_and_labels(group):
    data = MpiiGroupInteraction(group, split="train", frames=4)
    assert data.annotations.sample_id.tolist() == [3, 4, 34663, 9] and data.classes == {"behaviour": 14}
    assert data.targets["behaviour"].shape == (4, 14) and data.targets["behaviour"].dtype == torch.float32
    assert [[BEHAVIOURS[j] for j in row.nonzero()[:, 0]] for row in data.targets["behaviour"]] == [
        ["Legs crossed", "Gesture"],
        ["Fumble"],
        [],
        ["Smearing hands"],
    ]
    assert data.names == list(BEHAVIOURS)
    assert data.groups == ["07-1", "07-3", "24-3", "25-2"] and data.task == "behaviours" and data.gaps == ()
    assert MpiiGroupInteraction(group / "bbr", split="train").annotations.equals(data.annotations)
    assert MpiiGroupInteraction(group, tune=(7, 25)).groups == ["24-3"]
    assert MpiiGroupInteraction(group, split="tune", tune=(7, 25)).groups == ["07-1", "07-3", "25-2"]
    test = MpiiGroupInteraction(group, split="test", frames=2)
    assert test.targets == {} and test[0].target == {} and test[0].id == "00021"


def test_tune_table(copy):
    (copy / "bbr/tune_recordings.csv").write_text("rec_no\n24\n")
    assert MpiiGroupInteraction(copy, split="tune").groups == ["24-3"]
    assert len(MpiiGroupInteraction(copy, split="train")) == 3
    (copy / "bbr/tune_recordings.csv").write_text("rec_no\n24\n99\n")
    with pytest.raises(ValueError, match=r"\[99\] have no training rows"):
        MpiiGroupInteraction(copy, split="train")
    with pytest.raises(AnnotationError, match="no training rows are left"):
        MpiiGroupInteraction(copy, split="train", tune=(7, 24, 25))


def test_clips_are_read_by_time(group):
    data = MpiiGroupInteraction(group, split="train", frames=8)
    clip = data[2]
    assert clip.video.shape == (3, 8, 64, 64) and (clip.id, clip.group) == ("34663", "24-3")
    assert [number(clip.video[:, t].permute(1, 2, 0).numpy()) for t in range(8)] == [4, 12, 20, 28, 36, 44, 52, 60]
    assert clip.target["behaviour"].shape == (14,) and data.counts["clamped"] == 0
    assert torch.equal(data[-1].video, data[3].video)
    videos = data.decode_all()
    assert torch.equal(videos, torch.stack([c.video for c in data]))
    assert torch.equal(subsample(data.decode_all(oversample=3), 8), videos)
    with pytest.raises(IndexError, match="clip 4 of 4"):
        data[4]
    assert collate(list(data)).target["behaviour"].shape == (4, 14)
    assert torch.equal(pickle.loads(pickle.dumps(data))[0].video, data[0].video)


def test_views(group):
    assert MpiiGroupInteraction(group, split="validation", view=1, frames=2)[0].video.shape == (3, 2, 32, 48)
    with pytest.raises(FileNotFoundError, match="2 of 2 clips.*00011-video2.mp4"):
        MpiiGroupInteraction(group, split="validation", view=2)
    with pytest.raises(ValueError, match="view=3 is none of 0"):
        MpiiGroupInteraction(group, view=3)


def test_sound_is_cut_from_the_recording(group):
    data = MpiiGroupInteraction(group, split="train", modalities=("audio",), sound={"rate": 16000}, frames=2)
    clips = list(data)
    assert [sorted(clip.side) for clip in clips] == [["audio"], ["audio"], [], []]
    assert data.counts["without audio"] == 2
    assert data.subsets["with_sound"].tolist() == [True, True, False, False] and data.subsets["all"].all()
    tokens, present = data.decode_side("audio")
    batch = collate(clips, {"audio": 128})
    assert torch.equal(tokens, batch.side["audio"]) and present.tolist() == [True, True, False, False]
    middle = 1.0 + SECONDS / 2
    loudest = float(tokens[0].mean(-1).argmax()) * 120 / 16000 + middle - 1.999 / 2
    assert loudest == pytest.approx(2.5, abs=0.03)
    assert MpiiGroupInteraction(group).decode_side("audio")[0].shape[1:] == (400, 128)  # the kitchen's shape


def test_sound_shorter_than_the_clip_is_silent_at_its_end(group):
    data = MpiiGroupInteraction(group, split="validation", frames=1)
    tokens, present = data.decode_side("audio")
    assert present.tolist() == [True, False] and torch.isfinite(tokens).all()
    assert (tokens[0, -100:] == tokens[0, -1]).all() and tokens[0, :180].std() > 0.1
    assert data.counts["padded sound"] == 1
    whole = MpiiGroupInteraction(group, split="train", frames=1)
    assert whole.decode_side("audio")[1].sum() == 2 and not whole.counts["padded sound"]
    assert data.subsets["without_sound"].tolist() == [False, True]


def test_a_clip_after_the_end_of_the_sound_has_none(copy):
    late = [sample(3, 7, 1, 1.0), sample(4, 7, 3, 40.0), sample(9, 24, 1, 0.0)]
    put_list(copy, "train", late)
    data = MpiiGroupInteraction(copy, frames=1, modalities=("audio",))
    assert data.decode_side("audio")[1].tolist() == [True, False, False]
    assert (data.counts["no sound there"], data.counts["without audio"], data.counts["padded sound"]) == (1, 2, 0)
    assert data[1].side == {}
    put_list(copy, "train", late[1:])
    with pytest.raises(LookupError, match="no sound track of the train split reaches its clip"):
        MpiiGroupInteraction(copy).decode_side("audio")


def test_no_sound_at_all(copy):
    shutil.rmtree(copy / "data")
    data = MpiiGroupInteraction(copy, split="train")
    assert set(data.subsets) == {"all"}
    with pytest.raises(LookupError, match="no recording of the train split has audio.*audio.wav"):
        data.decode_side("audio")
    put_sound(copy, "rec24", np.zeros(16000))
    put_sound(copy, "24", np.zeros(16000))
    with pytest.raises(ValueError, match="of one recording: rename"):
        MpiiGroupInteraction(copy)


def test_features_of_snippets_and_of_recordings(group, tmp_path):
    np.save(tmp_path / "00003.npy", np.full((2, 1), -1.0))
    np.save(tmp_path / "07.npy", np.arange(50.0)[:, None])  # 10 rows a second
    data = MpiiGroupInteraction(group, features={"pose": open_features(tmp_path, rate=10)})
    tokens = [data.side_tokens("pose", i) for i in range(4)]
    assert tokens[0].tolist() == [[-1.0]] * 2  # its own goes before its recording's
    assert tokens[1][:, 0].tolist() == list(range(10, 31)) and tokens[2] is tokens[3] is None
    with pytest.raises(FeatureError, match="07 spans a recording: give `rate`"):
        MpiiGroupInteraction(group, features={"pose": tmp_path}).side_tokens("pose", 1)
    data = MpiiGroupInteraction(group, split="validation", features={"pose": tmp_path})
    with pytest.raises(LookupError, match=f"{tmp_path} holds nothing .*validation.* called 00011 or 08"):
        data.decode_side("pose")


def test_features_at_a_wrong_rate_are_absent_and_counted(group, tmp_path):
    given = {"split": "validation", "frames": 1, "modalities": ("pose",)}
    given |= {"features": {"pose": (tmp_path, (("rate", 100), ("length", 2)))}}
    np.save(tmp_path / "09.npy", np.arange(50.0)[:, None])  # half a second, and its snippet begins at 1 s
    with pytest.raises(LookupError, match=f"no features at {tmp_path} reach a clip .*08.* is feature_rate=100, their"):
        MpiiGroupInteraction(group, **given).decode_side("pose")
    np.save(tmp_path / "08.npy", np.arange(50.0)[:, None])  # its snippet begins at 0 s
    data = MpiiGroupInteraction(group, **given)
    tokens, present = data.decode_side("pose")
    assert tokens[:, :, 0].tolist() == [[12, 37], [0, 0]] and present.tolist() == [True, False]
    assert json.loads(json.dumps(data.counts)) == {"cut features": 1, "no features there": 1, "without pose": 1}
    assert data[1].side == {}


def test_unknown_options_are_refused(group, tmp_path):
    np.save(tmp_path / "08.npy", np.zeros((2, 1)))
    for options, message in (
        ({"sound": {"secs": 3}}, "sound: unknown option 'secs'; did you mean 'seconds'. known: hop, mels"),
        ({"features": {"pose": (tmp_path, (("lenght", 2),))}}, f"features at {tmp_path}: unknown option .* 'length'"),
    ):
        with pytest.raises(ValueError, match=message):
            MpiiGroupInteraction(group, **options)


def test_limit_is_nested_and_seeded(group):
    ids = [MpiiGroupInteraction(group, limit=k, seed=1).annotations.sample_id.tolist() for k in (1, 2, 4)]
    assert set(ids[0]) < set(ids[1]) < set(ids[2]) and ids[2] == [3, 4, 34663, 9]


def test_digest_is_of_the_whole_set(copy):
    digest = MpiiGroupInteraction(copy).digest
    assert len(digest) == 64 and MpiiGroupInteraction(copy, split="validation", view=1).digest == digest
    with open(copy / "data/recording07/audio.wav", "ab") as file:
        file.write(b"00")
    assert MpiiGroupInteraction(copy).digest != digest


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (sample("../../3", 7, 1, 0), "sample_id '../../3' is no whole number"),
        (sample(5, "7/..", 1, 0), "rec_no '7/..' is no whole number"),
        (sample(5, 7, 5, 0), "subject_pos '5' is no seat from 1 to 4"),
        (sample(3, 7, 1, 0), "sample_id 3 was on line 2 already"),
        ("5,7,1,nan,2133" + ",0" * 14, "start_time 'nan' is no number of milliseconds"),
        ("5,7,1,2133,2133" + ",0" * 14, "ends at 2133 ms, not after its start 2133"),
        ("5,7,1,0,2133" + ",2" + ",0" * 13, "Settle '2' is no label 0 or 1"),
        ("5,7,1,0,2133" + ",0" * 13, "line 6 has 18 fields, the header 19; is the file cut off"),
        ("5,7,1,0,2133," + '"' + ",0" * 14, "line 6"),
    ],
)
def test_bad_rows_name_file_line_and_remedy(copy, row, words):
    path = put_list(copy, "train", [*TRAIN, row])
    with pytest.raises(AnnotationError) as error:
        MpiiGroupInteraction(copy)
    text = str(error.value)
    assert str(path) in text and "line 6" in text and words in text and "ompare with" in text


def test_bad_files(copy):
    path = put_list(copy, "train", TRAIN, HEADER.replace("Shrug", "Shrugs"))
    with pytest.raises(AnnotationError, match=r"line 1: the columns \['Shrug'\] are missing"):
        MpiiGroupInteraction(copy)
    put_list(copy, "train", [])
    with pytest.raises(AnnotationError, match="header without rows"):
        MpiiGroupInteraction(copy)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(AnnotationError, match="byte 0 is not UTF-8"):
        MpiiGroupInteraction(copy)
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([HEADER.replace(",", ", "), *TRAIN]).encode())  # as spreadsheets do
    assert len(MpiiGroupInteraction(copy)) == 4


def test_fifteen_classes(copy):
    put_list(copy, "train", [row + ",1.0" for row in TRAIN], HEADER + ",Lean Towards")
    data = MpiiGroupInteraction(copy, behaviours=BEHAVIOURS_15)
    assert data.classes == {"behaviour": 15} and data.targets["behaviour"][:, 14].all()
    assert MpiiGroupInteraction(copy).targets["behaviour"].shape == (4, 14)


def test_missing_data_say_where_and_how(copy, tmp_path):
    for root in (None, tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError) as error:
            MpiiGroupInteraction(root)
        for words in ("Expected: ROOT/bbr", "signed agreement", "multimediate-challenge.org", "rooms-group"):
            assert words in str(error.value)
    assert str(tmp_path / "train_samples.csv") in str(error.value)
    (copy / "bbr/clips_train/00004-video.mp4").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 4 clips are not in .*clips_train: 00004-video.mp4"):
        MpiiGroupInteraction(copy)


def test_damaged_clips(copy):
    path = copy / "bbr/clips_train/00003-video.mp4"
    path.write_bytes(path.read_bytes()[:500])
    data = MpiiGroupInteraction(copy, frames=8)
    with pytest.raises(MediaError, match="00003-video.mp4"):
        data[0]
    write(path, 32, 30)  # half as long as the list says
    with pytest.warns(ClampWarning):
        assert data[0].video.shape[1] == 8
    assert data.counts["clamped"] == 4
    write(path, 64, 30, height=32, width=48)
    with pytest.raises(ValueError, match="give `size`"):
        data.decode_all()
    shutil.copy(path, copy / "bbr/clips_train/clips_2/00003-video.mp4")
    with pytest.raises(ValueError, match="remove one"):
        MpiiGroupInteraction(copy)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"split": "val"}, "unknown split"),
        ({"modalities": ("flow",)}, "unknown modalities"),
        ({"modalities": "audio"}, "unknown modalities"),
        ({"frames": 0}, "at least 1"),
        ({"limit": 0}, "at least 1"),
        ({"split": "tune"}, "none are given"),
    ],
)
def test_bad_arguments(group, options, words):
    with pytest.raises(ValueError, match=words):
        MpiiGroupInteraction(group, **options)


def test_predictions_round_trip(tmp_path):
    scores = np.random.default_rng(0).normal(size=(3, 14))
    path = write_predictions(tmp_path / "sub" / "predictions.csv", [5, 34663, 7], scores)
    with open(path, newline="") as file:
        head, *rows = list(csv.reader(file))
    assert head == ["sample_id", *BEHAVIOURS] and [row[0] for row in rows] == ["5", "34663", "7"]
    assert np.allclose(np.array([row[1:] for row in rows], float), scores, atol=1e-6)
    for ids, bad, words in (
        ([1, 2], scores, "scores"),
        ([1, 1, 2], scores, "twice"),
        ([1, 2, 3], scores * np.nan, "not finite"),
    ):
        with pytest.raises(ValueError, match=words):
            write_predictions(tmp_path / "x.csv", ids, bad)
    assert not (tmp_path / "x.csv").exists()


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda t: (HEADER + "\n" + t).encode("utf-8", "replace"))
    )
)
def test_any_bytes_give_a_table_or_one_clear_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    path.write_bytes(content)
    try:
        assert len(read_samples(path))
    except AnnotationError as error:
        assert "fuzzed.csv: " in str(error) and "line " in str(error)
