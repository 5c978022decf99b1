"""Many rows on their way to PostgreSQL: its COPY, in its binary format where there are millions."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import starmap
from typing import Any

_SCORE = struct.Struct(">hiiiiiiiiid")
"""A row of the binary format: the number of fields, then each field's length and value; four integers and a float."""
_HEAD, _TAIL = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"


def scores_as_bytes(rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows of `score` in the binary format of COPY; empty if there is none.

    Args:
        rows: run, prompt, layer, neuron and score of each.
    """
    pack = _SCORE.pack
    packed = b"".join(
        pack(5, 4, run, 4, prompt, 4, layer, 4, neuron, 8, score) for run, prompt, layer, neuron, score in rows
    )
    return _HEAD + packed + _TAIL if packed else b""


def copied(driver: Any, table: str, columns: Sequence[str], content: bytes | Sequence[Sequence[Any]]) -> None:
    """Copies rows into a table.

    Args:
        driver: a connection of psycopg's, in a transaction.
        table: the table.
        columns: those that the rows have.
        content: the rows, or the binary format of them.
    """
    binary = isinstance(content, bytes)
    statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN{' (FORMAT BINARY)' if binary else ''}"
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        if isinstance(content, bytes):
            copy.write(content)
        else:
            for row in starmap(_plain, content):
                copy.write_row(row)


def _plain(*row: Any) -> tuple[Any, ...]:
    """A row with NULL for numbers that are none, as SQLite keeps them."""
    return tuple(None if value != value else value for value in row)
