"""Tables as CSV: a header, commas, double quotes where they are needed. An empty cell is None; lists are JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..records.csv_cells import quoted
from .columns import Column, Kind, Row, fits
from .lines import csv_records

_FLAGS = {"true": True, "false": False}


def write(path: Path, columns: Sequence[Column], rows: Iterable[Row]) -> int:
    """Writes a table to a file, and gives the number of its rows. Numbers are written exactly."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(column.name for column in columns) + "\n")
        for row in rows:
            file.write(",".join(quoted(_cell(column, row.get(column.name))) for column in columns) + "\n")
            count += 1
    return count


def read(path: Path, columns: Sequence[Column], delimiter: str = ",") -> Iterator[tuple[int, Row]]:
    """Yields a table's rows with the lines on which they begin.

    Raises:
        InputError: if the file lacks one of the columns, or a cell is not what its column holds.
    """
    header: list[str] | None = None
    for line, cells in csv_records(path, delimiter):
        if header is None:
            header = cells
            missing = [column.name for column in columns if column.name not in header and not column.optional]
            if missing:
                raise InputError(
                    f"{path}: the column {missing[0]!r} is missing; the header must have {_names(columns)}"
                )
            places = [header.index(column.name) if column.name in header else None for column in columns]
            continue
        if len(cells) != len(header):
            raise InputError(f"{path}:{line}: it has {len(cells)} fields, and the header has {len(header)}")
        pairs = zip(columns, places, strict=True)
        yield (
            line,
            {
                column.name: None if place is None else _value(path, line, column, cells[place])
                for column, place in pairs
            },
        )
    if header is None:
        raise InputError(f"{path}: it is empty; it must begin with a header of {_names(columns)}")


def _names(columns: Sequence[Column]) -> str:
    return ", ".join(column.name for column in columns)


def _cell(column: Column, value: Any) -> str:
    if value is None:
        return ""
    if column.kind is Kind.TEXT:
        return str(value)
    if column.kind in (Kind.TEXTS, Kind.SCORES, Kind.ERRORS, Kind.OBJECTS):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(value)


def _value(path: Path, line: int, column: Column, cell: str) -> Any:
    if not cell:
        return None
    if column.kind is Kind.TEXT:
        return cell
    if column.kind is Kind.FLAG:
        value: object = _FLAGS.get(cell)
    else:
        try:
            value = json.loads(cell)
        except (ValueError, RecursionError):
            value = None
    if not fits(column.kind, value):
        raise InputError(f"{path}:{line}: {column.name!r} must be {column.kind.value} (got {cell[:60]!r})")
    return value
