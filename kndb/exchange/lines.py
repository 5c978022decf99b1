"""From files to lines and CSV records: gzip, encodings, damage."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ..content import stream
from ..errors import InputError

MOST_ROW = 1 << 27
"""Characters of a row: with a floor of 0, a prompt's scores hold every neuron of the model, each some 50 characters."""


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """Opens a text file in UTF-8, gzipped or not, with its line ends as they are.

    Raises:
        InputError: if it can't be read, holds more than `kndb.content` allows, or turns out damaged while the block
            reads it.
    """
    try:
        with io.TextIOWrapper(stream(path), encoding="utf-8-sig", newline="") as text:
            yield text
    except EOFError as error:
        raise InputError(f"{path}: the gzip file is cut short; fetch it again") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: it is not UTF-8 text; save it as UTF-8") from error


class RowLines:
    """The lines of a text, so many as a row may have; who takes them says where a row ends.

    Args:
        path: the file, for messages.
        text: its text.
    """

    def __init__(self, path: Path, text: TextIO) -> None:
        self._path = path
        self._text = text
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        # A line ends at LF only: where CR may end one, too, is the parser's to say.
        while line := self._text.readline(MOST_ROW + 1):
            self._size += len(line)
            if self._size > MOST_ROW:
                raise InputError(
                    f"{self._path}: a row of it has more than {MOST_ROW:,} characters, the most that are read"
                )
            yield line

    def row_ends(self) -> None:
        """Starts to count anew."""
        self._size = 0


def csv_records(path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Yields the records of a CSV file, blank lines left out, each with the line on which it begins.

    Args:
        path: the file, gzipped or not.
        delimiter: what separates its cells.

    Raises:
        InputError: if the file can't be read, or is no CSV.
    """
    limit = csv.field_size_limit(MOST_ROW)
    try:
        with opened(path) as text:
            lines = RowLines(path, text)
            reader = csv.reader(iter(lines), strict=True, delimiter=delimiter)
            line = 1
            try:
                for cells in reader:
                    lines.row_ends()
                    if cells:
                        yield line, cells
                    line = reader.line_num + 1
            except csv.Error as error:
                separator = "commas" if delimiter == "," else repr(delimiter)
                raise InputError(
                    f"{path}:{line}: not valid CSV ({error}): fields are separated by {separator}, and quoted with "
                    "double quotes"
                ) from error
    finally:
        csv.field_size_limit(limit)


def json_lines(path: Path) -> Iterator[tuple[int, object]]:
    """Yields the number of each line that is not blank, with its JSON value; where it is no JSON, with the error.

    Raises:
        InputError: as `opened` and `RowLines`.
    """
    with opened(path) as file:
        lines = RowLines(path, file)
        for line, text in enumerate(lines, 1):
            lines.row_ends()
            if not text.strip():
                continue
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                value = error
            yield line, value
