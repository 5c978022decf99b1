"""`kndb query sql`: whatever else can be asked."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import (
    DatabaseOption,
    FormatOption,
)
from ..output import OutputFormat, print_rows


def sql(
    query: Annotated[
        str, typer.Argument(metavar="SQL", help="One statement that only reads. Tables: kndb docs schema.")
    ],
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Run an SQL query of your own on the database, whatever its schema revision; it can only read.

    Example: kndb query sql "SELECT key, label FROM relation"
    """
    from kndb.database.query.sql import query_database

    columns, found = query_database(query, db)
    rows = [{name: _printable(value) for name, value in zip(columns, row, strict=True)} for row in found]
    print_rows(rows, columns, output)


def _printable(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
