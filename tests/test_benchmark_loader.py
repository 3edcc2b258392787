"""The loader benchmark compares like with like: its plain loops read the pictures that the reader reads."""

import numpy as np
import pytest
from test_media import FPS, number, write

loader = pytest.importorskip("benchmarks.loader")


@pytest.mark.parametrize(("start", "stop"), [(0.0, 2.0), (1.3, 3.9), (2.5, 4.9)])
def test_the_plain_loops_read_the_same_pictures(tmp_path, start, stop):
    path = write(tmp_path / "a.mp4")
    ours, plain, stopping = (read(path, start, stop) for read in (loader.ours, loader.plain, loader.plain_until))
    assert ours.shape == plain.shape == stopping.shape == (loader.FRAMES, 64, 64, 3)
    assert [number(p) for p in ours] == [number(p) for p in stopping]
    apart = np.array([number(p) for p in plain]) - [number(p) for p in ours]
    assert set(apart.tolist()) <= {0, 1}  # the nearest picture, not the last one shown: at most the next


def test_ratios_are_of_the_reference_over_ours(capsys):
    import time

    row = loader.compare("fast", "slow", lambda: time.sleep(0.002), lambda: time.sleep(0.02), clips=4, turns=3)
    assert row["ratio"] > 3 and row["low"] <= row["ratio"] <= row["high"] and row["n"] == 3
    assert row["clips_per_second"] > row["reference_clips_per_second"] and "fast" in capsys.readouterr().out


def test_the_invented_recording_is_like_those_it_stands_for(tmp_path):
    from cm3t.data.media import duration_of, read_frames, read_sound

    path = loader.invented(tmp_path, seconds=1)
    assert duration_of(path) == pytest.approx(1.0, abs=0.05) and FPS != 60
    assert read_frames(path, [0.5]).shape == (1, 256, 456, 3) and np.abs(read_sound(path, 0, 1, 24000)).mean() > 0.02
