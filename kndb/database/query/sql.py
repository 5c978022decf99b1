"""SQL of the user's own, that reads."""

from __future__ import annotations

from pathlib import Path

from ...store.connections import database_path
from ...store.queries.reading_sql import read_sql
from ..database import default_location


def query_database(query: str, location: str | Path | None = None) -> tuple[list[str], list[tuple[object, ...]]]:
    """Runs one SQL statement that only reads, on a database of any schema revision.

    Args:
        query: the statement, for example `SELECT key FROM relation`.
        location: a path or `sqlite:///PATH`; None takes the environment's KNDB_DB, else `./kndb.db`.

    Returns:
        The columns' names, no two alike, and the rows.

    Raises:
        UsageError: if the statement would do more than read, or SQLite can't run it.
        StoreMissingError: if there is no database.
        StoreError: if it can't be read.
    """
    return read_sql(database_path(location if location is not None else default_location()), query)
