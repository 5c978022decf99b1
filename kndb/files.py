"""Files that are there whole or not at all, and that a power cut does not take back."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .advice import option
from .errors import InputError, OutputError, UsageError

_CHUNK = 1 << 20


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the name of a file to write; when the block ends, it takes the place of `path`.

    Args:
        path: the file to make, or to replace. Whatever fails, it stays as it was.

    Yields:
        A name in the same folder, of which there is no file yet. The block must close the file it makes there.

    Raises:
        OSError: if it can't be written, or what is there is no file: a device would be replaced by one.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is there, and no file", str(path))
    temporary = temporary_name(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


@contextmanager
def writing(path: Path, otherwise: str = "name another file") -> Iterator[Path]:
    """The same for a file, or a folder, that a user named: what goes wrong is an error of kndb's.

    Args:
        path: the file.
        otherwise: what to do if it can't be written.

    Raises:
        OutputError: if it can't be written.
    """
    with output_errors(path, otherwise), replacing(path) as temporary:
        yield temporary


def require_new_file(path: Path, *, force: bool) -> None:
    """Checks that a file that a user named is not there yet, before any work.

    Raises:
        UsageError: if it is, and is not to be replaced.
    """
    if path.exists() and not force:
        raise UsageError(f"{path} exists already; name another file, or replace it with {option('force', True)}")


@contextmanager
def making_folder(target: Path) -> Iterator[Path]:
    """Gives a folder to fill with files; when the block ends, it is there under its name, whole.

    Args:
        target: a folder that does not exist yet, or is empty.

    Raises:
        OSError: if it can't be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        folder = Path(scratch) / "made"
        folder.mkdir()
        yield folder
        for path in folder.iterdir():
            sync(path)
        sync(folder)
        if target.exists():
            target.rmdir()
        folder.replace(target)
        sync(target.parent)


@contextmanager
def output_errors(path: Path, otherwise: str = "name another file") -> Iterator[None]:
    """Says of the block's errors of files that what a user named can't be written.

    Raises:
        OutputError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror or error}; {otherwise}") from error


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


def bounded_content(path: Path, most_bytes: int, otherwise: str = "") -> bytes:
    """The bytes of a regular file that somebody sent.

    Args:
        path: the file.
        most_bytes: a larger one is refused.
        otherwise: what to do about a larger one.

    Raises:
        InputError: if it is larger, is no regular file, or can't be read.
    """
    try:
        # Before it is opened: a pipe would wait for a writer, and a device has no end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is no regular file")
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > most_bytes:
        raise InputError(f"{path} has more than {most_bytes:,} bytes, the most that is read of it{otherwise}")
    return content


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def boot_id() -> str | None:
    """Names the time since the machine was started; None where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
