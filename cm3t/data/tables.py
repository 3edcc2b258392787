"""CSV annotation files of any data set: read row by row, refused with file, line and remedy where wrong."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

SEPARATORS = {";": "semicolons", "\t": "tabs"}  # that are no commas
SHOWN = 5  # bad rows named in one error


class AnnotationError(ValueError):
    """An annotation file that cannot be used: the message names the file, the lines and the remedy."""


class MissingFiles(FileNotFoundError):
    """Files that a data set should have; `paths` are all of them, of which the message names the first."""

    def __init__(self, message: str, paths: Sequence[Path] = ()):
        super().__init__(message)
        self.paths = tuple(paths)


def parsed_rows(
    path: str | Path,
    columns: Sequence[str],
    parse: Callable[[dict, int], object],
    *,
    source: str,
    others: Sequence[str] | None = None,
) -> list:
    """`parse({column: text}, line)` of every row of a CSV; what parse refuses by ValueError becomes one error.

    source says where a correct file comes from. others: columns that may be there too; any beyond these is then
    refused, and without `others` left out. Errors: FileNotFoundError; AnnotationError for a file that is no such
    table (not UTF-8, columns missing, cut off, without rows) and for rows that parse refuses, the first five named.
    """
    parsed, problems = [], []
    for line, row in _rows(Path(path), columns, source, others):
        try:
            parsed.append(parse(row, line))
        except ValueError as problem:
            problems.append(f"  line {line}: {problem}")
    if problems:
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise AnnotationError(
            f"{path}: {len(problems)} of {len(problems) + len(parsed)} rows cannot be used; correct them or "
            f"compare with {source}\n" + "\n".join(problems[:SHOWN]) + more
        )
    if not parsed:
        raise AnnotationError(f"{path}: line 1: a header without rows: the split is empty; compare with {source}")
    return parsed


def _rows(
    path: Path, columns: Sequence[str], source: str, others: Sequence[str] | None
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, {column: text}) of each row of a CSV that has at least the columns."""
    if not path.is_file():
        raise FileNotFoundError(f"no annotation file {path}; it is one of {source}")
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise AnnotationError(f"{path}: line {line}: byte {error.start} is not UTF-8; compare with {source}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_commas(header, columns, f"{path}: line 1", source)
        if others is not None:
            _check_known(header, (*columns, *others), f"{path}: line 1", source)
        absent = [column for column in columns if column not in header]
        if absent:
            raise AnnotationError(f"{path}: line 1: the columns {absent} are missing; compare with {source}")
        columns = columns if others is None else header
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                raise AnnotationError(
                    f"{path}: line {reader.line_num} has {len(fields)} fields, the header {len(header)}; "
                    f"is the file cut off? Compare with {source}"
                )
            row = dict(zip(header, fields, strict=True))
            yield reader.line_num, {column: row[column] for column in columns}
    except csv.Error as error:
        raise AnnotationError(f"{path}: line {reader.line_num}: {error}; compare with {source}") from None


def _check_commas(header: list[str], columns: Sequence[str], where: str, source: str) -> None:
    """Are columns told apart by commas, as spreadsheets do not everywhere?"""
    for sign, words in SEPARATORS.items():
        if len(header) == 1 and sign in header[0] and set(columns) & {name.strip() for name in header[0].split(sign)}:
            raise AnnotationError(f"{where}: the columns are separated by {words}; write commas. Compare with {source}")


def _check_known(header: list[str], known: Sequence[str], where: str, source: str) -> None:
    """Is each column known, and there once?"""
    for name in header:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}."
            raise AnnotationError(f"{where}: the column {name[:40]!r} is not known{hint} Compare with {source}")
        if header.count(name) > 1:
            raise AnnotationError(f"{where}: the column {name!r} is there {header.count(name)} times; keep one")
