"""Texts of any kind, one a line: plain text, or JSON lines with a `text` each.

A file is read from first to last and never held: whoever has enough stops asking.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

from ..content import MOST_LINE_BYTES, stream
from ..errors import InputError, RejectedLine

_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def plain_texts(path: Path) -> Iterator[str]:
    """The texts of a file, in its order; blank lines are passed over.

    A file whose first line is a JSON object holds one on each line, with its text as `text`; any other is plain text, a
    line for each.

    Args:
        path: UTF-8 text, gzipped or not, within the limit of `kndb.content`.

    Raises:
        InputError: while it is read: if it can't be, a line is no text or too long, or an object has no `text`; at the
            end, if there was none.
    """
    as_json: bool | None = None
    for number, line in _lines(path):
        if as_json is None:
            as_json = line.lstrip().startswith("{") and isinstance(_parsed(line), dict)
        yield _text(path, number, line) if as_json else line
    if as_json is None:
        raise InputError(f"{path}: there is no text in it; give at least one line")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    with stream(path) as file:
        number = 0
        while line := _line(path, number + 1, file):
            number += 1
            if number == 1:
                if line.startswith(_UTF16_MARKS):
                    raise _refused(path, 1, "the text is UTF-16; save it as UTF-8")
                line = line.removeprefix(_MARK)
            try:
                text = line.decode("utf-8").strip()
            except UnicodeDecodeError as error:
                reason = f"the byte 0x{line[error.start]:02x} at position {error.start + 1} is not UTF-8: save the file"
                raise _refused(path, number, f"{reason} as UTF-8") from None
            if "\0" in text:
                raise _refused(path, number, "the line has a NUL character, which no text has")
            if text:
                yield number, text


def _line(path: Path, number: int, file: io.BufferedReader) -> bytes:
    try:
        line = file.readline(MOST_LINE_BYTES + 1)
    except EOFError:
        raise _refused(path, number, "the gzip file is cut short here; fetch it again") from None
    if len(line) > MOST_LINE_BYTES:
        reason = f"the line has more than {MOST_LINE_BYTES:,} bytes, the most that are read; put each text on its own"
        raise _refused(path, number, reason)
    return line


def _text(path: Path, number: int, line: str) -> str:
    found = _parsed(line)
    if not isinstance(found, dict):
        raise _refused(path, number, 'the line must be a JSON object such as {"text": "…"}, as the first one is')
    text = found.get("text")
    if not isinstance(text, str) or not text.strip():
        raise _refused(path, number, 'the object must have a text that is not empty, as in {"text": "…"}')
    return text


def _parsed(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _refused(path: Path, number: int, reason: str) -> InputError:
    place = RejectedLine(str(path), number, reason)
    return InputError(place.text, [place])
