"""The recorder: what is read back is what was written, and equal frames and sound are equal files."""

import av
import numpy as np
import pytest

from cm3t.data.rooms.recorder import RecordingError, write_recording


def moving(count):
    for k in range(count):
        frame = np.full((48, 64, 3), 60, np.uint8)
        frame[10:30, (2 * k) % 40 : (2 * k) % 40 + 12] = (200, 80, 40)
        yield frame


@pytest.mark.parametrize("codec", ["opus", "aac"])
def test_recording_round_trip(tmp_path, codec):
    wave = np.zeros(48000, np.float32)
    wave[24000:24800] = 0.8 * np.sin(np.arange(800) * 0.3)
    path = tmp_path / "a.MP4"
    assert write_recording(path, moving(24), 8, sound=wave, sound_codec=codec, crf=20) == 24
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert [round(f.time * 8) for f in frames] == list(range(24))
    difference = frames[9].to_ndarray(format="rgb24").astype(int) - list(moving(24))[9]
    assert np.abs(difference).mean() < 6
    with av.open(str(path)) as container:
        parts = [(f.time, f.rate, f.to_ndarray().ravel()) for f in container.decode(audio=0)]
    heard = np.abs(np.concatenate([p[2] for p in parts]).astype(float))
    onset = parts[0][0] + np.argmax(heard > 0.3 * heard.max()) / parts[0][1]
    assert abs(onset - 1.5) < 0.03
    write_recording(tmp_path / "b.MP4", moving(24), 8, sound=wave, sound_codec=codec, crf=20)
    assert (tmp_path / "b.MP4").read_bytes() == path.read_bytes()


def test_equal_frames_are_equal_files_whatever_memory_held_before(tmp_path):
    rng = np.random.default_rng(0)
    frames = list(rng.integers(0, 255, (30, 96, 96, 3)).astype(np.uint8))
    found = set()
    for _ in range(12):
        dirt = [rng.bytes(int(rng.integers(1, 300_000))) for _ in range(20)]
        write_recording(tmp_path / "a.mp4", frames, 8, crf=24, gop=6, preset="medium")
        found.add((tmp_path / "a.mp4").read_bytes())
        del dirt
    assert len(found) == 1


def test_recorder_refuses_what_it_cannot_write(tmp_path):
    for frames, words in (
        ([], "no frames"),
        ([np.zeros((5, 8, 3), np.uint8)], "even"),
        ([np.zeros((8, 8, 3), np.float32)], "uint8"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)], "one shape"),
    ):
        with pytest.raises(RecordingError, match=words):
            write_recording(tmp_path / "x.mp4", frames, 8)
    picture = [np.zeros((8, 8, 3), np.uint8)]
    with pytest.raises(RecordingError, match="mono"):
        write_recording(tmp_path / "x.mp4", picture, 8, sound=np.zeros((2, 9), np.float32))
    with pytest.raises(RecordingError, match="Opus"):
        write_recording(tmp_path / "x.mp4", picture, 8, sound=np.zeros(9, np.float32), rate=11025)
    assert not list(tmp_path.iterdir())  # nothing half-written stays
