"""The files of edit objects: which the rows name, whether they are as they were written, and copies of them.

An edit's object file is written, and lies on disk for good, before the row that names it commits, and both
while the write lock is held. So a file that no row names is a left-over of a crash, and `check` may remove it
once it holds the write lock itself.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, select

from ..advice import call
from ..errors import StoreDamagedError, StoreError
from ..files import sha256, sync, temporary_name
from .engine import Store
from .tables import EditRow

_CHUNK = 1 << 20


class ObjectFile(NamedTuple):
    """An edit's object file, as its row names it."""

    edit: int
    hash: str
    path: str


def named_objects(connection: Connection) -> list[ObjectFile]:
    """The object files that rows name, by the edits' numbers."""
    query = select(EditRow.id, EditRow.object_hash, EditRow.object_path).order_by(EditRow.id)
    return [ObjectFile(*row) for row in connection.execute(query)]


def object_problem(folder: Path, named: ObjectFile) -> str | None:
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


def files_in(folder: Path) -> Iterator[Path]:
    """Gives all that lies in a folder and is no folder itself; links are given, not followed."""
    for parent, folders, names in os.walk(folder):
        paths = [Path(parent, name) for name in (*folders, *names)]
        yield from (path for path in paths if path.is_symlink() or not path.is_dir())


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
    with file_errors(folder):
        for named in named_objects(connection):
            _copy_object(store.objects, folder, named)


def _copy_object(source_folder: Path, target_folder: Path, named: ObjectFile) -> None:
    problem = object_problem(source_folder, named)
    if problem is not None:
        raise StoreDamagedError(f"{problem}; no copy was made. See: {call('maintenance.check')}")
    if object_problem(target_folder, named) is None:
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


@contextlib.contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Raises errors of files in the block as kndb's, with the file's name, or else this one."""
    try:
        yield
    except OSError as error:
        place = error.filename or path
        raise StoreError(f"{place} can't be read or written: {error.strerror or error}") from error
