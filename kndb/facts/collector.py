"""What has been read of one file so far, and the loops over JSON lines and JSON lists that formats share.

Invariant: a record adds all that it holds, or is rejected and adds nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..content import is_pipe
from ..errors import InputError, RejectedLine
from ..records.facts import FactFile, FactRecord, TemplateRecord
from .checks import RecordError, kind
from .lines import Line, head_objects, read_document, read_head, read_lines

_MOST_REJECTED = 100_000
"""Each keeps its reason in memory; a list has errors in it, and not as many as this."""


class Collector:
    """Gathers relations, templates, facts and rejected lines for one `FactFile`."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._relations: dict[str, str | None] = {}
        self._templates: dict[tuple[str, str], bool] = {}
        self._facts: list[FactRecord] = []
        self._rejected: list[RejectedLine] = []

    def relation(self, key: str, label: str | None = None) -> None:
        """Notes a relation; the first label that is given for it stays."""
        self._relations[key] = self._relations.get(key) or label

    def template(self, relation: str, text: str, *, held_out: bool = False) -> None:
        """Notes a template once, however often it comes; it is held out if it is so anywhere."""
        self.relation(relation)
        place = (relation, text)
        self._templates[place] = held_out or self._templates.get(place, False)

    def fact(self, fact: FactRecord) -> None:
        """Notes a fact, repeated ones too: what counts as the same fact is the store's to say."""
        self.relation(fact.relation)
        self._facts.append(fact)

    def reject(self, path: Path, line: int, reason: str) -> None:
        """Notes a line that can't be used.

        Raises:
            InputError: if there are too many of them.
        """
        if len(self._rejected) == _MOST_REJECTED:
            raise InputError(
                f"{path}: it has more than {_MOST_REJECTED:,} lines that can't be used, so it is no such list. The "
                f"first of them: {self._rejected[0].text}",
                self._rejected[:1],
            )
        self._rejected.append(RejectedLine(str(path), line, reason))

    @contextmanager
    def rejecting(self, path: Path, line: int) -> Iterator[None]:
        """Notes the line as rejected if the block finds its record unusable."""
        try:
            yield
        except RecordError as error:
            self.reject(path, line, str(error))

    def finish(self) -> FactFile:
        """Returns all that was noted."""
        return FactFile(
            # A file's name may have bytes that are no text; what is stored is text.
            source=str(self._source).encode("utf-8", "backslashreplace").decode("utf-8"),
            relations=self._relations,
            templates=tuple(TemplateRecord(*place, held_out) for place, held_out in self._templates.items()),
            facts=tuple(self._facts),
            rejected=tuple(self._rejected),
        )


def objects(path: Path, collector: Collector) -> Iterator[tuple[int, dict[str, object]]]:
    """Yields the objects of a JSON-lines file with their line numbers.

    Args:
        path: the file.
        collector: where lines that hold no object are noted as rejected.

    Yields:
        Line number and object; blank lines are passed over.

    Raises:
        InputError: if the file can't be read at all.
    """
    for line in read_lines(path):
        if line.problem is not None:
            collector.reject(path, line.number, line.problem)
        elif line.text.strip():
            try:
                record = _parse(line)
            except RecordError as error:
                collector.reject(path, line.number, str(error))
            else:
                yield line.number, record


def cases(path: Path, expected: str, collector: Collector) -> Iterator[tuple[int, dict[str, object]]]:
    """Yields the objects of a data set that is one JSON list, or a copy of it as JSON lines, as hubs keep them.

    A pipe is read as a list: its beginning can't be looked at first.

    Args:
        path: the file.
        expected: what the list should be, for the message.
        collector: where items and lines that are no objects are noted as rejected.

    Yields:
        The item's 1-based number, or the line's; and the object.

    Raises:
        InputError: if the file is neither.
    """
    as_lines = not is_pipe(path) and read_head(path).lstrip().startswith("{") and any(head_objects(path))
    yield from objects(path, collector) if as_lines else items(path, expected, collector)


def items(path: Path, expected: str, collector: Collector) -> Iterator[tuple[int, dict[str, object]]]:
    """Yields the objects of a file that is one JSON list, with their 1-based numbers.

    Args:
        path: the file.
        expected: what the document should be, for the message.
        collector: where items that are no objects are noted as rejected.

    Raises:
        InputError: if the file is no JSON list.
    """
    document = read_document(path, expected)
    if not isinstance(document, list):
        raise InputError(f"{path}: it must be {expected} (got {kind(document)})")
    for number, item in enumerate(document, 1):
        if isinstance(item, dict):
            yield number, item
        else:
            collector.reject(path, number, f"each item must be an object (got {kind(item)})")


def _parse(line: Line) -> dict[str, object]:
    try:
        value = json.loads(line.text)
    except json.JSONDecodeError as error:
        where = "" if line.finished else " where the file ends: its last line may be cut short"
        raise RecordError(
            f"not valid JSON ({error.msg}, column {error.colno}){where}: each line must be one JSON object"
        ) from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"JSON that can't be read ({error}): each line must be one JSON object") from error
    if not isinstance(value, dict):
        raise RecordError(f"the line must be one JSON object (got {kind(value)})")
    return value
