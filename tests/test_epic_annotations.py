"""EPIC-KITCHENS-100's annotation files: every quirk, every kind of damage, and the official file."""

import csv
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from cm3t.data.epic_annotations import (
    COLUMNS,
    NOUNS,
    VERBS,
    frame_of,
    read_annotations,
    read_classes,
    read_column,
    read_durations,
    seconds_of,
)
from cm3t.data.tables import AnnotationError


def row(name="P01_01_0", start="00:00:00.50", stop="00:00:02.50", verb=0, noun=2, **changes):
    """One annotation in the official form."""
    video = name.rpartition("_")[0]
    frames = [max(1, int(seconds_of(t) * 60)) for t in (start, stop)]
    values = [
        name,
        video[:3],
        video,
        "00:00:00.123",
        start,
        stop,
        *frames,
        "take plate",
        "take",
        verb,
        "plate",
        noun,
    ]
    return {**dict(zip(COLUMNS, [*values, "['plate']", f"[{noun}]"], strict=True)), **changes}


def table(path, rows, columns=None):
    """A CSV file; `rows` are dicts, or tuples under `columns`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns or COLUMNS)
        writer.writerows([[r[c] for c in COLUMNS] if isinstance(r, dict) else r for r in rows])
    return path


TRAIN = [
    row("P01_01_0"),
    row("P01_01_1", "00:00:01.00", "00:00:03.125", 3, 4),  # overlaps; three decimals
    row(
        "P01_101_0",
        "00:00:00.00",
        "00:00:01.89",
        1,
        2,
        all_nouns="['plate', 'lid:pan']",
        all_noun_classes="[2, 9]",
    ),
    row("P02_01_0", narration_timestamp=""),
    row("P03_01_0", "00:00:00.04", "00:00:04.96", 96, 299),
]
VALIDATION = [
    row("P01_02_0", verb=0, noun=2),
    row("P01_02_1", "00:00:03.00", "00:00:05.01", 0, 9),  # 0.01 s past the end of the recording
    row("P18_01_0", verb=10, noun=2),
    row("P18_01_1", "0:00:01", "0:00:02.5", 1, 299),
]


def test_many_bad_rows_are_counted(tmp_path):
    path = table(tmp_path / "a.csv", [row(f"P01_01_{i}", stop="00:00:00.01") for i in range(9)])
    with pytest.raises(AnnotationError, match=r"9 of 9 rows(.|\n)*line 2(.|\n)*line 6(.|\n)*and 4 more"):
        read_annotations(path)


def test_bad_files(tmp_path):
    with pytest.raises(AnnotationError, match="a header without rows: the split is empty"):
        read_annotations(table(tmp_path / "a.csv", []))
    for content in (b"", b"\n", b"narration_id,verb\n"):
        (tmp_path / "b.csv").write_bytes(content)
        with pytest.raises(AnnotationError, match=r"the columns \[.*'noun_class'.*\] are missing"):
            read_annotations(tmp_path / "b.csv")
    with pytest.raises(AnnotationError, match=r"columns \['narration', .*\] are missing"):
        read_annotations(table(tmp_path / "c.csv", [[r[c] for c in COLUMNS[:8]] for r in TRAIN], COLUMNS[:8]))
    whole = table(tmp_path / "d.csv", TRAIN).read_bytes()
    (tmp_path / "d.csv").write_bytes(whole[:-20])
    with pytest.raises(AnnotationError, match="line 6.*fields"):
        read_annotations(tmp_path / "d.csv")
    (tmp_path / "e.csv").write_bytes(whole.replace(b"plate", b"pl\xe4te"))
    with pytest.raises(AnnotationError, match="not UTF-8"):
        read_annotations(tmp_path / "e.csv")
    (tmp_path / "f.csv").write_bytes(b"\xef\xbb\xbf" + whole.replace(b"\r\n", b"\n"))
    assert len(read_annotations(tmp_path / "f.csv")) == len(TRAIN)
    with pytest.raises(FileNotFoundError, match="g.csv"):
        read_annotations(tmp_path / "g.csv")


def test_class_and_id_tables(tmp_path):
    names = ("id", "key")
    with pytest.raises(AnnotationError, match=r"class 97 lies outside 0\.\.96"):
        read_classes(table(tmp_path / "a.csv", [(0, "take"), (97, "fly")], names), VERBS)
    with pytest.raises(AnnotationError, match="class 0 was named 'tap' already"):
        read_classes(table(tmp_path / "a.csv", [(0, "tap"), (0, "spoon")], names), NOUNS)
    with pytest.raises(AnnotationError, match="participant_id '../..' must look like P01"):
        read_column(table(tmp_path / "b.csv", [("../..",)], ("participant_id",)), "participant_id")
    with pytest.raises(AnnotationError, match="duration 'inf' is no number"):
        read_durations(table(tmp_path / "c.csv", [("P01_01", "inf")], ("video_id", "duration")))


def test_frames_of_the_official_pictures():
    assert frame_of("00:00:00.00", "P01_11") == 1 and frame_of("00:00:01.89", "P01_11") == 113
    assert frame_of("00:00:02.86", "P01_101") == 143 and frame_of(3.87, "P01_101") == 193
    assert frame_of("01:01:01.5", "P01_01") == int(3661.5 * 60)
    with pytest.raises(ValueError, match="no video id"):
        frame_of(1.0, "P01")


@pytest.fixture(scope="module")
def official():
    folder = os.environ.get("CM3T_EPIC_ANNOTATIONS")
    if not folder:
        pytest.skip("CM3T_EPIC_ANNOTATIONS names no folder with the official annotation files")
    return Path(folder)


@pytest.fixture(scope="module")
def official_rows(official):
    verbs = read_classes(official / "EPIC_100_verb_classes.csv", VERBS)
    nouns = read_classes(official / "EPIC_100_noun_classes.csv", NOUNS)
    assert (sorted(verbs), sorted(nouns)) == (list(range(97)), list(range(300)))
    return read_annotations(official / "EPIC_100_validation.csv", verbs=verbs, nouns=nouns)


def test_official_validation_file(official_rows, official):
    rows = official_rows
    assert len(rows) == 9668 and rows.video_id.nunique() == 138
    assert (rows.verb_class.nunique(), rows.noun_class.nunique()) == (78, 211)
    assert (rows.narration_timestamp == "").sum() == 70
    unseen = read_column(official / "EPIC_100_unseen_participant_ids_validation.csv", "participant_id")
    verbs = rows.verb_class.isin(read_column(official / "EPIC_100_tail_verbs.csv", "verb", int))
    nouns = rows.noun_class.isin(read_column(official / "EPIC_100_tail_nouns.csv", "noun", int))
    assert rows.participant_id.isin(unseen).sum() == 1065
    assert (verbs.sum(), nouns.sum(), (verbs | nouns).sum()) == (1760, 1900, 3105)
    ends = rows.video_id.map(read_durations(official / "EPIC_100_video_info.csv"))
    assert rows.narration_id[rows.stop > ends].tolist() == ["P29_05_563"]


@pytest.mark.parametrize("end", ["start", "stop"])
def test_official_frames_follow_the_convention(official_rows, official, end):
    test = read_annotations(official / "EPIC_100_test_timestamps.csv", labelled=False)
    assert len(test) == 13092
    for rows in (official_rows, test):
        expected = [frame_of(t, video) for t, video in zip(rows[f"{end}_timestamp"], rows.video_id, strict=True)]
        assert np.mean(np.array(expected) == rows[f"{end}_frame"]) > 0.995


def test_any_bytes_are_parsed_or_one_clear_error(tmp_path):
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    path = tmp_path / "fuzz.csv"
    whole = table(tmp_path / "whole.csv", TRAIN).read_bytes()
    splice = st.tuples(st.integers(0, len(whole)), st.integers(0, 40), st.binary(max_size=12)).map(
        lambda cut: whole[: cut[0]] + cut[2] + whole[cut[0] + cut[1] :]
    )
    field = st.sampled_from(COLUMNS)
    swapped = st.tuples(field, st.text(max_size=30)).map(lambda change: {**TRAIN[0], change[0]: change[1]})

    def check(content):
        path.write_bytes(content)
        try:
            rows = read_annotations(path)
        except AnnotationError as error:
            assert f"{path}: " in str(error) and "line " in str(error)
        else:
            assert len(rows) > 0 and (rows.stop > rows.start).all() and rows.narration_id.is_unique
            assert rows.video_id.str.fullmatch(r"P[0-9]{2}_[0-9]{2,3}").all()

    settings = hypothesis.settings(max_examples=40, deadline=None, database=None, derandomize=True)

    @settings
    @hypothesis.given(st.one_of(st.binary(max_size=200), splice))
    def any_bytes(content):
        check(content)

    @settings
    @hypothesis.given(swapped)
    def any_field(changed):
        try:
            table(path, [changed])
        except UnicodeEncodeError:  # half a surrogate pair is no text
            return
        check(path.read_bytes())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        any_bytes()
        any_field()


SMALL = {
    "classes": (
        b"id,key,instances\r\n0,take,\"['take', 'grab']\"\r\n3,open,\"['open']\"\r\n",
        lambda p: read_classes(p, VERBS),
    ),
    "tail": (b"verb\r\n10\r\n96\r\n", lambda p: read_column(p, "verb", int)),
    "participants": (b"participant_id\r\nP18\r\nP32\r\n", lambda p: read_column(p, "participant_id")),
    "durations": (b"video_id,duration,fps\r\nP01_01,1652.152817,59.94\r\n", read_durations),
}


@pytest.mark.parametrize("name", sorted(SMALL))
def test_any_bytes_of_the_small_tables_are_parsed_or_one_clear_error(tmp_path, name):
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    path, (whole, read) = tmp_path / "fuzz.csv", SMALL[name]
    splice = st.tuples(st.integers(0, len(whole)), st.integers(0, 9), st.binary(max_size=9)).map(
        lambda cut: whole[: cut[0]] + cut[2] + whole[cut[0] + cut[1] :]
    )

    @hypothesis.settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @hypothesis.given(st.one_of(st.binary(max_size=60), splice))
    def check(content):
        path.write_bytes(content)
        try:
            found = read(path)
        except AnnotationError as error:
            assert f"{path}: " in str(error) and "line " in str(error)
        else:
            assert len(found) > 0
            if name == "participants":
                assert all(p[0] == "P" and p[1:].isdigit() and len(p) == 3 for p in found)

    path.write_bytes(whole)
    assert len(read(path)) in (1, 2)
    check()
