"""The EPIC-KITCHENS-100 reader on an invented data set: splits, clips, subsets, and every kind of bad row."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_epic_annotations import TRAIN, VALIDATION, row, table
from test_media import click_track, number, write

from cm3t.data import collate, open_data, subsample
from cm3t.data.epic import EpicKitchens, frame_times
from cm3t.data.epic_annotations import COLUMNS
from cm3t.data.media import ClampWarning, MediaError
from cm3t.data.tables import AnnotationError

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory):
    """An invented data set: 5 s recordings at 12 fps, one of them with sound."""
    root = tmp_path_factory.mktemp("EPIC-KITCHENS")
    folder = root / "annotations"
    table(folder / "EPIC_100_train.csv", TRAIN)
    table(folder / "EPIC_100_validation.csv", VALIDATION)
    table(folder / "EPIC_100_test_timestamps.csv", [[r[c] for c in COLUMNS[:8]] for r in TRAIN[:2]], COLUMNS[:8])
    classes = {"verb": [(0, "take"), (1, "put"), (3, "open"), (10, "turn-on"), (96, "bend")]}
    classes["noun"] = [(2, "plate"), (4, "cupboard"), (9, "lid"), (299, "heat")]
    for head, names in classes.items():
        rows = [(i, key, f"['{key}', '{key}:x']", "group") for i, key in names]
        table(folder / f"EPIC_100_{head}_classes.csv", rows, ("id", "key", "instances", "category"))
    table(folder / "EPIC_100_tail_verbs.csv", [(10,), (96,)], ("verb",))
    table(folder / "EPIC_100_tail_nouns.csv", [(299,)], ("noun",))
    table(folder / "EPIC_100_unseen_participant_ids_validation.csv", [("P18",)], ("participant_id",))
    table(folder / "EPIC_100_unseen_participant_ids_test.csv", [("P33",)], ("participant_id",))
    table(folder / "tune_participant_ids.csv", [("P03",)], ("participant_id",))
    videos = sorted({r["video_id"] for r in TRAIN + VALIDATION})
    info = [(video, "5.0", "12.0", "64x64") for video in videos]
    table(folder / "EPIC_100_video_info.csv", info, ("video_id", "duration", "fps", "resolution"))
    for video in videos:
        sound = click_track(16000, 5, 1.5) if video == "P01_01" else None
        for path in [root / video[:3]] + ([root / "gap1" / video[:3]] if video in ("P01_02", "P18_01") else []):
            (path / "videos").mkdir(parents=True, exist_ok=True)
            write(path / "videos" / f"{video}.MP4", sound=sound)
    return root


@pytest.fixture
def copy(kitchen, tmp_path):
    """The same, free to be broken."""
    return Path(shutil.copytree(kitchen, tmp_path / "kitchen"))


def test_splits_and_labels(kitchen):
    data = EpicKitchens(kitchen, split="train", frames=4)
    assert len(data) == 4 and data.annotations.narration_id.tolist() == [r["narration_id"] for r in TRAIN[:4]]
    assert data.targets["verb"].tolist() == [0, 3, 1, 0] and data.targets["noun"].tolist() == [2, 4, 2, 2]
    assert data.annotations.start.tolist() == [0.5, 1.0, 0.0, 0.5] and data.annotations.stop[1] == 3.125
    assert data.annotations.all_noun_classes[2] == [2, 9] and data.annotations.all_nouns[2] == [
        "plate",
        "lid:pan",
    ]
    assert data.verbs[3] == "open" and data.nouns[299] == "heat" and data.classes == {"verb": 97, "noun": 300}
    assert EpicKitchens(kitchen, split="tune").annotations.participant_id.tolist() == ["P03"]
    assert EpicKitchens(kitchen, split="train", tune=("P01",)).annotations.participant_id.tolist() == [
        "P02",
        "P03",
    ]
    test = EpicKitchens(kitchen, split="test", frames=2)
    assert len(test) == 2 and test.targets == {} and test[0].target == {}


def test_subsets(kitchen):
    with pytest.warns(UserWarning, match="1 segments of validation pass the end.*P01_02_1"):
        data = EpicKitchens(kitchen, split="validation")
    assert data.annotations.stop.tolist() == [2.5, 5.0, 2.5, 2.5] and data.counts["clamped segments"] == 1
    assert data.unseen.tolist() == [False, False, True, True]
    assert data.tail_verb.tolist() == [False, False, True, False]
    assert data.tail_noun.tolist() == [False, False, False, True]
    assert data.subsets["tail"].tolist() == [False, False, True, True] and data.subsets["all"].all()


def test_clips(kitchen):
    data = EpicKitchens(kitchen, split="train", frames=4)
    clip = data[1]
    assert clip.video.shape == (3, 4, 64, 64) and clip.video.dtype == torch.uint8
    assert clip.target == {"verb": 3, "noun": 4} and (clip.id, clip.group) == ("P01_01_1", "P01")
    shown = [number(clip.video[:, t].permute(1, 2, 0).numpy()) for t in range(4)]
    assert shown == [int(t * 12) for t in frame_times(1.0, 3.125, 4)]
    assert torch.equal(data[-1].video, data[3].video) and data[-1].id == "P02_01_0"
    assert [c.id for c in data] == data.annotations.narration_id.tolist()
    with pytest.raises(IndexError, match="clip 4 of 4"):
        data[4]
    batch = collate(list(data))
    assert batch.video.shape == (4, 3, 4, 64, 64) and batch.target["verb"].tolist() == [0, 3, 1, 0]
    assert EpicKitchens(kitchen, size=32, frames=1)[0].video.shape == (3, 1, 32, 32)
    assert torch.equal(pickle.loads(pickle.dumps(data))[0].video, data[0].video)


def test_decode_all_equals_single_clips(kitchen):
    data = EpicKitchens(kitchen, split="train", frames=4)
    videos = data.decode_all()
    assert torch.equal(videos, torch.stack([clip.video for clip in data]))
    more = data.decode_all(oversample=3)
    assert more.shape == (4, 3, 12, 64, 64) and torch.equal(subsample(more, 4), videos)


def test_frame_times():
    assert frame_times(1.0, 3.0, 4).tolist() == [1.25, 1.75, 2.25, 2.75]
    drawn = np.stack([frame_times(1.0, 3.0, 4, np.random.default_rng(i)) for i in range(200)])
    assert (np.floor((drawn - 1.0) / 0.5) == np.arange(4)).all() and drawn.std(0).min() > 0.1
    assert np.array_equal(drawn[0], frame_times(1.0, 3.0, 4, np.random.default_rng(0)))
    with pytest.raises(ValueError, match="no 4 frames"):
        frame_times(2.0, 2.0, 4)


def test_sound_and_flow(kitchen):
    data = EpicKitchens(kitchen, split="train", frames=3, modalities=("audio", "flow"), sound={"rate": 16000})
    clips = list(data)
    assert [sorted(clip.side) for clip in clips] == [["audio", "flow"]] * 2 + [["flow"]] * 2
    assert data.counts["without audio"] == 2
    batch = collate(clips, {"audio": 128, "flow": 128})
    assert batch.side["flow"].shape == (4, 3, 128) and batch.present["audio"].tolist() == [
        True,
        True,
        False,
        False,
    ]
    tokens, present = data.decode_side("audio")
    assert torch.equal(tokens, batch.side["audio"]) and torch.equal(present, batch.present["audio"])
    loudest = tokens[0].mean(-1).argmax() * 120 / 16000 + 1.5 - 1.999 / 2  # the window is centred on 1.5 s
    assert float(loudest) == pytest.approx(1.5, abs=0.03)
    with pytest.raises(LookupError, match="no recording.*tune.*has audio"):
        EpicKitchens(kitchen, split="tune", modalities=("audio",)).decode_side("audio")


def test_limit_is_nested_and_seeded(kitchen):
    def ids(**options):
        return EpicKitchens(kitchen, split="train", **options).annotations.narration_id.tolist()

    assert ids(limit=10) == ids() and set(ids(limit=1)) < set(ids(limit=2)) < set(ids(limit=3))
    assert ids(limit=2) == ids(limit=2, seed=0) and len({tuple(ids(limit=2, seed=s)) for s in range(9)}) > 1
    assert ids(limit=3) == [i for i in ids() if i in ids(limit=3)]


def test_gaps(kitchen, copy):
    data = EpicKitchens(kitchen, split="validation", gap=1)
    assert data.gaps == (1,) and len(data) == 4 and data.video_path("P18_01") == kitchen / "gap1/P18/videos/P18_01.MP4"
    assert EpicKitchens(kitchen, frames=1).gaps == (1,)
    table(copy / "annotations/EPIC_100_validation_gap1.csv", VALIDATION[2:3])
    assert EpicKitchens(copy, split="validation", gap=1).annotations.narration_id.tolist() == ["P18_01_0"]
    with pytest.raises(ValueError, match="validation split only"):
        EpicKitchens(kitchen, split="train", gap=1)
    with pytest.raises(FileNotFoundError, match="2 of 2 recordings are missing: .*gap2/P01/videos/P01_02.MP4"):
        EpicKitchens(kitchen, split="validation", gap=2)


def test_digest_follows_annotations_and_recordings(kitchen, copy):
    digest = EpicKitchens(kitchen).digest
    assert digest == EpicKitchens(kitchen, split="tune").digest == EpicKitchens(copy).digest and len(digest) == 64
    video = copy / "P01/videos/P01_01.MP4"
    content = bytearray(video.read_bytes())
    content[-1] ^= 1
    video.write_bytes(content)
    changed = EpicKitchens(copy).digest
    table(copy / "annotations/EPIC_100_train.csv", [row(), *TRAIN[1:3], row("P02_01_0", verb=1), TRAIN[4]])
    assert len({digest, changed, EpicKitchens(copy).digest}) == 3


@pytest.mark.parametrize("root", ["nowhere", "."])
def test_missing_data_set_says_what_to_do(tmp_path, monkeypatch, root):
    monkeypatch.delenv("CM3T_EPIC_ANNOTATIONS", raising=False)
    with pytest.raises(FileNotFoundError) as error:
        EpicKitchens(tmp_path / root, split="validation")
    for part in (
        str(tmp_path),
        "P01/videos/P01_01.MP4",
        "EPIC_100_",
        "epic-kitchens-download-scripts",
        "CC BY-NC",
    ):
        assert part in str(error.value)
    assert 'open_data("rooms-kitchen")' in str(error.value)
    with pytest.raises(FileNotFoundError, match="no root was given"):
        open_data("epic")


def test_annotations_from_the_environment(copy, monkeypatch, tmp_path):
    shutil.move(copy / "annotations", tmp_path / "elsewhere")
    monkeypatch.setenv("CM3T_EPIC_ANNOTATIONS", str(tmp_path / "elsewhere"))
    assert len(EpicKitchens(copy)) == 4


def test_missing_and_cut_off_recordings(copy):
    video = copy / "P01/videos/P01_01.MP4"
    whole = video.read_bytes()
    video.write_bytes(whole[: len(whole) // 2])
    data = EpicKitchens(copy, frames=2)
    for read in (lambda: data[0], data.decode_all):
        with pytest.raises(MediaError, match=r"P01_01\.MP4.*cut off"):
            read()
    video.rename(video.with_suffix(".mp4")).write_bytes(whole)
    assert EpicKitchens(copy, frames=2)[0].id == "P01_01_0"  # the suffix in small letters will do
    shutil.rmtree(copy / "P01")
    with pytest.raises(FileNotFoundError, match=r"2 of 3 recordings are missing: .*P01_01\.MP4, .*P01_101\.MP4"):
        EpicKitchens(copy)


def test_segments_past_the_end(copy):
    info = [("P01_01", "2.0", "12", "64x64")]
    table(copy / "annotations/EPIC_100_video_info.csv", info, ("video_id", "duration", "fps", "resolution"))
    with pytest.warns(UserWarning, match="2 segments of train"):
        assert EpicKitchens(copy).annotations.stop.tolist()[:2] == [2.0, 2.0]
    info = [("P01_01", "0.7", "12", "64x64")]
    table(copy / "annotations/EPIC_100_video_info.csv", info, ("video_id", "duration", "fps", "resolution"))
    with pytest.raises(AnnotationError, match="1 segments start after the end.*P01_01_1"):
        EpicKitchens(copy)
    (copy / "annotations/EPIC_100_video_info.csv").unlink()
    data = EpicKitchens(copy, split="validation", frames=300)
    with pytest.warns(ClampWarning):  # without durations the pictures themselves tell
        assert number(data[1].video[:, -1].permute(1, 2, 0).numpy()) == 59 and data.counts["clamped"] > 0


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(start="00:00:02.50", stop="00:00:02.50"), "stops at 00:00:02.50, not after its start"),
        (row(stop="00:00:00.10"), "stops at 00:00:00.10, not after its start 00:00:00.50"),
        (row(verb=97), "unknown verb_class 97"),
        (row(verb=2), "unknown verb_class 2"),
        (row(noun=-1), "unknown noun_class -1"),
        (row(verb_class="take"), "verb_class 'take' is no whole number"),
        (row(video_id="../../etc"), "video_id '../../etc' must look like P01_01"),
        (row(video_id="P01_01/../x"), "must look like"),
        (row(video_id="P٠١_01"), "must look like"),
        (row(participant_id="P02"), "participant_id 'P02' does not fit video P01_01"),
        (row(participant_id=".."), "does not fit"),
        (row(narration_id="P02_01_0"), "narration_id 'P02_01_0' must be P01_01_ and a number"),
        (row(start_timestamp="1.5"), "'1.5' is no time"),
        (row(stop_timestamp="00:00:nan"), "'00:00:nan' is no time"),
        (row(start_frame="1.5"), "start_frame '1.5' is no whole number"),
        (row(all_nouns="['plate'"), "all_nouns .* is no list of str"),
        (row(all_nouns="__import__('os').getcwd()"), "is no list of str"),
        (row(all_noun_classes="['plate']"), "is no list of int"),
        (TRAIN[1], "narration_id P01_01_1 was on line 3 already"),
    ],
)
def test_bad_rows_are_named_with_file_and_line(copy, bad, message):
    table(copy / "annotations/EPIC_100_train.csv", [*TRAIN, bad])
    with pytest.raises(
        AnnotationError, match=rf"EPIC_100_train\.csv: 1 of 6 rows[^\n]*compare.*\n  line 7: .*{message}"
    ):
        EpicKitchens(copy)


def test_tune_participants(copy, kitchen):
    with pytest.raises(ValueError, match="'P09'.* have no training rows"):
        EpicKitchens(kitchen, split="train", tune=("P09",))
    with pytest.raises(AnnotationError, match="no training rows are left"):
        EpicKitchens(kitchen, split="train", tune=("P01", "P02", "P03"))
    (copy / "annotations/tune_participant_ids.csv").unlink()
    assert len(EpicKitchens(copy, split="train")) == 5
    with pytest.raises(ValueError, match="tune_participant_ids.csv or as tune=.*none are given"):
        EpicKitchens(copy, split="tune")


def test_arguments(kitchen):
    for options, message in [
        ({"split": "val"}, "unknown split 'val'; known are train"),
        ({"modalities": ("depth",)}, "unknown modalities"),
        ({"modalities": "audio"}, "give a tuple"),
        ({"frames": 0}, "at least 1"),
        ({"limit": 0}, "at least 1"),
        ({"gap": -1}, "gap=-1"),
        ({"sound": {"secs": 3}}, "sound: unknown option 'secs'; did you mean 'seconds'. known: hop, mels"),
    ]:
        with pytest.raises(ValueError, match=message):
            EpicKitchens(kitchen, **options)
    with pytest.raises(ValueError, match="did you mean 'rooms-kitchen'"):
        open_data("room-kitchen")
    with pytest.raises(FileNotFoundError, match=r"ships with the repository(.|\n)*nowhere is no folder"):
        open_data("rooms-kitchen", kitchen / "nowhere")
    with pytest.raises(FileNotFoundError, match="^no features at .*nowhere"):  # and not: restore the kitchen with git
        open_data("rooms-kitchen", kitchen, modalities=("gaze",), features={"gaze": kitchen / "nowhere"})
    assert len(open_data("rooms-kitchen", kitchen)) == len(open_data("epic", kitchen)) == 4
