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
from collections.abc import Iterator
from pathlib import Path

from ..errors import StoreError
from .diff_format import (
    EditObject,
    FlawError,
    Layout,
    ParameterDiff,
    decode,
    encode,
    header_length,
    refusing,
    slot_bytes,
)

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


def object_path(object_hash: str) -> str:
    """Says where, relative to the folder of objects, the object with this sha256 lies."""
    return f"{object_hash[:2]}/{object_hash}.safetensors"


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
            f"the edit object {folder / path} can't be written: {error.strerror or error}; expected a folder "
            "that can be written, with free space. No edit was stored: mend that, then run the command again"
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
    name = str(folder / relative_path)
    with refusing(name):
        content = _read_file(folder, relative_path)
        found = hashlib.sha256(content).hexdigest()
        if found != expected_sha256:
            raise FlawError(f"sha256 {found}", f"{expected_sha256}; the file was changed or damaged")
    return decode(content, name)


def _read_file(folder: Path, relative_path: str) -> bytes:
    try:
        with _opened(folder, _components(relative_path)) as descriptor:
            return _read_content(descriptor)
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        expected = "a regular file below the folder of objects, reached through no symbolic link"
        raise FlawError(f"that it can't be opened ({reason})", expected) from None


def _components(relative_path: str) -> list[str]:
    components = relative_path.split("/")
    if "\0" in relative_path or "\\" in relative_path or any(part in ("", ".", "..") for part in components):
        raise FlawError(f"the path {relative_path!r}", "a path that stays inside the folder of objects")
    return components


@contextlib.contextmanager
def _opened(folder: Path, components: list[str]) -> Iterator[int]:
    """Opens one component after the other, relative to the last, so that no link can be put in between."""
    with contextlib.ExitStack() as opened:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, descriptor)
        for component in components[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            descriptor = os.open(component, flags, dir_fd=descriptor)
            opened.callback(os.close, descriptor)
        # O_NONBLOCK: a named pipe in the file's place must not make kndb wait for a writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(components[-1], flags, dir_fd=descriptor)
        opened.callback(os.close, descriptor)
        yield descriptor


def _read_content(descriptor: int) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise FlawError("something that is not a regular file", "a regular file")
    with open(descriptor, "rb", closefd=False) as file:
        start = file.read(8)
        header_length(start, status.st_size)
        return start + file.read()
