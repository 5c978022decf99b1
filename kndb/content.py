"""A file's unpacked bytes, never more of them than a limit: what is longer is refused while it is read.

Gzip is recognised by its first bytes, whatever the file is called; a file may have any number of gzip members, as bgzip
writes it. Memory is bounded by the limit, time by the bytes that are unpacked.
"""

from __future__ import annotations

import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .advice import option
from .errors import InputError

MOST_BYTES = 1 << 30
"""Of text, unpacked: some five million facts."""
MOST_LINES = 20_000_000
MOST_LINE_BYTES = 1 << 24
"""Of one line: a parsed line may take 25 times its length in memory, so a file of one line would break the bound."""
_UNPACKED = 1 << 24
"""Of a gzip file, so much may unfold before its ratio counts: short texts may well repeat themselves."""
_RATIO = 250
"""No list of facts is packed to less than a hundredth; a bomb is packed to a thousandth."""
_GZIP = b"\x1f\x8b"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CHUNK = 1 << 16
_WITH_GZIP_HEADER = 31
_HELD = " (about ten times as much memory is needed)"


@dataclass
class _Budget:
    """How many bytes may be read, and how many of them are left."""

    most: int
    left: int


_budget: ContextVar[_Budget | None] = ContextVar("budget", default=None)


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """While open, files of more unpacked bytes are refused; those that are held whole count together."""
    token = _budget.set(_Budget(size, size))
    try:
        yield
    finally:
        _budget.reset(token)


def content(path: Path) -> tuple[bytes, bool]:
    """The unpacked bytes of a file, and whether its gzip data (if that is what they are) were whole.

    Raises:
        InputError: if it can't be read, is no file of text, is larger than the limit or what is left of it, or its gzip
            data are damaged.
    """
    budget = _budget.get() or _Budget(MOST_BYTES, MOST_BYTES)
    pieces = list(_parts(path, budget))
    data = b"".join(part for part, _ in pieces)
    budget.left -= len(data)
    return data, not pieces or pieces[-1][1]


def head(path: Path, size: int) -> bytes:
    """The first unpacked bytes of a file, at most so many; errors as for `content`."""
    parts: list[bytes] = []
    missing = size
    for part, _ in _parts(path, _whole_budget()):
        parts.append(part[:missing])
        missing -= len(part)
        if missing <= 0:
            break
    return b"".join(parts)


def most_bytes() -> int:
    """How many unpacked bytes a file may have."""
    return _whole_budget().most


def require_size(path: Path) -> None:
    """Refuses a file that is larger than the limit as it is, before anything is done with it.

    Raises:
        InputError: if it is, or can't be read.
    """
    try:
        with path.open("rb") as file:
            _require_size(path, file, _whole_budget(), held=False)
    except OSError as error:
        raise InputError(f"{path}: it can't be read ({error.strerror or error})") from error


def too_large(path: Path) -> InputError:
    """The error that a file that is read piece by piece holds more than the limit."""
    return _too_large(path, _whole_budget(), held=False)


def stream(path: Path) -> io.BufferedReader:
    """The unpacked bytes of a file, to be read from first to last; none of them is kept.

    Raises:
        InputError: while it is read, as for `content`.
        EOFError: while it is read, if its gzip data are cut short.
    """
    return io.BufferedReader(_Stream(_parts(path, _whole_budget(), held=False)), _CHUNK)


def is_pipe(path: Path) -> bool:
    """Whether an existing path is a pipe, which can be read only once."""
    return stat.S_ISFIFO(path.stat().st_mode)


def require_seekable(path: Path, *, named: bool = True) -> None:
    """Refuses a pipe, whose beginning would be gone once its format is known.

    Args:
        path: an existing path.
        named: whether the user could name the format instead.

    Raises:
        InputError: if the path is one.
    """
    if is_pipe(path):
        instead = f"name what comes with {option('input_format', 'jsonl')}, or save" if named else "save"
        raise InputError(f"{path}: this is a pipe, which can be read only once; {instead} it to a file")


class _Stream(io.RawIOBase):
    def __init__(self, parts: Iterator[tuple[bytes, bool]]) -> None:
        self._parts = parts
        self._rest = memoryview(b"")
        self._whole = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        place = memoryview(buffer).cast("B")
        while not self._rest:
            try:
                part, self._whole = next(self._parts)
            except StopIteration:
                if not self._whole:
                    raise EOFError("the gzip data are cut short") from None
                return 0
            self._rest = memoryview(part)
        size = min(len(place), len(self._rest))
        place[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _whole_budget() -> _Budget:
    most = (_budget.get() or _Budget(MOST_BYTES, MOST_BYTES)).most
    return _Budget(most, most)


def _parts(path: Path, budget: _Budget, *, held: bool = True) -> Iterator[tuple[bytes, bool]]:
    """The unpacked bytes piece by piece, each with whether the data may end after it."""
    read = unpacked = 0
    try:
        with path.open("rb") as file:
            _require_size(path, file, budget, held=held)
            for part, taken, whole in _pieces(path, file):
                read, unpacked = taken, unpacked + len(part)
                if unpacked > budget.left:
                    raise _too_large(path, budget, held=held)
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


def _require_size(path: Path, file: BinaryIO, budget: _Budget, *, held: bool) -> None:
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and status.st_size > budget.left:
        raise _too_large(path, budget, held=held, size=status.st_size)


def _require_text(path: Path, first: bytes) -> None:
    """Refuses what has no end (such as /dev/zero) or no lines, before it is read to a limit."""
    if len(first) > 64 and first.count(0) * 4 > len(first) and not first.startswith(_UTF16_MARKS):
        raise InputError(f"{path}: it begins with binary data (NUL bytes); a fact list is UTF-8 text")


def _too_large(path: Path, budget: _Budget, *, held: bool, size: int = 0) -> InputError:
    """The error, with a limit that is high enough for the size of the file, if that is known."""
    before = budget.most - budget.left
    enough = max(4 * budget.most, 1 << (before + size - 1).bit_length())
    what = f"with the {before:,} bytes that were read before it, it is" if before else "it holds"
    return InputError(
        f"{path}: {what} more than {budget.most:,} bytes of text, the most that is read at a time; read it in parts, "
        f"or allow more with {option('most_bytes', enough)}{_HELD if held else ''}"
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
                yield part, read, rest != _GZIP[:1]
                if not rest.startswith(_GZIP):
                    _require_padding(path, rest, file)
                    return
                member = zlib.decompressobj(_WITH_GZIP_HEADER)
                continue
            yield part, read, False
            rest = member.unconsumed_tail or file.read(_CHUNK)
            read += 0 if member.unconsumed_tail else len(rest)
    except zlib.error as error:
        # Unlike with a cut, nothing says which of the lines before are right.
        raise InputError(f"{path}: its gzip data are damaged ({error}); fetch the file again") from error


def _require_padding(path: Path, rest: bytes, file: BinaryIO) -> None:
    """Refuses what stands behind the last member, zeros aside: it may be a member whose beginning is damaged."""
    while rest:
        if rest.strip(b"\0") not in (b"", _GZIP[:1]):
            raise InputError(f"{path}: its gzip data are damaged (no gzip after a member's end); fetch the file again")
        rest = file.read(_CHUNK)
