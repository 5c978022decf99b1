"""PostgreSQL: a database on a server, reached by psycopg (extra `postgres`).

A writer holds one advisory lock to the end of its transaction, so that there is one at a time, as with a file; a
reader's transaction is REPEATABLE READ, and sees one state. Texts are compared by their bytes (`COLLATE "C"` in the
tables). JSON is kept as the text that kndb writes. Of a number that is none (NaN), both systems keep NULL.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import Pool

from ...advice import Placeholder, call
from ...errors import StoreError, UsageError
from ..column_rules import FORMS, ColumnRule
from .backend import BACKEND, BEGIN, BUSY_TIMEOUT, READING, WRITING, Answer, Backend, RowsOf, Schema, holds_tables
from .postgres_address import PostgresAddress
from .postgres_errors import translated_errors
from .postgres_rows import copied, replaced, rows_as_bytes
from .postgres_schema import described, expected
from .postgres_sql import literal, render
from .shared_folder import SharedFolder

OLDEST = 130000
"""The first server whose ON CONFLICT, MATERIALIZED and statistics of functions kndb is known to work with."""

_LOCK = 1802396770
"""The first number of the advisory lock; the second is made of the schema's name."""
_IDENTITY = """
SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || current_database() || '/' || current_schema()
"""


class PostgresBackend(Backend):
    """A database on a server, in the first schema of the connection's search path."""

    kind = "postgresql"
    what = "a PostgreSQL database"

    def __init__(self, location: str, objects: str | Path | None = None) -> None:
        """Names the database; nothing is opened.

        Args:
            location: a `postgresql://…` URL.
            objects: the folder of edit objects; None takes the environment's KNDB_OBJECTS, and there may be none.

        Raises:
            UsageError: if the URL can't be read, or psycopg is not installed.
        """
        self._address = PostgresAddress(location)
        self.shown = self._address.shown
        self._folder = SharedFolder(self.shown, objects, self._identity)

    # --- where things are -------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """Raises that there is no file."""
        raise UsageError(f"{self.shown} is no file, which this needs; copy the store into one with: {_copy()}")

    @property
    def objects(self) -> Path:
        """The folder of edit objects."""
        return self._folder.objects

    @property
    def statistics(self) -> Path:
        """The folder of kept covariances, beside that of objects."""
        return self._folder.statistics

    @property
    def has_folders(self) -> bool:
        """Whether anybody said where objects are."""
        return self._folder.named is not None

    def sharing_objects(self) -> list[str]:
        """The other stores whose edits lie in the folder."""
        return self._folder.others()

    def note_store(self) -> None:
        """Makes the folder of objects if need be, and writes the store's name into it, once."""
        self._folder.note()

    # --- opening ----------------------------------------------------------------------------------------------

    def require(self) -> None:
        """Checks that the server answers, is new enough, takes any text, and has a schema for the tables."""
        with self._own_connection() as connection:
            version = connection.info.server_version
            encoding = connection.info.parameter_status("server_encoding")
            schema = connection.execute("SELECT current_schema()").fetchone()[0]
        if version < OLDEST:
            raise StoreError(f"{self.shown} is on PostgreSQL {version // 10000}; kndb needs {OLDEST // 10000} or newer")
        if encoding != "UTF8":
            raise StoreError(
                f"{self.shown} keeps texts in {encoding}, which has not all letters; make a database with: createdb "
                "--encoding=UTF8 --template=template0"
            )
        if schema is None:
            raise UsageError(
                f"{self.shown}: its search path names no schema that is there; make the schema with the SQL CREATE "
                "SCHEMA, or name another one"
            )

    def require_room(self) -> None:
        """Nothing: `require` has found the database, and kndb makes none on a server."""

    def make_engine(
        self,
        poolclass: type[Pool],
        *,
        create: bool = False,  # noqa: ARG002 - a database is never made here
        foreign_keys: bool = True,  # noqa: ARG002 - revisions change tables in place
        timeout: float = BUSY_TIMEOUT,
    ) -> Engine:
        """Makes an engine; a connection that the server closed meanwhile is replaced before it is used."""
        engine = create_engine(
            "postgresql+psycopg://",
            creator=functools.partial(self._address.connect, timeout),
            poolclass=poolclass,
            pool_pre_ping=True,
            hide_parameters=True,
            use_native_hstore=False,  # The dialect would ask the server for that type, each time.
            execution_options={BACKEND: self},
        )
        event.listen(engine, "begin", functools.partial(_begin, round(timeout * 1000)))
        event.listen(engine, "before_cursor_execute", render, retval=True)
        return engine

    def errors(self, timeout: float = BUSY_TIMEOUT) -> contextlib.AbstractContextManager[None]:
        """Raises psycopg's errors of the block as kndb's."""
        return translated_errors(self.shown, timeout)

    # --- statements -------------------------------------------------------------------------------------------

    def write_rows(
        self,
        connection: Connection,
        table: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        replace: Sequence[str] = (),
    ) -> None:
        """Copies the rows in; where some are there already, by way of a temporary table."""
        driver = _driver(connection)
        content: Any = rows_as_bytes(rows) if table == "score" else list(rows)
        if not content:
            return
        if not replace:
            copied(driver, table, columns, content)
            return
        from psycopg.errors import UniqueViolation

        try:
            with driver.transaction():
                copied(driver, table, columns, content)
        except UniqueViolation:
            replaced(driver, table, columns, content, replace)

    def grown(self, connection: Connection, *tables: str) -> None:
        """Has the server count what the tables hold, which it would do by itself a minute later."""
        connection.exec_driver_sql(f"ANALYZE {', '.join(tables)}")

    def renumber(self, connection: Connection) -> None:
        """Sets the counters that number rows behind the largest number that is there."""
        query = """
            SELECT table_name, column_name, pg_get_serial_sequence(quote_ident(table_name), column_name) AS counter
            FROM information_schema.columns
            WHERE table_schema = current_schema() AND substr(column_default, 1, 8) = 'nextval('
        """
        for table, column, counter in connection.exec_driver_sql(query).fetchall():
            connection.exec_driver_sql(
                f"SELECT setval('{counter}', (SELECT max({column}) FROM {table})) "  # noqa: S608 - the catalogue's names
                f"WHERE EXISTS (SELECT 1 FROM {table})"
            )

    @contextlib.contextmanager
    def made_whole(self) -> Iterator[Backend]:
        """Gives itself: what is filled in one transaction is there whole or not at all."""
        self.require()
        with self._own_connection() as connection:
            row = connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = current_schema() LIMIT 1").fetchone()
        if row is not None:
            raise holds_tables(self.shown)
        yield self

    # --- the schema -------------------------------------------------------------------------------------------

    def tables(self, connection: Connection) -> set[str]:
        """The names of all tables of the schema."""
        query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        return {str(row[0]) for row in connection.exec_driver_sql(query)}

    def columns(self, connection: Connection) -> set[tuple[str, str]]:
        """Table and name of all columns."""
        # Not information_schema, which hides what its reader has no right to.
        query = """
            SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
            WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
                AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped
        """
        return {(str(table), str(name)) for table, name in connection.exec_driver_sql(query)}

    def indexes_and_triggers(self, connection: Connection) -> dict[str, str]:
        """The names of all indexes, and of triggers that are not the server's own."""
        query = """
            SELECT indexname, 'index' FROM pg_indexes WHERE schemaname = current_schema()
            UNION ALL
            SELECT tgname, 'trigger' FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
            WHERE NOT tgisinternal AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
        """
        return {str(name): str(kind) for name, kind in connection.exec_driver_sql(query)}

    def described(self, connection: Connection) -> Schema:
        """Describes a database's schema by the server's catalogue."""
        return described(connection)

    def expected(self, connection: Connection, run_migrations: Callable[[Connection], None]) -> Schema:  # noqa: ARG002
        """Describes what the revisions make as temporary tables, which nobody else ever sees."""
        from sqlalchemy.pool import NullPool

        with self.make_engine(NullPool).connect() as apart:
            return expected(apart.execution_options(**{BEGIN: READING}), run_migrations)

    def revision_broke(self, connection: Connection) -> list[str]:  # noqa: ARG002
        """Nothing: the server looks at references all the time."""
        return []

    # --- checking ---------------------------------------------------------------------------------------------

    def file_problems(self, connection: Connection) -> list[str]:  # noqa: ARG002
        """Nothing: the server's files are looked at by its own `pg_amcheck` and checksums."""
        return []

    @contextlib.contextmanager
    def looking_at_rows(self, connection: Connection) -> Iterator[RowsOf]:
        """Reads rows as usual: the server sees to the types of columns."""
        yield lambda query: connection.exec_driver_sql(query).fetchall()

    def breaks(self, column: str, rule: ColumnRule) -> str:
        """Asks for what a column's type leaves open."""
        broken = []
        if rule.kind in ("whole", "number"):
            broken += [f"{column} < {rule.least!r}"] if rule.least != -math.inf else []
            # A whole number of PostgreSQL's is never as large as the largest of SQLite's.
            broken += [f"{column} > {rule.most!r}"] if rule.most < 2**31 else []
            broken += [f"{column} IN ('Infinity', '-Infinity')"] if rule.kind == "number" and not rule.infinite else []
            broken += [f"{column} = 'NaN'"] if rule.kind == "number" else []
        elif rule.kind != "flag":
            broken += [f"{column} !~ '{FORMS[rule.form].pattern}'"] if rule.form is not None else []
            broken += [f"{column} NOT IN ({', '.join(map(literal, rule.among))})"] if rule.among else []
        return f"CASE WHEN {' OR '.join(broken)} THEN 1 ELSE 0 END" if broken else "0"

    def broken_references(self, connection: Connection, tables: Collection[str]) -> list[tuple[str, str, str, str]]:
        """Looks for rows without the row that they refer to: large tables have no foreign keys here."""
        from ..tables import Table

        found = []
        for name in sorted(tables):
            for key in sorted(Table.metadata.tables[name].foreign_keys, key=lambda one: one.parent.name):
                column, other = key.parent.name, key.column
                query = (
                    f'SELECT 1 FROM (SELECT DISTINCT "{column}" AS one FROM "{name}") AS named '  # noqa: S608
                    f'WHERE one IS NOT NULL AND NOT EXISTS (SELECT 1 FROM "{other.table.name}" AS other '
                    f'WHERE other."{other.name}" = one) LIMIT 1'
                )
                if connection.exec_driver_sql(query).first() is not None:
                    found.append((name, str(other.table.name), str(column), str(other.name)))
        return found

    # --- the rest ---------------------------------------------------------------------------------------------

    def reading_sql(self, query: str, limits: Any, timeout: float) -> contextlib.AbstractContextManager[Answer]:
        """Runs a user's statement in a transaction that can only read."""
        from ..queries.reading_postgres import reading_sql

        return reading_sql(self._address.connect, self.shown, query, limits, timeout)

    def require_backup(self) -> None:
        """Raises that PostgreSQL has a tool for that, which is as consistent."""
        folder = "the folder of edit objects" if self._folder.named is None else str(self._folder.named)
        raise UsageError(
            f"{self.shown} is on a server: back it up with PostgreSQL's own tool, then copy {folder}: pg_dump "
            f"--format=custom --file=kndb.dump '{self.shown}'. Or copy the store into one file with: {_copy()}"
        )

    def about(self, connection: Connection) -> dict[str, Any]:
        """The size of the database with all its tables, and the server's version."""
        size, version = connection.exec_driver_sql(
            "SELECT pg_database_size(current_database()), current_setting('server_version')"
        ).one()
        return {"size": size, "server_version": version}

    def _identity(self) -> str | None:
        """What tells this store from all others: the server's number, the database and the schema; None if not told."""
        import psycopg

        with self._own_connection() as connection:
            try:
                row = connection.execute(_IDENTITY).fetchone()
            except psycopg.errors.InsufficientPrivilege:
                return None
        return None if row is None else str(row[0])

    @contextlib.contextmanager
    def _own_connection(self) -> Iterator[Any]:
        """A connection of psycopg's, past SQLAlchemy."""
        with self.errors(), contextlib.closing(self._address.connect()) as connection:
            yield connection


def _copy() -> str:
    return call("kndb.copy_database", Placeholder("FROM"), Placeholder("TO"))


def _begin(milliseconds: int, connection: Connection) -> None:
    # The level is said, as a server or a user may have another one by default: a writer that waited must see what the
    # one before it wrote, and a reader one state.
    if connection.get_execution_options().get(BEGIN, READING) == WRITING:
        # The wait is for the lock alone: what follows waits for nobody but who changes tables.
        connection.exec_driver_sql(
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; "
            f"SET LOCAL lock_timeout = {milliseconds}; "
            f"SELECT pg_advisory_xact_lock({_LOCK}, hashtext(current_schema()))"
        )
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection
