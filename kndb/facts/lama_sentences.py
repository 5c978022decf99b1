"""LAMA's Google-RE and ConceptNet: facts with sentences in which the answer is masked, as JSON lines.

The relation's key is `pred`. A sentence is about its own fact, and often does not hold the subject as it is written
there, so it is a prompt of this fact alone and never a template.
"""

from __future__ import annotations

from pathlib import Path

from ..records.facts import BLANK, FactFile, FactRecord
from . import checks
from .checks import Record
from .collector import Collector, objects
from .formats import Fields, Format, Shape

_MASK = "[MASK]"
_FREEBASE = "/m/"
"""How Google-RE's subjects begin where they are no words; ConceptNet's are words."""


def read_file(path: Path) -> FactFile:
    """Reads one file.

    Args:
        path: the file.

    Returns:
        Its facts and rejected lines.

    Raises:
        InputError: if the file can't be read at all.
    """
    collector = Collector(path)
    for number, record in objects(path, collector):
        with collector.rejecting(path, number):
            _add(record, collector)
    return collector.finish()


def _add(record: Record, collector: Collector) -> None:
    relation = checks.text(record, "pred")
    answer = checks.text(record, "obj_label")
    prompts = tuple(dict.fromkeys(_prompt(text) for text in checks.listed(record, "masked_sentences")))
    external_id = checks.identifier(record, "uuid")
    subject = _subject(record, unnamed=external_id is not None)
    collector.fact(FactRecord(relation, subject, answer, external_id, prompts))
    collector.relation(relation, _label(relation))


def _prompt(sentence: str) -> str:
    checks.no_slots(sentence, "sentence")
    checks.once(sentence, _MASK, "sentence")
    return sentence.replace(_MASK, BLANK)


def _subject(record: Record, *, unnamed: bool) -> str | None:
    """The subject's words; None where there are none and the fact is named otherwise."""
    for name in ("sub_label", "sub"):
        value = record.get(name)
        if value is not None and not (isinstance(value, str) and (not value.strip() or value.startswith(_FREEBASE))):
            return checks.subject(record, name)
    return None if unnamed else checks.subject(record, "sub_label")


def _label(key: str) -> str | None:
    """`/people/person/place_of_birth` in words; ConceptNet's keys have no path."""
    words = key.rpartition("/")[2].replace("_", " ").strip()
    return words or None if key.startswith("/") else None


def _recognises(shape: Shape, fields: Fields) -> bool:
    return shape is Shape.LINES and {"masked_sentences", "obj_label"} <= set(fields)


FORMAT = Format("lama-sentences", lambda path: [read_file(path)], _recognises)
