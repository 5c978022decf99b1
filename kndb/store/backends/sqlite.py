"""SQLite: a file, which is the embedded default. `connections` reaches it, and says what its errors mean."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import Pool, StaticPool

from ...errors import StoreError, StoreMissingError
from ...files import sync, temporary_name
from ..column_rules import FORMS, ColumnRule
from ..connections import OBJECTS, STATISTICS, make_engine, translated_errors
from ..files import MAGIC, empty, missing
from .backend import BACKEND, BUSY_TIMEOUT, Answer, AnyText, Backend, RowsOf, Schema
from .portable import remembered, with_words
from .shared_folder import databases_beside, stores_noted
from .sqlite_schema import described

# Arguments of the words are the store's own names and parameters.
_WORDS: dict[str, Callable[..., str]] = {
    "numbers": lambda values: f"(SELECT value FROM json_each({values}))",  # noqa: S608
    "texts": lambda values: f"(SELECT value FROM json_each({values}))",  # noqa: S608
    "rows": lambda values, *names: f"(SELECT {_items(names)} FROM json_each({values}))",  # noqa: S608
    "listed": lambda column: f"group_concat({column})",
    "place": lambda text, part: f"instr({text}, {part})",
    "number_at": lambda column, name: f"json_extract({column}, '$.{name}')",
}
_COLUMNS = """
SELECT owner.name, part.name FROM sqlite_master AS owner, pragma_table_info(owner.name) AS part
WHERE owner.type = 'table'
"""
_FITS_FORM, _IS_TEXT = "kndb_fits_form", "kndb_is_text"


class SqliteBackend(Backend):
    """A database in a file."""

    kind = "sqlite"
    what = "an SQLite database"

    def __init__(self, path: Path) -> None:
        """Names the file, which is touched later.

        Args:
            path: absolute.
        """
        self._path = path
        self.shown = str(path)

    @property
    def path(self) -> Path:
        """The database file."""
        return self._path

    @property
    def objects(self) -> Path:
        """The folder of edit objects, which lies beside the file."""
        return self._path.with_suffix(OBJECTS)

    @property
    def statistics(self) -> Path:
        """The folder of kept covariances, likewise."""
        return self._path.with_suffix(STATISTICS)

    def sharing_objects(self) -> list[str]:
        """Other databases of the same stem, and stores on a server whose edits somebody put here."""
        others = [path for path in databases_beside(self.objects) if path != self._path]
        return [*map(str, others), *stores_noted(self.objects)]

    # --- opening ----------------------------------------------------------------------------------------------

    def require(self) -> None:
        """Checks that the file can be an SQLite database, without changing it."""
        path = self._path
        try:
            with path.open("rb") as file:
                head = file.read(len(MAGIC))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreMissingError(missing(path)) from error
        except IsADirectoryError as error:
            raise StoreError(f"{path} is a folder, not a database; name a file in it") from error
        except OSError as error:
            raise StoreError(f"{path} can't be read: {error.strerror or error}") from error
        if not head:
            raise empty(self.shown)
        if head != MAGIC:
            raise StoreError(f"{path} is not an SQLite database; name another file")

    def require_room(self) -> None:
        """Checks that there is a folder for the file."""
        if not self._path.parent.is_dir():
            raise StoreError(f"{self._path} can't be created: there is no folder {self._path.parent}; create it first")

    def make_engine(
        self,
        poolclass: type[Pool],
        *,
        create: bool = False,
        foreign_keys: bool = True,
        timeout: float = BUSY_TIMEOUT,
    ) -> Engine:
        """Makes an engine whose connections have kndb's pragmas."""
        engine = make_engine(self._path, poolclass, create=create, foreign_keys=foreign_keys, timeout=timeout)
        engine.update_execution_options(**{BACKEND: self})
        event.listen(engine, "before_cursor_execute", _render, retval=True)
        return engine

    @contextlib.contextmanager
    def errors(self, timeout: float = BUSY_TIMEOUT) -> Iterator[None]:
        """Raises SQLite's errors of the block as kndb's."""
        with translated_errors(self._path, timeout):
            yield

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
        """Runs the driver's own executemany, more than twice as fast as SQLAlchemy's insert."""
        values = rows if isinstance(rows, list) else list(rows)
        if values:
            verb = "INSERT OR REPLACE" if replace else "INSERT"
            marks = ", ".join("?" * len(columns))
            connection.exec_driver_sql(f"{verb} INTO {table} ({', '.join(columns)}) VALUES ({marks})", values)

    def grown(self, connection: Connection, *tables: str) -> None:
        """Nothing: statements tell SQLite themselves how to go about it."""

    def renumber(self, connection: Connection) -> None:
        """Nothing: SQLite numbers on from the largest that is there."""

    @contextlib.contextmanager
    def made_whole(self) -> Iterator[Backend]:
        """Gives a file of another name, which takes its place when all is in it."""
        self.require_room()
        if os.path.lexists(self._path):
            raise StoreError(f"{self._path} exists already, so nothing was copied into it; name another file")
        temporary = temporary_name(self._path)
        made = [temporary.with_name(f"{temporary.name}{end}") for end in ("-wal", "-shm", "")]
        try:
            yield SqliteBackend(temporary)
            sync(temporary)
            temporary.replace(self._path)
            sync(self._path.parent)
        finally:
            for path in made:
                path.unlink(missing_ok=True)

    # --- the schema -------------------------------------------------------------------------------------------

    def tables(self, connection: Connection) -> set[str]:
        """The names of all tables but SQLite's own."""
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"
        return {str(row[0]) for row in connection.exec_driver_sql(query)}

    def columns(self, connection: Connection) -> set[tuple[str, str]]:
        """Table and name of all columns."""
        return {(str(table), str(name)) for table, name in connection.exec_driver_sql(_COLUMNS).fetchall()}

    def indexes_and_triggers(self, connection: Connection) -> dict[str, str]:
        """The names of all indexes and triggers."""
        query = "SELECT name, type FROM sqlite_master WHERE type IN ('index', 'trigger')"
        return {str(name): str(kind) for name, kind in connection.exec_driver_sql(query).fetchall()}

    def described(self, connection: Connection) -> Schema:
        """Describes a database's schema by SQLite's pragmas."""
        return described(connection)

    def expected(self, connection: Connection, run_migrations: Callable[[Connection], None]) -> Schema:  # noqa: ARG002
        """Describes what the revisions make in memory."""
        engine = create_engine("sqlite://", poolclass=StaticPool)
        try:
            with engine.begin() as empty_one:
                run_migrations(empty_one)
                return described(empty_one)
        finally:
            engine.dispose()

    def revision_broke(self, connection: Connection) -> list[str]:
        """The tables of rows with broken references: foreign keys are off during a migration."""
        return [str(row[0]) for row in connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()]

    # --- checking ---------------------------------------------------------------------------------------------

    def file_problems(self, connection: Connection) -> list[str]:
        """What SQLite's integrity check finds in the file's pages."""
        pages = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check")]
        return [] if pages == ["ok"] else [f"SQLite's integrity check: {page}" for page in pages]

    @contextlib.contextmanager
    def looking_at_rows(self, connection: Connection) -> Iterator[RowsOf]:
        """Lets the connection give texts that are no UTF-8, as `AnyText`."""
        driver = _driver(connection)
        driver.create_function(_FITS_FORM, 2, _fits_form, deterministic=True)
        driver.create_function(_IS_TEXT, 1, _is_text, deterministic=True)
        before = driver.text_factory
        driver.text_factory = AnyText
        try:
            yield lambda query: driver.execute(query).fetchall()
        finally:
            driver.text_factory = before

    def breaks(self, column: str, rule: ColumnRule) -> str:
        """Asks for a value's type too: SQLite keeps what it is given, whatever a column's."""
        kinds = {"whole": "'integer'", "number": "'real', 'integer'", "flag": "'integer'"}.get(rule.kind, "'text'")
        kept = [f"typeof({column}) IN ({kinds})"]
        if rule.kind == "flag":
            kept.append(f"{column} IN (0, 1)")
        elif rule.kind in ("whole", "number"):
            kept += [f"{column} >= {rule.least!r}"] if rule.least != -math.inf else []
            kept += [f"{column} <= {rule.most!r}"] if rule.most != math.inf else []
            kept += [f"{column} NOT IN (9e999, -9e999)"] if rule.kind == "number" and not rule.infinite else []
        else:
            kept.append(f"{_IS_TEXT}(CAST({column} AS BLOB))")
            kept += [f"{_FITS_FORM}('{rule.form}', CAST({column} AS BLOB))"] if rule.form is not None else []
            kept += [f"{column} IN ({', '.join(map(repr, rule.among))})"] if rule.among else []
        return f"CASE WHEN {column} IS NULL THEN 0 WHEN {' AND '.join(kept)} THEN 0 ELSE 1 END"

    def broken_references(self, connection: Connection, tables: Collection[str]) -> list[tuple[str, str, str, str]]:
        """What SQLite's foreign_key_check finds."""
        driver = _driver(connection)
        broken = {
            (name, int(row[3]))
            for name in sorted(tables)
            for row in driver.execute(f'PRAGMA foreign_key_check("{name}")').fetchall()
        }
        return [
            (name, str(key[2]), str(key[3]), str(key[4]))
            for name, number in sorted(broken)
            for key in driver.execute(f'PRAGMA foreign_key_list("{name}")').fetchall()
            if key[0] == number
        ]

    # --- the rest ---------------------------------------------------------------------------------------------

    def reading_sql(self, query: str, limits: Any, timeout: float) -> contextlib.AbstractContextManager[Answer]:
        """Runs a user's statement on a connection that can't write."""
        from ..queries.reading_sqlite import reading_sql

        self.require()
        return reading_sql(self._path, query, limits, timeout)

    def require_backup(self) -> None:
        """Nothing: SQLite copies itself."""

    def about(self, connection: Connection) -> dict[str, Any]:
        """The file's size, how it is logged, and SQLite's version."""
        return {
            "size": self._path.stat().st_size,
            "journal_mode": connection.exec_driver_sql("PRAGMA journal_mode").scalar_one(),
            "sqlite_version": sqlite3.sqlite_version,
        }


def _items(names: Sequence[str]) -> str:
    return ", ".join(f"json_extract(value, '$[{place}]') AS {name}" for place, name in enumerate(names))


@remembered
def _rendered(statement: str) -> str:
    return with_words(statement, _WORDS)


def _render(_: Any, __: Any, statement: str, parameters: Any, ___: Any, ____: bool) -> tuple[str, Any]:
    return (_rendered(statement) if "kndb_" in statement else statement), parameters


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _is_text(value: bytes) -> bool:
    if b"\0" in value:
        return False
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _fits_form(form: str, value: bytes) -> bool:
    return FORMS[form].fits(value.decode("utf-8", "replace"))
