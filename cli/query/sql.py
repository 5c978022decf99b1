"""`kndb query sql`: whatever else can be asked."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import (
    DatabaseOption,
    FormatOption,
    explained,
)
from ..output import OutputFormat, note, print_rows


def sql(
    query: Annotated[
        str, typer.Argument(metavar="SQL", help="One SQL statement that only reads. Tables: kndb docs schema.")
    ],
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Run an SQL query of your own on the database, whatever its schema revision; it can only read.

    Example: kndb query sql "SELECT key, label FROM relation"
    """
    from kndb.database.query.sql import query_database

    with explained(db):
        columns, found = query_database(query, db)
    rows = [{name: _printable(value) for name, value in zip(columns, row, strict=True)} for row in found]
    if not rows:
        note("The statement gave no rows.")
    print_rows(rows, columns, output)


def _printable(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
