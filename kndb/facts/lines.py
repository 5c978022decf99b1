"""From a file's bytes to text: gzip, byte-order mark, line ends, broken encodings.

A line ends at LF, or CR LF, only: str.splitlines would also split at characters that labels may hold (U+2028,
U+0085). Gzip is recognised by its first bytes, whatever the file is called.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, RejectedLine

_GZIP = b"\x1f\x8b"
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_CHUNK = 1 << 16
_HEAD = 1 << 20
_WITH_GZIP_HEADER = 31


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


def read_lines(path: Path) -> list[Line]:
    """Reads all lines of a file, blank ones included.

    Args:
        path: a text file in UTF-8, gzipped or not.

    Returns:
        The lines. A line that is no UTF-8 has a problem. Where a gzip file breaks off, the line in which it
        does has one: what is there of it may look whole without being so.

    Raises:
        InputError: if the file can't be read at all (missing, damaged gzip data, UTF-16).
    """
    data, complete = _content(path)
    *whole, rest = data.split(b"\n")
    lines = [_line(number, part) for number, part in enumerate(whole, 1)]
    number = len(whole) + 1
    if not complete:
        lines.append(Line(number, "", "found the end of a gzip file that is cut short; expected more data"))
    elif rest:
        lines.append(_line(number, rest, finished=False))
    return lines


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
    data, complete = _content(path)
    if not complete:
        line = data.count(b"\n") + 1
        raise _stopped(path, line, f"found the end of a gzip file that is cut short; expected {expected}")
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _stopped(path, line, f"{_no_utf8(data, error)}; expected {expected}") from error
    except json.JSONDecodeError as error:
        reason = f"found invalid JSON ({error.msg}, column {error.colno}); expected {expected}"
        raise _stopped(path, error.lineno, reason) from error
    except (RecursionError, ValueError) as error:
        raise _stopped(path, 1, f"found JSON that can't be read ({error}); expected {expected}") from error


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
    data, _ = _content(path, _HEAD)
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


def _content(path: Path, limit: int = -1) -> tuple[bytes, bool]:
    """The unpacked bytes without byte-order mark, and whether the gzip data (if any) were whole."""
    try:
        with path.open("rb") as file:
            data = file.read(limit)
    except OSError as error:
        raise InputError(f"{path}: found an unreadable file ({error.strerror}); expected a fact list") from error
    complete = True
    if data.startswith(_GZIP):
        data, complete = _unpack(path, data)
    if data.startswith(_UTF16_MARKS):
        raise _stopped(path, 1, "found UTF-16 text; expected UTF-8")
    return data.removeprefix(_UTF8_MARK), complete


def _unpack(path: Path, packed: bytes) -> tuple[bytes, bool]:
    """All that can be unpacked, and whether the data end where a gzip file may end."""
    parts: list[bytes] = []
    while True:
        member = zlib.decompressobj(_WITH_GZIP_HEADER)
        try:
            for start in range(0, len(packed), _CHUNK):
                parts.append(member.decompress(packed[start : start + _CHUNK]))
                if member.eof:
                    packed = member.unused_data + packed[start + _CHUNK :]
                    break
        except zlib.error as error:
            # Unlike with a cut, nothing says which of the lines before are right.
            raise InputError(f"{path}: found damaged gzip data ({error}); expected sound data") from error
        if not member.eof or not packed.startswith(_GZIP):
            return b"".join(parts), member.eof


def _line(number: int, data: bytes, *, finished: bool = True) -> Line:
    try:
        return Line(number, data.decode("utf-8").removesuffix("\r"), finished=finished)
    except UnicodeDecodeError as error:
        return Line(number, "", f"{_no_utf8(data, error)}; expected UTF-8 text", finished)


def _no_utf8(data: bytes, error: UnicodeDecodeError) -> str:
    position = error.start - data.rfind(b"\n", 0, error.start)
    return f"found the byte 0x{data[error.start]:02x} at position {position}, which is no UTF-8"


def _stopped(path: Path, line: int, reason: str) -> InputError:
    rejected = RejectedLine(str(path), line, reason)
    return InputError(str(rejected), [rejected])
