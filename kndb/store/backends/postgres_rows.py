"""Many rows on their way to PostgreSQL: its COPY, in its binary format where there are millions."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import starmap
from typing import Any

from ...errors import UsageError

_SCORE = struct.Struct(">hiiiiiiiiid")
"""A row of the binary format: the number of fields, then each field's length and value; four integers and a float."""
_NO_SCORE = struct.Struct(">hiiiiiiiii")
"""The same with NULL, whose length is -1, for a number that is none: the server refuses it, as SQLite does."""
_HEAD, _TAIL = b"PGCOPY\n\xff\r\n\x00" + bytes(8), b"\xff\xff"


def rows_as_bytes(rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows of `score` in the binary format of COPY; empty if there is none.

    Args:
        rows: run, prompt, layer, neuron and score of each.

    Raises:
        UsageError: for a whole number that no column can hold.
    """
    pack = _SCORE.pack
    try:
        packed = b"".join(
            pack(5, 4, run, 4, prompt, 4, layer, 4, neuron, 8, score)
            if score == score
            else _NO_SCORE.pack(5, 4, run, 4, prompt, 4, layer, 4, neuron, -1)
            for run, prompt, layer, neuron, score in rows
        )
    except struct.error as error:
        raise UsageError(f"a number of a score is larger than PostgreSQL can hold ({error})") from error
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


def replaced(driver: Any, table: str, columns: Sequence[str], content: Any, key: Sequence[str]) -> None:
    """Copies rows into a table that has some of them already, which are replaced.

    Args:
        driver: a connection of psycopg's, in a transaction.
        table: the table.
        columns: those that the rows have.
        content: as for `copied`.
        key: the columns of the primary key.
    """
    names = ", ".join(columns)
    others = [name for name in columns if name not in key]
    with driver.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE kndb_new ON COMMIT DROP AS SELECT {names} FROM {table} LIMIT 0")  # noqa: S608
        copied(driver, "kndb_new", columns, content)
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM kndb_new ON CONFLICT ({', '.join(key)}) "  # noqa: S608
            f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in others)}"
        )
        cursor.execute("DROP TABLE kndb_new")
