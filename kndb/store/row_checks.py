"""What `check` asks of the values in the rows: types, ranges, forms, references, and the shapes of models.

Each table is read once, in SQLite, which says how many values of each column break its rule (`column_rules`); only
those are looked at. Nothing is read as kndb's own statements read it: they refuse what is looked for here.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy import Table as CoreTable

from .column_rules import FORMS, ColumnRule
from .stored_types import StoredType, shown
from .tables import Table

LISTED = 20
"""Rows that are named for each column; of more, only the number."""
_FITS_FORM, _IS_TEXT = "kndb_fits_form", "kndb_is_text"


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
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.create_function(_FITS_FORM, 2, _fits_form, deterministic=True)
    driver.create_function(_IS_TEXT, 1, _is_text, deterministic=True)
    with _any_text(driver):
        chosen = (table for table in Table.metadata.sorted_tables if tables is None or table.name in tables)
        return [problem for table in chosen for problem in _of_table(driver, table)]


def check_references(connection: Connection, tables: Collection[str] | None = None) -> list[Problem]:
    """Names the rows that refer to rows which don't exist, in some tables or in all."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    named = sorted(Table.metadata.tables if tables is None else tables)
    broken = {
        (name, int(row[3]))
        for name in named
        for row in driver.execute(f'PRAGMA foreign_key_check("{name}")').fetchall()
    }
    references = [
        (name, *(str(part) for part in key[2:5]))
        for name, number in sorted(broken)
        for key in driver.execute(f'PRAGMA foreign_key_list("{name}")').fetchall()
        if key[0] == number
    ]
    problems = []
    with _any_text(driver):
        for name, other, column, referred in references:
            found = f'SELECT 1 FROM "{other}" AS other WHERE other."{referred}" = "{name}"."{column}"'  # noqa: S608
            condition = f'"{column}" IS NOT NULL AND NOT EXISTS ({found})'
            said = f"; it refers to a row of {other} that doesn't exist"
            problems += _listed(driver, Table.metadata.tables[name], column, condition, said)
    return problems


def check_shapes(connection: Connection, but: Collection[str] = ()) -> list[Problem]:
    """Names the rows with layers or neurons that their model does not have.

    Args:
        connection: a connection in a transaction.
        but: tables to leave out, and what belongs to their rows: those with values of a wrong type.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    problems = []
    with _any_text(driver):
        for name, owner, owners in _SHAPED:
            if {name, *re.findall(r"\w+", owners)} & set(but):
                continue
            table = Table.metadata.tables[name]
            for number, model, layers, neurons in driver.execute(owners).fetchall():
                for column, most in (("layer", layers), ("neuron", neurons)):
                    each = " in each layer" if column == "neuron" else ""
                    said = f"; model {_words(model)} has {most:,} {column}s{each}"
                    problems += _listed(driver, table, column, f'"{owner}" = {number} AND "{column}" >= {most}', said)
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


def _of_table(driver: sqlite3.Connection, table: CoreTable) -> Iterator[Problem]:
    broken = {name: _broken(name, _rule(table, name)) for name in table.columns.keys()}  # noqa: SIM118 - no mapping
    sums = ", ".join(f"total({condition})" for condition in broken.values())
    counts = driver.execute(f'SELECT {sums} FROM "{table.name}"').fetchone()  # noqa: S608 - the tables' own names
    for (name, condition), count in zip(broken.items(), counts, strict=True):
        if count:
            rule = _rule(table, name)
            yield from _listed(driver, table, name, condition, f"; it must be {rule.must_be}", int(count))


def _rule(table: CoreTable, column: str) -> ColumnRule:
    kind = table.columns[column].type
    assert isinstance(kind, StoredType)
    return kind.rule


def _broken(name: str, rule: ColumnRule) -> str:
    """SQL that is 1 where a column breaks its rule, and 0 where it does not, or is NULL."""
    column = f'"{name}"'
    kinds = {"whole": "'integer'", "number": "'real', 'integer'", "flag": "'integer'"}.get(rule.kind, "'text'")
    kept = [f"typeof({column}) IN ({kinds})"]
    if rule.kind == "flag":
        kept.append(f"{column} IN (0, 1)")
    elif rule.kind in ("whole", "number"):
        kept += [f"{column} >= {rule.least!r}"] if rule.least != -math.inf else []
        kept += [f"{column} <= {rule.most!r}"] if rule.most != math.inf else []
        kept += [f"{column} NOT IN (9e999, -9e999)"] if rule.kind == "number" and not rule.infinite else []
    else:
        kept.append(f"{_IS_TEXT}(CAST({column} AS BLOB))")
        kept += [f"{_FITS_FORM}('{rule.form}', CAST({column} AS BLOB))"] if rule.form is not None else []
        kept += [f"{column} IN ({', '.join(map(repr, rule.among))})"] if rule.among else []
    return f"CASE WHEN {column} IS NULL THEN 0 WHEN {' AND '.join(kept)} THEN 0 ELSE 1 END"


def _listed(
    driver: sqlite3.Connection,
    table: CoreTable,
    column: str,
    condition: str,
    said: str,
    count: int | None = None,
) -> list[Problem]:
    """A problem for each of the first rows that meet a condition, and one that counts the rest."""
    keys = [one.name for one in table.primary_key.columns]
    columns = ", ".join(f'"{name}"' for name in (*keys, column))
    rows = driver.execute(
        f'SELECT {columns} FROM "{table.name}" WHERE {condition} ORDER BY {columns} LIMIT {LISTED}'  # noqa: S608
    ).fetchall()
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
            count = int(driver.execute(query).fetchone()[0])
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


class _Bytes(bytes):
    """A text of the database as it is, which may be no UTF-8."""


def _text(value: object) -> object:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, _Bytes) else value


class _any_text:  # noqa: N801 - a context manager, used as a function is
    """Lets a connection give texts that are no UTF-8, as `_Bytes`, while the block runs."""

    def __init__(self, driver: sqlite3.Connection) -> None:
        self._driver, self._before = driver, driver.text_factory

    def __enter__(self) -> None:
        self._driver.text_factory = _Bytes

    def __exit__(self, *_: object) -> None:
        self._driver.text_factory = self._before


def _is_text(value: bytes) -> bool:
    if b"\0" in value:
        return False
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _fits_form(form: str, value: bytes) -> bool:
    return FORMS[form].fits(value.decode("utf-8", "replace"))
