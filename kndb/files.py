"""Files that are there whole or not at all, and that a power cut does not take back."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CHUNK = 1 << 20


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the name of a file to write; when the block ends, it takes the place of `path`.

    Args:
        path: the file to make, or to replace. Whatever fails, it stays as it was.

    Yields:
        A name in the same folder, of which there is no file yet. The block must close the file it makes there.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def temporary_name(path: Path) -> Path:
    """A hidden name beside a file, of which there is no file yet."""
    return path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def sync(path: Path) -> None:
    """Waits until what a file or a folder holds lies on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
