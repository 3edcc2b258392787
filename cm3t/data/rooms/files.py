"""The files of a generated room, and one digest over them."""

from __future__ import annotations

import hashlib
from pathlib import Path

SUFFIXES = (".mp4", ".opus", ".csv")  # in any case; not the card, not ``rooms.json``


def data_files(root: Path) -> list[Path]:
    """Recordings, sounds and tables in a fixed order; no hidden files."""
    found = (p for p in Path(root).rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(found, key=lambda p: p.relative_to(root).as_posix())


def digest(root: Path) -> str:
    """sha256 over every data file's relative name and sha256, hexadecimal."""
    total = hashlib.sha256()
    for path in data_files(root):
        inner = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(root).as_posix()} {inner}\n".encode())
    return total.hexdigest()
