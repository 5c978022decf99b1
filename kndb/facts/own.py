"""The record of the project's own lists, as JSON lines and CSV have it in common."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

from ..records.facts import BLANK, SUBJECT_SLOT, FactFile, FactRecord
from . import checks, evaluation_field
from .checks import Record, RecordError
from .collector import Collector

FIELDS = (
    "relation",
    "subject",
    "object",
    "id",
    "relation_label",
    "template",
    "prompt",
    "held_out",
    "sentences",
    "evaluation",
)
"""All fields that are read; others are passed over."""

NAMING_FIELDS = frozenset(("relation", "subject", "object", "template", "prompt"))
"""Those of them that no record of another format is without."""


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
    sentences = _sentences(given)
    evaluation = evaluation_field.read(given)
    if template is None or sentences or evaluation or "subject" in given or "object" in given:
        external_id = checks.identifier(given, "id")
        # Without a subject, only an identifier and sentences make a fact of it, as in the paper's bags.
        unnamed = "subject" not in given and external_id is not None and bool(sentences)
        fact = FactRecord(
            relation,
            None if unnamed else checks.subject(given, "subject"),
            checks.text(given, "object"),
            external_id,
            sentences,
            evaluation,
        )
        collector.fact(fact)
    if template is not None:
        collector.template(relation, template, held_out=held_out)
    collector.relation(relation, label)


def read_records(source: Path, records: Iterable[tuple[int, Record]]) -> FactFile:
    """Reads records that were parsed already.

    Args:
        source: where they come from.
        records: each with its place in the source, from 1.

    Returns:
        The facts, templates and rejected records.
    """
    collector = Collector(source)
    for number, record in records:
        with collector.rejecting(source, number):
            add(record, collector)
    return collector.finish()


def _template(given: Record) -> str | None:
    found = [checks.template(given, name) for name in ("template", "prompt") if name in given]
    if len(set(found)) > 1:
        raise RecordError("'template' and 'prompt' mean the same, and they differ here; give one of them")
    return found[0] if found else None


def _sentences(given: Record) -> tuple[str, ...]:
    sentences = checks.texts(given, "sentences")
    for sentence in sentences:
        checks.once(sentence, BLANK, "sentence")
        if SUBJECT_SLOT in sentence:
            raise RecordError(
                f"the sentence {checks.cut(repr(sentence))} has {SUBJECT_SLOT} in it; it must name the subject itself, "
                f"with {BLANK} for the answer"
            )
    return tuple(dict.fromkeys(sentences))


def _held_out(given: Record, template: str | None) -> bool:
    value = given.get("held_out", False)
    if not isinstance(value, bool):
        raise RecordError(f"'held_out' must be true or false (got {checks.kind(value)})")
    if value and template is None:
        raise RecordError("'held_out' can be true only with a template, and there is none")
    return value
