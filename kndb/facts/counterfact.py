"""CounterFact as ROME publishes it: a list of records, each a true fact with a false one to put in its place.

Read are the true fact with its rewrite prompt (also as a template of the relation), the false object as new answer, and
all further prompts: they only measure edits, as CounterFact's own scores are over paraphrases that no edit saw.
"""

from __future__ import annotations

from ..records.facts import (
    ATTRIBUTE,
    GENERATION,
    NEIGHBOURHOOD,
    PARAPHRASE,
    EvaluationPrompt,
    FactRecord,
    RequestedEdit,
)
from . import checks
from .checks import Record, RecordError
from .collector import Collector
from .edit_lists import edit_list, prompts, with_hole

_EXPECTED = "a JSON list of CounterFact records with case_id, requested_rewrite, paraphrase_prompts"


def case_number(record: Record) -> str:
    """A case's `case_id`."""
    case = checks.identifier(record, "case_id")
    if case is None:
        raise RecordError("'case_id' is missing; it must be a number")
    return case


def _add(record: Record, number: int, collector: Collector) -> None:
    case = case_number(record)
    rewrite = checks.nested(record, "requested_rewrite")
    relation = checks.text(rewrite, "relation_id")
    subject = checks.subject(rewrite, "subject")
    answer = checks.text(checks.nested(rewrite, "target_true"), "str")
    template, prompt = with_hole(rewrite, subject)
    new = _new_answer(rewrite)
    evaluation = (
        *prompts(record, "paraphrase_prompts", PARAPHRASE),
        *prompts(record, "neighborhood_prompts", NEIGHBOURHOOD, (answer,)),
        *(() if new is None else prompts(record, "attribute_prompts", ATTRIBUTE, (new,))),
        *_continued(record),
    )
    edit = None if new is None else RequestedEdit(number, {"target_new": new})
    fact = FactRecord(relation, subject, answer, f"counterfact-{case}", (prompt,), evaluation, edit)
    collector.fact(fact)
    collector.template(relation, template)


def _new_answer(rewrite: Record) -> str | None:
    """The false object; a list that was cut down to the true facts has none."""
    if rewrite.get("target_new") is None:
        return None
    return checks.text(checks.nested(rewrite, "target_new"), "str")


def _continued(record: Record) -> list[EvaluationPrompt]:
    """Prompts that a model continues as it likes: they have no blank."""
    texts = checks.texts(record, "generation_prompts")
    for text in texts:
        checks.no_slots(text, "generation_prompts")
    return [EvaluationPrompt(GENERATION, "generation_prompts", text) for text in texts]


FORMAT = edit_list("counterfact", _EXPECTED, _add, lambda _, fields: "requested_rewrite" in fields)
