"""Tables as JSON lines: an object in each line; what is missing or null is None."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import InputError
from .columns import Column, Row, fits
from .lines import json_lines


def write(path: Path, columns: Sequence[Column], rows: Iterable[Row]) -> int:
    """Writes a table to a file, and gives the number of its rows. What a row does not name is left out."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for row in rows:
            named = {column.name: row[column.name] for column in columns if column.name in row}
            file.write(json.dumps(named, ensure_ascii=False) + "\n")
            count += 1
    return count


def read(path: Path, columns: Sequence[Column]) -> Iterator[tuple[int, Row]]:
    """Yields a table's rows with their lines.

    Raises:
        InputError: if a line is no JSON object, or a value is not what its column holds.
    """
    for line, record in json_lines(path):
        if isinstance(record, Exception):
            raise InputError(f"{path}:{line}: not valid JSON ({record}): each line must be one JSON object") from record
        if not isinstance(record, dict):
            raise InputError(f"{path}:{line}: each line must be one JSON object (got {json.dumps(record)[:60]})")
        row = {column.name: record.get(column.name) for column in columns}
        for column in columns:
            value = row[column.name]
            if value is not None and not fits(column.kind, value):
                raise InputError(
                    f"{path}:{line}: {column.name!r} must be {column.kind.value} (got {json.dumps(value)[:60]})"
                )
        yield line, row
