"""A store copied from one database system into the other, row by row, with its edit objects.

The copy reads one state of the source, and is there whole or not at all: a file takes its name when all is in it, and a
server gets everything in one transaction. Rows keep their numbers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy import Table as CoreTable
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from ..advice import call
from ..errors import StoreDamagedError, StoreError, UsageError
from .backends.backend import BEGIN, WRITING, Backend, holds_tables
from .engine import Store
from .object_files import copy_objects
from .schema import run_migrations
from .tables import Table

_ROWS = 20_000
"""Rows that are in memory at a time."""

Progress = Callable[[int, int], None]
"""Called with the number of rows that were copied, and of all."""


def copy_store(source: Store, target: Backend, progress: Progress | None = None) -> dict[str, int]:
    """Copies a store into an empty database, or a file that is not there yet.

    Args:
        source: the store, of this kndb's schema revision.
        target: where to.
        progress: told how far it is.

    Returns:
        The number of rows of each table.

    Raises:
        UsageError: if both are one database, or share a folder of edit objects.
        StoreError: if the target holds anything, or can't be written.
        StoreDamagedError: if an edit's object is missing or damaged, or a row refers to one that is not there.
    """
    if source.backend.shown == target.shown:
        raise UsageError(f"{target.shown} is both ends of the copy; name another database to copy to")
    with source.reading() as connection, target.made_whole() as made:
        counts = {table.name: _count(connection, table) for table in Table.metadata.sorted_tables}
        _copy_objects(source, connection, target, needed=counts["edit"] > 0)
        _fill(source.backend, connection, made, counts, progress or _nobody)
    return counts


def _copy_objects(source: Store, connection: Connection, target: Backend, *, needed: bool) -> None:
    """Copies the edit objects, which do no harm anywhere, before the rows that name them."""
    if not needed:
        return
    if source.objects == target.objects:
        raise UsageError(
            f"{target.shown} would share {target.objects} with {source.shown}; choose another folder of edit objects"
        )
    target.note_store()
    copy_objects(source, connection, target.objects)


def _fill(backend: Backend, source: Connection, target: Backend, counts: dict[str, int], progress: Progress) -> None:
    """Makes the tables and writes all rows, in one transaction."""
    engine = target.make_engine(NullPool, create=True, foreign_keys=False)
    with target.errors(), engine.connect() as plain:
        connection = plain.execution_options(**{BEGIN: WRITING})
        with connection.begin():
            if target.tables(connection):
                raise holds_tables(target.shown)
            run_migrations(connection)
            done, every = 0, sum(counts.values())
            for table in Table.metadata.sorted_tables:
                columns = [column.name for column in table.columns]
                chunks = _chunks(source, table, columns)
                while rows := _next(backend, chunks):
                    with _named(table, target):
                        target.write_rows(connection, table.name, columns, rows)
                    done += len(rows)
                    progress(done, every)
            _verify(connection, target, counts)
            target.renumber(connection)
            target.grown(connection, *counts)
    engine.dispose()


def _next(source: Backend, chunks: Iterator[list[tuple[Any, ...]]]) -> list[tuple[Any, ...]] | None:
    """The next rows; what goes wrong with the source is said of the source."""
    with source.errors():
        return next(chunks, None)


@contextlib.contextmanager
def _named(table: CoreTable, target: Backend) -> Iterator[None]:
    """Says of which table the rows are that the target can't hold."""
    try:
        with target.errors(), _wrong_rows(table):
            yield
    except UsageError as error:
        raise UsageError(f"table {table.name}: {error}; nothing was copied") from error


@contextlib.contextmanager
def _wrong_rows(table: CoreTable) -> Iterator[None]:
    """Says that rows are damage of the source's, where they break a constraint or hold what is no value of a column's.

    Raises:
        StoreDamagedError: for such rows.
    """
    try:
        yield
    except Exception as error:
        # Either is SQLAlchemy's error, or the driver's own, which has a state.
        state = str(getattr(error, "sqlstate", None) or "")
        if not isinstance(error, IntegrityError) and not state.startswith("23") and state != "22P02":
            raise
        reason = str(error).strip().split("\n", 1)[0]
        raise StoreDamagedError(
            f"nothing was copied: a row of {table.name} is not as it must be ({reason}); see, of the database that was "
            f"to be copied: {call('maintenance.check')}"
        ) from error


def _chunks(connection: Connection, table: CoreTable, columns: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of a table in the order of its key, as the driver gives them."""
    keys = ", ".join(f'"{column.name}"' for column in table.primary_key.columns)
    names = ", ".join(f'"{name}"' for name in columns)
    query = f'SELECT {names} FROM "{table.name}" ORDER BY {keys}'  # noqa: S608 - the tables' own names
    streaming = {"stream_results": True, "max_row_buffer": _ROWS}
    with connection.exec_driver_sql(query, execution_options=streaming) as result:
        while rows := result.fetchmany(_ROWS):
            yield [tuple(row) for row in rows]


def _verify(connection: Connection, target: Backend, counts: dict[str, int]) -> None:
    for table in Table.metadata.sorted_tables:
        found = _count(connection, table)
        if found != counts[table.name]:
            raise StoreError(
                f"{target.shown} got {found} rows of {table.name} in place of {counts[table.name]}: nothing was copied"
            )
    broken = target.revision_broke(connection)
    if broken:
        raise StoreDamagedError(
            f"nothing was copied: {len(broken)} rows (tables {', '.join(sorted(set(broken)))}) refer to rows that "
            f"don't exist; see: {call('maintenance.check')}"
        )


def _count(connection: Connection, table: CoreTable) -> int:
    return int(connection.exec_driver_sql(f'SELECT count(*) FROM "{table.name}"').scalar_one())  # noqa: S608


def _nobody(done: int, every: int) -> None:
    """Who is told how far it is, if nobody asked."""
