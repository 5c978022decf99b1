"""A file's unpacked bytes, never more of them than a limit: what is longer is refused while it is read.

Gzip is recognised by its first bytes, whatever the file is called; a file may have any number of gzip members, as bgzip
writes it. Memory is bounded by the limit, time by the bytes that are unpacked.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from ..advice import option
from ..errors import InputError

MOST_BYTES = 1 << 30
"""Of a file's text, unpacked: some five million facts."""
MOST_LINES = 20_000_000
_UNPACKED = 1 << 24
"""Of a gzip file, so much may unfold before its ratio counts: short texts may well repeat themselves."""
_RATIO = 250
"""No list of facts is packed to less than a hundredth; a bomb is packed to a thousandth."""
_GZIP = b"\x1f\x8b"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CHUNK = 1 << 16
_WITH_GZIP_HEADER = 31

_most_bytes: ContextVar[int] = ContextVar("most_bytes", default=MOST_BYTES)


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """While open, files of more unpacked bytes are refused."""
    token = _most_bytes.set(size)
    try:
        yield
    finally:
        _most_bytes.reset(token)


def content(path: Path) -> tuple[bytes, bool]:
    """The unpacked bytes of a file, and whether its gzip data (if that is what they are) were whole.

    Raises:
        InputError: if it can't be read, is no file of text, is larger than the limit, or its gzip data are damaged.
    """
    pieces = list(_parts(path))
    return b"".join(part for part, _ in pieces), not pieces or pieces[-1][1]


def head(path: Path, size: int) -> bytes:
    """The first unpacked bytes of a file, at most so many; errors as for `content`."""
    parts: list[bytes] = []
    missing = size
    for part, _ in _parts(path):
        parts.append(part[:missing])
        missing -= len(part)
        if missing <= 0:
            break
    return b"".join(parts)


def _parts(path: Path) -> Iterator[tuple[bytes, bool]]:
    """The unpacked bytes piece by piece, each with whether the data may end after it."""
    most = _most_bytes.get()
    read = unpacked = 0
    try:
        with path.open("rb") as file:
            _require_size(path, file, most)
            pieces = _pieces(path, file)
            for part, taken, whole in pieces:
                read, unpacked = taken, unpacked + len(part)
                if unpacked > most:
                    raise _too_large(path, most)
                if unpacked > _UNPACKED and unpacked > _RATIO * read:
                    raise InputError(
                        f"{path}: {read:,} packed bytes unfold to more than {_RATIO} times as many, which no list of "
                        "facts does; unpack the file and read what it holds, if it is sound"
                    )
                if unpacked == len(part):
                    _require_text(path, part)
                yield part, whole
    except OSError as error:
        raise InputError(f"{path}: it can't be read ({error.strerror or error})") from error


def _require_size(path: Path, file: BinaryIO, most: int) -> None:
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_size > most:
        raise _too_large(path, most)


def _require_text(path: Path, first: bytes) -> None:
    """Refuses what has no end (such as /dev/zero) or no lines, before it is read to a limit."""
    if len(first) > 64 and first.count(0) * 4 > len(first) and not first.startswith(_UTF16_MARKS):
        raise InputError(f"{path}: it begins with binary data (NUL bytes); a fact list is UTF-8 text")


def _too_large(path: Path, most: int) -> InputError:
    return InputError(
        f"{path}: it holds more than {most:,} bytes of text, the most that is read at a time; read it in parts, or "
        f"allow more with {option('most_bytes', 4 * most)} (about five times as much memory is needed)"
    )


def _pieces(path: Path, file: BinaryIO) -> Iterator[tuple[bytes, int, bool]]:
    """Unpacked pieces, each with the bytes of the file that were read for it, and whether the data may end there."""
    first = file.read(_CHUNK)
    if not first.startswith(_GZIP):
        read = 0
        while first:
            read += len(first)
            yield first, read, True
            first = file.read(_CHUNK)
        return
    member, read, rest = zlib.decompressobj(_WITH_GZIP_HEADER), len(first), first
    try:
        while rest:
            part = member.decompress(rest, _CHUNK)
            if member.eof:
                rest = member.unused_data or file.read(_CHUNK)
                read += 0 if member.unused_data else len(rest)
                if len(rest) == 1:  # A member's mark may lie across two reads.
                    more = file.read(_CHUNK)
                    rest, read = rest + more, read + len(more)
                yield part, read, True
                if not rest.startswith(_GZIP):
                    return
                member = zlib.decompressobj(_WITH_GZIP_HEADER)
                continue
            yield part, read, False
            rest = member.unconsumed_tail or file.read(_CHUNK)
            read += 0 if member.unconsumed_tail else len(rest)
    except zlib.error as error:
        # Unlike with a cut, nothing says which of the lines before are right.
        raise InputError(f"{path}: its gzip data are damaged ({error}); fetch the file again") from error
