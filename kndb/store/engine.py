"""The store: one SQLite file, and beside it the folder of edit objects (`kndb.db` and `kndb.objects`).

All reads and writes go through `reading()` and `writing()`: each is one transaction that sees one state of
the database. Writers take the write lock at once (BEGIN IMMEDIATE): one that began need not wait again.
Never hold a write transaction while a model computes.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from sqlalchemy import Connection
from sqlalchemy.pool import QueuePool

from ..errors import StoreError, StoreMissingError
from .connections import BEGIN, BUSY_TIMEOUT, OBJECTS, STATISTICS, database_path, make_engine, translated_errors
from .schema import require_file, require_head, upgrade

_log = logging.getLogger(__name__)
OLDEST_SQLITE = (3, 35)
"""The first SQLite with RETURNING."""


class Store:
    """An open database. Made by `open_store`, which checks that there is one of the right revision.

    Attributes:
        path: the database file, absolute.
        objects: the folder of its edit objects.
        statistics: the folder of its kept covariances; there may be none.
    """

    def __init__(self, location: str | Path, *, timeout: float = BUSY_TIMEOUT) -> None:
        """Names the database; the file is touched by the first transaction.

        Args:
            location: a path or a `sqlite:///PATH` URL.
            timeout: seconds that a transaction waits for other processes.

        Raises:
            UsageError: if the location is another kind of URL.
        """
        self.path = database_path(location)
        self.objects = self.path.with_suffix(OBJECTS)
        self.statistics = self.path.with_suffix(STATISTICS)
        self._timeout = timeout
        self._engine = make_engine(self.path, QueuePool, timeout=timeout)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Opens a transaction that sees one state of the database, and undoes whatever the block writes.

        Raises:
            StoreError: if the database can't be read.
        """
        with self._connection("BEGIN") as connection:
            transaction = connection.begin()
            try:
                yield connection
            finally:
                transaction.rollback()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Opens a transaction that holds the write lock; commits at the end, rolls back on any exception.

        Raises:
            StoreError: if the database can't be written, or another process kept the lock for too long.
        """
        with self._connection("BEGIN IMMEDIATE") as connection, connection.begin():
            yield connection

    def close(self) -> None:
        """Closes the connections. The store may be used again: it then opens new ones."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _connection(self, begin: str) -> Iterator[Connection]:
        started = time.perf_counter()
        with translated_errors(self.path, self._timeout), self._engine.connect() as connection:
            yield connection.execution_options(**{BEGIN: begin})
        _log.debug("%s on %s took %.1f ms", begin, self.path.name, 1000 * (time.perf_counter() - started))


def open_store(location: str | Path, *, create: bool, timeout: float = BUSY_TIMEOUT) -> Store:
    """Opens a database that has this kndb's schema revision.

    Args:
        location: a path or a `sqlite:///PATH` URL.
        create: whether a missing or empty file becomes a new database: commands that write say yes. A
            database of an older revision is never migrated here.
        timeout: seconds that each transaction waits for other processes.

    Raises:
        UsageError: if the location is another kind of URL.
        StoreMissingError: if there is no database and `create` is false.
        SchemaVersionError: if the database has another revision, or is not kndb's.
        StoreError: if it can't be opened.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise StoreError(
            f"kndb needs SQLite {needed} or newer, and this Python has {sqlite3.sqlite_version}; use another Python"
        )
    path = database_path(location)
    try:
        return _open(path, timeout)
    except StoreMissingError:
        if not create:
            raise
    upgrade(path, create=True, timeout=timeout)
    return _open(path, timeout)


def _open(path: Path, timeout: float) -> Store:
    require_file(path)
    store = Store(path, timeout=timeout)
    try:
        with store.reading() as connection:
            require_head(connection, path)
    except BaseException:
        store.close()
        raise
    return store
