"""Transcripts: any bytes give utterances or one clear error; the hashing encoder is the same everywhere."""

import re
import subprocess
import sys
import warnings
from collections import Counter

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from cm3t.data import transcripts
from cm3t.data.transcripts import (
    HashingEncoder,
    TranscriptError,
    Utterance,
    count_nameless,
    parse_srt,
    read_srt,
    read_text,
    sentence_encoder,
    utterance_tokens,
)

torch.set_num_threads(1)
SRT = """1
00:00:01,000 --> 00:00:02,500
PART.1: Què vols fer?

2
00:00:02,000 --> 00:00:04,000
PART.2: No ho sé,
encara.

3
00:00:04,000 --> 00:00:05,000
SUPERVISOR: Podeu començar.
"""


def cue(timing, text="PART.1: hello", number="1"):
    return f"{number}\n{timing}\n{text}\n\n"


def test_an_ordinary_file(tmp_path):
    path = tmp_path / "000001_talk.srt"
    path.write_bytes(SRT.encode("utf-8-sig"))
    assert read_srt(path) == [
        Utterance(1.0, 2.5, "PART.1", "Què vols fer?"),
        Utterance(2.0, 4.0, "PART.2", "No ho sé, encara."),
        Utterance(4.0, 5.0, "SUPERVISOR", "Podeu començar."),
    ]
    for ends in ("\r\n", "\r"):
        path.write_bytes(SRT.replace("\n", ends).encode())
        assert read_srt(path) == parse_srt(SRT.encode())
    with pytest.raises(FileNotFoundError, match=r"no transcript at .*000002"):
        read_srt(tmp_path / "000002_talk.srt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (cue("00:00:01,000 --> 00:00:02,000", ""), []),  # an empty cue says nothing
        (cue("00:00:01,000 --> 00:00:02,000", "PART.1:  "), []),
        (cue("00:00:01,000 --> 00:00:02,000", "<i>PART_1: a <b>b</b></i>"), [(1.0, 2.0, "PART.1", "a b")]),
        (cue("00:00:01,000 --> 00:00:02,000", "{\\an8}Participant 2: is 1 < 2?"), [(1.0, 2.0, "PART.2", "is 1 < 2?")]),
        (
            cue("00:00:01,000 --> 00:00:02,000", "- PART.1: a\n\u2013 PART.2\uff1ab\n<i>-SUPERVISOR : c</i>"),
            [(1.0, 2.0, "PART.1", "a"), (1.0, 2.0, "PART.2", "b"), (1.0, 2.0, "SUPERVISOR", "c")],
        ),
        (cue("00:00:01,000 --> 00:00:02,000", "- hola\n- P1: a"), [(1.0, 2.0, "", "- hola - P1: a")]),
        (cue("00:00:01.5 --> 00:00:02"), [(1.5, 2.0, "PART.1", "hello")]),
        (cue("00:00:01,000 --> 00:00:02,000 X1:40 X2:600"), [(1.0, 2.0, "PART.1", "hello")]),
        ("00:00:01,000 --> 00:00:02,000\nno number, no end", [(1.0, 2.0, "", "no number, no end")]),
        (
            cue("00:00:01,000 --> 00:00:02,000", "part.1: yes\nPART 2:no\nnever\n\nat all"),
            [(1.0, 2.0, "PART.1", "yes"), (1.0, 2.0, "PART.2", "no never at all")],
        ),
        (
            cue("00:00:05,000 --> 00:00:06,000", "b") + cue("00:00:01,000 --> 00:00:09,000", "a"),
            [(1.0, 9.0, "", "a"), (5.0, 6.0, "", "b")],
        ),
        (  # no blank line between two cues
            "1\n00:00:01,000 --> 00:00:02,000\na\n2\n00:00:02,000 --> 00:00:03,000\nb",
            [(1.0, 2.0, "", "a"), (2.0, 3.0, "", "b")],
        ),
        (cue("01:02:03,004 --> 01:02:03,004", "now"), [(3723.004, 3723.004, "", "now")]),
        (cue("00:00:01,000 --> 00:00:02,000", "10:30:00"), [(1.0, 2.0, "", "10:30:00")]),
        (cue("00:00:01,000 --> 00:00:02,000", "go --> there"), [(1.0, 2.0, "", "go --> there")]),
        (  # two files in one, each with its mark
            cue("00:00:01,000 --> 00:00:02,000", "a") + "\ufeff" + cue("00:00:02,000 --> 00:00:03,000", "b"),
            [(1.0, 2.0, "", "a"), (2.0, 3.0, "", "b")],
        ),
        (cue("00:00:01,000 --> 00:00:02,000", "how many?\n\n12"), [(1.0, 2.0, "", "how many? 12")]),
        (
            cue("00:00:01,000 --> 00:00:02,000", "a") + "\n\n" + cue("00:00:02,000 --> 00:00:03,000", "\n42"),
            [(1.0, 2.0, "", "a"), (2.0, 3.0, "", "42")],
        ),
    ],
)
def test_odd_files_are_read(text, expected):
    assert parse_srt(text.encode()) == [Utterance(*row) for row in expected]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"1\n00:00:02,000 --> 00:00:01,000\nx", "line 2: stops at 1 s, before its start 2 s"),
        (b"1\n00:00:02,000 -> 00:00:01,000\nx", "line 2: '00:00:02,000 -> 00:00:01,000' is no time; write"),
        (b"", "line 1: the file is empty; copy it again"),
        (b"\xef\xbb\xbf\n \n", "line 1: the file is empty; copy it again"),
        (b"1\n00:00:01,000 --> 00:00:02,000\na\n\n2\n00:00:03,0", "line 6: '00:00:03,0' is half of a time"),
        (b"1\n00:00:01,000 --> 00:00:02,000\na\n\n2\n00:00:03,000 -", "line 6: .*cut off or damaged"),
        (b"1\n00:00:01,000 --> 00:00:02,000\na\n\n2\n00:0", "line 6: '00:0' is half of a time"),
        (b"1\n00:00:01,000 --> 00:00:02,000\na\n\n2", "line 5: cue 2 has no time: the file is cut off"),
        (b"1\n00:00:01,000 --> \nx", "line 2: .* is no time"),
        (b"1\n --> 00:00:01,000\nx", "line 2: .* is no time"),
        (b"just words", "line 1: 'just words' stands before any time"),
        (
            b"1\n00:00:01,000 --> 00:00:02,000\nhi\n\n2.\n00:00:03,000 --> 00:00:04,000\nyes",
            "line 5: '2.' stands where",
        ),
        (b"#1\n00:00:01,000 --> 00:00:02,000\nhi", "line 1: '#1' stands where a cue has its number"),
        (b"\n1\n00:99:02,000 --> 00:00:01,000\n", "line 3: .* is no time; write 00:00:01,000 -->"),
        ("1\n00:00:01,000 --> ٠٠:00:02,000\nx".encode(), "line 2: .* is no time"),
        ("1\n00:00:01,000 --> 00:00:02,000\nQuè".encode("latin-1"), r"line 3: byte \d+ is no utf-8.*latin-1"),
        (SRT.encode("utf-16"), "line 1: the file is UTF-16; save it as UTF-8"),
        (SRT.encode("utf-16-le"), "line 1: .*zero byte.*save it as UTF-8"),
        (b"1\n00:00:01,000 --> 00:00:02,000\nx\0y", "line 3: .*zero byte"),
    ],
)
def test_corrupt_files_say_where_and_what_to_do(tmp_path, data, message):
    path = tmp_path / "000001_lego.srt"
    path.write_bytes(data)
    with pytest.raises(TranscriptError, match=rf"000001_lego\.srt: {message}"):
        read_srt(path)


@pytest.mark.parametrize("gap", ["", "\n"])  # with and without a blank line between the cues
@pytest.mark.parametrize("arrow", [" -> ", " -- > ", " \u2013> ", " \u2192 ", " --&gt; ", " - -> ", " "])
def test_a_wrong_arrow_is_no_speech_of_the_cue_before(arrow, gap):
    cues = f"1\n00:00:01,000 --> 00:00:02,000\nPART.1: hi\n{gap}2\n00:00:03,000{arrow}00:00:04,000\nPART.2: yo\n"
    with pytest.raises(TranscriptError, match=f"line {6 if gap else 5}: .* is no time; write 00:00:01,000 --> "):
        parse_srt(cues.encode())


def test_another_encoding_can_be_named(tmp_path):
    (tmp_path / "a.srt").write_bytes(SRT.encode("latin-1"))
    assert read_srt(tmp_path / "a.srt", encoding="latin-1") == parse_srt(SRT.encode())
    assert parse_srt(SRT.encode("utf-8-sig"), encoding="utf-8") == parse_srt(SRT.encode())
    assert parse_srt(SRT.encode("utf-16"), encoding="utf-16") == parse_srt(SRT.encode())
    with pytest.raises(TranscriptError, match="a.srt: no encoding is called 'latn1'; give 'utf-8' or 'latin-1'"):
        read_srt(tmp_path / "a.srt", encoding="latn1")


@given(st.one_of(st.binary(max_size=300), st.text("01:,.->\n\r PART1x\0\ufeffé", max_size=200).map(str.encode)))
@example(b"\xff\xfe1\x00")
@example(b"1\n00:00:01,000 --> 00:00:02,000\n\xed\xa0\x80")
@example("1\n00:00:01,000 --> 00:00:02,000\n\u2028\x1c\x85a".encode())
def test_any_bytes_give_utterances_or_one_error(data):
    try:
        found = parse_srt(data, "f.srt")
    except TranscriptError as error:
        assert str(error).startswith("f.srt: line ") and "\n" not in str(error)
        return
    assert all(u.text and "\n" not in u.text and 0 <= u.start <= u.stop for u in found)
    assert [u.start for u in found] == sorted(u.start for u in found)
    assert torch.isfinite(HashingEncoder(16)([u.text for u in found])).all()


def test_plain_text(tmp_path):
    (tmp_path / "a.txt").write_text("PART.1: one\n\nPART.2: two\nthree\n")
    found = read_text(tmp_path / "a.txt")
    assert [(u.speaker, u.text) for u in found] == [("PART.1", "one"), ("PART.2", "two"), ("", "three")]
    assert utterance_tokens(found, 100.0, 101.0, HashingEncoder(8), length=4)[:3].any(1).all()
    (tmp_path / "a.txt").write_bytes(b"fine\n\xe9")
    with pytest.raises(TranscriptError, match=r"a\.txt: line 2"):
        read_text(tmp_path / "a.txt")


def test_who_speaks_without_a_name_is_told_by_cue_and_line():
    said = parse_srt(
        SRT.replace("PART.2: No", "P2: No").replace("\n3\n", "\n7\n").replace("SUPERVISOR: ", "\n").encode()
    )
    assert [u.place for u in said] == ["cue 1, line 3", "cue 2, line 7", "cue 7, line 13"]
    assert [u.place for u in parse_srt(b"00:00:01,000 --> 00:00:02,000\n\na\nPART.1: b")] == [
        f"cue 1, line {n}" for n in (3, 4)
    ]
    with pytest.warns(
        UserWarning, match=r"f\.srt: cue 2, line 7: 'P2: No ho sé, encara\.' does not tell who speaks \(so 2 of 3"
    ):
        assert count_nameless(said, "f.srt") == 2
    with pytest.raises(TranscriptError, match=r"f\.srt: no line tells who speaks; begin each with PART\.1:"):
        count_nameless(said[1:], "f.srt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert count_nameless(parse_srt(SRT.encode()), "f.srt") == count_nameless([], "f.srt") == 0


def test_hashing_is_signed_sublinear_and_of_length_one():
    encoder = HashingEncoder(4096, characters=())
    one, thrice, other = encoder(["owl", "owl owl", "cat"])
    assert torch.allclose(encoder(["Owl!", "an owl, a cat", "owl"]).norm(dim=1), torch.ones(3))
    assert torch.equal(one, encoder(["  OWL? "])[0]) and float(one @ other) == 0
    assert int((one != 0).sum()) == 1  # one word, one place
    pair = thrice[thrice != 0].abs()
    assert pair.max() / pair.min() == pytest.approx(1 + torch.log(torch.tensor(2.0)).item())
    signs = torch.cat([encoder([f"word{i}"]) for i in range(200)]).sum(1)
    assert 60 < int((signs > 0).sum()) < 140
    assert not encoder(["?!...", ""]).any() and encoder([]).shape == (0, 4096)


def test_similar_sentences_are_near():
    vectors = HashingEncoder()(["we build a tall tower", "we built the tall towers", "quiet rain in autumn"])
    assert vectors.shape == (3, 256) and vectors.dtype == torch.float32
    assert float(vectors[0] @ vectors[1]) > 0.3 > abs(float(vectors[0] @ vectors[2]))


@pytest.mark.slow
def test_hashing_is_the_same_in_another_process():
    code = "from cm3t.data.transcripts import HashingEncoder as H; print(H(32)(['What shall we build, què?']).tolist())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert done.stdout.strip() == str(HashingEncoder(32)(["What shall we build, què?"]).tolist())


def test_encoders_by_name(monkeypatch):
    assert sentence_encoder().width == 256 and sentence_encoder("hashing:64").name == "hashing:64"
    own = HashingEncoder(3)
    assert sentence_encoder(own) is own
    for bad in ("hash", "hashing:x", "sentence-transformers:", 7):
        with pytest.raises(ValueError, match="sentence encoder"):
            sentence_encoder(bad)
    with pytest.raises(ValueError, match="at least 1"):
        sentence_encoder("hashing:0")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match="pip install sentence-transformers"):
        sentence_encoder("sentence-transformers:all-MiniLM-L6-v2")


def test_sentence_transformers_is_used_as_it_is(monkeypatch):
    class Model:
        def __init__(self, name, device):
            assert (name, device) == ("some/model", "cpu")

        def get_sentence_embedding_dimension(self):
            return 5

        def encode(self, sentences, **options):
            assert options["normalize_embeddings"]
            return [[float(len(s))] * 5 for s in sentences]

    monkeypatch.setitem(sys.modules, "sentence_transformers", type(sys)("sentence_transformers"))
    sys.modules["sentence_transformers"].SentenceTransformer = Model
    encoder = sentence_encoder("sentence-transformers:some/model")
    assert encoder.width == 5 and encoder(["ab", "c"])[:, 0].tolist() == [2.0, 1.0] and encoder([]).shape == (0, 5)


class Letters:
    """An encoder one can read: the first letter's place in the alphabet."""

    width = 1

    def __call__(self, sentences):
        return torch.tensor([[ord(s[0]) - 96.0] for s in sentences])


def test_tokens_of_a_window():
    said = [Utterance(i, i + 1, f"PART.{1 + i % 2}", "abcdefghij"[i]) for i in range(10)]
    assert utterance_tokens(said, 0, 10, Letters(), speaker="PART.1", length=6)[:, 0].tolist() == [1, 3, 5, 7, 9, 0]
    assert utterance_tokens(said, 2.5, 4, Letters(), length=3)[:, 0].tolist() == [3, 4, 0]
    assert utterance_tokens(said, 3, 4, Letters(), length=2)[:, 0].tolist() == [4, 0]  # touching is not overlapping
    assert utterance_tokens(said, 0, 10, Letters(), length=2)[:, 0].tolist() == [3, 8]  # merged, in order
    assert not utterance_tokens(said, 20, 30, Letters(), length=2).any()
    instant = [Utterance(2, 2, "", "a")]
    assert [bool(utterance_tokens(instant, *w, Letters()).any()) for w in ((2, 3), (1, 2), (1, 3))] == [1, 0, 1]


@pytest.mark.parametrize("shape", [(2, 1), (2, 3), (1, 4), (2,)])
def test_an_encoder_of_another_width_than_it_says_is_refused(shape):
    class Wrong:
        width, name = 4, "mine"

        def __call__(self, sentences):
            return torch.ones(shape)

    said = [Utterance(0, 1, "", text) for text in "ab"]
    message = f"the sentence encoder mine gave {shape} for 2 sentences, and its `width` says (2, 4)"
    with pytest.raises(ValueError, match=re.escape(message)):
        utterance_tokens(said, 0, 1, Wrong())


def test_grams_count_words_pairs_and_characters():
    grams = HashingEncoder(8, characters=(3,))._grams("to be, to be")
    assert grams["w to"] == (2, 2.0) and grams["p to be"] == (2, 2.0) and grams["c  to"] == (2, 1.0)
    assert Counter(key[0] for key in grams) == {"w": 2, "p": 2, "c": 4}
    assert transcripts._code("w to") == 2042610146  # CRC-32, everywhere
