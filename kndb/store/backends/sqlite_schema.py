"""A database's schema as SQLite's pragmas describe it.

How a statement is written, and what SQLAlchemy called a type at the time, makes no difference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection

from .backend import Part, Schema


def described(connection: Connection) -> Schema:
    """Describes a database's schema, SQLite's own tables left out."""
    query = (
        "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master "
        "WHERE name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY name"
    )
    parts: dict[Part, str] = {}
    within: dict[Part, str] = {}
    for kind, name, table, statement in connection.exec_driver_sql(query).fetchall():
        if kind in ("trigger", "view"):
            parts[kind, name] = f"a {kind}"
        elif kind == "table":
            parts[kind, name] = "a table without row numbers" if _WITHOUT_ROWID.search(statement) else "a table"
            for part, text in _table_parts(connection, name, statement):
                parts[part], within[part] = text, name
        else:
            parts[kind, name], within[kind, name] = _index(connection, table, name, statement), table
    return Schema(parts, within)


_WITHOUT_ROWID = re.compile(r"\)\s*WITHOUT\s+ROWID\s*$", re.IGNORECASE)


def _table_parts(connection: Connection, table: str, statement: str) -> Iterator[tuple[Part, str]]:
    for _, name, kind, not_null, default, key, hidden in _pragma(connection, "table_xinfo", table):
        words = [_affinity(kind), "NOT NULL" if not_null else "nullable"]
        words += [] if default is None else [f"default {default}"]
        words += [f"number {key} of the key"] if key else []
        words += ["generated"] if hidden else []
        yield ("column", f"{table}.{name}"), ", ".join(words)
    keys: dict[int, list[tuple[str, str]]] = {}
    about: dict[int, str] = {}
    for row in _pragma(connection, "foreign_key_list", table):
        number, _, other, column, referred, on_update, on_delete, _ = row
        keys.setdefault(number, []).append((column, referred or "id"))
        about[number] = f"to {other}, on update {on_update}, on delete {on_delete}"
    for number, pairs in keys.items():
        columns = ", ".join(column for column, _ in pairs)
        referred = ", ".join(name for _, name in pairs)
        yield ("reference", f"{table}.{columns}"), f"{about[number]} ({referred})"
    for _, name, _, origin, _ in _pragma(connection, "index_list", table):
        if origin == "u":
            columns = ", ".join(str(row[2]) for row in _pragma(connection, "index_info", name))
            yield ("unique constraint", f"{table} ({columns})"), "there"
    for text in _checks(statement):
        yield ("check constraint", f"{table} ({text})"), "there"


def _index(connection: Connection, table: str, name: str, statement: str) -> str:
    unique = any(row[1] == name and row[2] for row in _pragma(connection, "index_list", table))
    columns = ", ".join(
        f"{row[2]}{' DESC' if row[3] else ''}" for row in _pragma(connection, "index_xinfo", name) if row[5]
    )
    condition = re.search(r"\)\s*WHERE\s+(.*)$", statement, re.IGNORECASE | re.DOTALL)
    where = f" where {_one_line(condition[1])}" if condition else ""
    return f"{'a unique index' if unique else 'an index'} of {table} ({columns}){where}"


def _pragma(connection: Connection, name: str, about: str) -> list[tuple[Any, ...]]:
    quoted = about.replace('"', '""')
    # The driver's own call: a schema takes some hundred and fifty of them, and SQLAlchemy's takes ten times as long.
    driver: Any = connection.connection.driver_connection
    return list(driver.execute(f'PRAGMA {name}("{quoted}")'))


def _affinity(kind: object) -> str:
    """The type that SQLite makes of a declared one, by its rules."""
    declared = str(kind).upper()
    for affinity, words in (("INTEGER", ("INT",)), ("TEXT", ("CHAR", "CLOB", "TEXT")), ("BLOB", ("BLOB",))):
        if any(word in declared for word in words):
            return affinity
    if not declared:
        return "BLOB"
    return "REAL" if any(word in declared for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def _checks(statement: str) -> Iterator[str]:
    """The conditions of a CREATE TABLE statement's check constraints."""
    for match in re.finditer(r"\bCHECK\s*\(", statement, re.IGNORECASE):
        depth, place = 1, match.end()
        while depth and place < len(statement):
            depth += {"(": 1, ")": -1}.get(statement[place], 0)
            place += 1
        yield _one_line(statement[match.end() : place - 1])


def _one_line(text: str) -> str:
    return " ".join(text.split())
