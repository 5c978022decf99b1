"""The store's schema revisions: which one a database has, and how it gets to the newest.

A schema is only ever made by running the revisions in `migrations/` from the first one on, all in one
transaction: a crash leaves the database in its old revision, and of two processes that start at once the
second finds the work done. alembic is imported only to migrate.
"""

from __future__ import annotations

import threading
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ..advice import call
from ..errors import SchemaVersionError, StoreDamagedError, StoreMissingError
from .backends.backend import BEGIN, BUSY_TIMEOUT, WRITING, Backend
from .backends.finding import backend_at, backend_of
from .files import empty
from .tables import Table

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010")
"""Every revision, oldest first: what alembic finds in `migrations/`, without importing alembic."""

_REVISION = "SELECT version_num FROM alembic_version"
_NO_TABLE = "42P01"
"""PostgreSQL's name of the error that there is no such table."""
_OWN_TABLES = frozenset(("relation", "fact", "prompt", "model"))
_alembic = threading.Lock()  # alembic keeps the running migration in module globals


def head_revision() -> str:
    """Gives the revision that this kndb reads and writes."""
    return REVISIONS[-1]


def current_revision(connection: Connection) -> str | None:
    """Gives the revision of a database; None where there is none.

    Args:
        connection: a connection to it.
    """
    return _revision_in(connection, backend_of(connection).tables(connection))


def _revision_in(connection: Connection, tables: set[str]) -> str | None:
    if "alembic_version" not in tables:
        return None
    revision = connection.exec_driver_sql(_REVISION).scalar()
    return None if revision is None else str(revision)


def require_head(connection: Connection) -> None:
    """Checks that a database has this kndb's revision, and what every command needs of its schema.

    Args:
        connection: a connection to it.

    Raises:
        StoreMissingError: if it holds no tables at all.
        SchemaVersionError: if it has another revision, or is not kndb's.
        StoreDamagedError: if a table, column or index is missing, or there is a trigger: it would change what is
            written.
    """
    shown = backend_of(connection).shown
    revision = _known_revision(connection)
    if revision is None:
        raise empty(shown)
    if revision != head_revision():
        raise SchemaVersionError(
            f"{shown} has schema revision {revision}, this kndb needs {head_revision()}; "
            f"bring it up to date with: {call('kndb.upgrade_database', location=shown)}"
        )
    flaw = _flaw(connection)
    if flaw is not None:
        raise StoreDamagedError(
            f"{shown} is damaged: {flaw}; see all with: {call('maintenance.check')}, and restore a backup"
        )


def require_same_revision(connection: Connection) -> None:
    """Checks that a database that was opened still has this kndb's revision, which one statement tells.

    Args:
        connection: a connection to it.

    Raises:
        SchemaVersionError: if another kndb has changed that.
    """
    try:
        revision = connection.exec_driver_sql(_REVISION).scalar()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _NO_TABLE and "no such table" not in str(error.orig):
            raise
        revision = None
    if revision != head_revision():
        which = "no schema revision" if revision is None else f"schema revision {revision}"
        raise SchemaVersionError(
            f"{backend_of(connection).shown} has {which} now, and had {head_revision()} when it was opened, so nothing "
            "of this was read or written; start again with the kndb that changed it"
        )


def _flaw(connection: Connection) -> str | None:
    """The first table, column or index that is missing, or trigger that is there; None if there is none of these."""
    backend = backend_of(connection)
    names = backend.columns(connection)
    tables = {name for name, _ in names}
    for table in Table.metadata.tables.values():
        if table.name not in tables:
            return f"table {table.name} is missing"
        for column in table.columns:
            if (table.name, column.name) not in names:
                return f"column {table.name}.{column.name} is missing"
    others = backend.indexes_and_triggers(connection)
    for table in Table.metadata.tables.values():
        for index in table.indexes:
            if index.name not in others:
                return f"index {index.name} is missing"
    trigger = next((name for name, kind in others.items() if kind == "trigger"), None)
    return None if trigger is None else f"trigger {trigger} is not kndb's, and would change what kndb writes"


def upgrade(location: str | Path | Backend, *, create: bool = False, timeout: float = BUSY_TIMEOUT) -> str:
    """Brings a database to the newest revision, in one transaction.

    Args:
        location: the database.
        create: whether a missing or empty file, or an empty database on a server, becomes a new database.
        timeout: seconds to wait for other processes.

    Returns:
        The revision that it has now.

    Raises:
        StoreMissingError: if there is no database and `create` is false.
        SchemaVersionError: if the database is newer than this kndb, or not kndb's.
        StoreDamagedError: if a foreign key would be broken; the database stays as it was.
        StoreError: if it can't be written or is something else.
    """
    backend = backend_at(location)
    try:
        backend.require()
    except StoreMissingError:
        if not create:
            raise
        backend.require_room()
    # Foreign keys are off: alembic's batch mode drops and re-creates tables, which would cascade.
    engine = backend.make_engine(NullPool, create=create, foreign_keys=False, timeout=timeout)
    with backend.errors(timeout), engine.connect() as plain:
        connection = plain.execution_options(**{BEGIN: WRITING})
        with connection.begin():
            _upgrade(connection, create)
    return head_revision()


def _upgrade(connection: Connection, create: bool) -> None:
    backend = backend_of(connection)
    revision = _known_revision(connection)
    if revision is None and not create:
        raise empty(backend.shown)
    if revision == head_revision():
        return
    run_migrations(connection)
    broken = backend.revision_broke(connection)
    if broken:
        tables = ", ".join(sorted(set(broken)))
        raise StoreDamagedError(
            f"{backend.shown} was not upgraded: {len(broken)} rows (tables {tables}) refer to rows that don't exist; "
            f"see: {call('maintenance.check')}, and restore a backup"
        )


def run_migrations(connection: Connection) -> None:
    """Runs the revisions that a database does not have yet, in the caller's transaction."""
    from importlib.resources import files

    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("kndb.migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _alembic:
        command.upgrade(config, "head")


def _known_revision(connection: Connection) -> str | None:
    """Gives the revision of a database that is kndb's; None for one without tables."""
    backend = backend_of(connection)
    shown, tables = backend.shown, backend.tables(connection)
    if not tables:
        return None
    revision = _revision_in(connection, tables)
    if revision is None and tables >= _OWN_TABLES:
        raise StoreDamagedError(
            f"{shown} is damaged: it has kndb's tables and no schema revision; see: {call('maintenance.check')}, and "
            "restore a backup"
        )
    # Other programs number their revisions, too; but none has these tables.
    if revision is None or (revision in REVISIONS and not tables & _OWN_TABLES):
        found = ", ".join(sorted(tables)[:5])
        raise SchemaVersionError(
            f"{shown} is {backend.what}, but not one of kndb's: it has no kndb schema revision "
            f"(such as {head_revision()}); its tables: {found}. Name another file"
        )
    if revision not in REVISIONS:
        raise SchemaVersionError(
            f"{shown} has schema revision {revision}, this kndb knows only up to {head_revision()}: "
            "a newer kndb made it; update kndb (`pip install --upgrade kndb`)"
        )
    return revision
