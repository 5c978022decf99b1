"""What the store needs of a database system. All else in `kndb.store` is the same for each of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.pool import Pool

from ...errors import StoreError
from ..column_rules import ColumnRule
from ..queries.sql_limits import Row, SqlLimits

BACKEND = "kndb_backend"
"""The execution option by which a connection names its backend."""

BEGIN = "kndb_begin"
"""The execution option that says what a transaction is for: `READING` or `WRITING`."""
READING, WRITING = "reading", "writing"

BUSY_TIMEOUT = 30.0
"""Seconds that a transaction waits for another process to end its own."""

Answer = tuple[list[str], Iterator[Row]]
"""The names of the columns of an answer, and its rows."""
RowsOf = Callable[[str], Sequence[Sequence[Any]]]
"""Gives the rows of a statement, with whatever is in them."""
Part = tuple[str, str]
"""A part of the schema: its kind, `table` or `column`, and its name, `fact.subject`."""


@dataclass(frozen=True)
class Schema:
    """A schema.

    Attributes:
        parts: what each part is, in words.
        within: for each part of a table, that table: of one that is missing, nothing else is said.
    """

    parts: Mapping[Part, str]
    within: Mapping[Part, str] = field(default_factory=dict)


class AnyText(bytes):
    """A text of the database as it is, which may be no UTF-8."""

    def __str__(self) -> str:
        return self.decode("utf-8", "backslashreplace")


def holds_tables(shown: str) -> StoreError:
    """The error that a database which is to be filled is not empty."""
    return StoreError(
        f"{shown} holds tables already, so nothing was copied into it; name an empty database or a new file"
    )


class Backend(ABC):
    """A database, and how its system does what the systems do differently.

    Attributes:
        shown: how messages name the database; never with a password.
        kind: `sqlite` or `postgresql`.
        what: what it is, in words: an SQLite database, or one of PostgreSQL.
    """

    shown: str
    kind: str
    what: str

    # --- where things are -------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def path(self) -> Path:
        """The database file.

        Raises:
            UsageError: if there is none, as on a server.
        """

    @property
    @abstractmethod
    def objects(self) -> Path:
        """The folder of edit objects.

        Raises:
            UsageError: if nobody said where it is.
        """

    @property
    @abstractmethod
    def statistics(self) -> Path:
        """The folder of kept covariances; errors as for `objects`."""

    @property
    def has_folders(self) -> bool:
        """Whether it is known where the folders of edit objects and statistics are."""
        return True

    @abstractmethod
    def sharing_objects(self) -> list[str]:
        """Other databases whose edit objects lie in the same folder, so that they look like left-overs."""

    def note_store(self) -> None:  # noqa: B027 - a file's folder is its own
        """Prepares the folder of objects for the first one, and notes there whose it is.

        Raises:
            StoreError: if that can't be written.
        """

    # --- opening ----------------------------------------------------------------------------------------------

    @abstractmethod
    def require(self) -> None:
        """Checks that there can be a database, without changing anything.

        Raises:
            StoreMissingError: if there is none.
            StoreError: if it can't be read, or is something else.
        """

    @abstractmethod
    def require_room(self) -> None:
        """Checks that a database can be made where there is none.

        Raises:
            StoreError: if not.
        """

    @abstractmethod
    def make_engine(
        self,
        poolclass: type[Pool],
        *,
        create: bool = False,
        foreign_keys: bool = True,
        timeout: float = BUSY_TIMEOUT,
    ) -> Engine:
        """Makes a SQLAlchemy engine whose transactions begin as its `kndb_begin` execution option says.

        Args:
            poolclass: SQLAlchemy's pool of connections.
            create: whether a missing database is created, where that is a file's.
            foreign_keys: whether foreign keys are enforced; a migration turns that off.
            timeout: seconds to wait for other processes.
        """

    @abstractmethod
    def errors(self, timeout: float = BUSY_TIMEOUT) -> AbstractContextManager[None]:
        """Raises the driver's errors of a block as kndb's.

        Raises:
            StoreError: if the database can't be read or written.
            UsageError: for a value that it can't hold.
        """

    # --- statements -------------------------------------------------------------------------------------------

    @abstractmethod
    def write_rows(
        self,
        connection: Connection,
        table: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        replace: Sequence[str] = (),
    ) -> None:
        """Writes many rows, as fast as the system takes them.

        Args:
            connection: a write transaction.
            table: the table.
            columns: those that the rows have, in their order.
            rows: the rows.
            replace: the columns of the primary key, where a row that is there is replaced; none if there can't be one.
        """

    @abstractmethod
    def grown(self, connection: Connection, *tables: str) -> None:
        """Lets the system know that tables have other rows than before, for what it plans by."""

    @abstractmethod
    def renumber(self, connection: Connection) -> None:
        """Has new rows numbered on from those that were written with their numbers."""

    @abstractmethod
    def made_whole(self) -> AbstractContextManager[Backend]:
        """Gives, for a block that fills it in one transaction, an empty database that is this one if the block ends.

        Raises:
            StoreError: if there is something already.
        """

    # --- the schema -------------------------------------------------------------------------------------------

    @abstractmethod
    def tables(self, connection: Connection) -> set[str]:
        """The names of all tables."""

    @abstractmethod
    def columns(self, connection: Connection) -> set[tuple[str, str]]:
        """Table and name of all columns."""

    @abstractmethod
    def indexes_and_triggers(self, connection: Connection) -> dict[str, str]:
        """The names of all indexes and triggers, each with which of the two it is."""

    @abstractmethod
    def described(self, connection: Connection) -> Schema:
        """Describes a database's schema, the system's own tables left out."""

    @abstractmethod
    def expected(self, connection: Connection, run_migrations: Callable[[Connection], None]) -> Schema:
        """Describes the schema that the revisions make of an empty database.

        Args:
            connection: a connection to the database in question.
            run_migrations: what runs the revisions on a connection.
        """

    @abstractmethod
    def revision_broke(self, connection: Connection) -> list[str]:
        """The tables of which a migration left rows that refer to rows which don't exist, one for each row."""

    # --- checking ---------------------------------------------------------------------------------------------

    @abstractmethod
    def file_problems(self, connection: Connection) -> list[str]:
        """What the system itself finds wrong with its files."""

    @abstractmethod
    def looking_at_rows(self, connection: Connection) -> AbstractContextManager[RowsOf]:
        """Gives what reads rows with whatever is in them, though it be no text or number, for the block."""

    @abstractmethod
    def breaks(self, column: str, rule: ColumnRule) -> str:
        """SQL that is 1 where a column breaks its rule, and 0 where it does not, or is NULL."""

    @abstractmethod
    def broken_references(self, connection: Connection, tables: Collection[str]) -> list[tuple[str, str, str, str]]:
        """The references of some tables that any row breaks: table, other table, column, and the column referred to."""

    # --- the rest ---------------------------------------------------------------------------------------------

    @abstractmethod
    def reading_sql(self, query: str, limits: SqlLimits, timeout: float) -> AbstractContextManager[Answer]:
        """Runs one statement of a user's that reads; see `kndb.store.queries.reading_sql`."""

    @abstractmethod
    def require_backup(self) -> None:
        """Checks that kndb itself can copy the database while others use it.

        Raises:
            UsageError: if the system's own tool is for that; the message says how.
        """

    @abstractmethod
    def about(self, connection: Connection) -> dict[str, Any]:
        """What `kndb db info` says of the database itself: its size in bytes, and how it is kept."""
