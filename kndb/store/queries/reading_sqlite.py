"""Anybody's SQL on a database, of any schema revision: it can only read, and SQLite itself sees to that.

Two locks, neither of which looks at the query's text: the connection is opened with `mode=ro`, so that the file can't
be written; and an authorizer, which SQLite asks about each thing that a statement does, allows reading alone, so that
no other file can be either (ATTACH and VACUUM INTO make files), nor a setting changed.

And limits, as a query may be without end: of time, of the answer's rows and bytes, and of the memory that SQLite sorts
and groups in, which it would else take from the disk.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ...advice import call
from ...errors import UsageError
from ..connections import add_functions, translated_errors
from .sql_limits import Row, SqlLimits, Watch, distinct_names, limited, nearest_names

_DESCRIBING = frozenset(
    {"foreign_key_check", "foreign_key_list", "index_info", "index_list", "index_xinfo"}
    | {"integrity_check", "quick_check", "table_info", "table_list", "table_xinfo"}
)
"""Pragmas that only read, and whose argument is a name."""
_STATING = frozenset(
    {"application_id", "collation_list", "compile_options", "data_version", "database_list", "encoding"}
    | {"freelist_count", "function_list", "journal_mode", "module_list", "page_count", "page_size", "pragma_list"}
    | {"schema_version", "user_version"}
)
"""Pragmas that only read as long as they have no argument: with one, some set a value."""
_STEPS_BETWEEN_LOOKS = 5_000
"""Steps of SQLite's between two looks at clock and memory, and at Ctrl-C, which Python handles only while it runs."""
_LONGEST = 1 << 26
"""Bytes of the longest value that a query may make."""
_OF_THE_FILE = re.compile(r"database( table| schema)? is locked|database disk image|disk I/O|file is not a database")
_UNKNOWN = re.compile(r"no such (table|column): (?:(.+)\.)?(.+)")
_READABLE = "give one that only reads: SELECT, WITH … SELECT, VALUES, EXPLAIN, or a PRAGMA such as table_info"


@contextlib.contextmanager
def reading_sql(path: Path, query: str, limits: SqlLimits, timeout: float) -> Iterator[tuple[list[str], Iterator[Row]]]:
    """Runs one statement that reads on an SQLite file; see `reading_sql` in the module of that name."""
    with _connected(path, timeout) as connection:
        refused: list[str] = []
        watch = Watch(limits)
        connection.set_authorizer(_authorizer(refused))
        connection.set_progress_handler(watch.look, _STEPS_BETWEEN_LOOKS)
        # Left open by an error, a cursor would keep the connection, and with it the log's files.
        with contextlib.closing(connection.cursor()) as cursor:

            @contextlib.contextmanager
            def told() -> Iterator[None]:
                try:
                    with watch.running():
                        yield
                except (sqlite3.Error, sqlite3.Warning, UnicodeError, ValueError) as error:
                    if str(error) == "interrupted":
                        raise watch.reason() from None
                    if _OF_THE_FILE.match(str(error)):
                        raise
                    raise _mistake(connection, query, error, refused) from error

            with told():
                cursor.execute(query)
            if cursor.description is None:
                raise UsageError(f"there is no statement; {_READABLE}")
            yield distinct_names([column[0] for column in cursor.description]), limited(cursor.fetchone, limits, told)


@contextlib.contextmanager
def _connected(path: Path, timeout: float) -> Iterator[sqlite3.Connection]:
    """A connection that can't write. It leaves no files behind."""
    with (
        translated_errors(path, timeout),
        _cleaner(path, timeout),
        contextlib.closing(_open(path, timeout)) as connection,
    ):
        add_functions(connection)
        # Sorting in files would fill the disk, unseen; memory is looked after.
        connection.execute("PRAGMA temp_store = MEMORY")
        if sys.version_info >= (3, 11):
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        # Where a query uses these first, SQLite declares their columns by what looks to an authorizer like a write.
        for name in ("json_each('[]')", "json_tree('[]')", *(f"pragma_{name}" for name in _DESCRIBING | _STATING)):
            with contextlib.suppress(sqlite3.OperationalError):
                connection.execute(f"SELECT 1 FROM {name} LIMIT 0").fetchall()  # noqa: S608 - names of this file
        yield connection


@contextlib.contextmanager
def _cleaner(path: Path, timeout: float) -> Iterator[None]:
    """Keeps a second connection open, where it can write: the files of a write-ahead log go when such a one closes.

    A connection that can only read makes them and leaves them behind. If they are there already, they are another's.
    """
    with contextlib.ExitStack() as stack:
        if not _log_file(path).exists():
            with contextlib.suppress(sqlite3.Error):
                _touch(stack.enter_context(contextlib.closing(_connect(path, "mode=rw", timeout))))
        yield


def _open(path: Path, timeout: float) -> sqlite3.Connection:
    try:
        return _touch(_connect(path, "mode=ro", timeout))
    except sqlite3.Error as error:
        # In a folder where no file can be made, SQLite takes a database with a write-ahead log only as one that
        # nobody changes. With a log beside it, that would miss what the log holds.
        if not re.search("unable to open|readonly", str(error)) or _log_file(path).exists():
            raise
        return _touch(_connect(path, "immutable=1", timeout))


def _connect(path: Path, options: str, timeout: float) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?{options}", uri=True, isolation_level=None, timeout=timeout)


def _log_file(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _touch(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Reads, as a connection opens its files only then; closes one that can't."""
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


# --- what is allowed ------------------------------------------------------------------------------------------

_VERBS = "CREATE|DROP|ALTER|DELETE|INSERT|UPDATE|ATTACH|DETACH|REINDEX|ANALYZE|TRANSACTION|SAVEPOINT"
_ACTIONS = {
    value: name.removeprefix("SQLITE_").replace("_", " ")
    for name, value in vars(sqlite3).items()
    if re.fullmatch(f"SQLITE_({_VERBS})(_[A-Z_]+)?", name)
}


def _authorizer(refused: list[str]) -> Callable[..., int]:
    """Gives the function that SQLite asks about every action of a statement; it notes what it refuses."""

    def allowed(action: int, first: str | None, second: str | None) -> bool:
        if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE):
            return True
        if action == sqlite3.SQLITE_FUNCTION:
            return second != "load_extension"
        if action == sqlite3.SQLITE_PRAGMA:
            name = (first or "").lower()
            return name in _DESCRIBING or (name in _STATING and second is None)
        return False

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        if allowed(action, first, second):
            return sqlite3.SQLITE_OK
        refused.append(_name(action, first, second))
        return sqlite3.SQLITE_DENY

    return authorize


def _name(action: int, first: str | None, second: str | None) -> str:
    if action == sqlite3.SQLITE_PRAGMA:
        return f"PRAGMA {first}" + ("" if second is None else f"={second}")
    if action == sqlite3.SQLITE_FUNCTION:
        return f"the function {second}"
    return _ACTIONS.get(action, f"action {action}")


# --- what was wrong -------------------------------------------------------------------------------------------


def _mistake(connection: sqlite3.Connection, query: str, error: Exception, refused: list[str]) -> UsageError:
    message = str(error)
    if refused:
        return UsageError(f"this statement is not allowed here ({refused[0]}); {_READABLE}")
    if "one statement at a time" in message:
        return UsageError("give one statement; what follows its semicolon is another")
    if "number of bindings" in message:
        return UsageError("write the values themselves in place of parameters (?, :name)")
    hint = f"the tables and their columns: {call('kndb.page_text', 'schema')}"
    unknown = _UNKNOWN.fullmatch(message)
    if unknown is not None:
        connection.set_authorizer(None)
        names = _tables(connection) if unknown[1] == "table" else _columns(connection, query, unknown[2])
        near = nearest_names(unknown[3], names)
        hint = f"{near}; {hint}"
    return UsageError(f"SQLite can't run this query: {message}; {hint}")


def _tables(connection: sqlite3.Connection) -> dict[str, str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")
    return {row[0]: row[0].casefold() for row in found}


def _columns(connection: sqlite3.Connection, query: str, qualifier: str | None) -> dict[str, str]:
    """The columns of the table that was named before the dot, else of those that the query names, else of all."""
    found = connection.execute(
        "SELECT lower(tables.name), tables.name || '.' || columns.name, columns.name"
        " FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'"
    ).fetchall()
    words = {word.lower() for word in re.findall(r"\w+", query)}
    for chosen in ({(qualifier or "").lower()}, words):
        columns = {column: name.casefold() for table, column, name in found if table in chosen}
        if columns:
            return columns
    return {column: name.casefold() for _, column, name in found}
