"""Anybody's SQL on a database, of any schema revision: it can only read, and the database system sees to that."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from ..backends.backend import BUSY_TIMEOUT, Answer, Backend
from ..backends.finding import backend_at
from .sql_limits import USUAL_LIMITS, Row, SqlLimits


def read_sql(
    location: str | Path | Backend, query: str, limits: SqlLimits = USUAL_LIMITS, *, timeout: float = BUSY_TIMEOUT
) -> tuple[list[str], list[Row]]:
    """Runs one statement that reads, and gives all of its answer; see `reading_sql`."""
    with reading_sql(location, query, limits, timeout=timeout) as (columns, rows):
        return columns, list(rows)


def reading_sql(
    location: str | Path | Backend, query: str, limits: SqlLimits = USUAL_LIMITS, *, timeout: float = BUSY_TIMEOUT
) -> AbstractContextManager[Answer]:
    """Runs one statement that reads, while a block takes its answer row by row.

    Args:
        location: the database, of any schema revision.
        query: the statement; SQLite knows `kndb_casefold(text)` in it.
        limits: what it may take.
        timeout: seconds to wait for other processes.

    Returns:
        What gives the block the columns' names (of columns of one name, the second is called `name_2`, and so on), and
        the rows.

    Raises:
        UsageError: if it would do anything but read, is no SQL or several statements, names what is not there, or goes
            beyond a limit: then the rows up to there were given.
        StoreMissingError: if there is no database.
        StoreError: if it can't be read, or is something else.
    """
    return backend_at(location).reading_sql(query, limits, timeout)
