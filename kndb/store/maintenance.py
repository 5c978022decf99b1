"""Looking after a store: checking it, backing it up, and saying what is in it.

An edit's object file is written, and lies on disk for good, before the row that names it commits, and both
while the write lock is held. So a file that no row names is a left-over of a crash, and `check` may remove it
once it holds the write lock itself.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from ..advice import call, option
from ..errors import StoreDamagedError, StoreError, UsageError
from ..files import sha256, sync, temporary_name
from ..records.maintenance import CheckReport
from .backends.backend import BUSY_TIMEOUT, Backend
from .backends.shared_folder import STORES
from .connections import database_path, translated_errors
from .edits.checks import check_edits
from .engine import Store
from .files import is_database
from .json_checks import check_json
from .refinement_checks import check_refinements
from .row_checks import Problem, check_references, check_rows, check_shapes
from .run_errors import check_run_errors
from .schema import current_revision, head_revision
from .schema_checks import check_schema
from .tables import EditRow, Table

ROW_CHECKS: tuple[Callable[[Connection], list[str]], ...] = (check_edits, check_refinements, check_run_errors)
"""What `check` asks of rows together, where each is right in itself. Add more here."""

_SMALL = (
    "applied_edit",
    "edit",
    "edit_trial",
    "evaluation",
    "history",
    "probe",
    "refinement",
    "run",
    "snapshot",
    "version",
)
"""Tables with a row for each run, edit, …, and not one for each prompt or neuron of it."""
_CHUNK = 1 << 20


class _Object(NamedTuple):
    """An edit's object file, as its row names it."""

    edit: int
    hash: str
    path: str


# --- check ------------------------------------------------------------------------------------------


def check(store: Store, repair: bool = False) -> CheckReport:
    """Looks for damage: in SQLite's pages, the schema, each row, references, the edits and their object files.

    Args:
        store: the store; it need not have this kndb's schema revision.
        repair: whether to remove the files in the folder of objects that no edit names; damage stays.

    Returns:
        The problems, the left-over files found, and those of them that were removed.

    Raises:
        StoreError: if the database can't be read, or with `repair` not be locked.
    """
    try:
        with store.reading() as connection:
            problems = _file_problems(store.backend, connection)
            if problems:
                return CheckReport(problems=tuple(problems))
            in_rows = _value_problems(connection)
            problems = [problem.text for problem in in_rows]
            # What rows say together can only be told of rows that are right in themselves.
            if not problems:
                problems = [problem for row_check in ROW_CHECKS for problem in row_check(connection)]
            if any(problem.table == EditRow.__tablename__ for problem in in_rows):
                return CheckReport(problems=tuple(problems))
            objects = _objects(connection)
            # Where nobody said where objects are, there may still be none.
            looks = bool(objects) or store.backend.has_folders
            orphans = _orphans(store, objects) if looks else []
    except StoreDamagedError as error:
        return CheckReport(problems=(str(error),))
    problems += [problem for named in objects if (problem := _object_problem(store.objects, named))]
    repaired: list[str] = []
    if repair and orphans:
        sharing = store.backend.sharing_objects()
        problems += [f"{other} shares {store.objects}: nothing was removed; move it away" for other in sharing]
        repaired = [] if sharing else _remove_orphans(store)
    return CheckReport(tuple(problems), tuple(orphans), tuple(repaired))


def _file_problems(backend: Backend, connection: Connection) -> list[str]:
    """What is wrong with the file as a database of kndb's; with a problem here, rows can't be looked at."""
    own = backend.file_problems(connection)
    if own:
        return own
    revision = current_revision(connection)
    if revision is not None and revision != head_revision():
        return [f"its schema revision is {revision}, and this kndb needs {head_revision()}: upgrade the database"]
    problems = check_schema(connection)
    if revision is None:
        problems.insert(0, f"it has no schema revision; this kndb needs {head_revision()}")
    return problems


def broken_references(store: Store) -> tuple[str, ...]:
    """The problems of `check` that are references of small tables: it takes no time that grows with the results.

    Raises:
        StoreError: if the database can't be read.
    """
    with store.reading() as connection:
        return tuple(problem.text for problem in check_references(connection, _SMALL))


def _value_problems(connection: Connection) -> list[Problem]:
    """What is wrong in single rows."""
    problems = check_rows(connection) + check_references(connection)
    wrong = {problem.table for problem in problems}
    return problems + check_json(connection, wrong) + check_shapes(connection, wrong)


def _objects(connection: Connection) -> list[_Object]:
    query = select(EditRow.id, EditRow.object_hash, EditRow.object_path).order_by(EditRow.id)
    return [_Object(*row) for row in connection.execute(query)]


def _object_problem(folder: Path, named: _Object) -> str | None:
    """Says what is wrong with an edit's object file; None if it is as it was written."""
    expected = f"{named.hash[:2]}/{named.hash}.safetensors"
    if named.path != expected:
        return f"edit {named.edit}: its row names the object {named.path!r}, and its hash says {expected!r}"
    path = folder / named.path
    if path.is_symlink():
        return f"edit {named.edit}: its object {path} is a symbolic link, and must be a file"
    try:
        found = sha256(path)
    except FileNotFoundError:
        return f"edit {named.edit}: its object {path} is missing"
    except OSError as error:
        return f"edit {named.edit}: its object {path} can't be read: {error.strerror or error}"
    if found != named.hash:
        return f"edit {named.edit}: its object {path} has sha256 {found}; it was changed or damaged"
    return None


def _orphans(store: Store, objects: list[_Object]) -> list[str]:
    named = {store.objects / one.path for one in objects}
    named.add(store.objects / STORES)
    return sorted(str(path) for path in _files(store.objects) if path not in named)


def _files(folder: Path) -> Iterator[Path]:
    """Gives all that lies in a folder and is no folder itself; links are given, not followed."""
    for parent, folders, names in os.walk(folder):
        paths = [Path(parent, name) for name in (*folders, *names)]
        yield from (path for path in paths if path.is_symlink() or not path.is_dir())


def _remove_orphans(store: Store) -> list[str]:
    """Removes left-overs while nobody can be writing an edit."""
    with store.writing() as connection, _file_errors(store.objects):
        orphans = _orphans(store, _objects(connection))
        for orphan in orphans:
            Path(orphan).unlink(missing_ok=True)
        for folder in store.objects.glob("*/"):
            with contextlib.suppress(OSError):  # one that still holds objects
                folder.rmdir()
    return orphans


# --- backup -----------------------------------------------------------------------------------------


def backup(store: Store, target: str | Path, *, overwrite: bool = False) -> Path:
    """Copies a store to another place, where it is a store of its own: the database and its edit objects.

    The copy is one state of the store, whoever writes meanwhile, and is there whole or not at all. The edit
    objects come first, as they do no harm anywhere.

    Args:
        store: the store.
        target: the database file to make.
        overwrite: whether a database that is there already is replaced.

    Returns:
        The path of the copy.

    Raises:
        UsageError: if the copy would be the store itself, or share its folder of objects; or if the store is on a
            server, which has tools of its own.
        StoreError: if there is a file already (without `overwrite`), or the copy can't be written.
        StoreDamagedError: if an edit's object is missing or damaged.
    """
    store.backend.require_backup()
    path = database_path(target)
    copy = Store(path)
    _require_free(store, copy, overwrite)
    with store.reading() as connection, _file_errors(path):
        _copy_all_objects(store, connection, copy.objects)
        if path.exists():
            # Not by a new file of that name: a process that has the old one open would spoil it with its log.
            _copy_database(connection, path)
        else:
            _copy_to_new(connection, path)
    return path


def _require_free(store: Store, copy: Store, overwrite: bool) -> None:
    if copy.objects == store.objects:
        raise UsageError(
            f"a backup to {copy.path} would share {store.objects} with {store.path}; "
            "choose another folder, or a name that differs before its suffix"
        )
    if not copy.path.parent.is_dir():
        raise StoreError(f"{copy.path} can't be written: there is no folder {copy.path.parent}; create it first")
    if not os.path.lexists(copy.path):
        return
    if not overwrite:
        raise StoreError(f"{copy.path} exists; name another file, or replace it with {option('overwrite', True)}")
    if not is_database(copy.path):
        raise StoreError(f"{copy.path} is not an SQLite database, so it is not replaced; name another file")


def copy_objects(store: Store, connection: Connection, folder: Path) -> None:
    """Copies the edit objects that a store's rows name into another folder, each whole or not at all.

    Args:
        store: the store.
        connection: a transaction of its.
        folder: where to; what is there already and right stays.

    Raises:
        StoreDamagedError: if an object is missing or damaged.
        StoreError: if one can't be written.
    """
    with _file_errors(folder):
        _copy_all_objects(store, connection, folder)


def _copy_all_objects(store: Store, connection: Connection, folder: Path) -> None:
    for named in _objects(connection):
        _copy_object(store.objects, folder, named)


def _copy_object(source_folder: Path, target_folder: Path, named: _Object) -> None:
    problem = _object_problem(source_folder, named)
    if problem is not None:
        raise StoreDamagedError(f"{problem}; no copy was made. See: {call('maintenance.check')}")
    if _object_problem(target_folder, named) is None:
        return
    source, target = source_folder / named.path, target_folder / named.path
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(target)
    try:
        with source.open("rb") as reader, temporary.open("xb") as writer:
            while chunk := reader.read(_CHUNK):
                writer.write(chunk)
            writer.flush()
            os.fsync(writer.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    for folder in (target.parent, target_folder, target_folder.parent):
        sync(folder)


def _copy_to_new(connection: Connection, path: Path) -> None:
    temporary = temporary_name(path)
    try:
        _copy_database(connection, temporary)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _copy_database(connection: Connection, target: Path) -> None:
    """Makes a database equal to another one, in one transaction."""
    source = connection.connection.driver_connection
    assert isinstance(source, sqlite3.Connection)
    connected = sqlite3.connect(target, isolation_level=None, timeout=BUSY_TIMEOUT)
    with translated_errors(target), contextlib.closing(connected) as copy:
        # The backup itself would wait for a lock without end.
        copy.execute("BEGIN IMMEDIATE")
        copy.execute("ROLLBACK")
        source.backup(copy)
        with contextlib.suppress(sqlite3.OperationalError):  # another process has the target open
            # One file without a log beside it can be moved, and read from a read-only folder.
            copy.execute("PRAGMA journal_mode=DELETE")


# --- info -------------------------------------------------------------------------------------------


def info(store: Store) -> dict[str, Any]:
    """Says what a store is and holds.

    Args:
        store: the store.

    Returns:
        `path`, `objects` (None where nobody said where they are), `size` and `objects_size` (bytes), `revision`, what
        the database system says of itself (`journal_mode` and `sqlite_version`, or `server_version`) and `rows` (table
        name to number of rows).

    Raises:
        StoreError: if the database can't be read.
    """
    folder = store.objects if store.backend.has_folders else None
    with store.reading() as connection, _file_errors(Path(store.shown)):
        tables = sorted(Table.metadata.tables)
        queries = {table: f'SELECT count(*) FROM "{table}"' for table in tables}  # noqa: S608
        rows = {table: connection.exec_driver_sql(query).scalar_one() for table, query in queries.items()}
        about = store.backend.about(connection)
        return {
            "path": store.shown,
            "objects": None if folder is None else str(folder),
            "size": about.pop("size"),
            "objects_size": 0 if folder is None else sum(path.lstat().st_size for path in _files(folder)),
            "revision": current_revision(connection),
            **about,
            "rows": rows,
        }


# --- files ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or path
        raise StoreError(f"{place} can't be read or written: {error.strerror or error}") from error
