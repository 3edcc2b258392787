"""UDIVA's tables: every kind of bad row is named with file and line; any bytes give a table or one clear error."""

import csv

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cm3t.data.tables import AnnotationError
from cm3t.data.udiva_metadata import (
    OFFICIAL,
    TRAITS,
    read_ids,
    read_limits,
    read_parts,
    read_predictions,
    read_sessions,
    write_predictions,
)

HEADER = ["PART.2", "ID", "PART.1", "LANGUAGE"]  # columns are found by name


@pytest.fixture
def put(tmp_path):
    """Write a table; returns its path."""

    def put(name, header, rows):
        with open(tmp_path / name, "w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file).writerows([header, *rows])
        return tmp_path / name

    return put


def test_sessions_keep_ids_as_text_and_the_seats(put):
    table = read_sessions(put("sessions_train.csv", HEADER, [["007", "001080", "108", "catalan"]]))
    assert table.to_dict("records") == [{"session": "001080", "part1": "108", "part2": "007", "language": "Catalan"}]
    assert read_sessions(put("a.csv", HEADER[:3], [["b", "000001", "a"]])).language.tolist() == [""]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["2", "1080", "1", ""], "session '1080' must be six digits, as text with its leading zeros"),
        (["2", "../../x", "1", ""], "must be six digits"),
        (["2", "٠٠٠٠٠٢", "1", ""], "must be six digits"),
        (["1", "000002", "1", ""], "session 000002 has participant 1 in both seats"),
        (["", "000002", "1", ""], "participant '' must be letters and digits"),
        (["../2", "000002", "1", ""], "participant '../2' must be letters"),
        (["2", "000001", "1", ""], "session 000001 was on line 2 already"),
        (["2", "000002"], "has 2 fields, the header 4"),
    ],
)
def test_bad_sessions(put, row, message):
    path = put("sessions_val.csv", HEADER, [["4", "000001", "3", "English"], row])
    with pytest.raises(
        AnnotationError, match=rf"sessions_val\.csv: 1 rows cannot be used[^\n]*\n  line 3: .*{message}"
    ):
        read_sessions(path)


def test_participants(put):
    path = put(
        "parts_train.csv", ("AGE", "ID", *TRAITS[::-1]), [[30, "007", 5, 4, 3, 2, "-1.5e0"], [31, "8", *[""] * 5]]
    )
    parts = read_parts(path)
    assert parts["007"].tolist() == [-1.5, 2, 3, 4, 5] and parts["8"] is None
    assert read_ids(path) == ("007", "8")
    for bad in ("nan", "inf", "1,5", "1e999", "x"):
        with pytest.raises(AnnotationError, match=r"line 2: OPENMINDEDNESS_Z .* is no number"):
            read_parts(put("b.csv", ("ID", *TRAITS), [["1", bad, 0, 0, 0, 0]]))
    with pytest.raises(AnnotationError, match="columns .*OPENMINDEDNESS_Z.* are missing"):
        read_parts(put("c.csv", ("ID",), [["1"]]))
    with pytest.raises(AnnotationError, match="a header without rows"):
        read_parts(put("d.csv", ("ID", *TRAITS), []))
    with pytest.raises(FileNotFoundError, match=r"no file .*e\.csv"):
        read_parts(path.with_name("e.csv"))


def test_limits(tmp_path):
    path = tmp_path / "task_limits.json"
    path.write_text('{"001080": {"Talk": [[9.5, 12], [0, 4]], "lego": [1, 2]}}', encoding="utf-8-sig")
    assert read_limits(path) == {"001080": {"talk": [(0.0, 4.0), (9.5, 12.0)], "lego": [(1.0, 2.0)]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n"000001": ', "line 2: no JSON"),
        ("[]", "line 1: must be"),
        ('{"000001": []}', "line 1: must be"),
        ("[" * 100_000, "line 1: no such JSON|line 1: no JSON"),
        ('{"000001": {"talk": [[0, NaN]]}}', "NaN is no number"),
        ('{"1": {"talk": [[0, 1]]}}', "session '1', task 'talk': sessions are six digits"),
        ('{"000001": {"chess": [[0, 1]]}}', "task 'chess': sessions are six digits, tasks are talk"),
        *(
            (f'{{"000001": {{"talk": {bad}}}}}', r"is no list of \[start, end\]")
            for bad in ("[]", "[[1, 1]]", "[[2, 1]]", "[[-1, 1]]", "[[0, 1e999]]", "[[0, 1, 2]]", '[["0", 1]]', "3")
        ),
    ],
)
def test_bad_limits(tmp_path, text, message):
    (tmp_path / "task_limits.json").write_text(text)
    with pytest.raises(AnnotationError, match=rf"task_limits\.json: .*({message})"):
        read_limits(tmp_path / "task_limits.json")


@pytest.mark.parametrize("reader", [read_sessions, read_parts, read_ids, read_limits, read_predictions])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.one_of(st.binary(max_size=120), st.text('ID,\n"PART.1[]{}:0', max_size=120).map(str.encode)))
@example(data=b"\xef\xbb\xbfID,PART.1,PART.2\n000001,a,b\n")
@example(data=b'ID\n"')
@example(data=b"ID\n\0")
def test_any_bytes_give_a_table_or_one_error(tmp_path, reader, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    try:
        reader(path)
    except AnnotationError as error:
        assert str(error).startswith(f"{path}: ") and ("line " in str(error) or "session" in str(error))


def test_predictions_have_the_official_form(tmp_path):
    traits = {"108": [0.5, -1, 2, 3, 4], "007": np.arange(5)}
    path = write_predictions(tmp_path / "out" / "predictions.csv", traits)
    lines = path.read_text().splitlines()
    assert (
        lines[0]
        == ",".join(OFFICIAL)
        == ("Participant ID,OPENMINDEDNESS_Z,CONSCIENTIOUSNESS_Z,EXTRAVERSION_Z,AGREEABLENESS_Z,NEGATIVEEMOTIONALITY_Z")
    )
    assert lines[1].startswith("007,0.000000,1.000000") and len(lines) == 3
    read = read_predictions(path)
    assert read["108"].tolist() == traits["108"] and list(read) == ["007", "108"]
    path.write_text("any,thing\n108,1,2,3,4,5\n")  # the first line is skipped, only the order counts
    assert read_predictions(path)["108"].tolist() == [1, 2, 3, 4, 5]
    for row, message in [("1,2,3", "has 3 fields"), ("1,2,3,4,5,6,7", "has 7 fields"), ("1,2,3,4,5,x", "is no number")]:
        path.write_text(f"h\n{row}\n")
        with pytest.raises(AnnotationError, match=message):
            read_predictions(path)
    for bad in ([1, 2, 3], [1, 2, 3, 4, np.nan]):
        with pytest.raises(ValueError, match="participant 1: needs 5 finite traits"):
            write_predictions(path, {"1": bad})
