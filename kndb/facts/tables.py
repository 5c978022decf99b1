"""The records of a table: a header, then a row in each record; a quoted cell may span lines.

A record that can't be parsed is rejected, and reading resumes on the line after the one on which it begins. So that a
file full of open quotes takes no more than a few times its size to read, a record spans `_MOST_SPAN` lines at most, and
once so many lines were read again, reading resumes after what was read.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from ..errors import InputError, RejectedLine
from .checks import RecordError, cut
from .collector import Collector
from .delimiters import DELIMITERS, sniff
from .lines import Line, read_lines

_MOST_SPAN = 1000
_READ_AGAIN = 100_000

Row = Mapping[str, str]
"""A record's cells by column."""


class Table:
    """A table's header, and its rows.

    Args:
        path: the file.
        columns: names that its header may have; they decide what separates its cells.
        collector: where records that can't be used are noted.

    Attributes:
        header: the columns' names, empty if there is no record.
        header_line: the line on which the header begins.
    """

    def __init__(self, path: Path, columns: Collection[str], collector: Collector) -> None:
        self._path = path
        self._collector = collector
        self._lines = read_lines(path)
        first = next((line.text for line in self._lines if line.problem is None and line.text.strip()), "")
        self._delimiter = sniff(first, columns)
        self._records = self._read()
        self.header_line, header = next(self._records, (1, []))
        self.header = [cell.strip() for cell in header]

    def refuse(self, reason: str) -> InputError:
        """The error that the header is not what it must be."""
        rejected = RejectedLine(str(self._path), self.header_line, f"{reason} (got {cut(', '.join(self.header))})")
        return InputError(str(rejected), [rejected])

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yields the records after the header, each with the line on which it begins."""
        return self._records

    def named(self, cells: Sequence[str]) -> dict[str, str]:
        """A record's cells by column.

        Raises:
            RecordError: if they are more or fewer than the columns.
        """
        if len(cells) != len(self.header):
            raise RecordError(f"it has {len(cells)} fields, and the header has {len(self.header)}")
        return dict(zip(self.header, cells, strict=True))

    def _read(self) -> Iterator[tuple[int, list[str]]]:
        again = index = 0
        while index < len(self._lines):
            line = self._lines[index]
            taken = 1
            if line.problem is not None:
                self._collector.reject(self._path, line.number, line.problem)
            elif line.text.strip():
                # A reader for each record: after a quote that is never closed, reading resumes on the next line
                # and not at the end of the file.
                reader = csv.reader(self._texts(index), strict=True, delimiter=self._delimiter)
                try:
                    row = next(reader)
                except csv.Error as error:
                    again += reader.line_num
                    taken = 1 if again <= _READ_AGAIN else reader.line_num
                    self._collector.reject(self._path, line.number, self._reason(error, taken))
                else:
                    taken = reader.line_num
                    yield line.number, row
            index += taken

    def _reason(self, error: csv.Error, taken: int) -> str:
        further = f"; the next {taken - 1} lines are left out with it" if taken > 1 else ""
        return (
            f"not valid CSV ({error}): fields are separated by {DELIMITERS[self._delimiter]} and quoted with double "
            f"quotes{further}"
        )

    def _texts(self, start: int) -> Iterator[str]:
        for index in range(start, min(start + _MOST_SPAN, len(self._lines))):
            line: Line = self._lines[index]
            if line.problem is not None:
                return
            yield line.text + "\n"
