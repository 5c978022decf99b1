"""PopQA: a table with a question, its subject and its answers in each row, separated by tabs.

The relation's key is `prop`. The fact that a row stands for has `obj` as its object; each other of its
`possible_answers` is right as well, so it is a fact of the same relation and subject, without an identifier. The
question with the subject taken out is a template of the relation; where it names the subject not just once, the
question is a prompt of these facts alone.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..records.facts import BLANK, SUBJECT_SLOT, FactFile, FactRecord
from . import checks
from .checks import RecordError
from .collector import Collector
from .formats import Fields, Format, Shape
from .tables import Row, Table

_NEEDED = ("id", "subj", "prop", "obj", "question", "possible_answers")


def read_file(path: Path) -> FactFile:
    """Reads one PopQA file.

    Args:
        path: the file.

    Returns:
        Its facts, templates and rejected rows.

    Raises:
        InputError: if the file can't be read at all, or its header lacks a column.
    """
    collector = Collector(path)
    table = Table(path, _NEEDED, collector)
    if table.header and any(table.header.count(name) != 1 for name in _NEEDED):
        raise table.refuse(f"the header must have {', '.join(_NEEDED)}, each once")
    for number, cells in table.rows():
        with collector.rejecting(path, number):
            _add(table.named(cells), collector)
    return collector.finish()


def _add(row: Row, collector: Collector) -> None:
    relation = checks.text(row, "prop")
    subject = checks.subject(row, "subj")
    answer = checks.text(row, "obj")
    question = checks.text(row, "question")
    identifier = checks.text(row, "id")
    checks.no_slots(question, "question")
    answers = dict.fromkeys([answer, *_answers(row["possible_answers"])])
    template = question.count(subject) == 1
    prompts = () if template else (f"{question} {BLANK}",)
    for number, value in enumerate(answers):
        external_id = None if number else f"popqa-{identifier}"
        collector.fact(FactRecord(relation, subject, value, external_id, prompts))
    if template:
        collector.template(relation, f"{question.replace(subject, SUBJECT_SLOT)} {BLANK}")


def _answers(cell: str) -> list[str]:
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list):
        raise RecordError(f"'possible_answers' must be a JSON list of texts (got {checks.cut(repr(cell))})")
    return [checks.clean(item, "possible_answers") for item in value]


def _recognises(shape: Shape, fields: Fields) -> bool:
    return shape is Shape.TABLE and {"subj", "prop", "obj", "possible_answers"} <= set(fields)


FORMAT = Format("popqa", lambda path: [read_file(path)], _recognises)
