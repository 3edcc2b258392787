"""Features that were extracted beforehand, in the place of any modality: one array (L, d) for each id.

Three forms are read (`open_features` tells which it is):

    FOLDER/<id>.npy                     one file for each id
    FILE.h5, FILE.hdf5                  one dataset for each id (extra `hdf5`)
    FOLDER/manifest.json + shards       what `python -m cm3t.extract` writes

An id names a clip, or a whole recording, whose rows are then cut out by time; where both are there, the clip's counts:

    EPIC-KITCHENS-100       P01_01_0, a narration                   P01_01, a recording
    MPIIGroupInteraction    00042, a sample of the list             07, a recording: of all who sit in it
    UDIVA v0.5              000001_talk_01_0: session, task,        000001_FC1_T, a session's recording by the
                            participant, window (from 0)            participant's own camera, FC1 that of PART.1
    a folder                id of the row, or made of the video     the video's path without its suffix

An id that is not there is an absent modality, and so are rows of a recording that end before a clip begins; ids of no
clip at all are an error which names the first; an array that cannot be used is an error which names file and id.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cm3t.data.hdf5 import array_of, open_hdf5

ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
MANIFEST = "manifest.json"
HALF = 0.5  # a row: times that are off by less are taken to be rounded
HASHED = 64 << 20  # bytes: files of more than this together enter the digest by size, not by content


class MissingFeatures(FileNotFoundError):
    """There is nothing where features should be."""


class FeatureError(ValueError):
    """Features that cannot be used: the message names the file, the id and what is wrong."""


def checked_id(name: str) -> str:
    """An id that may become a file's name. Errors: FeatureError for one that could lead out of its folder."""
    if not isinstance(name, str) or ID.fullmatch(name) is None or ".." in name:
        raise FeatureError(f"{name!r} cannot name features: letters, digits, _ - and single dots only, at most 200")
    return name


def open_features(path: str | Path, *, rate: float | None = None, length: int | None = None, width: int | None = None):
    """Features in a file or folder, of whichever of the three forms; see `Features`.

    Errors: MissingFeatures (a FileNotFoundError); FeatureError for something that is none of the three.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFeatures(
            f"no features at {path}: expected a folder of <id>.npy, an .h5 file, or a folder of shards"
        )
    kind = None
    if path.is_dir():
        kind = ShardFolder if (path / MANIFEST).is_file() else NpyFolder if any(path.glob("*.npy")) else None
    elif path.suffix.lower() in (".h5", ".hdf5"):
        kind = Hdf5File
    if kind is None:
        raise FeatureError(f"{path}: no features: expected <id>.npy files, an .h5 or .hdf5 file, or {MANIFEST}")
    return kind(path, rate=rate, length=length, width=width)


def nothing_of(place: str | Path, split: str, clip_id: str, recording: str = "") -> str:
    """What to say where features hold no clip of a split, whose first has this id and this recording."""
    wanted = " or ".join(dict.fromkeys(filter(None, (clip_id, recording))))
    return f"{place} holds nothing for any clip of the {split} split; the first would be called {wanted}"


def none_reached(place: str | Path, split: str, rate: float | None, clip_id: str, recording: str = "") -> str:
    """What to say where rows of recordings are there, but none of them in the time of any clip of a split."""
    how = "feature_rate" if rate is None else f"feature_rate={rate:g}"
    wanted = " or ".join(dict.fromkeys(filter(None, (clip_id, recording))))
    return (
        f"no features at {place} reach a clip of the {split} split: the rows of its recording end before it begins, or "
        f"are not there (the first would be called {wanted}); is {how}, their rows a second, right?"
    )


class Features:
    """Arrays (L, d) by id, checked as they are read.

    rate: rows a second of arrays that span a whole recording; without it, an array belongs to its id as it is.
    length: L of every clip, taken at the middles of so many equal spans (rows repeat where there are fewer); without
    it, L is the array's own, and clips of one batch must then agree in it. width: the d that is expected, if known.
    """

    def __init__(self, path: Path, *, rate: float | None = None, length: int | None = None, width: int | None = None):
        if (rate is not None and not 0 < rate < 1e6) or any(n is not None and n < 1 for n in (length, width)):
            raise ValueError(f"{path}: rate={rate}, length={length} and width={width} must be positive")
        self.path, self.rate, self.length, self.width = path, rate, length, width
        self._first = ""  # what decided the width, where nobody declared it

    def tokens(
        self,
        clip_id: str,
        recording: str = "",
        start: float = 0.0,
        stop: float = 0.0,
        duration: float | None = None,
        *,
        counts: Counter | None = None,
    ) -> Tensor | None:
        """Features of a clip: its own, or else those of its recording between start and stop; None where neither.

        duration: of the recording, which tells the rate where none was given: its rows are then evenly spread.
        Where a recording's rows reach a part of the clip, these are given, counted in counts["cut features"]; where
        they reach nothing of it there is None, counted in counts["no features there"].
        Choice: rows from elsewhere would be an observation that nobody made, as with sound (`media.placed`). Half a
        row is no distance, time stamps are rounded: so near to the first or last row, a clip has that one.
        Shapes: start, stop, duration in seconds -> float32 (L, d).
        Errors: FeatureError for NaN, infinity and what becomes it in float32, for a wrong width or shape, and for a
        recording's array where no rate was given.
        """
        rows = self._checked(clip_id)
        if rows is None and recording:
            rows = self._checked(recording)
            if rows is not None:
                tally = Counter() if counts is None else counts
                rows = rows[self._rows_between(len(rows), start, stop, recording, duration, tally)]
        if rows is None or not len(rows):
            return None
        if self.length is not None:
            rows = rows[((np.arange(self.length) + 0.5) * len(rows) / self.length).astype(int)]
        return torch.from_numpy(np.array(rows, np.float32))

    def _rows_between(
        self, count: int, start: float, stop: float, name: str, duration: float | None, counts: Counter
    ) -> slice:
        if self.rate is None and not duration:
            raise FeatureError(
                f"{self.path}: {name} spans a recording: give `rate`, its rows a second (to a run feature_rate=...)"
            )
        rate = self.rate or count / duration
        low, high = start * rate, stop * rate
        if low >= count + HALF or high <= -HALF:
            counts["no features there"] += 1
            return slice(0)
        counts["cut features"] += bool(low < -HALF or high > count + HALF)
        first = min(max(0, int(low)), count - 1)
        return slice(first, max(first + 1, min(count, round(high))))

    def _checked(self, name: str) -> np.ndarray | None:
        rows = self.read(checked_id(name))
        if rows is None:
            return None
        where = f"{self.path}: features of {name}"
        if rows.dtype.kind not in "fiu":
            raise FeatureError(f"{where} are of type {rows.dtype}, not numbers")
        rows = rows[None] if rows.ndim == 1 else rows
        if rows.ndim != 2 or 0 in rows.shape:
            raise FeatureError(f"{where} have shape {rows.shape}; (L, d) with at least one row is expected")
        if self.width is not None and rows.shape[1] != self.width:
            raise FeatureError(
                f"{where} are {rows.shape[1]} wide, {self.width} expected{self._first}: they come from another "
                "extractor, or the plugin was saved for another; extract them again, or declare this width"
            )
        if self.width is None:  # the first one read decides
            self.width, self._first = rows.shape[1], f" as {name} is, which was read first"
        given = rows
        with np.errstate(over="ignore"):
            rows = rows.astype(np.float32, copy=False)
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0]
            large = np.isfinite(given[row, column])
            what = f"{given[row, column]:g}, too large for float32" if large else "NaN or infinity"
            raise FeatureError(f"{where} hold {what} (first: row {row}, column {column}): extract them again")
        return rows

    def read(self, name: str) -> np.ndarray | None:
        """The array as stored, or None. Errors: FeatureError for one that cannot be read."""
        raise NotImplementedError

    def files(self) -> list[Path]:
        """What the features lie in."""
        raise NotImplementedError

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits: by content up to 64 MiB, else by name and size."""
        digest, files = hashlib.sha256(f"{self.rate} {self.length}".encode()), self.files()
        whole = sum(path.stat().st_size for path in files) <= HASHED
        for path in files:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode() + (path.read_bytes() if whole else b""))
        return digest.hexdigest()


class NpyFolder(Features):
    """FOLDER/<id>.npy. Pickled arrays are refused."""

    def read(self, name: str) -> np.ndarray | None:
        """The array of <id>.npy."""
        path = self.path / f"{name}.npy"
        if not path.is_file():
            return None
        try:
            return np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise FeatureError(f"{path}: features of {name} cannot be read ({error}): extract them again") from error

    def files(self) -> list[Path]:
        """All .npy files."""
        return sorted(self.path.glob("*.npy"))


class Hdf5File(Features):
    """One dataset for each id."""

    def read(self, name: str) -> np.ndarray | None:
        """The dataset `id`."""
        with open_hdf5(self.path) as file:
            data = array_of(file, name, self.path)
            try:
                return None if data is None else data[()]
            except OSError as error:
                raise FeatureError(f"{self.path}: features of {name} cannot be read ({error})") from error

    def files(self) -> list[Path]:
        """The one file."""
        return [self.path]


class ShardFolder(Features):
    """manifest.json and the shards that it lists, as `cm3t.extract` writes them."""

    @cached_property
    def places(self) -> dict[str, Path]:
        """The shard of each id."""
        return {name: self.path / shard["file"] for shard in self.manifest["shards"] for name in shard["ids"]}

    @cached_property
    def manifest(self) -> dict:
        """What the folder holds. Errors: as `read_manifest`."""
        return read_manifest(self.path)

    def read(self, name: str) -> np.ndarray | None:
        """The tensor `id` of its shard."""
        path = self.places.get(name)
        if path is None:
            return None
        if path.suffix == ".h5":
            return Hdf5File(path).read(name)
        try:
            with safe_open(path, framework="np") as file:
                return file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise FeatureError(f"{path}: features of {name} cannot be read ({error}): extract them again") from error

    def files(self) -> list[Path]:
        """The manifest, which holds the shards' digests."""
        return [self.path / MANIFEST]


def read_manifest(folder: str | Path) -> dict:
    """The manifest of a folder of shards: {"format", "settings", "shards": [{"file", "sha256", "ids", "absent"}]}.

    Errors: FileNotFoundError; FeatureError, with the line, for what is no such manifest, and for a shard's name that
    would lead out of the folder.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"no manifest at {path}; python -m cm3t.extract writes one")
    manifest = parse_json(path.read_bytes(), path, FeatureError)
    for problem in _problems(manifest):
        raise FeatureError(f"{path}: {problem}; extract again")
    return manifest


def parse_json(content: bytes, where: str | Path, error_type: type[Exception]):
    """JSON, of any bytes: parsed, or one error of the given type that names `where` and the line."""
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        problem = f"line {line}: byte {error.start} is not UTF-8"
    except json.JSONDecodeError as error:
        problem = f"line {error.lineno}: {error.msg}"
    except RecursionError:
        problem = "line 1: nested too deeply"
    except ValueError:  # a whole number of thousands of digits
        problem = "line 1: holds, here or below, a number of too many digits"
    raise error_type(f"{where}: {problem}; write the file again")


def _problems(manifest) -> Iterator[str]:
    if not isinstance(manifest, dict) or manifest.get("format") != 1:
        yield "no manifest of format 1"
        return
    if not isinstance(manifest.get("settings"), dict) or not isinstance(manifest.get("shards"), list):
        yield "lacks settings or shards"
        return
    for i, shard in enumerate(manifest["shards"]):
        names = shard.get("ids") if isinstance(shard, dict) else None
        file = shard.get("file") if isinstance(shard, dict) else None
        if not isinstance(file, str) or re.fullmatch(r"shard-[0-9]{5,9}\.(safetensors|h5)", file) is None:
            yield f"shard {i} has the file {file!r}; shard-00000.safetensors is the form"
        elif not isinstance(names, list) or not all(isinstance(n, str) and ID.fullmatch(n) for n in names):
            yield f"shard {i} lists no ids"
        elif not isinstance(shard.get("sha256"), str) or not isinstance(shard.get("absent"), dict):
            yield f"shard {i} lacks its digest or its absent clips"
