"""A folder of videos looked through before anything runs: all that is wrong with it, in one list."""

import shutil

import pytest
from test_folder import ROWS, copy, table, whole  # noqa: F401
from toys import SMALL_SWIN

from cm3t import backbones, dryrun, run
from cm3t.data.folder_check import check_folder


@pytest.fixture
def tiny(monkeypatch):
    """A Swin of two blocks at 24 pixels in the place of the default backbone; what it costs is not worked out."""
    spec = SMALL_SWIN | dict(make="video_swin:VideoSwin", clip=(2, 24, 24), prefix_length=2)
    monkeypatch.setitem(backbones._SPECS, "video_swin_mini", spec)
    monkeypatch.setattr(dryrun, "_estimate", lambda *_: None)  # slow, and tested in test_real


def test_everything_wrong_with_a_folder_is_found_at_once(copy, tmp_path):  # noqa: F811
    (copy / "day 0/clip0.mp4").unlink()
    (copy / "day 1/clip1.mp4").write_bytes(b"no video")
    path = table(copy, [*ROWS[:5], "day 1/clip5.mp4,jump"])
    path.write_text(path.read_text().replace("clip2.mp4,wave", "clip2.mp4,wave,7").replace("label", "label,start", 1))
    lines = [line + "," * (line.count(",") == 1) for line in path.read_text().splitlines()]
    path.write_text("\n".join(lines))
    found = check_folder(copy)
    assert found.clips == {"train": 4, "tune": 1, "validation": 1} and found.file == path
    wanted = ("clip0.mp4 (line 2 of labels.csv)", "clip1.mp4", "clip2.mp4 ends at 2.00 s", "a second clip of 'jump'")
    assert len(found.missing) == 4, found.missing
    assert all(words in said for words, said in zip(wanted, found.missing, strict=True)), found.missing
    assert "3 classes: wave 3, nod 2, jump 1" in found.remarks
    assert any("no validation clip shows" in remark for remark in found.remarks)
    with pytest.raises(FileNotFoundError, match="there is no .*labels.csv"):
        check_folder(tmp_path)


def dry(root, *more):
    return run.main(["12", "--dry-run", "-p", f"root={root}", "-p", "weights=none", *more])


def test_the_page_for_own_videos_looks_before_it_runs(copy, tiny, capsys):  # noqa: F811
    assert dry(copy, "-p", "side=audio") == 2  # three of the six videos have no sound
    said = capsys.readouterr().out
    assert "flow is used" not in said
    assert "6 clips, train 4, tune 1, validation 1" in said and "2 classes: wave 3, nod 3" in said
    silent = said.count("has audio; leave the modality out")
    assert silent and said.count("  - ") == silent
    assert dry(copy, "-p", "method=linear", "-p", "side=flow") == 2
    assert "method 'linear'" in capsys.readouterr().err
    assert dry(copy, "-p", "side=flow") == 0
    said = capsys.readouterr().out
    assert "dry run of 2 runs" in said and said.strip().endswith("nothing is missing")


def test_of_silent_videos_the_page_takes_flow_and_says_so(copy, tiny, capsys):  # noqa: F811
    assert dry(copy) == 0
    said = capsys.readouterr().out
    assert "silent: flow is used" in said and "has audio" not in said
    for i in range(3, 6):
        shutil.copy(copy / f"day {(i - 3) % 2}/clip{i - 3}.mp4", copy / f"day {i % 2}/clip{i}.mp4")
    assert dry(copy) == 0 and "flow" not in capsys.readouterr().out


def test_the_page_for_own_videos_names_all_that_is_missing(copy, tiny, capsys):  # noqa: F811
    for name in ("day 0/clip0.mp4", "day 1/clip3.mp4"):
        (copy / name).unlink()
    (copy / "day 1/clip1.mp4").write_bytes(b"no video")
    assert dry(copy) == 2
    said = capsys.readouterr().out
    assert "missing (3):" in said and all(f"clip{i}.mp4" in said.split("missing")[1] for i in (0, 1, 3))
    assert dry(copy / "nowhere") == 2 and "a folder of videos was not found" in capsys.readouterr().out
    assert run.main(["12", "--dry-run"]) == 2
    assert "for your own videos, give -p root=DIR" in capsys.readouterr().err
