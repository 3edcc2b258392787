"""Reading by time: the right picture, never a black one; sound, spectrograms and flow on known signals."""

import sys
import warnings
from collections import Counter
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from cm3t.data.media import (
    ClampWarning,
    MediaError,
    dense_flow,
    duration_of,
    frame_rate,
    log_mel,
    mel_filters,
    placed,
    read_frames,
    read_segments,
    read_sound,
)
from cm3t.data.side import SMALL_SOUND, audio_tokens, motion_tokens
from cm3t.data.signals import mel_band

torch.set_num_threads(1)
FPS, COUNT, SIZE = 12, 60, 64


def picture(i, height=SIZE, width=SIZE):
    """Frame i: its number in binary, as 8 grey bars that compression cannot blur."""
    bits = np.repeat([40 + 160 * (i >> b & 1) for b in range(8)], width // 8)
    return np.repeat(np.broadcast_to(bits, (height, width))[..., None], 3, -1).astype(np.uint8)


def number(frame):
    """The inverse of `picture`."""
    width = frame.shape[1] // 8
    return sum(int(frame[:, b * width : (b + 1) * width].mean() > 120) << b for b in range(8))


def write(path, count=COUNT, fps=FPS, sound=None, rate=16000, height=SIZE, width=SIZE, gop=12, first=0, movflags=""):
    """A small recording; `sound` is float32 (S,), `first` delays the pictures by that many frames."""
    with av.open(str(path), "w", options={"movflags": movflags} if movflags else {}) as container:
        video = container.add_stream("libx264", rate=fps, options={"crf": "20", "threads": "1"})
        video.width, video.height, video.pix_fmt, video.gop_size = width, height, "yuv420p", gop
        audio = None
        if sound is not None:
            audio = container.add_stream("aac", rate=rate, layout="mono")
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(picture(i, height, width), format="rgb24")
            frame.pts = i + first
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            samples = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = rate, 0, Fraction(1, rate)
            container.mux(audio.encode(samples))
            container.mux(audio.encode())
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return write(tmp_path_factory.mktemp("media") / "P01_01.MP4")


def test_frame_at_or_before_each_time(recording):
    times = [0.0, 0.5 / FPS, 1 / FPS, 2.999 / FPS, 3 / FPS, (COUNT - 0.5) / FPS, 0.3, 7 / FPS]
    frames = read_frames(recording, times)
    assert frames.shape == (8, SIZE, SIZE, 3) and frames.dtype == np.uint8
    assert [number(f) for f in frames] == [0, 0, 1, 2, 3, COUNT - 1, 3, 7]


def test_every_frame_by_its_own_time_however_it_is_rounded(recording):
    for times in ([i / FPS for i in range(COUNT)], [i * (1 / FPS) for i in range(COUNT)]):
        assert [number(f) for f in read_frames(recording, times)] == list(range(COUNT))


def test_segments_in_one_pass_equal_single_reads(recording):
    rng = np.random.default_rng(0)
    segments = [np.sort(rng.uniform(0, COUNT / FPS, 4)) for _ in range(20)] + [[], [0.0, 4.9]]
    together = read_segments(recording, segments)
    for times, frames in zip(segments, together, strict=True):
        alone = [read_frames(recording, [t])[0] for t in times]
        assert len(frames) == len(times) and all((a == b).all() for a, b in zip(alone, frames, strict=True))


@pytest.mark.parametrize(("suffix", "gop"), [("mp4", 1), ("mp4", 250), ("mkv", 12)])
def test_containers_and_key_frames(tmp_path, suffix, gop):
    path = write(tmp_path / f"a.{suffix}", gop=gop, count=200)
    wanted = [0, 3, 50, 51, 120, 199]
    assert [number(f) for f in read_frames(path, [(i + 0.5) / FPS for i in wanted])] == wanted
    assert [number(read_frames(path, [(i + 0.5) / FPS])[0]) for i in reversed(wanted)] == wanted[::-1]


def test_times_count_from_the_first_picture(tmp_path):
    path = write(tmp_path / "late.mp4", first=9)
    assert [number(f) for f in read_frames(path, [0.0, 5.5 / FPS])] == [0, 5]


def test_sound_counts_from_the_first_picture_too(tmp_path):
    rate, at, late = 16000, 2.0, 9 / FPS
    path = write(tmp_path / "late.mp4", first=9, sound=click_track(rate, 5, at), rate=rate)
    sound = read_sound(path, 0.5, 2.5, rate)
    assert abs(np.abs(sound).argmax() / rate - (at - late - 0.5)) < 0.03


def test_outside_the_recording_is_clamped_counted_and_warned_of(recording):
    counts = Counter()
    with pytest.warns(ClampWarning, match="2 of 3 times lie outside"):
        frames = read_frames(recording, [-0.5, 1.0, COUNT / FPS + 0.4], counts=counts)
    assert [number(f) for f in frames] == [0, 12, COUNT - 1] and counts["clamped"] == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_frames(recording, [0.0, COUNT / FPS], counts=counts)
    assert counts["clamped"] == 2


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.97])
@pytest.mark.parametrize("movflags", ["", "faststart"])
def test_a_cut_off_file_is_named_with_the_remedy(tmp_path, kept, movflags):
    whole = write(tmp_path / "whole.mp4", movflags=movflags).read_bytes()
    cut = tmp_path / "P01_02.MP4"
    cut.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(MediaError, match=r"P01_02\.MP4.*cut off.*copy or download it again"):
        read_frames(cut, [0.1])


def test_a_stream_without_index_that_stops_early_is_cut_off(tmp_path):
    whole = write(tmp_path / "whole.mkv", count=200).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match="cut.mkv"):
        read_frames(cut, [15.0])


def test_unreadable_files(tmp_path, recording):
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(MediaError, match="text.mp4"):
        read_frames(tmp_path / "text.mp4", [0.0])
    with pytest.raises(FileNotFoundError, match="nowhere.mp4"):
        read_frames(tmp_path / "nowhere.mp4", [0.0])
    with pytest.raises(ValueError, match="not finite"):
        read_frames(recording, [float("nan")])
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(MediaError, match="no pictures"):
        read_frames(tmp_path / "sound.mp4", [0.0])


def test_size(tmp_path, recording):
    raw = read_frames(recording, [1.0])
    assert (raw == read_frames(recording, [1.0], SIZE)).all()
    assert (raw == read_frames(recording, [1.0], (SIZE, SIZE))).all()
    small = read_frames(recording, [1.0], 32)
    area = raw[0].reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert small.shape == (1, 32, 32, 3) and np.abs(small[0] - area).max() <= 1
    wide = write(tmp_path / "wide.mp4", count=3, height=32, width=64)
    assert read_frames(wide, [0.0]).shape == (1, 32, 64, 3)
    assert (read_frames(wide, [0.0], 32) == read_frames(wide, [0.0])[:, :, 16:48]).all()
    assert read_frames(wide, [0.0], (48, 40)).shape == (1, 48, 40, 3)


def test_duration(recording):
    assert duration_of(recording) == pytest.approx(COUNT / FPS, abs=1e-3)


def click_track(rate, seconds, at):
    wave = np.zeros(int(rate * seconds), np.float32)
    begin = int(at * rate)
    wave[begin : begin + rate // 50] = np.sin(np.arange(rate // 50) * 2 * np.pi * 1000 / rate)
    return wave


def test_sound_at_its_time_in_any_window_and_rate(tmp_path):
    rate, at = 16000, 2.5
    path = write(tmp_path / "a.mp4", sound=click_track(rate, 5, at), rate=rate)
    for start, stop, out in [(0, 5, 16000), (2.2, 3.0, 16000), (2.45, 2.8, 24000), (1.7, 4.1, 8000)]:
        wave = read_sound(path, start, stop, out)
        assert wave.shape == (round((stop - start) * out),) and wave.dtype == np.float32
        loud = np.flatnonzero(np.abs(wave) > 0.3)
        assert loud[0] / out + start == pytest.approx(at, abs=2e-3), (start, out)
    parts = np.concatenate([read_sound(path, t, t + 0.5, rate) for t in np.arange(0, 5, 0.5)])
    assert np.abs(parts - read_sound(path, 0, 5, rate)).max() < 1e-4


def test_sound_outside_is_silence_and_absent_is_none(tmp_path, recording):
    path = write(tmp_path / "a.mp4", sound=np.full(16000 * 5, 0.5, np.float32))
    counts = Counter()
    wave = read_sound(path, 4.0, 7.0, 16000, counts=counts)
    assert counts["padded sound"] == 1 and read_sound(path, 1.0, 4.0, 16000, counts=counts) is not None
    assert counts["padded sound"] == 1  # sound enough: nothing to pad
    assert wave.shape == (48000,) and np.abs(wave[20000:]).max() == 0 and np.abs(wave[:10000]).mean() > 0.3
    assert read_sound(recording, 0.0, 1.0, 16000, counts=counts) is None and set(counts) == {"padded sound"}
    for stop, rate in ((1.0, 0), (float("inf"), 16000)):
        with pytest.raises(ValueError, match="finite seconds, a rate from 1 Hz"):
            read_sound("nowhere.mp4", 0.0, stop, rate)
    with pytest.raises(ValueError, match="stop must come after start"):
        read_sound(path, 2.0, 2.0, 16000)


@pytest.mark.parametrize(("start", "stop"), [(5.5, 7.5), (50.0, 52.0), (-3.0, -1.0)])
def test_a_window_that_the_sound_does_not_reach_has_none(tmp_path, start, stop):
    counts, path = Counter(), write(tmp_path / "a.mp4", sound=np.full(16000 * 5, 0.5, np.float32))
    assert read_sound(path, start, stop, 16000, counts=counts) is None
    assert audio_tokens(path, start, stop, "small", counts=counts) is None and counts == {"no sound there": 2}
    assert read_sound(path, start, stop, 16000) is None


def write_gaps(path, *gaps, rate=16000):
    """A recording of 8 s and when it clicks: its sound, 2.048 s of a low tone, has gaps of so many seconds from 1.024 s
    on, a frame between them, and a click in its last frame.
    """
    tone = 0.1 * np.sin(np.arange(32 * 1024) * 2 * np.pi * 300 / rate) + click_track(rate, 2.048, 1.984)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10, options={"threads": "1"})
        video.width = video.height = SIZE
        audio = container.add_stream("aac", rate=rate, layout="mono")
        for i in range(80):
            frame = av.VideoFrame.from_ndarray(picture(0), format="rgb24")
            frame.pts = i
            container.mux(video.encode(frame))
        container.mux(video.encode())
        for i, part in enumerate(tone.astype(np.float32).reshape(32, 1, 1024)):
            late = sum(gaps[: max(0, i - 15)])
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 1024 * i + round(late * rate), Fraction(1, rate)
            container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return path, 1.984 + sum(gaps)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize(("gaps", "counted"), [((), 0), ((2.0,), 1), ((0.5, 1.0, 0.1), 1), ((0.03,) * 9, 1)])
def test_sound_behind_a_gap_is_at_its_time(tmp_path, suffix, gaps, counted):
    path, at = write_gaps(tmp_path / f"a.{suffix}", *gaps)
    for start, stop, count in ((0.0, at + 0.03, counted), (at - 0.2, at + 0.03, 0)):
        counts = Counter()
        wave = read_sound(path, start, stop, 16000, counts=counts)
        found = np.flatnonzero(np.abs(wave) > 0.3)[0] / 16000
        assert found + start == pytest.approx(at, abs=0.045) and counts["gaps in sound"] == count
    assert len(read_sound(path, 0.0, at, 8000)) == round(at * 8000)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_gap_is_silence_and_a_window_within_it_has_no_sound(tmp_path, suffix):
    path, _ = write_gaps(tmp_path / f"a.{suffix}", 2.0)  # sound to 1.024 s and from 3.024 s
    counts = Counter()
    loud = np.abs(read_sound(path, 0.5, 3.5, 16000, counts=counts)).reshape(30, 1600).max(1) > 0.08
    assert loud.nonzero()[0].tolist() == [*range(6), *range(25, 30)] and +counts == {"gaps in sound": 1}
    assert read_sound(path, 1.2, 2.8, 16000, counts=counts) is None
    assert +counts == {"gaps in sound": 1, "no sound there": 1}
    assert not read_sound(path, 2.0, 3.5, 16000, counts=counts)[:14000].any()
    assert +counts == {"gaps in sound": 1, "no sound there": 1, "padded sound": 1}


def test_one_sample_of_sound_is_sound():
    counts, sound = Counter(), np.ones(10, np.float32)
    assert placed(sound, 4, 5, counts=counts).tolist() == [0, 0, 0, 0, 1] and counts == {"padded sound": 1}
    assert placed(sound, -9, 5, counts=counts).tolist() == [1, 0, 0, 0, 0]
    assert placed(sound, 5, 5, counts=counts) is placed(sound, -10, 5, counts=counts) is None
    assert placed(sound[:0], 0, 5) is None and counts == {"padded sound": 2, "no sound there": 2}


def test_log_mel_shapes_and_a_pure_tone():
    wave = np.sin(2 * np.pi * 1000 * np.arange(int(1.999 * 24000)) / 24000).astype(np.float32)
    spectrogram = log_mel(wave)
    assert spectrogram.shape == (400, 128) and torch.isfinite(spectrogram).all()
    peak = mel_filters(24000, 2048, 128)[spectrogram.mean(0).argmax()]
    assert abs(float(peak.argmax()) * 24000 / 2048 - 1000) < 40
    assert log_mel(torch.zeros(2, 24000)).shape == (2, 201, 128)
    assert torch.allclose(log_mel(np.zeros(2400)), torch.tensor(1e-6).log())
    with pytest.raises(ValueError, match="win <= n_fft"):
        log_mel(wave, n_fft=128)


@pytest.mark.parametrize(
    "wave, options, words",
    [
        (np.zeros((24000, 2), np.float32), {}, r"\(24000, 2\) seems to be \(samples, channels\).*mean of the channels"),
        (np.zeros(24000, np.int16), {}, "samples from -1 to 1, got torch.int16: divide"),
        (np.zeros(0, np.float32), {}, "at least one sample"),
        (np.zeros(2400, np.float32), {"hop": 0}, "0 < hop; got .*hop=0"),
    ],
)
def test_sound_of_another_kind_is_refused(wave, options, words):
    with pytest.raises(ValueError, match=words):
        log_mel(wave, **options)


def test_log_mel_equals_a_naive_fourier_sum():
    rate, n_fft, win, hop, mels = 8000, 32, 20, 12, 5
    wave = np.random.default_rng(0).normal(0, 0.1, 60)
    padded = np.concatenate([np.zeros(n_fft // 2), wave, np.zeros(n_fft // 2)])
    hann = np.zeros(n_fft)
    for i in range(win):  # in the middle of the frame
        hann[(n_fft - win) // 2 + i] = 0.5 - 0.5 * np.cos(2 * np.pi * i / win)
    filters = mel_filters(rate, n_fft, mels).double().numpy()
    found = log_mel(wave, rate=rate, n_fft=n_fft, win=win, hop=hop, mels=mels).double().numpy()
    for place in range(len(wave) // hop + 1):
        frame = padded[place * hop : place * hop + n_fft] * hann
        for band in range(mels):
            total = 0.0
            for k in range(n_fft // 2 + 1):
                turns = np.exp(-2j * np.pi * k * np.arange(n_fft) / n_fft)
                total += filters[band, k] * abs((frame * turns).sum())
            assert abs(found[place, band] - np.log(total + 1e-6)) < 1e-4  # ours is in float32
    assert found.shape == (len(wave) // hop + 1, mels)


def test_the_band_of_a_frequency_is_the_one_whose_filter_peaks_there():
    peaks = mel_filters(16000, 4096, 64).argmax(1) * 16000 / 4096
    for hertz in (500, 1000, 2000, 5000):
        assert mel_band(hertz, rate=16000, mels=64) == int((peaks - hertz).abs().argmin()) + 1


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("rate", "n_fft", "win", "hop", "mels"),
    [(24000, 2048, 240, 120, 128), tuple(SMALL_SOUND[k] for k in ("rate", "n_fft", "win", "hop", "mels"))],
)
def test_log_mel_equals_librosa(rate, n_fft, win, hop, mels):
    librosa = pytest.importorskip("librosa")
    wave = np.random.default_rng(0).normal(0, 0.1, rate * 2).astype(np.float32)
    spectrum = np.abs(librosa.stft(wave, n_fft=n_fft, win_length=win, hop_length=hop, pad_mode="constant"))
    filters = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=mels, htk=True, norm=None)
    expected = np.log(filters @ spectrum + 1e-6).T
    got = log_mel(wave, rate=rate, n_fft=n_fft, win=win, hop=hop, mels=mels).numpy()
    assert got.shape == expected.shape and np.abs(got - expected).max() < 1e-4


def test_mel_filters_equal_a_naive_triangle():
    rate, n_fft, mels = 16000, 512, 20
    mel = lambda f: 2595 * np.log10(1 + f / 700)  # noqa: E731
    corners = [700 * (10 ** (m / 2595) - 1) for m in np.linspace(0, mel(rate / 2), mels + 2)]
    for i, row in enumerate(mel_filters(rate, n_fft, mels).numpy()):
        left, centre, right = corners[i : i + 3]
        for k, value in enumerate(row):
            f = k * rate / n_fft
            inside = (f - left) / (centre - left) if left < f <= centre else (right - f) / (right - centre)
            assert value == pytest.approx(max(0.0, inside) if left < f < right else 0.0, abs=1e-5)


def textured(side):
    """A grey picture (2 side, 2 side) with something to follow everywhere."""
    import cv2

    noise = np.random.default_rng(0).integers(0, 255, (2 * side, 2 * side), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2.0), None, 0, 255, cv2.NORM_MINMAX)


@pytest.mark.parametrize("side", [64, 96, 128])
def test_flow_of_a_known_shift(side):
    texture = textured(side)
    frames = np.stack([texture[20 + y : 20 + y + side, 20 - x : 20 - x + side] for x, y in [(0, 0), (2, 0), (2, 3)]])
    flow = dense_flow(np.repeat(frames[..., None], 3, -1))
    assert flow.shape == (2, side, side, 2) and flow.dtype == np.float32
    inner = flow[:, 10:-10, 10:-10]
    assert np.abs(inner[0] - [2, 0]).mean() < 0.25 and np.abs(inner[1] - [0, -3]).mean() < 0.25
    with pytest.raises(ValueError, match="two frames"):
        dense_flow(np.zeros((1, 64, 64, 3), np.uint8))


@pytest.mark.parametrize("fps", [4, 8, 25, 29.97, 60])
def test_flow_tokens_are_of_a_tenth_of_a_second_at_any_frame_rate_and_time(fps):
    """Of a picture that slides to the right by 12 pixels a second, whichever of its frames the times fall on."""
    texture, asked = textured(SIZE), np.linspace(0, 1, 23)

    def read(pairs):
        shown = [[int(fps * time + 1e-6) / fps for time in pair] for pair in pairs]
        places = [[60 - round(12 * time) for time in pair] for pair in shown]
        return [np.stack([np.stack([texture[:SIZE, x : x + SIZE]] * 3, -1) for x in pair]) for pair in places]

    right, down = motion_tokens(read, asked, fps).chunk(2, dim=1)
    assert (right.mean(1) > 0.3).all() and right.mean() == pytest.approx(1.2, rel=0.1)
    assert down.abs().mean() < 0.1


def test_the_frame_rate_that_a_file_declares(recording):
    assert frame_rate(recording) == FPS


def test_reading_the_stored_size_needs_no_opencv(recording, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert read_frames(recording, [0.0]).shape == (1, SIZE, SIZE, 3)
    with pytest.raises(ImportError):
        read_frames(recording, [0.0], 32)
