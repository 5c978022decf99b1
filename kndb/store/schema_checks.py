"""What `check` asks of the schema: is each table, column, index, constraint, trigger and view there as kndb made it?

What is right is what the revisions in `migrations/` make of an empty database; each backend describes both.
"""

from __future__ import annotations

from sqlalchemy import Connection

from .backends.backend import Schema
from .backends.finding import backend_of
from .schema import run_migrations

_EXPECTED: dict[tuple[str, object], Schema] = {}


def expected_schema(connection: Connection) -> Schema:
    """The schema that the revisions make, for the backend of a connection; kept once it was made."""
    backend = backend_of(connection)
    # Versions of a server don't describe all parts in the same words.
    system = backend.kind, connection.dialect.server_version_info
    if system not in _EXPECTED:
        _EXPECTED[system] = backend.expected(connection, run_migrations)
    return _EXPECTED[system]


def check_schema(connection: Connection) -> list[str]:
    """Compares a database's schema with that of the revisions; one line for each part that differs."""
    found, expected = backend_of(connection).described(connection), expected_schema(connection)
    missing_tables = {name for kind, name in expected.parts if kind == "table" and (kind, name) not in found.parts}
    problems = []
    for part, should in expected.parts.items():
        if expected.within.get(part) in missing_tables:
            continue
        kind, name = part
        if part not in found.parts:
            place = _in_its_place(name, found) if kind == "table" else ""
            problems.append(f"{kind} {name} is missing{place}")
        elif found.parts[part] != should:
            problems.append(f"{kind} {name} is {found.parts[part]}; it must be {should}")
    foreign_tables = {name for kind, name in found.parts if kind == "table" and (kind, name) not in expected.parts}
    for part in found.parts:
        if part not in expected.parts and found.within.get(part) not in foreign_tables:
            kind, name = part
            problems.append(f"{kind} {name} is not kndb's{_consequence(kind)}")
    return problems


def _in_its_place(name: str, found: Schema) -> str:
    return "; a view that is not kndb's stands in its place" if ("view", name) in found.parts else ""


def _consequence(kind: str) -> str:
    return ", and would change what kndb writes" if kind == "trigger" else ""
