"""From a file's bytes to text: byte-order mark, line ends, broken encodings.

A line ends at LF, or CR LF, only: str.splitlines would also split at characters that labels may hold (U+2028,
U+0085).
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from ..content import MOST_LINE_BYTES, MOST_LINES, content, head
from ..errors import InputError, RejectedLine

_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_HEAD = 1 << 20
_BYTES_A_MARK = 5
"""JSON lists of facts have nine bytes or more for each comma, colon or bracket."""


@dataclass(frozen=True)
class Line:
    """One line of a file.

    Attributes:
        number: 1-based.
        text: without its end; empty where there is a problem.
        problem: why the line can't be read, or None.
        finished: whether the file has a line end after it.
    """

    number: int
    text: str
    problem: str | None = None
    finished: bool = True


class Lines(Sequence[Line]):
    """The lines of a text, made as they are asked for: what is held is the text, and eight bytes a line."""

    def __init__(self, data: bytes, complete: bool) -> None:
        self._data = data
        self._complete = complete
        self._ends = array("Q")
        end = data.find(b"\n")
        while end >= 0:
            self._ends.append(end)
            end = data.find(b"\n", end + 1)
        self._rest = self._ends[-1] + 1 if self._ends else 0
        self._count = len(self._ends) + (not complete or self._rest < len(data))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Line: ...

    @overload
    def __getitem__(self, index: slice) -> list[Line]: ...

    def __getitem__(self, index: int | slice) -> Line | list[Line]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        index %= self._count
        if index < len(self._ends):
            start = self._ends[index - 1] + 1 if index else 0
            return self._line(index + 1, start, self._ends[index])
        if not self._complete:
            return Line(index + 1, "", "the gzip file is cut short here; fetch it again")
        return self._line(index + 1, self._rest, len(self._data), finished=False)

    def _line(self, number: int, start: int, end: int, *, finished: bool = True) -> Line:
        if end - start > MOST_LINE_BYTES:
            reason = f"the line has {end - start:,} bytes, and at most {MOST_LINE_BYTES:,} are read"
            return Line(number, "", reason, finished)
        return _line(number, self._data[start:end], finished=finished)


def read_lines(path: Path) -> Lines:
    """Reads all lines of a file, blank ones included.

    Args:
        path: a text file in UTF-8, gzipped or not.

    Returns:
        The lines. A line that is no UTF-8 has a problem. Where a gzip file breaks off, the line in which it
        does has one: what is there of it may look whole without being so.

    Raises:
        InputError: if the file can't be read at all (missing, damaged gzip data, UTF-16, too large).
    """
    data, complete = _text(path)
    if data.count(b"\n") > MOST_LINES:
        raise InputError(f"{path}: it has more than {MOST_LINES:,} lines, the most that are read; read it in parts")
    return Lines(data, complete)


def read_document(path: Path, expected: str) -> object:
    """Reads a file that is one JSON document.

    Args:
        path: a JSON file in UTF-8, gzipped or not.
        expected: what the document should be, for the message.

    Returns:
        The parsed document.

    Raises:
        InputError: if the file can't be read or is no JSON; the message has the line of the first fault.
    """
    data, complete = _text(path)
    if not complete:
        line = data.count(b"\n") + 1
        raise _stopped(path, line, f"the gzip file is cut short here; fetch it again: it must be {expected}")
    _require_text(path, data)
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _stopped(path, line, f"{_no_utf8(data, error)}: the file must be {expected}") from error
    except json.JSONDecodeError as error:
        reason = f"not valid JSON ({error.msg}, column {error.colno}): the file must be {expected}"
        raise _stopped(path, error.lineno, reason) from error
    except (RecursionError, ValueError) as error:
        raise _stopped(path, 1, f"JSON that can't be read ({error}): the file must be {expected}") from error


def _require_text(path: Path, data: bytes) -> None:
    """Refuses a large document that is all structure: parsed, `[]` takes 25 times its length, and text about twice."""
    marks = sum(data.count(mark) for mark in b",:[{") if len(data) > _HEAD else 0
    if marks * _BYTES_A_MARK > len(data):
        raise InputError(
            f"{path}: it has {marks:,} commas, colons and brackets in {len(data):,} bytes, and lists of facts have at "
            "most half as many; nothing of it is read"
        )


def read_head(path: Path) -> str:
    """Reads the beginning of a file, for telling its format.

    Args:
        path: a file, gzipped or not.

    Returns:
        About the first MiB as text, without a line that is only partly there; bytes that are no UTF-8 are
        replaced.

    Raises:
        InputError: if the file can't be read.
    """
    data = _unmarked(path, head(path, _HEAD))
    if len(data) >= _HEAD:
        data = data[: data.rfind(b"\n") + 1] or data
    return data.decode("utf-8", errors="replace")


def head_objects(path: Path, limit: int = 20) -> Iterator[dict[str, object]]:
    """Yields the JSON objects on the first lines of a file; lines that are none are passed over.

    Args:
        path: a JSON-lines file.
        limit: how many lines that are not blank are looked at.

    Yields:
        The objects.

    Raises:
        InputError: if the file can't be read.
    """
    texts = [text for text in read_head(path).split("\n") if text.strip()]
    for text in texts[:limit]:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value


def _text(path: Path) -> tuple[bytes, bool]:
    """The unpacked bytes without byte-order mark, and whether the gzip data (if any) were whole."""
    data, complete = content(path)
    return _unmarked(path, data), complete


def _unmarked(path: Path, data: bytes) -> bytes:
    if data.startswith(_UTF16_MARKS):
        raise _stopped(path, 1, "the text is UTF-16; save it as UTF-8")
    return data.removeprefix(_UTF8_MARK)


def _line(number: int, data: bytes, *, finished: bool = True) -> Line:
    try:
        return Line(number, data.decode("utf-8").removesuffix("\r"), finished=finished)
    except UnicodeDecodeError as error:
        return Line(number, "", f"{_no_utf8(data, error)}: save the file as UTF-8", finished)


def _no_utf8(data: bytes, error: UnicodeDecodeError) -> str:
    position = error.start - data.rfind(b"\n", 0, error.start)
    return f"the byte 0x{data[error.start]:02x} at position {position} is not UTF-8"


def _stopped(path: Path, line: int, reason: str) -> InputError:
    rejected = RejectedLine(str(path), line, reason)
    return InputError(str(rejected), [rejected])
