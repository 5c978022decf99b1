"""Queries of the reader's own, which only read, with the schema beside them."""

from __future__ import annotations

from ...advice import call, option
from ...errors import UsageError
from ..blocks import Block, Choice, Column, Form, Page, Table, Text
from ..later import why_not
from ..visit import Visit

SECONDS, ROWS, BYTES = 5.0, 1_000, 4_000_000
"""Limits of a query; the command has larger ones."""
EXAMPLE = "SELECT key, label FROM relation ORDER BY key"


def sql(visit: Visit) -> Page:
    """What one SQL statement finds."""
    query = visit.query.get("query", "").strip()
    fields = [Choice("query", "SQL", query or EXAMPLE, "area", placeholder=EXAMPLE)]
    note = f"It can only read; it is stopped after {SECONDS:g} s, and at {ROWS:,} rows."
    blocks: list[Block] = [Form(visit.addresses.page(("sql",), {}) or "", "Run", fields), Text(note, "empty")]
    command, status = None, 200
    if query:
        visit.require_own()
        command = call("query.sql", query)
        try:
            blocks.append(_answer(visit, query))
        except UsageError as error:
            # What was typed stays in its field.
            said, status = why_not(visit, error), 400
            blocks.append(Text(f"{said} The command has larger limits." if _is_limit(error) else said, "warning"))
    tables = visit.database.maintenance.tables()
    schema = [{"table": name, "columns": list(columns)} for name, columns in tables.items()]
    blocks.append(
        Table(
            "schema",
            "Tables",
            [Column("table", "Table", "code"), Column("columns", "Columns", "long", sorts=False)],
            schema,
            size=100,
            note=f"What they mean: {call('kndb.page_text', 'schema')}",
        )
    )
    return Page("SQL", blocks, command=command, context=False, status=status)


def _answer(visit: Visit, query: str) -> Table:
    names, found = visit.database.query.sql(query, time_limit=SECONDS, most_rows=ROWS, most_bytes=BYTES)
    columns = [Column(name, name, "text") for name in names]
    rows = [dict(zip(names, (_shown(value) for value in row), strict=True)) for row in found]
    return Table("answer", "Answer", columns, rows, empty="The statement gave no rows.")


def _is_limit(error: UsageError) -> bool:
    return any(error.text.startswith(f"{option(name)}:") for name in ("time_limit", "most_rows", "most_bytes"))


def _shown(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
