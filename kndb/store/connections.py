"""How the store reaches SQLite: locations, connections with their pragmas, and what SQLite's errors mean.

Every connection is in the driver's autocommit mode, and SQLAlchemy's `begin` event emits BEGIN itself: left
alone, Python's sqlite3 commits before DDL and begins too late for BEGIN IMMEDIATE.

Pragmas, in this order: `busy_timeout`, so that all that follows waits for other processes; `journal_mode`
WAL, or DELETE on a network file system, where processes can't share WAL's memory; `synchronous=FULL`, so that
what was committed survives a loss of power (NORMAL would only keep the file consistent); `foreign_keys`.
"""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import Pool

from ..advice import call
from ..errors import StoreDamagedError, StoreError, UsageError
from .backends.backend import BEGIN, BUSY_TIMEOUT, READING, WRITING

OBJECTS = ".objects"
"""The suffix of the folder of edit objects, which otherwise has the database's name."""

STATISTICS = ".statistics"
"""The suffix of the folder of kept covariances, likewise."""

NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "davfs", "drvfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs"}
    | {"nfs", "nfs4", "ocfs2", "smb3", "smbfs", "virtiofs"}
    | {"fuse.glusterfs", "fuse.rclone", "fuse.sshfs"}
)

_BEGINNINGS = {READING: "BEGIN", WRITING: "BEGIN IMMEDIATE"}
_MOUNTS = Path("/proc/mounts")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_log = logging.getLogger(__name__)


def database_path(location: str | Path) -> Path:
    """Gives the absolute path of the database that a user named.

    Args:
        location: a path or a `sqlite:///PATH` URL (three slashes, then an absolute or relative path).

    Raises:
        UsageError: if it is another kind of URL, or names no file.
        StoreError: if the path can't be resolved, for example a loop of symbolic links.
    """
    text = str(location)
    scheme = _SCHEME.match(text)
    if scheme is not None:
        if scheme[1].lower() != "sqlite":
            raise UsageError(
                f"the database must be a path, sqlite:///PATH or postgresql://USER@HOST/NAME (got a {scheme[1]!r} URL)"
            )
        if not text[scheme.end() :].startswith("/"):
            raise UsageError(f"the database must be a path or sqlite:///PATH, with three slashes (got {text!r})")
        text = text[scheme.end() + 1 :]
    if text in ("", ".", "/", ":memory:"):
        raise UsageError(f"the database must be the path of a file (got {str(location)!r})")
    if text.endswith(OBJECTS):
        raise UsageError(f"{text!r} is the name of a folder of edit objects; name a database")
    if text.endswith(STATISTICS):
        raise UsageError(f"{text!r} is the name of a folder of kept statistics; name a database")
    try:
        return Path(text).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise StoreError(f"{text!r} can't be resolved to a file: {error}") from error


def file_system(path: Path, mounts: str) -> str | None:
    """Names the type of the file system that holds a path.

    Args:
        path: an absolute path.
        mounts: the text of /proc/mounts.
    """
    best: tuple[int, str] | None = None
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1]))
        depth = len(point.parts)
        # A later mount on the same point hides the earlier one.
        if path.is_relative_to(point) and (best is None or depth >= best[0]):
            best = (depth, fields[2])
    return None if best is None else best[1]


def on_network(path: Path) -> bool:
    """Whether a path lies on a file system that other machines share; False where the system doesn't tell."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return False
    kind = file_system(path, mounts)
    if kind not in NETWORK_FILE_SYSTEMS:
        return False
    _log.warning(
        "%s lies on a network file system (%s): SQLite's write-ahead log is unsafe there, so kndb uses a "
        "rollback journal; let only one machine at a time write to it",
        path,
        kind,
    )
    return True


def make_engine(
    path: Path,
    poolclass: type[Pool],
    *,
    create: bool = False,
    foreign_keys: bool = True,
    timeout: float = BUSY_TIMEOUT,
) -> Engine:
    """Makes a SQLAlchemy engine whose transactions begin as its `kndb_begin` execution option says.

    Args:
        path: the database file.
        poolclass: SQLAlchemy's pool of connections.
        create: whether a missing file is created.
        foreign_keys: whether foreign keys are enforced; a migration turns that off.
        timeout: seconds to wait for other processes.
    """
    journal = "DELETE" if on_network(path) else "WAL"

    def connect() -> sqlite3.Connection:
        uri = f"{path.as_uri()}?mode={'rwc' if create else 'rw'}"
        # The pool may hand a connection to another thread, never to two at once.
        driver = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=timeout)
        try:
            _set_pragmas(driver, journal, foreign_keys, timeout)
        except BaseException:
            driver.close()
            raise
        return driver

    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=poolclass)
    event.listen(engine, "begin", _begin)
    _hold_to_file(engine, path)
    return engine


def _hold_to_file(engine: Engine, path: Path) -> None:
    """Refuses connections once another file is in the place of the one that was opened, until the engine is disposed.

    A connection that is kept would read on from the file that was deleted, and write into it, which nobody would ever
    see; a new one would find another database in the middle of the work.
    """
    opened: list[tuple[int, int]] = []

    def hold(*_: object) -> None:
        try:
            now = path.stat()
        except OSError as error:
            raise StoreError(f"{path} is gone ({error.strerror}); put it back and start again") from None
        found = now.st_dev, now.st_ino
        if not opened:
            opened.append(found)
        if opened != [found]:
            raise StoreError(
                f"{path} was replaced by another file while it was open, so nothing was read or written; start again"
            )

    event.listen(engine, "checkout", hold)
    event.listen(engine, "engine_disposed", lambda _: opened.clear())


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(_BEGINNINGS[connection.get_execution_options().get(BEGIN, READING)])


def _set_pragmas(driver: sqlite3.Connection, journal: str, foreign_keys: bool, timeout: float) -> None:
    driver.execute(f"PRAGMA busy_timeout={int(timeout * 1000)}")
    if driver.execute("PRAGMA journal_mode").fetchone()[0].upper() != journal and _is_own(driver):
        _set_journal_mode(driver, journal)
    driver.execute("PRAGMA synchronous=FULL")
    driver.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
    add_functions(driver)


def add_functions(driver: sqlite3.Connection) -> None:
    """Gives a connection kndb's SQL function: SQLite's own LIKE and lower() fold ASCII letters only."""
    driver.create_function("kndb_casefold", 1, _casefold, deterministic=True)


def _is_own(driver: sqlite3.Connection) -> bool:
    """Whether a database is kndb's, or empty: the journal mode lies in the file, and no other program's is changed."""
    tables = {row[0] for row in driver.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return not tables or tables >= {"alembic_version", "fact", "model"}


def _casefold(value: str | None) -> str | None:
    return None if value is None else value.casefold()


def _set_journal_mode(driver: sqlite3.Connection, journal: str) -> None:
    """Changes the journal mode if nobody is in the way: transactions are as safe in the mode that stays."""
    try:
        driver.execute(f"PRAGMA journal_mode={journal}")
    except sqlite3.OperationalError as error:
        if not re.search("locked|readonly", str(error)):
            raise


# What SQLite says, and what kndb says; the error number is not used, as Python gives it only from 3.11 on.
_MEANINGS: tuple[tuple[str, type[StoreError], str], ...] = (
    (
        "is locked|busy",
        StoreError,
        "{path} is in use by another process (waited {timeout:g} s); try again when that one is done",
    ),
    (
        "disk is full",
        StoreError,
        "{path} can't be written: the disk is full, nothing of this was stored; free some space",
    ),
    (
        "readonly database",
        StoreError,
        "{path} can't be written: the file or its folder is read-only; copy it to a folder of yours",
    ),
    (
        "unable to open database",
        StoreError,
        "{path} can't be opened: SQLite needs to write to its folder, and to read and write the file",
    ),
    (
        "not a database|is encrypted",
        StoreError,
        "{path} is not an SQLite database; name another file",
    ),
    (
        "malformed|corrupt|not decode to UTF-8|integer overflow",
        StoreDamagedError,
        "{path} is damaged ({error}); see: {check}, and restore a backup",
    ),
    (
        "disk I/O error",
        StoreError,
        "{path} can't be read or written: the disk reported an error ({error}); nothing of this was stored",
    ),
)


def translate(error: BaseException, path: Path, timeout: float = BUSY_TIMEOUT) -> StoreError | None:
    """Says in kndb's words what an error of SQLite means; None for an error that no user can cause.

    Args:
        error: an error of sqlite3, or SQLAlchemy's wrapper of one.
        path: the database file.
        timeout: seconds that the transaction waited for others.
    """
    original: Any = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(original, sqlite3.DatabaseError) or isinstance(original, sqlite3.IntegrityError):
        return None
    for pattern, kind, message in _MEANINGS:
        if re.search(pattern, str(original)):
            return kind(message.format(path=path, timeout=timeout, error=original, check=call("maintenance.check")))
    return None


@contextmanager
def translated_errors(path: Path, timeout: float = BUSY_TIMEOUT) -> Iterator[None]:
    """Raises SQLite's errors of the block as kndb's; the one place that does.

    Raises:
        StoreError: if the database is locked, full, read-only, unreadable or not a database.
        StoreDamagedError: if SQLite finds the file damaged.
        UsageError: for a number or a text that SQLite can't hold.
    """
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        meaning = translate(error, path, timeout)
        if meaning is None:
            raise
        raise meaning from error
    except UnicodeEncodeError as error:
        raise UsageError(f"the text {error.object!a} is no UTF-8, so no database has it") from error
    except OverflowError as error:
        raise UsageError(f"a number is larger than SQLite can hold ({error}): at most 2^63 - 1") from error
