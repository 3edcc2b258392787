"""A folder of videos and a CSV file: labels, splits, modalities, features, all kinds of mistakes, a run, its report."""

import pickle
import shutil
import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_media import click_track, number, write
from toys import SMALL_SWIN, quiet

from cm3t import backbones, folder_report, train
from cm3t.coerce import ConfigError
from cm3t.config import resolve
from cm3t.data import collate, open_data
from cm3t.data.features import FeatureError
from cm3t.data.folder import VideoFolder
from cm3t.data.folder_labels import OPTIONAL, REQUIRED, classes_of, read_folder_labels
from cm3t.data.media import duration_of
from cm3t.data.tables import AnnotationError
from cm3t.metrics import label_scores
from cm3t.pages import show_folder
from cm3t.sides import sides_of

torch.set_num_threads(1)
ROWS = [f"day {i % 2}/clip{i}.mp4,{label}" for i, label in enumerate(["wave", "nod", "wave", "nod", "wave", "nod"])]
TIMED = ["a.mp4,wave,0,1.0,train", "a.mp4,nod,1.0,,train", "b.mp4,nod,0.5,1.5,tune", "c.mp4,wave,,,val"]


def table(folder, rows, header="video,label"):
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def problem(folder, rows, header="video,label", kind=AnnotationError):
    with pytest.raises(kind) as caught:
        VideoFolder(table(folder, rows, header))
    return str(caught.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Six videos of two seconds in two subfolders, the first three with sound; one has a transcript."""
    root = tmp_path_factory.mktemp("videos")
    for i in range(6):
        (root / f"day {i % 2}").mkdir(exist_ok=True)
        sound = click_track(16000, 2, 0.5 + 0.2 * i) if i < 3 else None
        write(root / f"day {i % 2}" / f"clip{i}.mp4", 24, 12, sound=sound)
    (root / "day 0" / "clip0.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello there\n")
    table(root, ROWS)
    return root


@pytest.fixture(scope="module")
def timed(tmp_path_factory, whole):
    """Parts of three of these videos, splits by name, and features: of clips, of a video, in different lengths."""
    root = tmp_path_factory.mktemp("timed")
    for name, i in (("a", 0), ("b", 1), ("c", 3)):
        shutil.copy(whole / f"day {i % 2}" / f"clip{i}.mp4", root / f"{name}.mp4")
    (root / "features" / "imu").mkdir(parents=True)
    for name, rows in (("a_0", 4), ("a_1", 6), ("c", 9)):
        np.save(root / "features" / "imu" / f"{name}.npy", np.full((rows, 3), rows, np.float32))
    np.save(root / "features" / "imu" / "b.npy", np.arange(20, dtype=np.float32)[:, None].repeat(3, 1))
    table(root, TIMED, "video,label,start,stop,split")
    return root


@pytest.fixture
def copy(whole, tmp_path):
    """The same folder, free to be broken."""
    return Path(shutil.copytree(whole, tmp_path / "videos"))


@pytest.mark.filterwarnings("ignore:.*no training clip shows")
def test_whether_a_split_has_sound(whole, tmp_path):
    heard = {split: VideoFolder(whole, split=split) for split in ("train", "tune", "validation")}
    sides = {split: data.decode_side("audio")[1].any() if data.has_sound else False for split, data in heard.items()}
    assert any(sides.values()) and all(sides[split] == data.has_sound for split, data in heard.items())
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.mp4")
    table(tmp_path, ["a.mp4,x,train", "b.mp4,y,train", "c.mp4,y,validation"], "video,label,split")
    assert not VideoFolder(tmp_path).has_sound


def test_whole_videos_are_clips(whole):
    data = VideoFolder(whole, frames=4)
    assert data.classes == {"label": 2} and data.names == ["nod", "wave"] and data.task == "labels"
    names = dict(zip(data.annotations.video, data.targets["label"].tolist(), strict=True))
    assert all(data.names[label] == dict(row.split(",") for row in ROWS)[video] for video, label in names.items())
    clip, everything = data[0], data.decode_all()
    assert clip.id == data.annotations.video[0].removesuffix(".mp4") and clip.group == data.annotations.video[0]
    assert [number(frame.permute(1, 2, 0).numpy()) for frame in clip.video.unbind(1)] == [3, 9, 15, 21]
    assert torch.equal(everything[0], clip.video) and everything.shape == (len(data), 3, 4, 64, 64)
    assert collate(list(data)).target["label"].tolist() == data.targets["label"].tolist()
    assert len(pickle.loads(pickle.dumps(data))) == len(data) and data.digest == VideoFolder(whole, split="tune").digest


def test_splits_by_hash_keep_groups_apart_and_are_the_same_everywhere(whole, tmp_path):
    splits = {split: set(VideoFolder(whole, split=split).groups) for split in ("train", "tune", "validation")}
    assert [len(groups) for groups in splits.values()] == [4, 1, 1] and len(set.union(*splits.values())) == 6
    rows = [f"{i}.mp4,{'ab'[i % 2]},p{i // 4}" for i in range(80)]
    found = read_folder_labels(table(tmp_path, rows, "video,label,participant"))
    assert found.groupby("group")["split"].nunique().max() == 1
    assert found.drop_duplicates("group")["split"].value_counts().to_dict() == {"train": 14, "tune": 3, "validation": 3}
    again = read_folder_labels(table(tmp_path, rows[::-1], "video,label,group"))
    assert dict(zip(again.video, again.split, strict=True)) == dict(zip(found.video, found.split, strict=True))


def test_parts_of_videos_and_named_splits(timed):
    data = VideoFolder(timed, frames=2)
    assert data.annotations.id.tolist() == ["a_0", "a_1"] and data.annotations.stop[0] == 1.0
    assert data.annotations.stop[1] == pytest.approx(duration_of(timed / "a.mp4"))
    assert [number(frame.permute(1, 2, 0).numpy()) for frame in data[1].video.unbind(1)] == [15, 21]
    assert VideoFolder(timed, split="validation")[0].id == "c"
    assert len(VideoFolder(timed, limit=1)) == 1
    with pytest.raises(ValueError, match="no row has the split test"):
        VideoFolder(timed, split="test")


def test_clips_are_sampled_and_transformed_as_asked(timed):
    plain, dense = (VideoFolder(timed, frames=4, sampling=name) for name in ("segments", "dense"))
    assert not torch.equal(plain[0].video, dense[0].video) and torch.equal(dense.decode_all()[0], dense[0].video)
    flipped = VideoFolder(timed, frames=4, transform=lambda video, generator: video.flip(-1))
    assert torch.equal(flipped[0].video, plain[0].video)  # only what is drawn for training is transformed
    drawn, own = (data.clip(0, np.random.default_rng(0)).video for data in (flipped, plain))
    assert torch.equal(drawn, own.flip(-1)) and not torch.equal(own, plain[0].video)
    config = resolve(data="folder", root=str(timed), method="linear", jitter=True, transform="flip", workers=0)
    assert config.sampling is None and config.transform == "flip"


def test_tune_is_carved_from_train_where_the_file_names_none(tmp_path):
    rows = [f"{i}.mp4,{'ab'[i % 2]},{'train' if i < 10 else 'validation'}" for i in range(12)]
    found = read_folder_labels(table(tmp_path, rows, "video,label,split"))
    assert found["split"].value_counts().to_dict() == {"train": 8, "tune": 2, "validation": 2}


def test_computed_modalities(whole):
    data = VideoFolder(whole, size=32)
    tokens, present = data.decode_side("audio")
    sounding = [name[-5] in "012" for name in data.annotations.video]
    assert tokens.shape == (len(data), 400, 128) and present.tolist() == sounding
    assert data.decode_side("flow")[0].shape == (len(data), 8, 128)
    table_of = {split: VideoFolder(whole, split=split) for split in ("train", "tune", "validation")}
    said = [d.side_tokens("transcript", i) for d in table_of.values() for i in range(len(d))]
    assert sum(tokens is not None for tokens in said) == 1 and next(t for t in said if t is not None).shape == (8, 256)


def test_plain_text_beside_a_video_is_said_in_all_its_clips(timed, tmp_path):
    root = Path(shutil.copytree(timed, tmp_path / "parts"))
    before = VideoFolder(root).digest
    (root / "a.txt").write_text("hello there\nbye\n")
    data = VideoFolder(root, words={"encoder": "hashing:16"})
    tokens, present = data.decode_side("transcript")
    assert present.all() and tokens.shape == (2, 8, 16) and tokens[0, :2].any(-1).all() and not tokens[0, 2:].any()
    assert torch.equal(tokens[0], tokens[1]) and data.digest != before
    (root / "a.srt").write_text("1\n00:00:00,000 --> 00:00:00,500\nhello there\n")  # times win
    timed_tokens = VideoFolder(root, words={"encoder": "hashing:16"}).decode_side("transcript")[0]
    assert torch.equal(timed_tokens[0, 0], tokens[0, 0]) and not timed_tokens[0, 1:].any() and not timed_tokens[1].any()
    assert VideoFolder(root).digest != data.digest
    for options, message in (
        ({"words": {"lenght": 3}}, "words: unknown option 'lenght'; did you mean 'length'"),
        ({"words": {"length": 0}}, "words: length=0 must be at least 1"),
        ({"sound": {"secs": 3}}, "sound: unknown option 'secs'; did you mean 'seconds'"),
    ):
        with pytest.raises(ValueError, match=message):
            VideoFolder(root, **options)


def test_features_of_clips_and_of_videos_have_one_length(timed):
    assert sides_of("folder", timed)[3:] == ("imu",) == sides_of("folder", timed / "labels.csv")[3:]
    tokens, present = VideoFolder(timed, modalities=("imu",)).decode_side("imu")
    assert tokens.shape == (2, 4, 3) and present.all() and tokens[:, 0, 0].tolist() == [4, 6]  # L of the first clip
    (part,) = VideoFolder(timed, split="tune").decode_side("imu")[0]
    assert 5 <= part.min() <= part.max() < 16  # 0.5 s to 1.5 s of 20 rows over 2 s
    assert VideoFolder(timed, split="validation", length=2)[0].side == {}
    assert (
        VideoFolder(timed, split="validation", length=2, modalities=("imu",))[0].side["imu"].tolist() == [[9] * 3] * 2
    )
    with pytest.raises(ValueError, match="unknown modality 'gaze'; known are audio, flow, transcript, imu"):
        VideoFolder(timed).decode_side("gaze")
    assert resolve("smoke", data="folder", root=str(timed), side="imu,audio", method="mhva+caa").side == (
        "audio",
        "imu",
    )
    with pytest.raises(ConfigError, match="no modality 'gaze'.*imu"):
        resolve("smoke", data="folder", root=str(timed), side="gaze", method="mhva+caa")


def test_features_that_fit_no_clip_or_two_videos_are_told(copy):
    (copy / "features" / "pulse").mkdir(parents=True)
    np.save(copy / "features" / "pulse" / "other.npy", np.zeros((2, 2)))
    first = VideoFolder(copy).annotations.id[0].replace("/", "_").replace(" ", "_")
    with pytest.raises(LookupError, match=f"would be called {first}"):
        VideoFolder(copy).decode_side("pulse")
    shutil.copy(copy / "day 0" / "clip0.mp4", copy / "day_0_clip0.mp4")
    table(copy, [*ROWS, "day_0_clip0.mp4,nod"])
    with pytest.raises(FeatureError, match="day_0_clip0 would be of day 0/clip0.mp4 and of day_0_clip0.mp4"):
        VideoFolder(copy).decode_side("pulse")


def test_several_labels_a_clip(copy):
    rows = [f"{row};clap" if i < 4 else row for i, row in enumerate(ROWS)]
    table(copy, rows)
    data = VideoFolder(copy)
    assert data.task == "behaviours" and data.classes == {"behaviour": 3} and data.names == ["clap", "nod", "wave"]
    found = data.targets["behaviour"][:, 0].bool().tolist()
    assert found == [video[-5] in "0123" for video in data.annotations.video]


@pytest.mark.parametrize(
    ("rows", "header", "words"),
    [
        ([], "video,label", "header without rows"),
        (ROWS, "video,lable", "line 1: the column 'lable' is not known; did you mean 'label'? Compare"),
        (ROWS, "file,class", "line 1: the column 'file' is not known; known are video, label, start, stop, split, "),
        (["a.mp4;x"], "video;label", "line 1: the columns are separated by semicolons; write commas"),
        (["a.mp4\tx"], "video\tlabel", "line 1: the columns are separated by tabs; write commas"),
        (["a.mp4"], "video", "line 1: the columns ['label'] are missing"),
        (["a.mp4,b,c"], "video,label,label", "'label' is there 2 times"),
        (["../a.mp4,x"], "video,label", "line 2: video '../a.mp4' leads out of the folder"),
        (["/etc/a.mp4,x"], "video,label", "leads out of the folder"),
        ([r"C:\a.mp4,x"], "video,label", "leads out of the folder"),
        ([r"b\..\..\a.mp4,x"], "video,label", "leads out of the folder"),
        ([",x"], "video,label", "line 2: names no video"),
        (["a.mp4,"], "video,label", "line 2: label '' is empty"),
        (["a.mp4,x,2,1"], "video,label,start,stop", "line 2: stops at 1 s, not after its start at 2 s"),
        (["a.mp4,x,1:30,"], "video,label,start,stop", "line 2: start '1:30' is no number of seconds"),
        (["a.mp4,x,dev"], "video,label,split", "line 2: split 'dev' is none of train"),
        (["a.mp4,x,p,g"], "video,label,participant,group", "keep one of the columns"),
        (["a.mp4,x", "a.mp4,y"], "video,label", "line 3: the same clip is on line 2 already"),
        (["a.mp4,x", "a.avi,y"], "video,label", "lines 2, 3 would all be called 'a'"),
        (["a.mp4,x", "b.mp4,x"], "video,label", "every label is 'x'; a classifier needs two classes"),
        (["a.mp4,x", "b.mp4,y"], "video,label", "clips are of 2 participants (or videos), too few"),
        (["a.mp4,x,train", "b.mp4,y,"], "video,label,split", "line 3 has no split, others have one"),
        (["a.mp4,x,train", "b.mp4,y,train"], "video,label,split", "no row has the split validation"),
        (["a.mp4,x,train", "b.mp4,y,val"], "video,label,split", "too few to divide into train and tune"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used(tmp_path, rows, header, words):
    message = problem(tmp_path, rows, header)
    assert words in message and "labels.csv" in message


def test_files_that_are_not_there_or_no_videos(copy, tmp_path):
    message = problem(copy, [*ROWS, *(f"gone{i}.mp4,nod" for i in range(12))], kind=FileNotFoundError)
    assert "12 of 18 videos are not in" in message and "line 8: gone0.mp4" in message and "and 2 more" in message
    (copy / "bad.mp4").write_bytes(b"no video at all")
    message = problem(copy, [*ROWS, "bad.mp4,nod"])
    assert "1 video or time cannot be used" in message and "line 8" in message and "bad.mp4: cannot be read" in message
    message = problem(copy, [*(row + ",,0" for row in ROWS[:1])], "video,label,stop,start")
    assert "every label" in message
    message = problem(copy, [f"{ROWS[0]},500,1500", *(f"{row},," for row in ROWS[1:])], "video,label,start,stop")
    assert "500 s to 1500 s, but day 0/clip0.mp4 ends at 2.00 s; are these seconds?" in message
    (copy / "labels.csv").write_bytes("video,label\na.mp4,caf\xe9\n".encode("latin-1"))
    with pytest.raises(AnnotationError, match="byte 21 is not UTF-8"):
        VideoFolder(copy)
    with pytest.raises(FileNotFoundError, match="there is no .*labels.csv"):
        open_data("folder", tmp_path)
    with pytest.raises(FileNotFoundError, match="no root was given"):
        open_data("folder")


def test_doubtful_splits_are_warned_of(tmp_path):
    rows = ["a.mp4,x,train,p1", "b.mp4,y,tune,p2", "c.mp4,z,val,p1", "d.mp4,y,train,p3"]
    with pytest.warns(UserWarning) as caught:
        read_folder_labels(table(tmp_path, rows, "video,label,split,participant"))
    said = " ".join(str(warning.message) for warning in caught)
    assert "1 participant (or video) in several splits (p1)" in said and "no training clip shows z" in said


def read_or_refused(path, content):
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = read_folder_labels(path)
        except AnnotationError as error:
            assert str(path) in str(error) and len(str(error)) < 2000
        else:
            assert len(found) and set(found["split"]) >= {"train", "tune", "validation"}
            assert len(classes_of(found)) > 1 and not any(video.startswith(("/", "..")) for video in found["video"])


CELL = st.sampled_from(
    ["a.mp4", "b/c.mp4", "../d", "x", "x;y", "0", "1.5", "-1", "nan", "", "train", "val", '"', "\0", "é"]
)
HEADER = st.permutations([*REQUIRED, *OPTIONAL, "extra"]).flatmap(
    lambda names: st.integers(1, len(names)).map(lambda n: names[:n])
)


@settings(max_examples=40, deadline=None)
@given(content=st.one_of(st.binary(max_size=200), st.binary(max_size=80).map(lambda tail: b"video,label\n" + tail)))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    read_or_refused(tmp_path_factory.getbasetemp() / "bytes.csv", content)


@settings(max_examples=40, deadline=None)
@given(header=HEADER, rows=st.lists(st.lists(CELL, min_size=2, max_size=8), max_size=8))
def test_any_table_is_read_or_refused(tmp_path_factory, header, rows):
    lines = [",".join(header), *(",".join(row) for row in rows)]
    read_or_refused(tmp_path_factory.getbasetemp() / "table.csv", "\n".join(lines).encode())


def test_label_scores_by_hand():
    logits = np.array([[3, 1, 0], [2, 1, 0], [0, 1, 2], [0, 5, 2.0]])
    assert label_scores(logits, [0, 1, 2, 0]) == {"top1": 50, "top5": 100, "mean_class_accuracy": 50, "n": 4}
    assert label_scores(logits[:0], [])["top1"] is None
    with pytest.raises(ValueError, match="diverged"):
        label_scores(logits * np.nan, [0, 1, 2, 0])


@pytest.mark.slow
def test_a_run_and_its_report(timed, tmp_path, monkeypatch):
    spec = SMALL_SWIN | dict(make="video_swin:VideoSwin", clip=(2, 24, 24), prefix_length=2)
    monkeypatch.setitem(backbones._SPECS, "video_swin_mini", spec)
    monkeypatch.setattr(folder_report.plt.Figure, "savefig", lambda _, path, **options: path.touch())  # slow
    common = dict(data="folder", root=str(timed), weights=None, epochs=2, batch_size=1)
    heard = resolve("smoke", method="mhva+pt+caa", side="imu", side_encoder="linear", **common)
    seen = resolve("smoke", method="mhva+pt", **common)
    record = train.run(heard, tmp_path, log=quiet)
    assert record.status == "ok" and set(record.train_info["metrics"]["validation"]["all"]) >= {"top1", "top5", "n"}
    answers = folder_report.predictions(heard, tmp_path)
    assert answers["id"].tolist() == ["c"] and folder_report.agrees(answers, record)
    text = folder_report.write_report([seen, heard], tmp_path / "report.md", tmp_path).read_text(encoding="utf-8")
    assert "| MHVA + PT + CAA + imu |" in text and "![Confusion matrix](report_confusion.png)" in text
    assert "--root DIR " in text and "One clip is scored" in text and "another clip's |" not in text
    assert str(timed.parent) not in text and (tmp_path / "report_learning_curves.png").is_file()
    monkeypatch.setattr(folder_report, "write_report", lambda configs, path, out: [*configs, path, out])
    assert folder_report.main([str(tmp_path / f"{record.run_id}.json"), "--to", "new.md"]) == 0
    assert folder_report.main([str(tmp_path / "none.json")]) == 2


def test_a_report_says_of_modalities_what_the_scores_say():
    heard, better = [75.0, 66.7, 50.0], [66.7, 66.7, 75.0]
    said = folder_report._worth({"audio": heard, "imu": better})
    assert said.endswith("another clip's: so it is with audio; not so with imu, or not on these clips.")
    assert folder_report._worth({"audio": heard}).endswith("so it is with audio.")
    assert folder_report._worth({"audio": better}).endswith("not so with audio, or not on these clips.")


def test_a_report_calls_no_class_the_most_frequent_at_a_tie(make_record):
    record = make_record("quick")
    record.train_info["metrics"] = {"validation": {"all": {"top1": 50.0, "mean_class_accuracy": 50.0, "n": 2}}}
    data = SimpleNamespace(task="labels", split="validation", names=("nod", "wave"))
    table = pd.DataFrame({"group": ["a", "b"], "label": ["nod", "wave"]})
    opening = folder_report._opening(record, data, table, Counter(nod=6, wave=6))
    assert "'nod', one of 2 classes most frequent in training, scores 50.0 %" in opening
    assert "2 validation clips of 2 participants (or videos)" in opening
    opening = folder_report._opening(record, data, table, Counter(nod=5, wave=6))
    assert "'wave', the most frequent class in training" in opening


def test_a_wrong_folder_is_one_sentence_at_the_command_line(tmp_path, capsys):
    assert train.main(["--data", "folder", "--root", str(tmp_path)]) == 2
    assert "a folder of videos was not found" in capsys.readouterr().err


def test_pictures_draw(make_record):
    answers = pd.DataFrame({"label": ["a", "a", "b"], "predicted": ["a", "b", "b"]})
    counts = show_folder.confusion(answers, ["a", "b", "c"])
    assert counts.to_numpy().tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    axes = show_folder.confusion_matrix(counts).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "1", "0", "0", "1", "0", "0", "0", "0"]
    rows = show_folder.per_class(answers, ["a", "b", "c"], {"a": 5})
    assert rows["recall (%)"].tolist() == ["50", "100", ""] and rows["precision (%)"].tolist() == ["100", "50", ""]
    frames = {"a": np.zeros((2, 8, 8, 3), np.uint8), "b": np.zeros((1, 8, 8, 3), np.uint8)}
    assert len(show_folder.contact_sheet(frames, {"a": ["1", "2"], "b": ["3"]}).axes) == 4
    record = make_record()
    record.train_info["epochs"][0]["tune"] = {"top1": 30.0}
    assert len(show_folder.learning_curves({"pictures": record}).axes[1].lines) == 1


def test_learning_curves_have_the_colours_of_the_house_and_say_who_was_kept_out(make_record):
    settings = {"PT": ("pt", []), "MHVA": ("mhva+pt", []), "audio": ("mhva+pt+caa", ["audio"]), "full": ("full", [])}
    settings |= {"flow": ("mhva+pt+caa", ["flow"])}
    records = {name: make_record(method=method, side=side) for name, (method, side) in settings.items()}
    for record in records.values():
        record.train_info["epochs"][0]["tune"] = {"top1": 30.0}
    left, right = show_folder.learning_curves(records, "videos").axes
    assert [line.get_color() for line in left.lines] == ["#D55E00", "#0072B2", "#009E73", "#000000", "#009E73"]
    assert [line.get_linestyle() for line in right.lines] == ["-", "-", "-", "-", "--"]
    assert right.get_title(loc="left") == "tune: videos kept out of training"


def test_a_folder_without_participants_keeps_videos_apart(whole, timed):
    assert VideoFolder(whole).whose == "videos" and VideoFolder(timed).whose == "videos"
    rows = [f"{row},p{i}" for i, row in enumerate(ROWS)]
    assert VideoFolder(table(whole, rows, "video,label,participant")).whose == "participants"
    table(whole, ROWS)
