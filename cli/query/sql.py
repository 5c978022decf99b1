"""`kndb query sql`: whatever else can be asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from ..options import (
    DatabaseOption,
    FormatOption,
    explained,
)
from ..output import OutputFormat, note, print_stream


def sql(
    query: Annotated[
        str, typer.Argument(metavar="SQL", help="One SQL statement that only reads. Tables: kndb docs schema.")
    ],
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="SECONDS", help="Stop a query that takes longer.")
    ] = 30.0,
    most_rows: Annotated[
        int, typer.Option("--most-rows", metavar="N", help="Refuse an answer with more rows.")
    ] = 1_000_000,
    most_bytes: Annotated[
        int, typer.Option("--most-bytes", metavar="N", help="Refuse an answer with more bytes of values.")
    ] = 1 << 28,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Run an SQL query of your own on the database, whatever its schema revision; it can only read.

    Example: kndb query sql "SELECT key, label FROM relation"
    """
    from kndb.database.query.sql import SqlLimits, streaming_query

    limits = SqlLimits(time_limit, most_rows, most_bytes)
    with explained(db), streaming_query(query, db, limits) as (columns, found):
        count = 0

        def rows() -> Iterator[dict[str, object]]:
            nonlocal count
            for row in found:
                count += 1
                yield {name: _printable(value) for name, value in zip(columns, row, strict=True)}

        print_stream(rows(), columns, output)
        if not count:
            note("The statement gave no rows.")


def _printable(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
