"""The project's own lists as CSV: a header, then a fact, a template, or both in each record."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import InputError, RejectedLine
from ..records.facts import FactFile
from . import own
from .checks import RecordError
from .collector import Collector
from .folders import COMMA_SEPARATED
from .formats import Format, Shape
from .lines import Line, read_lines

_LISTS = {"sentences": "texts", "evaluation": "objects"}
_OPTIONAL = ("id", "relation_label", "template", "prompt", "held_out", *_LISTS)
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def read_file(path: Path) -> FactFile:
    """Reads one CSV file, with commas and double quotes; a quoted field may span lines.

    Args:
        path: the file.

    Returns:
        Its facts, templates and rejected records; a record's line is the one on which it begins.

    Raises:
        InputError: if the file can't be read at all, or its first record is no header with the columns.
    """
    collector = Collector(path)
    header: list[str] | None = None
    for number, row in _rows(path, collector):
        if header is None:
            header = _header(path, number, row)
            continue
        with collector.rejecting(path, number):
            own.add(_record(header, row), collector)
    return collector.finish()


def _rows(path: Path, collector: Collector) -> Iterator[tuple[int, list[str]]]:
    """The records with the line on which each begins; those that can't be parsed are rejected."""
    lines = read_lines(path)
    index = 0
    while index < len(lines):
        line = lines[index]
        taken = 1
        if line.problem is not None:
            collector.reject(path, line.number, line.problem)
        elif line.text.strip():
            # A reader for each record: after a quote that is never closed, reading resumes on the next line
            # and not at the end of the file.
            reader = csv.reader(_texts(lines, index), strict=True)
            try:
                row = next(reader)
            except csv.Error as error:
                reason = f"not valid CSV ({error}): fields are separated by commas and quoted with double quotes"
                collector.reject(path, line.number, reason)
            else:
                taken = reader.line_num
                yield line.number, row
        index += taken


def _texts(lines: Sequence[Line], start: int) -> Iterator[str]:
    for index in range(start, len(lines)):
        if lines[index].problem is not None:
            return
        yield lines[index].text + "\n"


def _header(path: Path, number: int, row: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in row]
    known = [name for name in names if name in own.FIELDS]
    if not own.looks_own(known) or len(known) != len(set(known)):
        reason = (
            f"the header must have relation, subject and object (or template), each once and separated by commas "
            f"(got {', '.join(names)})"
        )
        rejected = RejectedLine(str(path), number, reason)
        raise InputError(str(rejected), [rejected])
    return names


def _record(header: Sequence[str], row: Sequence[str]) -> dict[str, object]:
    if len(row) != len(header):
        raise RecordError(f"it has {len(row)} fields, and the header has {len(header)}")
    cells = dict(zip(header, row, strict=True))
    blank = {name for name, cell in cells.items() if not cell.strip()}
    record: dict[str, object] = {
        name: cell for name, cell in cells.items() if name not in _OPTIONAL or name not in blank
    }
    if ("template" in record or "prompt" in record) and blank.issuperset({"subject", "object"} & set(cells)):
        record.pop("subject", None)
        record.pop("object", None)
    if "held_out" in record:
        record["held_out"] = _flag(cells["held_out"])
    for name, what in _LISTS.items():
        if name in record:
            record[name] = _list(cells[name], name, what)
    if "sentences" in record and "subject" in blank:
        record.pop("subject", None)
    return record


def _list(cell: str, name: str, what: str) -> object:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{name!r} must be a JSON list of {what} (got {cell[:60]!r})") from error


def _flag(cell: str) -> bool:
    value = _FLAGS.get(cell.strip().lower())
    if value is None:
        raise RecordError(f"'held_out' must be true or false (got {cell!r})")
    return value


FORMAT = Format(
    "csv",
    lambda path: [read_file(path)],
    lambda shape, fields: shape is Shape.TABLE and own.looks_own(fields),
    suffixes=COMMA_SEPARATED,
)
