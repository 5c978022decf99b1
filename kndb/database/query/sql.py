"""SQL of the user's own, that reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from ...store.queries.reading_sql import read_sql, reading_sql
from ...store.queries.sql_limits import USUAL_LIMITS, Row, SqlLimits
from ..database import default_location

__all__ = ["USUAL_LIMITS", "SqlLimits", "query_database", "streaming_query"]


def query_database(
    query: str, location: str | Path | None = None, limits: SqlLimits = USUAL_LIMITS
) -> tuple[list[str], list[Row]]:
    """Runs one SQL statement that only reads, on a database of any schema revision.

    Args:
        query: the statement, for example `SELECT key FROM relation`.
        location: a path, `sqlite:///PATH` or `postgresql://…`; None takes the environment's KNDB_DB, else `./kndb.db`.
        limits: what it may take.

    Returns:
        The columns' names, no two alike, and the rows.

    Raises:
        UsageError: if the statement would do more than read, the database can't run it, or it goes beyond a limit.
        StoreMissingError: if there is no database.
        StoreError: if it can't be read.
    """
    return read_sql(_named(location), query, limits)


def streaming_query(
    query: str, location: str | Path | None = None, limits: SqlLimits = USUAL_LIMITS
) -> AbstractContextManager[tuple[list[str], Iterator[Row]]]:
    """The same for a block that takes the rows one by one, so that they are never all in memory."""
    return reading_sql(_named(location), query, limits)


def _named(location: str | Path | None) -> str | Path:
    return location if location is not None else default_location()
