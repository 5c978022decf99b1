"""What commands write to stdout and stderr, and what becomes of it where that can't be written.

An answer that can't be written is an error like any other; what is said on stderr beside it is worth none. A reader who
leaves (`kndb … | head`) ends the command quietly.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from kndb.errors import OutputError

from .visible import harmless

_STANDARD = 3
"""stdin, stdout, stderr: the numbers of files that libraries may write to unasked."""


class ReaderLeftError(Exception):
    """Nobody reads the answer any more."""


class _Stream(io.TextIOBase):
    """A standard stream of this process; None where it is closed.

    It has no `buffer`: nothing is to be written past it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of what is written."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What becomes of characters that the encoding has not."""
        return "backslashreplace"

    def writable(self) -> bool:
        """It is written to."""
        return True

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.stream is not None and self.stream.isatty()

    def fileno(self) -> int:
        """The number of its file.

        Raises:
            OSError: if it is closed.
        """
        if self.stream is None:
            raise OSError("this stream is closed")
        return self.stream.fileno()


class Answer(_Stream):
    """stdout."""

    def write(self, text: str) -> int:
        r"""Writes a part of the answer; characters that the encoding has not are written out, as `\xf6`.

        Raises:
            OutputError: if it can't be written.
            ReaderLeftError: if nobody reads it.
        """
        with _translated():
            if self.stream is None:
                raise OSError("stdout is closed")
            try:
                return self.stream.write(text)
            except UnicodeEncodeError:
                known = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
                self.stream.write(known)
                return len(text)

    def flush(self) -> None:
        """Has the answer arrive.

        Raises:
            OutputError: if it can't.
            ReaderLeftError: if nobody reads it.
        """
        with _translated():
            if self.stream is not None:
                self.stream.flush()


class Remarks(_Stream):
    """stderr: what can't be written there is lost.

    Whoever writes there, typer and other libraries included, may quote what came from a file or was typed.
    """

    def write(self, text: str) -> int:
        """Writes a remark, without characters that a terminal obeys."""
        with contextlib.suppress(OSError, ValueError):  # full, closed, or without the character
            if self.stream is not None:
                self.stream.write(harmless(text))
        return len(text)

    def flush(self) -> None:
        """Has the remarks arrive."""
        with contextlib.suppress(OSError, ValueError):
            if self.stream is not None:
                self.stream.flush()


@contextlib.contextmanager
def own_streams() -> Iterator[None]:
    """Puts these streams in the place of the process's while the block runs."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Answer(before[0]), Remarks(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def terminal() -> TextIO:
    """Gives stderr for what moves a terminal's cursor on purpose."""
    stream = sys.stderr
    return stream.stream if isinstance(stream, Remarks) and stream.stream is not None else stream


def occupy_closed() -> None:
    """Opens the standard files that are closed as files of nothing: what is opened next would take their numbers."""
    while (number := os.open(os.devnull, os.O_RDWR)) < _STANDARD:
        pass
    os.close(number)


def drop_unwritten() -> None:
    """Lets what could not be written to stdout go: Python would try again, and complain, when the process ends."""
    stream = sys.__stdout__
    if stream is None:
        return
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def is_encodable(text: str) -> bool:
    """Whether stdout's encoding has all characters of a text."""
    try:
        require_encodable(text)
    except OutputError:
        return False
    return True


def require_encodable(text: str, otherwise: str = "") -> None:
    """Checks that exact data can be written in stdout's encoding.

    Args:
        text: the data.
        otherwise: what to do if not.

    Raises:
        OutputError: if it has a character that the encoding has not.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError as error:
        raise OutputError(
            f"stdout can't be written: its encoding {encoding} has no character {text[error.start]!a}; set "
            f"PYTHONIOENCODING=utf-8{otherwise}"
        ) from None


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise ReaderLeftError from None
    except OSError as error:
        raise OutputError(f"stdout can't be written: {error.strerror or error}; the answer is not complete") from None
