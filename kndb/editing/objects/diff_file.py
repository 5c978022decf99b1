"""The files of edit objects: immutable, named by the sha256 of their bytes, in the store's folder of objects.

Invariants: a file under its final name is complete and on disk; `read` returns what was written or raises. No
path leaves the folder, and no symbolic link in it is followed. `diff_format` says what the bytes mean.

A writer calls `write` before it commits the row that names the file. Both belong in one write transaction: a
repair removes files without a row in a transaction of its own, and must not meet one whose row is to come.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from pathlib import Path

from ...errors import StoreError
from .diff_format import EditObject, ParameterDiff, decode, encode, slot_bytes
from .object_bytes import object_path, read_content
from .object_metadata import Layout

__all__ = [
    "EditObject",
    "Layout",
    "ParameterDiff",
    "decode",
    "encode",
    "object_path",
    "read",
    "slot_bytes",
    "write",
]


# --- to disk --------------------------------------------------------------------------------------


def write(edit: EditObject, folder: Path) -> tuple[str, str]:
    """Puts an edit's file into the folder of objects; when this returns, the file is on disk for good.

    A sound file of this content that is there already is left alone; a damaged one is replaced.

    Args:
        edit: the edit.
        folder: the store's folder of objects; it is made if it is missing, its parent must exist.

    Returns:
        The file's sha256 in hex, and its path relative to `folder`, with forward slashes.

    Raises:
        EditError: if the edit is not one that could be read back.
        StoreError: if the file can't be written; at worst a temporary file stays (`kndb db check` lists it).
    """
    content = encode(edit)
    object_hash = hashlib.sha256(content).hexdigest()
    path = object_path(object_hash)
    try:
        _write_file(folder, path, content)
    except OSError as error:
        raise StoreError(
            f"the edit object {folder / path} can't be written: {error.strerror or error}. No edit was stored: make "
            "the folder writable, with free space, then do it again"
        ) from error
    return object_hash, path


def _write_file(folder: Path, path: str, content: bytes) -> None:
    target = folder / path
    for made in (folder, target.parent):
        # A missing parent of `folder` is an error, not something to make: the database lies there.
        with contextlib.suppress(FileExistsError):
            made.mkdir()
    if target.parent.is_symlink() or not target.parent.is_dir():
        raise NotADirectoryError(None, f"{target.parent} is not a folder")
    if not _holds(target, content):
        _replace(target, content)
    # Even where nothing was made now: a process that made it may have died before it flushed.
    for changed in (target.parent, folder, folder.parent):
        _sync_folder(changed)


def _holds(target: Path, content: bytes) -> bool:
    """Whether `target` is a regular file of exactly these bytes."""
    try:
        if not stat.S_ISREG(target.lstat().st_mode) or target.stat().st_size != len(content):
            return False
        return target.read_bytes() == content
    except FileNotFoundError:
        return False


def _replace(target: Path, content: bytes) -> None:
    temporary = target.with_name(f".{target.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        _write_through(temporary, content)
        os.replace(temporary, target)  # noqa: PTH105 - the tests make each system call fail in turn
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _write_through(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- from disk ------------------------------------------------------------------------------------


def read(folder: Path, relative_path: str, expected_sha256: str) -> EditObject:
    """Reads an edit object and makes every check on it.

    Args:
        folder: the store's folder of objects.
        relative_path: the file in it, as `write` returned it.
        expected_sha256: the hash that names the object, in hex.

    Raises:
        DiffFileError: if the file is missing, lies outside the folder, or is not what was written.
    """
    return decode(read_content(folder, relative_path, expected_sha256), str(folder / relative_path))
