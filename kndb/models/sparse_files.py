"""Copies of large files: blocks are shared where the file system can, and holes stay holes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_SHARE_BLOCKS = 0x40049409  # Linux's FICLONE
_CHUNK = 1 << 24


def copy_file(source: Path, target: Path) -> None:
    """Copies a file's bytes to a new file of its own, and waits until they lie on the disk.

    Never a hard link: what is written to the copy must not reach the source.

    Args:
        source: the file; a symbolic link is followed.
        target: a name of which there is no file yet.
    """
    with _opened(source, os.O_RDONLY) as reader, _opened(target, os.O_RDWR | os.O_CREAT | os.O_EXCL) as writer:
        if not _shared(reader, writer):
            size = os.fstat(reader).st_size
            os.ftruncate(writer, size)
            for start, end in _data(reader, size):
                _copy_range(reader, writer, start, end)
        os.fsync(writer)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _shared(reader: int, writer: int) -> bool:
    try:
        fcntl.ioctl(writer, _SHARE_BLOCKS, reader)
    except OSError:
        return False  # Whatever the reason, copying says it better.
    return True


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are not holes."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole up to the file's end
            start, end = end, size  # The file system knows no holes.
        yield start, end


def _copy_range(reader: int, writer: int, start: int, end: int) -> None:
    while start < end:
        start += _copy_some(reader, writer, start, min(end - start, _CHUNK))


def _copy_some(reader: int, writer: int, start: int, length: int) -> int:
    try:
        # Elsewhere than on Linux there is no such call; across file systems it may refuse.
        copied = os.copy_file_range(reader, writer, length, start, start)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
            raise
        copied = os.pwrite(writer, os.pread(reader, length, start), start)
    if copied == 0:
        raise OSError(errno.EIO, "the file became shorter while it was copied")
    return copied
