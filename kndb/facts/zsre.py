"""zsRE as MEND and ROME evaluate on it (`zsre_mend_eval`): questions with a true answer and a false one.

The fact's object is `answers[0]`. Which answer an edit is to give is not for the list to say: ROME takes `answers[0]`
(the model learns what is true), EasyEdit `alt`. Both are kept as new answers, and whoever edits names the field.
"""

from __future__ import annotations

from ..records.facts import LOCALITY, PARAPHRASE, PORTABILITY, EvaluationPrompt, FactRecord, RequestedEdit
from . import checks
from .checks import Record, RecordError
from .collector import Collector
from .edit_lists import answers, blank_at_end, edit_list, prompts, worded
from .formats import Fields, Shape

_EXPECTED = "a JSON list of zsRE records with subject, src, answers, alt"
_RIGHT, _OTHER = "answers", "alt"


def _add(record: Record, number: int, collector: Collector) -> None:
    subject = checks.subject(record, "subject")
    wording = worded(checks.text(record, "src"), subject)
    right = answers(record.get(_RIGHT), _RIGHT)
    if not right:
        raise RecordError(f"{_RIGHT!r} is missing or empty; it must be a list of texts")
    other = checks.optional_text(record, _OTHER)
    new = {_RIGHT: right[0]} if other is None else {_OTHER: other, _RIGHT: right[0]}
    evaluation = (
        *prompts(record, "rephrase", PARAPHRASE),
        *prompts(record, "loc", LOCALITY, answers(record.get("loc_ans"), "loc_ans")),
        *_follows(record, other),
    )
    fact = FactRecord(
        wording.relation, subject, right[0], None, (wording.prompt,), evaluation, RequestedEdit(number, new)
    )
    collector.fact(fact)
    if wording.template is not None:
        collector.template(wording.relation, wording.template)


def _follows(record: Record, other: str | None) -> list[EvaluationPrompt]:
    """The question that EasyEdit's copies of zsRE add: what follows from `alt`."""
    value = record.get("portability")
    if value is None or other is None:
        return []
    follows = checks.an_object(value, "portability")
    text = blank_at_end(checks.text(follows, "New Question"), "New Question")
    right = answers(follows.get("New Answer"), "New Answer")
    return [EvaluationPrompt(PORTABILITY, "New Question", text, right, other)]


def _recognises(_: Shape, fields: Fields) -> bool:
    return "src" in fields and "answers" in fields and ("alt" in fields or "loc" in fields)


FORMAT = edit_list("zsre", _EXPECTED, _add, _recognises)
