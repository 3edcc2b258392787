"""Videos that nobody labelled, and what a trained model says of them; where what it made lies."""

import numpy as np
import pytest
from test_folder import timed, whole  # noqa: F401
from toys import SMALL_SWIN

import cm3t
from cm3t import backbones, folder_report
from cm3t.config import ROOT
from cm3t.data.folder import VideoFolder


@pytest.mark.parametrize("several", [False, True])
def test_a_video_without_a_label_gets_a_class_and_probabilities(whole, timed, monkeypatch, several):  # noqa: F811
    spec = SMALL_SWIN | dict(make="video_swin:VideoSwin", clip=(2, 24, 24), prefix_length=2)
    monkeypatch.setitem(backbones._SPECS, "video_swin_mini", spec)
    folder = VideoFolder(timed, frames=2, size=24)
    folder.task = "behaviours" if several else "labels"
    model = cm3t.create("video_swin_mini", method="mhva+pt+caa", heads={"label": 2}, weights=None)
    model.add_modality("imu", width=3, length=20, encoder="linear")
    new = [whole / "day 0/clip4.mp4", (whole / "day 1/clip5.mp4", 0.5, 1.0), timed / "c.mp4"]
    found = folder_report.answers(model, folder, new)
    assert found.columns.tolist() == ["video", "predicted", "nod", "wave"] and not model.training
    assert found["video"].tolist() == ["clip4.mp4", "clip5.mp4", "c.mp4"]
    odds = found[["nod", "wave"]].to_numpy()
    assert several or np.allclose(odds.sum(1), 1)
    likely = [";".join(np.array(["nod", "wave"])[row > 0.5]) for row in odds]
    assert found["predicted"].tolist() == likely and len(folder) == 2
    for wrong, words in (([], "no videos"), ([timed / "none.mp4"], "none.mp4"), ([(new[0], 5, 6)], "ends at 2.00 s")):
        with pytest.raises(ValueError, match=words):
            folder_report.answers(model, folder, wrong)


def test_paths_are_told_without_the_machine(monkeypatch, tmp_path):
    monkeypatch.delenv("CM3T_LOCAL", raising=False)
    assert folder_report.told(ROOT / "results/local/smoke/a") == "results/local/smoke/a"
    assert folder_report.told(tmp_path / "smoke/a") == str(tmp_path / "smoke/a")
    monkeypatch.setenv("CM3T_LOCAL", str(tmp_path))
    assert folder_report.told(tmp_path / "smoke/a") == "$CM3T_LOCAL/smoke/a"
