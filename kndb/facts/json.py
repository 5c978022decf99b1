"""The project's own lists as one JSON list: each item a fact, a template, or both."""

from __future__ import annotations

from pathlib import Path

from ..records.facts import FactFile
from . import own
from .collector import Collector, items
from .formats import Format, Shape

_EXPECTED = "a JSON list of objects with relation, subject and object (or template)"


def read_file(path: Path) -> FactFile:
    """Reads one JSON list.

    Args:
        path: the file.

    Returns:
        Its facts, templates and rejected items; an item's line is its 1-based number.

    Raises:
        InputError: if the file is no JSON list.
    """
    collector = Collector(path)
    for number, record in items(path, _EXPECTED, collector):
        with collector.rejecting(path, number):
            own.add(record, collector)
    return collector.finish()


FORMAT = Format(
    "json",
    lambda path: [read_file(path)],
    lambda shape, fields: shape is Shape.DOCUMENT and own.looks_own(fields),
    own=True,
)
