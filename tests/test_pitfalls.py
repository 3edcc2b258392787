"""Known traps of the three data sets' files that no other test walks into: times, names, and where errors point."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest
from test_epic import copy as kitchens  # noqa: F401
from test_epic import kitchen  # noqa: F401
from test_epic_annotations import TRAIN, row, table
from test_epic_files import DURATIONS, VIDEOS, extracted  # noqa: F401
from test_media import number, write
from test_mpiigi import TRAIN as SAMPLES
from test_mpiigi import copy as groups  # noqa: F401
from test_mpiigi import group, put_list  # noqa: F401

from cm3t.data.epic import EpicKitchens
from cm3t.data.epic_annotations import VERBS, frame_of, read_annotations, read_classes, read_column, read_durations
from cm3t.data.features import FeatureError, open_features, parse_json
from cm3t.data.folder_labels import read_folder_labels
from cm3t.data.media import read_frames
from cm3t.data.mpiigi import MpiiGroupInteraction
from cm3t.data.mpiigi_samples import read_recordings, read_samples
from cm3t.data.signals import log_mel
from cm3t.data.tables import AnnotationError
from cm3t.data.udiva_metadata import read_ids, read_limits, read_predictions, read_sessions

copy = kitchens  # the name by which `extracted` asks for it
MANY = 600  # frames of a clip: so many that none of a short segment is left out


def shown(clip):
    """The numbers that a clip's pictures show."""
    return [number(picture) for picture in clip.video.permute(1, 2, 3, 0).numpy()]


def test_a_segment_of_extracted_pictures_ends_with_its_stop_frame(extracted):  # noqa: F811
    rows = [row("P01_01_0", stop="00:00:01.89"), row("P01_101_0", "00:00:01.00", "00:00:02.33"), row("P03_01_0")]
    table(extracted / "annotations/EPIC_100_train.csv", rows)
    data = EpicKitchens(extracted, source="frames", frames=MANY)
    assert data.annotations.start_frame[0] == 30 and data.annotations.stop_frame[0] == 113  # the official columns
    for clip, segment in zip(data, data.annotations.itertuples(), strict=True):
        first, last = (frame_of(t, segment.video_id) for t in (segment.start_timestamp, segment.stop_timestamp))
        assert sorted(set(shown(clip))) == list(range(first, last + 1)), "every frame once, the stop frame included"
    jittered = shown(data.clip(0, np.random.default_rng(0)))
    assert 30 <= min(jittered) and max(jittered) <= 113


def test_a_stop_on_the_edge_of_a_frame_is_reached_and_not_passed(extracted):  # noqa: F811
    data = EpicKitchens(extracted, source="frames", sampling="dense", frames=64, step=0.1)
    assert data.annotations.stop_frame[0] == 150 == int(data.annotations.stop[0] * 60)
    assert (shown(data[0])[0], shown(data[0])[-1]) == (30, 150)  # longer than the segment: its ends are repeated
    assert max(shown(EpicKitchens(extracted, source="frames", frames=MANY)[0])) == 149  # shown until 2.5 s


def test_a_segment_of_a_video_ends_with_the_picture_of_its_stop_time(copy):  # noqa: F811
    table(copy / "annotations/EPIC_100_train.csv", [row("P01_01_0", stop="00:00:01.89"), row("P03_01_0")])
    (clip,) = EpicKitchens(copy, frames=MANY)
    assert sorted(set(shown(clip))) == list(range(6, 23))  # 12 pictures a second: 0.5 s to 1.89 s


def test_frame_columns_are_not_read_where_there_are_videos(copy, kitchen):  # noqa: F811
    rows = [r | {"start_frame": 7, "stop_frame": 8} for r in TRAIN]
    table(copy / "annotations/EPIC_100_train.csv", rows)
    for other, own in zip(EpicKitchens(copy), EpicKitchens(kitchen), strict=True):
        assert (other.video == own.video).all()


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(48000, 1001), 50, Fraction(60000, 1001), 90])
def test_videos_of_every_rate_of_the_set_are_read_by_time(tmp_path, fps):
    path = write(tmp_path / "P09_07.MP4", 120, fps)
    times = np.random.default_rng(0).uniform(0.0, 119 / fps, 9)
    assert [number(picture) for picture in read_frames(path, times)] == [int(t * fps) for t in times]


def test_recordings_of_different_sizes_need_one(copy):
    write(copy / "P01/videos/P01_101.MP4", height=48, width=80)  # P12 has 4:3, and 720 lines
    with pytest.raises(ValueError, match=r"P01_101 is \(48, 80\) pixels, others \(64, 64\); give `size`"):
        EpicKitchens(copy, frames=1).decode_all()
    assert EpicKitchens(copy, frames=1, size=32).decode_all().shape == (4, 3, 1, 32, 32)


@pytest.mark.parametrize(("seconds", "steps"), [(1.279, 256), (1.28, 257), (1.999, 400), (2.0, 401)])
def test_steps_of_the_published_spectrograms(seconds, steps):
    assert len(log_mel(np.zeros(round(seconds * 24000), np.float32))) == steps


def test_one_snippet_in_two_folders_is_refused(groups):  # noqa: F811
    shutil.copy(groups / "bbr/clips_train/00003-video.mp4", groups / "bbr/clips_train/clips_2/00003-video.mp4")
    with pytest.raises(ValueError, match=r"clips_2/00003-video\.mp4 is also .*remove one"):
        MpiiGroupInteraction(groups)


OUTSIDE = ["../../etc/passwd", "/etc/passwd", "..", "P01_01/../../x", "..\\x", "C:\\x", "a\x00b", "~root", "１", ""]


def sessions(*fields):
    return "ID,PART.1,PART.2\n" + ",".join(fields) + "\n"


def with_sample(place, name):
    fields = SAMPLES[0].split(",")
    return "\n".join([HEADER, ",".join([*fields[:place], name, *fields[place + 1 :]])]) + "\n"


HEADER = "sample_id,rec_no,subject_pos,start_time,end_time," + ",".join(
    ["Settle", "Legs crossed", "Groom", "Hand-mouth", "Fold arms", "Leg movement", "Scratch", "Gesture", "Hand-face",
     "Adjusting clothing", "Fumble", "Shrug", "Stretching", "Smearing hands"]
)  # fmt: skip
IDENTIFIERS = {
    "sample": (read_samples, lambda name: with_sample(0, name)),
    "recording": (read_samples, lambda name: with_sample(1, name)),
    "seat": (read_samples, lambda name: with_sample(2, name)),
    "recording for tuning": (read_recordings, lambda name: f"rec_no\n{name}\n\n"),
    "session": (read_sessions, lambda name: sessions(name, "a", "b")),
    "first participant": (read_sessions, lambda name: sessions("000001", name, "b")),
    "second participant": (read_sessions, lambda name: sessions("000001", "a", name)),
    "participant": (read_ids, lambda name: f"ID,AGE\n{name},3\n"),
    "session with limits": (read_limits, lambda name: json.dumps({name: {"talk": [[0, 1]]}})),
    "task with limits": (read_limits, lambda name: json.dumps({"000001": {name: [[0, 1]]}})),
    "predicted participant": (read_predictions, lambda name: f"h\n{name},1,2,3,4,5\n"),
    "kitchen's participant": (lambda p: read_column(p, "participant_id"), lambda name: f"participant_id,x\n{name},1\n"),
    "video of a folder": (read_folder_labels, lambda name: f"video,label\na.mp4,x\n{name},y\n"),
}


@pytest.mark.parametrize("what", IDENTIFIERS)
def test_identifiers_cannot_lead_out_of_the_data_set(tmp_path, what):
    read, content = IDENTIFIERS[what]
    path = tmp_path / "annotations"
    fine = {"~root", "１"} if what == "video of a folder" else set()  # names of files like any other
    for name in (name for name in OUTSIDE if name not in fine):
        path.write_text(content(name), encoding="utf-8")
        with pytest.raises(AnnotationError, match="annotations: "):
            read(path)


@pytest.mark.parametrize("column", ["narration_id", "participant_id", "video_id"])
def test_identifiers_of_the_kitchens_cannot_either(tmp_path, column):
    for name in OUTSIDE:
        with pytest.raises(AnnotationError, match="line 2"):
            read_annotations(table(tmp_path / "a.csv", [row(**{column: name}) if column != "narration_id" else
                                                        row() | {column: name}]))  # fmt: skip


def test_features_are_asked_for_by_checked_names_alone(tmp_path):
    (tmp_path / "inside").mkdir()
    np.save(tmp_path / "outside.npy", np.zeros((2, 3), np.float32))
    for name in ("../outside", str(tmp_path / "outside"), "inside/../../outside"):
        with pytest.raises(FeatureError):
            open_features(tmp_path / "inside").tokens(name)


CSVS = {
    "kitchen": read_annotations,
    "classes": lambda path: read_classes(path, VERBS),
    "durations": read_durations,
    "snippets": read_samples,
    "recordings": read_recordings,
    "folder": read_folder_labels,
    "sessions": read_sessions,
    "participants": read_ids,
    "predictions": read_predictions,
}


@pytest.mark.parametrize("name", CSVS)
@pytest.mark.parametrize("content", [b"", b"a,b\n", b"\n\n\xff", b'id\n"x', b"a\x00\n"])
def test_every_bad_table_is_one_error_with_file_and_line(tmp_path, name, content):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(AnnotationError, match=r"bad\.csv: line [1-9]"):
        CSVS[name](path)


@pytest.mark.parametrize("content", [b"", b'{"a":\n 1,\n oops', b'{"a":\n "\xff"}', b"[" * 100_000, b"1" * 5000])
def test_every_bad_json_is_one_error_with_file_and_line(content):
    with pytest.raises(FeatureError, match=r"some\.json: line [1-9]"):
        parse_json(content, "some.json", FeatureError)


def test_the_line_of_a_byte_is_its_own(tmp_path):
    (tmp_path / "labels.csv").write_bytes(b"video,label\r\na.mp4,wave\r\nb.mp4,n\xe4d\r\n")
    with pytest.raises(AnnotationError, match=r"labels\.csv: line 3: byte 32 is not UTF-8"):
        read_folder_labels(tmp_path / "labels.csv")
