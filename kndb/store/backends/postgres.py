"""PostgreSQL: a database on a server, reached by psycopg (extra `postgres`).

A writer holds one advisory lock to the end of its transaction, so that there is one at a time, as with a file; a
reader's transaction is REPEATABLE READ, and sees one state. Texts are compared by their bytes (`COLLATE "C"` in the
tables). JSON is kept as the text that kndb writes. Of a number that is none (NaN), both systems keep NULL.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import Pool

from ...advice import Placeholder, call, option
from ...errors import StoreError, UsageError
from ...records.locations import without_password
from ..column_rules import FORMS, ColumnRule
from ..connections import OBJECTS, STATISTICS
from .backend import BACKEND, BEGIN, BUSY_TIMEOUT, READING, WRITING, Answer, Backend, RowsOf, Schema
from .portable import remembered, with_words, without_hints
from .postgres_errors import translated_errors
from .postgres_rows import copied, scores_as_bytes
from .postgres_schema import described

OBJECTS_VARIABLE = "KNDB_OBJECTS"
STORES = "stores.txt"
"""The file in a folder of objects that names the stores whose edits lie there, one a line."""
OLDEST = 130000
"""The first server whose ON CONFLICT, MATERIALIZED and statistics of functions kndb is known to work with."""

_LOCK = 1802396770
"""The first number of the advisory lock; the second is made of the schema's name."""
_KEEPALIVE = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
"""So that a server that is gone without a word is noticed within a minute."""
# Arguments of the words are the store's own names and parameters.
_WORDS: dict[str, Callable[..., str]] = {
    "numbers": lambda values: f"(SELECT CAST(item AS bigint) AS value FROM {_items(values, '_text')})",  # noqa: S608
    "texts": lambda values: f"(SELECT item AS value FROM {_items(values, '_text')})",  # noqa: S608
    "rows": lambda values, *names: f"(SELECT {', '.join(map(_item, range(len(names)), names))} FROM {_items(values)})",  # noqa: S608
    "listed": lambda column: f"string_agg(CAST({column} AS text), ',')",
    "place": lambda text, part: f"strpos({text}, {part})",
    "number_at": lambda column, name: f"CAST(CAST({column} AS jsonb) ->> '{name}' AS double precision)",
}
_IDENTITY = """
SELECT (SELECT system_identifier FROM pg_control_system()) || '/' || current_database() || '/' || current_schema()
"""


class PostgresBackend(Backend):
    """A database on a server, in the first schema of the connection's search path."""

    kind = "postgresql"
    what = "a PostgreSQL database"
    note = STORES

    def __init__(self, location: str, objects: str | Path | None = None) -> None:
        """Names the database; nothing is opened.

        Args:
            location: a `postgresql://…` URL.
            objects: the folder of edit objects; None takes the environment's KNDB_OBJECTS, and there may be none.

        Raises:
            UsageError: if the URL can't be read, or psycopg is not installed.
        """
        self.shown = without_password(location)
        self._url = _url(location, self.shown)
        named = objects if objects is not None else os.environ.get(OBJECTS_VARIABLE) or None
        self._objects = None if named is None else _folder(named)
        self._is_noted = False

    # --- where things are -------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """Raises that there is no file."""
        raise UsageError(f"{self.shown} is no file, which this needs; copy the store into one with: {self._copy()}")

    @property
    def objects(self) -> Path:
        """The folder of edit objects."""
        if self._objects is None:
            raise UsageError(
                f"{option('objects')} is missing: the edits of {self.shown} lie in a folder that all who use it share; "
                f"name it with {option('objects', Placeholder('FOLDER'))}, or in the environment variable "
                f"{OBJECTS_VARIABLE}"
            )
        return self._objects

    @property
    def statistics(self) -> Path:
        """The folder of kept covariances, beside that of objects."""
        return self.objects.with_name(f"{self.objects.name.removesuffix(OBJECTS)}{STATISTICS}")

    @property
    def has_folders(self) -> bool:
        """Whether anybody said where objects are."""
        return self._objects is not None

    def sharing_objects(self) -> list[str]:
        """The other stores that wrote their names into the folder of objects."""
        with self._own_connection() as connection:
            own = _identity(connection)
        return [line for line in _stores(self.objects) if line != own] or ([] if own else [f"{self.shown} (unknown)"])

    # --- opening ----------------------------------------------------------------------------------------------

    def require(self) -> None:
        """Checks that the server answers, and is new enough."""
        with self._own_connection() as connection:
            version = connection.info.server_version
        if version < OLDEST:
            raise StoreError(f"{self.shown} is on PostgreSQL {version // 10000}; kndb needs {OLDEST // 10000} or newer")

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
            self._url,
            poolclass=poolclass,
            pool_pre_ping=True,
            connect_args={"connect_timeout": max(2, round(timeout)), **self._options()},
            hide_parameters=True,
            execution_options={BACKEND: self},
        )
        event.listen(engine, "begin", functools.partial(_begin, round(timeout * 1000)))
        event.listen(engine, "before_cursor_execute", _render, retval=True)
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
        content: Any = scores_as_bytes(rows) if table == "score" else list(rows)
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
            _replaced(driver, table, columns, content, replace)

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
        yield self

    # --- the schema -------------------------------------------------------------------------------------------

    def tables(self, connection: Connection) -> set[str]:
        """The names of all tables of the schema."""
        query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        return {str(row[0]) for row in connection.exec_driver_sql(query)}

    def columns(self, connection: Connection) -> set[tuple[str, str]]:
        """Table and name of all columns."""
        query = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema()"
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
        """Describes what the revisions make in a schema that nobody else ever sees."""
        from sqlalchemy.pool import NullPool

        with self.make_engine(NullPool).connect() as apart:
            scratch = apart.execution_options(**{BEGIN: READING})
            transaction = scratch.begin()
            try:
                name = f"kndb_expected_{os.getpid()}"
                scratch.exec_driver_sql(f'CREATE SCHEMA "{name}"')
                scratch.exec_driver_sql(f'SET LOCAL search_path TO "{name}"')
                run_migrations(scratch)
                return described(scratch)
            finally:
                transaction.rollback()

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
            broken += [f"{column} NOT IN ({', '.join(map(_literal, rule.among))})"] if rule.among else []
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

        return reading_sql(self._connect, self.shown, query, limits, timeout)

    def require_backup(self) -> None:
        """Raises that PostgreSQL has a tool for that, which is as consistent."""
        folder = "the folder of edit objects" if self._objects is None else str(self._objects)
        raise UsageError(
            f"{self.shown} is on a server: back it up with PostgreSQL's own tool, then copy {folder}: pg_dump "
            f"--format=custom --file=kndb.dump '{self.shown}'. Or copy the store into one file with: {self._copy()}"
        )

    def about(self, connection: Connection) -> dict[str, Any]:
        """The size of the database with all its tables, and the server's version."""
        size, version = connection.exec_driver_sql(
            "SELECT pg_database_size(current_database()), current_setting('server_version')"
        ).one()
        return {"size": size, "server_version": version}

    def note_store(self) -> None:
        """Makes the folder of objects if need be, and writes the store's name into it, once.

        Raises:
            StoreError: if that can't be written.
        """
        folder = self.objects
        if self._is_noted:
            return
        with self._own_connection() as connection:
            own = _identity(connection)
        try:
            if own and own not in _stores(folder):
                folder.mkdir(parents=True, exist_ok=True)
                with (folder / STORES).open("a", encoding="utf-8") as file:
                    file.write(f"{own}\n")
        except OSError as error:
            raise StoreError(
                f"{option('objects', str(folder))}: the folder of edit objects can't be written: "
                f"{error.strerror or error}"
            ) from error
        self._is_noted = True

    def _copy(self) -> str:
        return call("kndb.copy_database", Placeholder("FROM"), Placeholder("TO"))

    def _options(self) -> dict[str, str]:
        return {name: value for name, value in _KEEPALIVE.items() if name not in self._url.query}

    def _connect(self, timeout: float = BUSY_TIMEOUT) -> Any:
        """A connection of psycopg's, past SQLAlchemy."""
        import psycopg

        dialect = self._url.get_dialect()()
        arguments, options = dialect.create_connect_args(self._url)
        return psycopg.connect(*arguments, connect_timeout=max(2, round(timeout)), **{**self._options(), **options})

    @contextlib.contextmanager
    def _own_connection(self) -> Iterator[Any]:
        with self.errors(), contextlib.closing(self._connect()) as connection:
            yield connection


def _url(location: str, shown: str) -> URL:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"{shown}: PostgreSQL is reached by psycopg, which is not installed; install it with: "
            "pip install 'kndb[postgres]'"
        ) from error
    try:
        url = make_url(location).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        # What is wrong may lie in the password: nothing of the location is repeated but what was found harmless.
        raise UsageError(
            f"{shown}: this is no URL of a database; write it like postgresql://USER@HOST:5432/NAME, with %40 for an @ "
            "in a password"
        ) from None
    if not url.database:
        raise UsageError(f"{shown} names no database; write it like postgresql://USER@HOST/NAME")
    return url


def _folder(named: str | Path) -> Path:
    try:
        return Path(named).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{option('objects', str(named))} can't be resolved to a folder: {error}") from error


def _stores(folder: Path) -> list[str]:
    try:
        return (folder / STORES).read_text(encoding="utf-8").split("\n")[:-1]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, UnicodeError) as error:
        raise StoreError(f"{folder / STORES} can't be read: {error}") from error


def _identity(connection: Any) -> str | None:
    """What tells this store from all others: the server's number, the database and the schema; None if not told."""
    import psycopg

    try:
        row = connection.execute(_IDENTITY).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        connection.rollback()
        return None
    return None if row is None else str(row[0])


def _begin(milliseconds: int, connection: Connection) -> None:
    if connection.get_execution_options().get(BEGIN, READING) == WRITING:
        # The wait is for the lock alone: what follows waits for nobody but who changes tables.
        connection.exec_driver_sql(
            f"SET LOCAL lock_timeout = {milliseconds}; "
            f"SELECT pg_advisory_xact_lock({_LOCK}, hashtext(current_schema()))"
        )
    else:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


@remembered
def _rendered(statement: str) -> str:
    return without_hints(with_words(statement, _WORDS))


@remembered
def _rendered_for_driver(statement: str) -> str:
    """The same for a statement that SQLAlchemy has not compiled."""
    return _rendered(statement.replace("%", "%%"))


@remembered
def _rendered_with_marks(statement: str) -> str:
    """The same where its parameters are question marks."""
    return _rendered_for_driver(statement).replace("?", "%s")


def _render(_: Any, __: Any, statement: str, parameters: Any, context: Any, ___: bool) -> tuple[str, Any]:
    if context is not None and context.compiled is not None:
        return _rendered(statement), _held(parameters)
    return (_rendered_with_marks if parameters else _rendered_for_driver)(statement), _held(parameters)


def _held(values: Any) -> Any:
    """Parameters with NULL for numbers that are none, as SQLite keeps them."""
    if isinstance(values, dict):
        return {name: None if value != value else value for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)(
            _held(one) if isinstance(one, (dict, tuple)) else None if one != one else one for one in values
        )
    return values


def _items(values: str, kind: str = "") -> str:
    return f"jsonb_array_elements{kind}(CAST(CAST({values} AS text) AS jsonb)) AS item"


def _item(place: int, name: str) -> str:
    return f"CAST(item ->> {place} AS bigint) AS {name}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _replaced(driver: Any, table: str, columns: Sequence[str], content: Any, key: Sequence[str]) -> None:
    """Writes rows of which some are there already."""
    names = ", ".join(columns)
    others = [name for name in columns if name not in key]
    with driver.cursor() as cursor:
        cursor.execute(f"CREATE TEMPORARY TABLE kndb_new ON COMMIT DROP AS SELECT {names} FROM {table} LIMIT 0")  # noqa: S608
        copied(driver, "kndb_new", columns, content)
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT {names} FROM kndb_new ON CONFLICT ({', '.join(key)}) "  # noqa: S608
            f"DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in others)}"
        )
        cursor.execute("DROP TABLE kndb_new")
