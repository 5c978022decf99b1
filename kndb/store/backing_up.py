"""Copies of a store in a file, made while others use it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from sqlalchemy import Connection

from ..advice import option
from ..errors import StoreError, UsageError
from ..files import sync, temporary_name
from .backends.backend import BUSY_TIMEOUT
from .connections import database_path, translated_errors
from .engine import Store
from .files import is_database
from .object_files import copy_objects, file_errors


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
    with store.reading() as connection, file_errors(path):
        copy_objects(store, connection, copy.objects)
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
