"""What `check` asks of the values in the rows: types, ranges, forms, references, and the shapes of models.

Each table is read once, in SQL, which says how many values of each column break its rule (`column_rules`); only
those are looked at. Nothing is read as kndb's own statements read it: they refuse what is looked for here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy import Table as CoreTable

from .backends.backend import AnyText, Backend, RowsOf
from .backends.finding import backend_of
from .column_rules import ColumnRule
from .stored_types import StoredType, shown
from .tables import Table

LISTED = 20
"""Rows that are named for each column; of more, only the number."""


@dataclass(frozen=True)
class Problem:
    """Something wrong in rows of a table."""

    table: str
    text: str


def check_rows(connection: Connection, tables: Collection[str] | None = None) -> list[Problem]:
    """Looks at each value of each table: one problem for each of the first rows of a column, and one for the others.

    Args:
        connection: a connection in a transaction, to a database with kndb's schema.
        tables: the names of those to look at; None for all.
    """
    backend = backend_of(connection)
    chosen = (table for table in Table.metadata.sorted_tables if tables is None or table.name in tables)
    with backend.looking_at_rows(connection) as rows_of:
        return [problem for table in chosen for problem in _of_table(backend, rows_of, table)]


def check_references(connection: Connection, tables: Collection[str] | None = None) -> list[Problem]:
    """Names the rows that refer to rows which don't exist, in some tables or in all."""
    backend = backend_of(connection)
    named = sorted(Table.metadata.tables if tables is None else tables)
    problems = []
    references = backend.broken_references(connection, named)
    with backend.looking_at_rows(connection) as rows_of:
        for name, other, column, referred in references:
            found = f'SELECT 1 FROM "{other}" AS other WHERE other."{referred}" = "{name}"."{column}"'  # noqa: S608
            condition = f'"{column}" IS NOT NULL AND NOT EXISTS ({found})'
            said = f"; it refers to a row of {other} that doesn't exist"
            problems += _listed(rows_of, Table.metadata.tables[name], column, condition, said)
    return problems


def check_shapes(connection: Connection, but: Collection[str] = ()) -> list[Problem]:
    """Names the rows with layers or neurons that their model does not have.

    Args:
        connection: a connection in a transaction.
        but: tables to leave out, and what belongs to their rows: those with values of a wrong type.
    """
    problems = []
    with backend_of(connection).looking_at_rows(connection) as rows_of:
        for name, owner, owners in _SHAPED:
            if {name, *re.findall(r"\w+", owners)} & set(but):
                continue
            table = Table.metadata.tables[name]
            for number, model, layers, neurons in rows_of(owners):
                for column, most in (("layer", layers), ("neuron", neurons)):
                    each = " in each layer" if column == "neuron" else ""
                    said = f"; model {_words(model)} has {most:,} {column}s{each}"
                    problems += _listed(rows_of, table, column, f'"{owner}" = {number} AND "{column}" >= {most}', said)
    return problems


_OF_REFINEMENTS = """
SELECT refinement.id, model.name, model.layers, model.neurons
FROM refinement JOIN run ON run.id = refinement.run_id JOIN model ON model.id = run.model_id
"""
_SHAPED = (
    ("score", "run_id", "SELECT run.id, name, layers, neurons FROM run JOIN model ON model.id = run.model_id"),
    ("knowledge_neuron", "refinement_id", _OF_REFINEMENTS),
    ("relation_neuron", "refinement_id", _OF_REFINEMENTS),
    (
        "edit_neuron",
        "edit_id",
        "SELECT edit.id, name, layers, neurons FROM edit JOIN model ON model.id = edit.model_id",
    ),
)
"""Tables with neurons, the column of what they belong to, and the shape of the model of each of those."""


def _of_table(backend: Backend, rows_of: RowsOf, table: CoreTable) -> Iterator[Problem]:
    broken = {name: backend.breaks(f'"{name}"', _rule(table, name)) for name in table.columns.keys()}  # noqa: SIM118
    sums = ", ".join(f"coalesce(sum({condition}), 0)" for condition in broken.values())
    (counts,) = rows_of(f'SELECT {sums} FROM "{table.name}"')  # noqa: S608 - the tables' own names
    for (name, condition), count in zip(broken.items(), counts, strict=True):
        if count:
            rule = _rule(table, name)
            yield from _listed(rows_of, table, name, f"{condition} = 1", f"; it must be {rule.must_be}", int(count))


def _rule(table: CoreTable, column: str) -> ColumnRule:
    kind = table.columns[column].type
    assert isinstance(kind, StoredType)
    return kind.rule


def _listed(
    rows_of: RowsOf,
    table: CoreTable,
    column: str,
    condition: str,
    said: str,
    count: int | None = None,
) -> list[Problem]:
    """A problem for each of the first rows that meet a condition, and one that counts the rest."""
    keys = [one.name for one in table.primary_key.columns]
    columns = ", ".join(f'"{name}"' for name in (*keys, column))
    rows = rows_of(
        f'SELECT {columns} FROM "{table.name}" WHERE {condition} ORDER BY {columns} LIMIT {LISTED}'  # noqa: S608
    )
    problems = [
        Problem(
            table.name,
            f"table {table.name}, {_row(keys, row)}, column {column}: {shown(_text(row[-1]))}{said}",
        )
        for row in rows
    ]
    if len(rows) == LISTED:
        if count is None:
            query = f'SELECT count(*) FROM "{table.name}" WHERE {condition}'  # noqa: S608
            count = int(rows_of(query)[0][0])
        if count > LISTED:
            problems.append(
                Problem(table.name, f"table {table.name}, column {column}: {count - LISTED:,} more rows{said}")
            )
    return problems


def _row(keys: Sequence[str], row: Sequence[object]) -> str:
    if list(keys) == ["id"]:
        return f"row {_words(row[0])}"
    return "row " + ", ".join(f"{key} {_words(value)}" for key, value in zip(keys, row, strict=False))


def _words(value: object) -> str:
    return str(value) if type(value) is int else shown(_text(value))


def _text(value: object) -> object:
    return str(value) if isinstance(value, AnyText) else value
