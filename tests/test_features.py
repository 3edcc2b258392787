"""Features from files: all three forms, cut by time, and one clear error for what cannot be used."""

import json
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from cm3t.data.features import FeatureError, checked_id, open_features, read_manifest

ROWS = np.arange(40, dtype=np.float32).reshape(10, 4)


def npy(folder, **arrays):
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def hdf5(path, **arrays):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def shards(folder, **arrays):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(arrays, folder / "shard-00000.safetensors")
    shard = {"file": "shard-00000.safetensors", "sha256": "0", "ids": list(arrays), "absent": {}}
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "settings": {}, "shards": [shard]}))
    return folder


FORMS = {
    "npy": lambda root, **arrays: npy(root / "features", **arrays),
    "hdf5": lambda root, **arrays: hdf5(root / "features.h5", **arrays),
    "shards": lambda root, **arrays: shards(root / "features", **arrays),
}


@pytest.fixture(params=sorted(FORMS))
def stored(request, tmp_path):
    """A function that stores arrays in one of the three forms and opens them."""

    def store(*, rate=None, length=None, width=None, **arrays):
        path = FORMS[request.param](tmp_path, **arrays)
        return open_features(path, rate=rate, length=length, width=width)

    return store


def test_of_a_segment(stored):
    features = stored(P01_01_0=ROWS, P01_01_1=ROWS[:3].astype(np.float64), P01_01_2=ROWS[0])
    assert torch.equal(features.tokens("P01_01_0"), torch.from_numpy(ROWS))
    assert features.tokens("P01_01_1").dtype == torch.float32 and features.tokens("P01_01_1").shape == (3, 4)
    assert features.tokens("P01_01_2").shape == (1, 4)  # a vector is one token
    assert features.tokens("P01_01_9") is None and features.tokens("P01_01_9", "P01_01", 0, 1) is None


def test_of_a_recording_cut_by_time(stored):
    features = stored(P01_01=ROWS, rate=2.0)
    assert features.tokens("P01_01_0", "P01_01", 1.0, 2.5)[:, 0].tolist() == [8, 12, 16]
    assert features.tokens("P01_01_0", "P01_01", 0.1, 0.2)[:, 0].tolist() == [0]  # at least one row
    assert len(features.tokens("P01_01_0", "P01_01", 0.0, 99.0)) == 10


def test_a_clip_that_no_row_of_its_recording_reaches_has_none(stored):
    features, counts = stored(P01_01=ROWS, rate=2.0), Counter()  # ten rows: five seconds
    for start, stop in ((5.3, 6.0), (90.0, 99.0), (-3.0, -0.3), (-90.0, -80.0)):
        assert features.tokens("x", "P01_01", start, stop, counts=counts) is None
        assert features.tokens("x", "P01_01", start, stop) is None
    assert counts == {"no features there": 4}
    assert features.tokens("x", "P01_01", 1.0, 5.2, counts=counts).shape == (8, 4) and counts.total() == 4
    assert features.tokens("x", "P01_01", -0.2, 5.2, counts=counts).shape == (10, 4) and counts.total() == 4
    assert features.tokens("x", "P01_01", 4.0, 9.0, counts=counts)[:, 0].tolist() == [32, 36]
    assert features.tokens("x", "P01_01", -9.0, 1.0, counts=counts)[:, 0].tolist() == [0, 4]
    assert counts == {"no features there": 4, "cut features": 2}


def test_times_that_are_rounded_lose_no_clip(stored):
    """Within half a row of the last one, or of the first, a clip has that one."""
    features, counts = stored(P01_01=ROWS, rate=2.0), Counter()
    assert features.tokens("x", "P01_01", 5.0, 5.2, counts=counts)[:, 0].tolist() == [36]
    assert features.tokens("x", "P01_01", 5.2, 9.0, counts=counts)[:, 0].tolist() == [36]
    assert features.tokens("x", "P01_01", -1.0, -0.2, counts=counts)[:, 0].tolist() == [0]
    assert counts == {"cut features": 2}


def test_a_length_for_all(stored):
    features = stored(P01_01=ROWS, rate=2.0, length=4)
    assert features.tokens("x", "P01_01", 0.0, 5.0)[:, 0].tolist() == [4, 12, 24, 32]
    assert features.tokens("x", "P01_01", 0.0, 1.0)[:, 0].tolist() == [0, 0, 4, 4]  # rows repeat where there are few


def test_a_recording_needs_a_rate(stored):
    with pytest.raises(FeatureError, match=r"P01_01 spans a recording: give `rate`"):
        stored(P01_01=ROWS).tokens("P01_01_0", "P01_01", 0.0, 1.0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.where(ROWS == 9, np.nan, ROWS), r"P01_01_0 hold NaN or infinity \(first: row 2, column 1\)"),
        (np.where(ROWS == 9, -np.inf, ROWS), "hold NaN or infinity"),
        (
            np.where(ROWS == 9, -1e300, ROWS.astype(float)),
            r"hold -1e\+300, too large for float32 \(first: row 2, column 1",
        ),
        (np.zeros((0, 4), np.float32), r"P01_01_0 have shape \(0, 4\); \(L, d\) with at least one row"),
        (np.zeros((2, 2, 2), np.float32), r"have shape \(2, 2, 2\)"),
        (np.zeros((3, 4), bool), "of type bool, not numbers"),
        (ROWS[:, :3], "P01_01_0 are 3 wide, 4 expected"),
    ],
)
def test_what_cannot_be_used(stored, rows, message):
    features = stored(P01_01_0=rows, P01_01_1=ROWS, width=4)
    assert features.tokens("P01_01_1").shape == (10, 4)
    with pytest.raises(FeatureError, match=message) as error:
        features.tokens("P01_01_0")
    assert str(features.path) in str(error.value)


def test_the_first_array_sets_the_width(stored):
    features = stored(a=ROWS, b=ROWS[:, :2])
    features.tokens("a")
    with pytest.raises(FeatureError, match="features of b are 2 wide, 4 expected as a is, which was read first"):
        features.tokens("b")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/b", "", "..", "a..b", ".hidden", "a\0b", "x" * 300, "ä"]
)
def test_no_id_leads_out_of_the_folder(stored, tmp_path, name):
    features = stored(P01_01_0=ROWS)
    np.save(tmp_path / "secret.npy", ROWS)
    with pytest.raises(FeatureError, match="cannot name features"):
        features.tokens(name)
    with pytest.raises(FeatureError, match="cannot name features"):
        checked_id(name)


def test_damaged_files(tmp_path):
    folder = npy(tmp_path / "a", P01_01_0=ROWS)
    path = folder / "P01_01_0.npy"
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\x93NUMPY junk"):
        path.write_bytes(content)
        with pytest.raises(FeatureError, match=r"P01_01_0\.npy: features of P01_01_0 cannot be read"):
            open_features(folder).tokens("P01_01_0")
    np.save(path, np.array([{"code": "runs"}], dtype=object), allow_pickle=True)
    with pytest.raises(FeatureError, match="cannot be read"):
        open_features(folder).tokens("P01_01_0")
    folder = shards(tmp_path / "b", P01_01_0=ROWS)
    (folder / "shard-00000.safetensors").write_bytes(b"junk")
    with pytest.raises(FeatureError, match=r"shard-00000\.safetensors: features of P01_01_0 cannot be read"):
        open_features(folder).tokens("P01_01_0")


def test_hdf5_without_h5py_and_odd_files(tmp_path, monkeypatch):
    from cm3t.data.media import MediaError

    path = hdf5(tmp_path / "a.h5", P01_01_0=ROWS, **{"group/P01_01_1": ROWS})
    with pytest.raises(MediaError, match="group is a group, not a dataset"):
        open_features(path).tokens("group")
    (tmp_path / "junk.h5").write_bytes(b"junk")
    with pytest.raises(MediaError, match=r"junk\.h5: cannot be read as HDF5"):
        open_features(tmp_path / "junk.h5").tokens("P01_01_0")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"a\.h5 needs h5py: pip install 'cm3t\[hdf5\]'"):
        open_features(path).tokens("P01_01_0")


def test_opening(tmp_path):
    with pytest.raises(FileNotFoundError, match="no features at .*nowhere"):
        open_features(tmp_path / "nowhere")
    with pytest.raises(FeatureError, match="no features: expected <id>.npy files"):
        open_features(tmp_path)
    with pytest.raises(ValueError, match="length=0"):
        open_features(npy(tmp_path / "a", x=ROWS), length=0)


def test_digest_follows_content(tmp_path):
    folder = npy(tmp_path / "a", x=ROWS)
    digest = open_features(folder).digest
    assert digest == open_features(folder).digest and digest != open_features(folder, length=2).digest
    npy(folder, x=ROWS + 1)
    assert len(digest) == 64 and digest != open_features(folder).digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: "),
        (b'{"format": 1,\n oops', "line 2: "),
        (b"\xff", "byte 0 is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5000, "a number of too many digits"),
        (b"[]", "no manifest of format 1"),
        (b'{"format": 2}', "no manifest of format 1"),
        (b'{"format": 1, "settings": {}}', "lacks settings or shards"),
        (
            b'{"format": 1, "settings": {}, "shards": [{"file": "../../x.safetensors"}]}',
            "shard 0 has the file '../../x",
        ),
        (b'{"format": 1, "settings": {}, "shards": [{"file": "shard-00000.h5", "ids": ["../x"]}]}', "lists no ids"),
        (b'{"format": 1, "settings": {}, "shards": [{"file": "shard-00000.h5", "ids": ["x"]}]}', "lacks its digest"),
    ],
)
def test_bad_manifests_name_file_and_place(tmp_path, content, message):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(FeatureError, match=r"manifest\.json: ") as error:
        read_manifest(tmp_path)
    assert message in str(error.value)


@pytest.mark.slow
def test_any_bytes_are_a_manifest_or_one_clear_error(tmp_path):
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    path = shards(tmp_path / "a", P01_01_0=ROWS) / "manifest.json"
    whole = path.read_bytes()
    splice = st.tuples(st.integers(0, len(whole)), st.integers(0, 40), st.binary(max_size=12)).map(
        lambda cut: whole[: cut[0]] + cut[2] + whole[cut[0] + cut[1] :]
    )
    values = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), st.lists, max_leaves=4)
    field = st.dictionaries(st.sampled_from(["format", "settings", "shards", "file", "ids"]), values)
    json_like = field.map(lambda more: json.dumps({**json.loads(whole), **more}).encode())

    @hypothesis.settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @hypothesis.given(st.one_of(st.binary(max_size=60), splice, json_like))
    def check(content):
        path.write_bytes(content)
        try:
            manifest = read_manifest(path.parent)
        except FeatureError as error:
            assert str(path) in str(error)
        else:
            assert all("/" not in shard["file"] for shard in manifest["shards"])

    check()
