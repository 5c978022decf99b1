"""Queries of the reader's own, which only read, with the schema beside them."""

from __future__ import annotations

from ...advice import call
from ..blocks import Block, Choice, Column, Form, Page, Table, Text
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
    command = None
    if query:
        visit.require_own()
        command = call("query.sql", query)
        names, found = visit.database.query.sql(query, time_limit=SECONDS, most_rows=ROWS, most_bytes=BYTES)
        columns = [Column(name, name, "text") for name in names]
        rows = [dict(zip(names, (_shown(value) for value in row), strict=True)) for row in found]
        blocks.append(Table("answer", "Answer", columns, rows, empty="The statement gave no rows."))
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
    return Page("SQL", blocks, command=command, context=False)


def _shown(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
