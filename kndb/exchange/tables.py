"""Tables in the format that a file's name says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import InputError, UsageError
from . import csv_tables, jsonl_tables, parquet_tables
from .columns import Column, Row

Write = Callable[[Path, Sequence[Column], Iterable[Row]], int]
Read = Callable[[Path, Sequence[Column]], Iterator[tuple[int, Row]]]

FORMATS: dict[str, tuple[Write, Read]] = {
    ".csv": (csv_tables.write, csv_tables.read),
    ".jsonl": (jsonl_tables.write, jsonl_tables.read),
    ".parquet": (parquet_tables.write, parquet_tables.read),
}
"""What writes and reads files of each suffix."""

_ENDINGS = ".csv, .jsonl or .parquet"


def require_suffix(path: Path) -> None:
    """Checks that a file's name says its format.

    Raises:
        UsageError: if it does not.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"{path}: the file's name must end in {_ENDINGS}")


def write(path: Path, suffix: str, columns: Sequence[Column], rows: Iterable[Row]) -> int:
    """Writes a table to a file in the format of a suffix, and gives the number of its rows."""
    writer, _ = FORMATS[suffix.lower()]
    return writer(path, columns, rows)


def read(path: Path, columns: Sequence[Column]) -> Iterator[tuple[int, Row]]:
    """Yields a table's rows with their places in the file: the line, or in Parquet the row, from 1.

    Raises:
        InputError: if the file is not such a table.
        UsageError: if it is Parquet and pyarrow is not installed.
    """
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: the file's name must end in {_ENDINGS}")
    _, reader = FORMATS[path.suffix.lower()]
    return reader(path, columns)
