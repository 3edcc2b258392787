"""HDF5 files, which only some users need: h5py is the extra `hdf5`, imported when a file is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from cm3t.data.media import MediaError


@contextmanager
def open_hdf5(path: str | Path) -> Iterator:
    """An HDF5 file, open for reading as an `h5py.File`.

    Errors: ImportError without h5py; FileNotFoundError; MediaError for a file that is damaged or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no HDF5 file at {path}")
    h5py = hdf5_module(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise MediaError(
            f"{path}: cannot be read as HDF5 ({error}); copy or download it again and compare its checksum"
        ) from error
    with file:
        yield file


def hdf5_module(path: str | Path):
    """The module h5py. Errors: ImportError that says which file wants it and how to install it."""
    try:
        return import_module("h5py")
    except ImportError as error:
        raise ImportError(f"{path} needs h5py: pip install 'cm3t[hdf5]' (or pip install h5py)") from error


def array_of(file, name: str, path: str | Path):
    """Dataset `name` of an open file, or None where it has none. Errors: MediaError where it is a group."""
    h5py = hdf5_module(path)
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"{name!r} is no name of a dataset in {path}")
    item = file.get(name)
    if item is not None and not isinstance(item, h5py.Dataset):
        raise MediaError(f"{path}: {name} is a group, not a dataset; one dataset for each id is expected")
    return item
