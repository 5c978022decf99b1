"""The project's own lists as CSV: a header, then a fact, a template, or both in each record."""

from __future__ import annotations

import json
from pathlib import Path

from ..records.facts import FactFile
from . import own
from .checks import RecordError, cut
from .collector import Collector
from .folders import TABLES
from .formats import Format, Shape
from .tables import Row, Table

_LISTS = {"sentences": "texts", "evaluation": "objects"}
_OPTIONAL = ("id", "relation_label", "template", "prompt", "held_out", *_LISTS)
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def read_file(path: Path) -> FactFile:
    """Reads one table, with commas, semicolons or tabs and double quotes; a quoted field may span lines.

    Args:
        path: the file.

    Returns:
        Its facts, templates and rejected records; a record's line is the one on which it begins.

    Raises:
        InputError: if the file can't be read at all, or its first record is no header with the columns.
    """
    collector = Collector(path)
    table = Table(path, own.FIELDS, collector)
    if table.header:
        _require_columns(table)
    for number, cells in table.rows():
        with collector.rejecting(path, number):
            own.add(_record(table.named(cells)), collector)
    return collector.finish()


def _require_columns(table: Table) -> None:
    known = [name for name in table.header if name in own.FIELDS]
    if not own.looks_own(known) or len(known) != len(set(known)):
        raise table.refuse(
            "the header must have relation, subject and object (or template), each once and separated by commas, "
            "semicolons or tabs"
        )


def _record(cells: Row) -> dict[str, object]:
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
        raise RecordError(f"{name!r} must be a JSON list of {what} (got {cut(repr(cell))})") from error


def _flag(cell: str) -> bool:
    value = _FLAGS.get(cell.strip().lower())
    if value is None:
        raise RecordError(f"'held_out' must be true or false (got {cut(repr(cell))})")
    return value


FORMAT = Format(
    "csv",
    lambda path: [read_file(path)],
    lambda shape, fields: shape is Shape.TABLE and own.looks_own(fields),
    suffixes=TABLES,
    own=True,
)
