"""The UDIVA v0.5 reader on an invented data set: splits, seats, windows, side tokens, every pitfall of the layout."""

import csv
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_media import click_track, number, write

from cm3t.data import collate
from cm3t.data.features import FeatureError, open_features
from cm3t.data.tables import AnnotationError
from cm3t.data.transcripts import HashingEncoder, TranscriptError
from cm3t.data.udiva import Udiva
from cm3t.data.udiva_layout import variants, windows_of
from cm3t.data.udiva_metadata import TASKS, TRAITS
from cm3t.metrics import participant_means
from cm3t.training import sets

torch.set_num_threads(1)
SESSIONS = {  # ID, PART.1, PART.2, LANGUAGE; in 000002 the higher ID sits first
    "train": [("000001", "01", "02", "Spanish"), ("000002", "04", "03", "Catalan"), ("000003", "01", "05", "English")],
    "val": [("001080", "10", "11", "Spanish")],
    "test": [("000900", "20", "21", "English")],
}
SPOKEN = [(0.5, 1.5, "PART.1: el gat"), (1.0, 2.0, "PART.2: un gos"), (2.5, 3.0, "SUPERVISOR: què?"), (3.0, 3.4, "")]


def traits_of(person):
    return [round(int(person) / 10 + k, 2) for k in range(5)]


def table(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def subtitle(cues):
    stamp = "00:00:{:02d},{:03d}".format
    lines = [
        f"{k}\n{stamp(*divmod(round(a * 1000), 1000))} --> {stamp(*divmod(round(b * 1000), 1000))}\n{text}\n"
        for k, (a, b, text) in enumerate(cues, 1)
    ]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def dyads(tmp_path_factory):
    """An invented data set: 4 s recordings at 12 fps; talk has sound, session 000002 no transcripts."""
    root = tmp_path_factory.mktemp("UDIVA")
    recording = write(root / "plain.mp4", count=48)
    loud = write(root / "loud.mp4", count=48, sound=click_track(16000, 4, 1.5))
    for split, sessions in SESSIONS.items():
        folder = root / split
        meta = folder / "metadata"
        table(meta / f"sessions_{split}.csv", ("ID", "PART.1", "PART.2", "LANGUAGE", "NOTES"),
              [(*row, "a, note") for row in sessions])  # fmt: skip
        people = sorted({p for row in sessions for p in row[1:3]})
        if split == "train":
            table(meta / "parts_train.csv", ("ID", "AGE", *TRAITS), [(p, 30, *traits_of(p)) for p in people])
        else:
            table(meta / f"parts_{split}.csv", ("ID", "AGE"), [(p, 30) for p in people])
            table(meta / f"parts_{split}_unmasked.csv", ("ID", "AGE", *TRAITS),
                  [(p, 30, *traits_of(p)) for p in people])  # fmt: skip
        limits = {row[0]: {"talk": [[0.0, 4.0]], "lego": [[0.5, 1.5], [2.0, 3.0]]} for row in sessions}
        (meta / "task_limits.json").write_text(json.dumps(limits))
        for session, *_ in sessions:
            for task, letter in TASKS.items():
                inner = folder / "recordings" / ("" if split == "val" else f"{task}_recordings_{split}") / session
                inner.mkdir(parents=True, exist_ok=True)
                for part in (1, 2):
                    shutil.copy(loud if task == "talk" else recording, inner / f"FC{part}_{letter}.mp4")
                words = folder / "transcriptions" / session / f"{session}_{task}.srt"
                words.parent.mkdir(parents=True, exist_ok=True)
                if session != "000002":
                    words.write_text(subtitle(SPOKEN), encoding="utf-8-sig")
    return root


@pytest.fixture
def copy(dyads, tmp_path):
    """The same, free to be broken."""
    return Path(shutil.copytree(dyads, tmp_path / "udiva"))


def test_splits_seats_and_traits(dyads):
    data = Udiva(dyads, seconds=4.0)
    rows = data.annotations
    assert len(data) == 3 * 2 * (3 + 2) and set(rows.session) == {"000001", "000002", "000003"}  # lego has two spans
    assert data.task == "traits" and data.classes == {"traits": 5} and data.gaps == ()
    seat = rows[rows.session == "000002"].set_index("participant").part.to_dict()
    assert seat == {"04": 1, "03": 2}  # the order of the columns, not of the IDs
    first = rows[(rows.session == "000002") & (rows.task == "talk") & (rows.part == 1)]
    assert first.id.tolist() == ["000002_talk_04_0"] and first.path.iloc[0].endswith("000002/FC1_T.mp4")
    assert data.targets["traits"].dtype == torch.float32 and data.targets["traits"].shape == (30, 5)
    assert torch.allclose(data.targets["traits"][first.index[0]], torch.tensor(traits_of("04")))
    assert data.units[first.index[0]] == "04/000002/talk" and data.participants.keys() == set("01 02 03 04 05".split())
    assert {k: int(v.sum()) for k, v in data.subsets.items()} == {
        "all": 30, "talk": 6, "animals": 6, "lego": 12, "ghost": 6, "catalan": 10, "english": 10, "spanish": 10,
    }  # fmt: skip
    assert Udiva(dyads, split="validation").annotations.session.unique().tolist() == ["001080"]  # text, with its zeros
    assert Udiva(dyads, split="test", tasks=("ghost",)).targets["traits"].shape == (2, 5)


def test_clips(dyads):
    data = Udiva(dyads, seconds=2.0, frames=4, tasks=("talk",))
    assert data.annotations[["start", "stop"]].head(2).to_numpy().tolist() == [[0.0, 2.0], [2.0, 4.0]]
    clip = data[1]
    assert clip.video.shape == (3, 4, 64, 64) and clip.video.dtype == torch.uint8 and clip.id == "000001_talk_01_1"
    assert [number(clip.video[:, t].permute(1, 2, 0).numpy()) for t in range(4)] == [27, 33, 39, 45]
    assert clip.target["traits"].tolist() == pytest.approx(traits_of("01")) and clip.group == data.groups[1] == "01"
    assert torch.equal(data[-1].video, data[len(data) - 1].video)
    assert torch.equal(pickle.loads(pickle.dumps(data))[1].video, clip.video)
    batch = collate(list(data))
    assert torch.equal(data.decode_all(), batch.video) and torch.equal(batch.target["traits"], data.targets["traits"])
    assert data.decode_all(oversample=2).shape == (12, 3, 8, 64, 64)
    assert Udiva(dyads, size=32, frames=1, tasks=("lego",))[0].video.shape == (3, 1, 32, 32)
    with pytest.raises(IndexError, match="clip 12 of 12"):
        data[12]


def test_windows():
    assert windows_of([(0, 12)], 6.0) == [(0.0, 6.0), (6.0, 12.0)]
    assert windows_of([(1, 14)], 6.0) == [(1.0, 7.0), (8.0, 14.0)]  # spread, without overlap
    assert windows_of([(0, 8)], 6.0) == [(1.0, 7.0)] and windows_of([(2, 5)], 6.0) == [(2, 5)]
    assert windows_of([(0, 6), (10, 22)], 6.0) == [(0.0, 6.0), (10.0, 16.0), (16.0, 22.0)]
    assert windows_of([(0, 60)], 6.0, 2) == [(12.0, 18.0), (42.0, 48.0)] and len(windows_of([(0, 60)], 6.0, 7)) == 7


@pytest.mark.slow
def test_sound_and_words(dyads):
    data = Udiva(dyads, seconds=2.0, frames=1, tasks=("talk", "ghost"), modalities=("audio", "transcript"),
                 words={"encoder": HashingEncoder(16), "length": 3})  # fmt: skip
    tokens, present = data.decode_side("audio")
    assert tokens.shape == (24, 400, 128) and torch.equal(present, data.subsets["talk"])
    row = data.annotations.index[data.annotations.id == "000001_talk_01_0"][0]
    assert float(tokens[row].mean(-1).argmax() * 0.005) == pytest.approx(1.5, abs=0.05)
    words, present = data.decode_side("transcript")
    assert words.shape == (24, 3, 16) and present.tolist() == (data.annotations.session != "000002").tolist()
    at = data.annotations.set_index("id").index.get_loc
    own = HashingEncoder(16)(["el gat", "un gos", "què?"])
    assert torch.equal(words[at("000001_talk_01_0")], torch.stack([own[0], torch.zeros(16), torch.zeros(16)]))
    assert torch.equal(words[at("000001_talk_02_0")][0], own[1])  # each has his own words, the supervisor none
    assert not words[at("000001_talk_01_1")].any() and present[at("000001_talk_01_1")]  # said nothing: present, zero
    clips = list(data)
    batch = collate(clips, {"audio": 128, "transcript": 16})
    assert torch.equal(batch.side["transcript"], words) and torch.equal(batch.present["transcript"], present)
    assert data.counts["without audio"] == 24 and data.counts["without transcript"] == 16  # read twice
    with pytest.raises(LookupError, match="has audio; leave the modality out"):
        Udiva(dyads, tasks=("ghost",)).decode_side("audio")
    assert Udiva(dyads, seconds=3.0, tasks=("talk",)).decode_side("audio")[0].shape[1:] == (400, 128)


def test_sound_that_is_too_short_is_counted(dyads):
    data = Udiva(dyads, seconds=2.0, frames=1, tasks=("talk",), limit=2, modalities=("audio",))
    assert len([clip.side["audio"] for clip in data]) == 2 and not data.counts["padded sound"]
    longer = Udiva(dyads, seconds=2.0, tasks=("talk",), limit=2, sound={"seconds": 6.0})  # than the recordings are
    assert longer.side_tokens("audio", 0).shape == (400, 128) and longer.counts["padded sound"] == 1
    longer.annotations.loc[1, ["start", "stop"]] = 20.0, 22.0
    assert longer.side_tokens("audio", 1) is None and longer.counts["no sound there"] == 1


def test_features_of_windows_and_of_recordings(dyads, tmp_path):
    np.save(tmp_path / "000001_talk_01_0.npy", np.full((2, 1), -1.0))
    np.save(tmp_path / "000001_FC1_T.npy", np.arange(40.0)[:, None])  # 10 rows a second
    data = Udiva(dyads, seconds=2.0, tasks=("talk",), features={"pose": open_features(tmp_path, rate=10)})
    found = {clip: data.side_tokens("pose", i) for i, clip in enumerate(data.annotations.id)}
    assert found["000001_talk_01_0"].tolist() == [[-1.0]] * 2  # its own goes before its recording's
    assert found["000001_talk_01_1"][:, 0].tolist() == list(range(20, 40))
    assert sum(tokens is not None for tokens in found.values()) == 2  # the other camera sees another person
    with pytest.raises(FeatureError, match="000001_FC1_T spans a recording: give `rate`"):
        Udiva(dyads, seconds=2.0, features={"pose": tmp_path}).decode_side("pose")
    data = Udiva(dyads, split="validation", features={"pose": tmp_path})
    with pytest.raises(LookupError, match=f"{tmp_path} holds nothing .* would be called 001080_.*_0 or 001080_FC1_"):
        data.decode_side("pose")


def test_tune_is_carved_from_train_by_person(dyads, copy):
    with pytest.raises(ValueError, match=r"tune_participant_ids\.csv or as tune=.*none are given"):
        Udiva(dyads, split="tune")
    with pytest.raises(ValueError, match=r"\['99'\] are not in it"):
        Udiva(dyads, tune=("99",))
    table(copy / "train/metadata/tune_participant_ids.csv", ["ID"], [["01"], ["05"]])
    train, tune = Udiva(copy), Udiva(copy, split="tune")
    assert set(train.participants) == {"02", "03", "04"} and set(tune.participants) == {"01", "05"}
    assert len(train) + len(tune) == len(Udiva(dyads)) and not set(train.annotations.id) & set(tune.annotations.id)
    with pytest.raises(AnnotationError, match="every participant is in tune"):
        Udiva(copy, tune=("01", "02", "03", "04", "05"))


def test_limit_is_nested_and_seeded(dyads):
    def ids(**options):
        return Udiva(dyads, **options).annotations.id.tolist()

    assert set(ids(limit=3)) < set(ids(limit=9)) < set(ids(limit=999)) == set(ids())
    assert ids(limit=5) == ids(limit=5, seed=0) != ids(limit=5, seed=1)
    assert len(ids(windows=1, seconds=1.0)) == 24 < len(ids(seconds=1.0))


def test_labels_of_val_and_test_come_unmasked(copy):
    (copy / "val/metadata/parts_val_unmasked.csv").unlink()
    with pytest.raises(AnnotationError, match=r"no participant of validation has traits.*parts_val_unmasked\.csv"):
        Udiva(copy, split="validation")
    (copy / "test/metadata/parts_test_unmasked.csv").unlink()
    test = Udiva(copy, split="test", frames=1)
    assert test.targets == {} and len(test) == 10 and test[0].target == {}
    rows = [(p, *(["", *traits_of(p)[1:]] if p == "02" else traits_of(p))) for p in ("01", "02", "03", "04", "05")]
    table(copy / "train/metadata/parts_train.csv", ("ID", *TRAITS), rows)
    data = Udiva(copy)  # who did not answer is left out, and counted
    assert "02" not in data.participants and data.counts["participants without traits"] == 1


def test_talk_is_read_unmasked(copy):
    masked = copy / "val/recordings/001080/FC1_T.mp4"
    whole = copy / "val/recordings/talk_recordings_val_unmasked/001080"
    whole.mkdir(parents=True)
    for part in (1, 2):
        shutil.copy(masked, whole / f"FC{part}_T.mp4")
    words = copy / "val/transcriptions/talk_unmasked/001080/001080_talk.srt"
    words.parent.mkdir(parents=True)
    words.write_text(subtitle([(0, 1, "PART.1: whole")]))
    data = Udiva(copy, split="validation", modalities=("transcript",))
    for row in data.annotations.itertuples():
        assert ("val_unmasked" in row.path) == (row.task == "talk")
    assert [len(data._transcripts["001080", task]) for task in TASKS] == [1, 3, 3, 3]


def test_missing_recordings(copy):
    (copy / "train/recordings/talk_recordings_train/000003/FC2_T.mp4").unlink()
    with pytest.warns(UserWarning, match=r"1 of 6 recordings of talk are missing: .*000003/FC2_T\.mp4"):
        data = Udiva(copy)
    assert len(data) == 29 and data.counts["missing recordings"] == 1
    shutil.rmtree(copy / "train/recordings/lego_recordings_train")
    with (
        pytest.warns(UserWarning, match="talk"),
        pytest.raises(FileNotFoundError, match="6 of 6 recordings of lego are missing") as error,
    ):
        Udiva(copy)
    for part in ("chalearnlap.cvc.uab.es", "rooms-dyad", "FC1_T.mp4", "sessions_train.csv", str(copy)):
        assert part in str(error.value)
    with pytest.warns(UserWarning, match="left out"):
        assert set(Udiva(copy, tasks=("talk", "ghost")).annotations.task) == {"talk", "ghost"}


@pytest.mark.parametrize("inside", [None, ".", "train", "train/metadata", "train/recordings"])
def test_missing_data_set_says_what_to_do(tmp_path, inside):
    root = None if inside is None else tmp_path / "data"
    if root:
        (root / inside).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="UDIVA v0.5 was not found") as error:
        Udiva(root)
    for part in ("needs a signed licence: chalearnlap.cvc.uab.es", 'open_data("rooms-dyad")', "parts_train.csv"):
        assert part in str(error.value)


def test_limits_are_optional(copy):
    (copy / "train/metadata/task_limits.json").unlink()
    data = Udiva(copy, seconds=9.0)
    assert len(data) == 24 and data.annotations.stop.unique().tolist() == [4.0]  # whole recordings
    assert data.counts["recordings without limits"] == 24


def test_a_person_in_two_splits_is_warned_of(copy):
    table(copy / "val/metadata/parts_val.csv", ("ID",), [["10"], ["11"], ["01"]])
    with pytest.warns(UserWarning, match="participants 01 are in train and in val: .*not subject-independent"):
        Udiva(copy)


def test_corrupt_transcripts_are_known_at_once(copy):
    path = copy / "train/transcriptions/000001/000001_talk.srt"
    path.write_bytes("1\n00:00:00,000 --> 00:00:01,000\nPART.1: què".encode("latin-1"))
    with pytest.raises(TranscriptError, match=r"000001_talk\.srt: line 3.*latin-1"):
        Udiva(copy, modalities=("transcript",))
    for other in copy.glob("train/transcriptions/*/*.srt"):
        other.write_bytes(path.read_bytes())
    data = Udiva(copy, modalities=("transcript",), words={"encoding": "latin-1"})
    assert data._transcripts["000001", "talk"][0].text == "què"
    assert len(Udiva(copy)) == 30  # who does not ask for it does not read it


def test_plain_text_counts_for_the_whole_task(copy):
    folder, words = copy / "train/transcriptions/000002", {"encoder": HashingEncoder(16), "length": 3}
    (folder / "000002_talk.txt").write_text("PART.1: el gat\nsome noise\nPART.2: un gos\nPART.1: i més\n")
    (copy / "train/transcriptions/000001_talk.txt").write_text("PART.1: not this: there is an SRT file\n")
    with pytest.warns(
        UserWarning, match=r"000002_talk\.txt: line 2: 'some noise' does not tell who speaks \(so 1 of 4"
    ):
        data = Udiva(copy, tasks=("talk",), seconds=2.0, modalities=("transcript",), words=words)
    tokens, present = data.decode_side("transcript")
    at, encode = data.annotations.set_index("id").index.get_loc, HashingEncoder(16)
    assert present.all()
    for window in (0, 1):
        assert torch.equal(tokens[at(f"000002_talk_04_{window}")][:2], encode(["el gat", "i més"]))
        assert torch.equal(tokens[at(f"000002_talk_03_{window}")][0], encode(["un gos"])[0])
    assert torch.equal(tokens[at("000001_talk_01_0")][0], encode(["el gat"])[0])  # of the SRT file, by its times
    (folder / "000002_talk.txt").write_text("el gat\nun gos\n")
    with pytest.raises(TranscriptError, match=r"000002_talk\.txt: no line tells who speaks; begin each with PART\.1:"):
        Udiva(copy, tasks=("talk",), modalities=("transcript",))
    (folder / "000002_talk.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nAnna: el gat\n")
    with pytest.raises(TranscriptError, match=r"000002_talk\.srt: no line tells who speaks"):
        Udiva(copy, tasks=("talk",), modalities=("transcript",))


def test_utterances_without_a_speaker_are_warned_of_and_counted(copy):
    for task in ("talk", "lego"):
        path = copy / f"train/transcriptions/000001/000001_{task}.srt"
        path.write_text(
            subtitle([(0, 1, "Marta: el gat"), (1, 2, "- PART.1\uff1aun gos"), (2, 3, "P2: i"), (3, 4, "més")])
        )
    given = {"tasks": ("talk", "lego"), "seconds": 2.0, "frames": 1}
    with pytest.warns(UserWarning, match="does not tell who speaks") as caught:
        data = Udiva(copy, modalities=("transcript",), **given)
    said = sorted(str(warning.message) for warning in caught)
    assert len(said) == 2 and "000001_lego.srt: cue 1, line 3: 'Marta: el gat' does" in said[0] and "3 of 4" in said[0]
    for workers in (None, 0):
        gained = sets.side_counts(data, "transcript", workers)
        assert gained["utterances without a speaker"] == 6 and not data.counts["utterances without a speaker"]
    with pytest.warns(UserWarning, match="does not tell who speaks"):
        assert Udiva(copy, **given).side_tokens("transcript", 0).any()  # the full-width colon is one


def test_digest(dyads, copy):
    digest = Udiva(dyads).digest
    assert digest == Udiva(dyads, split="test").digest == Udiva(copy).digest and len(digest) == 64
    (copy / "val/transcriptions/001080/001080_ghost.srt").write_text("")
    changed = Udiva(copy).digest
    recording = copy / "test/recordings/ghost_recordings_test/000900/FC1_G.mp4"
    recording.write_bytes(recording.read_bytes()[:-1] + b"x")
    assert len({digest, changed, Udiva(copy).digest}) == 3


def test_clips_sessions_participants(dyads):
    data = Udiva(dyads, tasks=("talk", "lego"))  # 01: two sessions; lego's two spans are two clips of one task
    mine = [g == "01" for g in data.groups]
    values = np.where((data.annotations.task == "lego").to_numpy()[:, None], 1.0, 4.0) * np.ones((1, 5))
    means = participant_means(values, data.units)
    assert sum(mine) == 6 and means["01"].tolist() == [2.5] * 5 and set(means) == set(data.participants)


def test_arguments(dyads):
    for options, message in [
        ({"split": "val"}, "unknown split 'val'; known are train"),
        ({"modalities": ("flow",)}, "unknown modalities"),
        ({"modalities": "audio"}, "give a tuple"),
        ({"tasks": ("chess",)}, "unknown tasks"),
        ({"tasks": ()}, "leave no clip"),
        ({"seconds": 0.0}, "leave no clip"),
        ({"frames": 0}, "at least 1"),
        ({"windows": 0}, "at least 1"),
        ({"words": {"lenght": 3}}, "words: unknown option 'lenght'; did you mean 'length'. known: encoder, encoding"),
        ({"words": (("encodings", "utf-8"),)}, "did you mean 'encoding'"),
        ({"words": {"length": 0}}, "words: length=0 must be at least 1"),
        ({"words": {"length": 2.5}}, "words: length=2.5 is not of type int"),
        ({"words": "hashing"}, "words='hashing' holds no options; give a mapping of any of encoder, length"),
        ({"sound": {"secs": 3}}, "sound: unknown option 'secs'; did you mean 'seconds'. known: hop, mels"),
        ({"sound": {"rate": 0}}, "sound: rate=0 must be a positive number"),
        ({"sound": "small"}, "sound='small' holds no options"),
    ]:
        with pytest.raises(ValueError, match=message):
            Udiva(dyads, **options)


def test_whole_recordings_go_before_blanked_ones(tmp_path):
    for kind in ("masked", "unmasked"):
        (tmp_path / f"talk_annotations_val_{kind}").mkdir()
    found = variants(tmp_path, "talk", "talk_annotations_val")
    assert [path.name for path in found] == ["talk_annotations_val_unmasked", "talk_annotations_val", tmp_path.name]
