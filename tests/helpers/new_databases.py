"""New SQLite databases at a twentieth of the cost: alembic works once in a process, and its statements are repeated.

All else about a new database stays as it is: `kndb.store.schema` opens it, begins the transaction, checks and commits.
What is not an empty SQLite database goes to alembic.
"""

from __future__ import annotations

from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, event

alembic_upgrade = command.upgrade
"""alembic itself."""
_statements: list[tuple[str, Any]] = []
"""What alembic does to an empty database, in its order; nothing until it did it."""


def repeat_first_revisions(patch: pytest.MonkeyPatch) -> None:
    """Has all but a process's first new database made by the statements of the first.

    Args:
        patch: ends it.
    """
    patch.setattr(command, "upgrade", _made)


def _made(config: Any, revision: str) -> None:
    connection = config.attributes["connection"]
    if revision != "head" or connection.dialect.name != "sqlite" or _tables(connection):
        alembic_upgrade(config, revision)
    elif _statements:
        for statement, parameters in _statements:
            connection.exec_driver_sql(statement, parameters)
    else:
        _statements.extend(_recorded(config, connection))


def _recorded(config: Any, connection: Connection) -> list[tuple[str, Any]]:
    """Runs alembic, and gives the statements that wrote."""
    found: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA")):
            found.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    try:
        alembic_upgrade(config, "head")
    finally:
        event.remove(connection, "before_cursor_execute", note)
    return found


def _tables(connection: Connection) -> int:
    return int(connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one())
