"""The store: a database, and a folder of edit objects, which for a file lies beside it (`kndb.db` and `kndb.objects`).

All reads and writes go through `reading()` and `writing()`: each is one transaction that sees one state of
the database. Writers take the write lock at once, so that one that began need not wait again.
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
from .backends.backend import BEGIN, BUSY_TIMEOUT, READING, WRITING, Backend
from .backends.finding import backend_at
from .schema import require_head, require_same_revision, upgrade

_log = logging.getLogger(__name__)
OLDEST_SQLITE = (3, 35)
"""The first SQLite with RETURNING."""


class Store:
    """An open database. Made by `open_store`, which checks that there is one of the right revision.

    Attributes:
        backend: the database, and what its system does in its own way.
    """

    def __init__(
        self, location: str | Path | Backend, *, objects: str | Path | None = None, timeout: float = BUSY_TIMEOUT
    ) -> None:
        """Names the database, which is touched by the first transaction.

        Args:
            location: a path, a `sqlite:///PATH` or a `postgresql://…` URL.
            objects: the folder of edit objects of a database on a server; None takes the environment's KNDB_OBJECTS.
            timeout: seconds that a transaction waits for other processes.

        Raises:
            UsageError: if the location is another kind of URL, or one of a server whose driver is not installed.
        """
        self.backend = backend_at(location, objects)
        self._timeout = timeout
        self._engine = self.backend.make_engine(QueuePool, timeout=timeout)
        self._held = False

    @property
    def shown(self) -> str:
        """How messages name the database: its file, or its URL without a password."""
        return self.backend.shown

    @property
    def path(self) -> Path:
        """The database file, absolute.

        Raises:
            UsageError: if the database is on a server.
        """
        return self.backend.path

    @property
    def objects(self) -> Path:
        """The folder of its edit objects.

        Raises:
            UsageError: if the database is on a server, and nobody said where that folder is.
        """
        return self.backend.objects

    @property
    def statistics(self) -> Path:
        """The folder of its kept covariances; there may be none. Errors as for `objects`."""
        return self.backend.statistics

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Opens a transaction that sees one state of the database, and undoes whatever the block writes.

        Raises:
            SchemaVersionError: if another kndb has upgraded it since it was opened.
            StoreError: if the database can't be read.
        """
        with self._connection(READING) as connection:
            transaction = connection.begin()
            try:
                self._require_revision(connection)
                yield connection
            finally:
                transaction.rollback()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Opens a transaction that holds the write lock; commits at the end, rolls back on any exception.

        Raises:
            SchemaVersionError: if another kndb has upgraded it since it was opened.
            StoreError: if the database can't be written, or another process kept the lock for too long.
        """
        with self._connection(WRITING) as connection, connection.begin():
            self._require_revision(connection)
            yield connection

    def hold_revision(self) -> None:
        """Refuses, from now on, whatever is to be read or written once another kndb has upgraded the database.

        Work that takes days, or a server, may see that; its statements are those of the schema that it began with.
        """
        self._held = True

    def _require_revision(self, connection: Connection) -> None:
        if self._held:
            require_same_revision(connection)

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
    def _connection(self, purpose: str) -> Iterator[Connection]:
        started = time.perf_counter()
        with self.backend.errors(self._timeout), self._engine.connect() as connection:
            yield connection.execution_options(**{BEGIN: purpose})
        _log.debug("%s %s took %.1f ms", purpose, self.shown, 1000 * (time.perf_counter() - started))


def open_store(
    location: str | Path | Backend,
    *,
    create: bool,
    objects: str | Path | None = None,
    timeout: float = BUSY_TIMEOUT,
) -> Store:
    """Opens a database that has this kndb's schema revision.

    Args:
        location: a path, a `sqlite:///PATH` or a `postgresql://…` URL.
        create: whether a missing or empty file, or an empty database on a server, becomes a new database: commands
            that write say yes. A database of an older revision is never migrated here.
        objects: the folder of edit objects of a database on a server; None takes the environment's KNDB_OBJECTS.
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
    backend = backend_at(location, objects)
    try:
        return _open(backend, timeout)
    except StoreMissingError:
        if not create:
            raise
    upgrade(backend, create=True, timeout=timeout)
    return _open(backend, timeout)


def _open(backend: Backend, timeout: float) -> Store:
    backend.require()
    store = Store(backend, timeout=timeout)
    try:
        with store.reading() as connection:
            require_head(connection)
    except BaseException:
        store.close()
        raise
    store.hold_revision()
    return store
