"""The project's own lists as JSON lines: each line a fact, a template, or both."""

from __future__ import annotations

from pathlib import Path

from ..records.facts import FactFile
from . import own
from .collector import Collector, objects
from .folders import JSON_LINES
from .formats import Fields, Format, Shape


def read_file(path: Path) -> FactFile:
    """Reads one JSON-lines file.

    Args:
        path: the file.

    Returns:
        Its facts, templates and rejected lines.

    Raises:
        InputError: if the file can't be read at all.
    """
    collector = Collector(path)
    for number, record in objects(path, collector):
        with collector.rejecting(path, number):
            own.add(record, collector)
    return collector.finish()


def _recognises(shape: Shape, fields: Fields) -> bool:
    return shape is Shape.LINES and any(name in own.NAMING_FIELDS for name in fields)


FORMAT = Format("jsonl", lambda path: [read_file(path)], _recognises, suffixes=JSON_LINES, own=True)
