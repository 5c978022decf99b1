"""The record of the project's own lists, as JSON lines and CSV have it in common."""

from __future__ import annotations

from collections.abc import Collection

from ..records import FactRecord
from . import checks
from .checks import Record, RecordError
from .collector import Collector

FIELDS = ("relation", "subject", "object", "id", "relation_label", "template", "prompt", "held_out")
"""All fields that are read; others are passed over."""


def looks_own(names: Collection[str]) -> bool:
    """Tells whether these field names can be those of an own list."""
    return "relation" in names and any(name in names for name in ("subject", "object", "template", "prompt"))


def add(record: Record, collector: Collector) -> None:
    """Adds the fact, the template, or both, that a record holds.

    Args:
        record: the fields; one that is null counts as missing.
        collector: where they go.

    Raises:
        RecordError: if the record is neither.
    """
    given = {name: value for name, value in record.items() if value is not None}
    relation = checks.text(given, "relation")
    label = checks.optional_text(given, "relation_label")
    template = _template(given)
    held_out = _held_out(given, template)
    if template is None or "subject" in given or "object" in given:
        fact = FactRecord(
            relation,
            checks.subject(given, "subject"),
            checks.text(given, "object"),
            checks.identifier(given, "id"),
        )
        collector.fact(fact)
    if template is not None:
        collector.template(relation, template, held_out=held_out)
    collector.relation(relation, label)


def _template(given: Record) -> str | None:
    found = [checks.template(given, name) for name in ("template", "prompt") if name in given]
    if len(set(found)) > 1:
        raise RecordError("found a 'template' and another 'prompt'; expected one: they mean the same")
    return found[0] if found else None


def _held_out(given: Record, template: str | None) -> bool:
    value = given.get("held_out", False)
    if not isinstance(value, bool):
        raise RecordError(f"found {checks.kind(value)} in 'held_out'; expected true or false")
    if value and template is None:
        raise RecordError("found 'held_out' true without a template; expected it with a template only")
    return value
