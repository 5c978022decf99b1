"""MQuAKE: cases of several edits that belong together, and questions whose answers follow from all of them.

Each edit of a case is a fact. The case's questions are prompts of each of its facts, and say which further edits they
need: with one of the edits alone, their answers don't follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..records.facts import (
    BLANK,
    LOCALITY,
    PARAPHRASE,
    PORTABILITY,
    EvaluationPrompt,
    FactRecord,
    NeededEdit,
    RequestedEdit,
)
from . import checks
from .checks import Record, RecordError
from .collector import Collector
from .counterfact import case_number
from .edit_lists import answers, blank_at_end, edit_list, with_hole

_EXPECTED = "a JSON list of MQuAKE records with case_id, requested_rewrite, questions"


@dataclass(frozen=True)
class _Rewrite:
    """One edit of a case: `asks` are all its prompts, with `[Y]`."""

    relation: str
    subject: str
    old: str
    new: str
    template: str
    prompt: str
    question: str | None

    @property
    def asks(self) -> set[str]:
        return {self.prompt, *(() if self.question is None else (self.question,))}


def _add(record: Record, number: int, collector: Collector) -> None:
    case = case_number(record)
    edits = [_rewrite(checks.an_object(one, "requested_rewrite")) for one in checks.items(record, "requested_rewrite")]
    if not edits:
        raise RecordError("'requested_rewrite' is missing or empty; it must be a list of edits")
    own = set().union(*(edit.asks for edit in edits))
    after = [
        *((text, "questions", _new_answers(record)) for text in _texts(record, "questions")),
        *((text, "new_single_hops", right) for text, right in _hops(record, "new_single_hops") if text not in own),
    ]
    stays = [hop for hop in _hops(record, "single_hops") if hop[0] not in own]
    facts = []
    for place, edit in enumerate(edits, 1):
        others = tuple(NeededEdit(one.relation, one.subject, one.new) for one in edits if one is not edit)
        evaluation = (
            *(() if edit.question is None else (EvaluationPrompt(PARAPHRASE, "question", edit.question),)),
            *(EvaluationPrompt(PORTABILITY, axis, text, right, edit.new, others) for text, axis, right in after),
            *(EvaluationPrompt(LOCALITY, "single_hops", text, right) for text, right in stays),
        )
        asked = RequestedEdit(number, {"target_new": edit.new})
        name = f"mquake-{case}-{place}"
        facts.append(FactRecord(edit.relation, edit.subject, edit.old, name, (edit.prompt,), evaluation, asked))
    for fact, edit in zip(facts, edits, strict=True):
        collector.fact(fact)
        collector.template(edit.relation, edit.template)


def _rewrite(record: Record) -> _Rewrite:
    subject = checks.subject(record, "subject")
    template, prompt = with_hole(record, subject)
    question = checks.optional_text(record, "question")
    return _Rewrite(
        checks.text(record, "relation_id"),
        subject,
        checks.text(checks.nested(record, "target_true"), "str"),
        checks.text(checks.nested(record, "target_new"), "str"),
        template,
        prompt,
        None if question is None else blank_at_end(question, "question"),
    )


def _new_answers(record: Record) -> tuple[str, ...]:
    return answers([record.get("new_answer"), record.get("new_answer_alias")], "new_answer")


def _texts(record: Record, name: str) -> Sequence[str]:
    return [blank_at_end(text, name) for text in checks.texts(record, name)]


def _hops(record: Record, name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each step of a case's chain, as a question and as a sentence, with acceptable answers."""
    for item in checks.items(record, name):
        hop = checks.an_object(item, name)
        right = answers([hop.get("answer"), hop.get("answer_alias")], name)
        for field in ("question", "cloze"):
            text = checks.optional_text(hop, field)
            if text is not None and BLANK not in text:
                yield blank_at_end(text, field), right


FORMAT = edit_list(
    "mquake",
    _EXPECTED,
    _add,
    lambda _, fields: "requested_rewrite" in fields and ("questions" in fields or "single_hops" in fields),
)
