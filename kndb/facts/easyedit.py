"""EasyEdit's flat CounterFact, and KnowEdit, which has the same fields and prompts in groups.

Neither names a relation. KnowEdit's `wiki_recent` has no answers from before: its facts are new, and the new answer is
the fact's object. Its `WikiBio` has whole sentences in place of answers and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ..records.facts import LOCALITY, PARAPHRASE, PORTABILITY, EvaluationPrompt, FactRecord, RequestedEdit
from . import checks
from .checks import Record, RecordError
from .collector import Collector
from .edit_lists import answers, blank_at_end, edit_list, prompts, worded
from .formats import Fields, Shape

_EXPECTED = "a JSON list of EasyEdit's records with subject, prompt, target_new, ground_truth"
_GROUPS = (("portability", PORTABILITY), ("locality", LOCALITY))
_OF_THE_EDIT = "Forgetfulness"
"""Asks for what was true before in words that speak of the new answer."""


def _add(name: str, record: Record, number: int, collector: Collector) -> None:
    if "labels" in record and "target_new" not in record:
        raise RecordError(
            "this is a record of WikiBio ('text', 'labels'), which continues a passage by a sentence; an edit here "
            "gives a fact another answer, so such records can't be used"
        )
    subject = checks.subject(record, "subject")
    wording = worded(checks.text(record, "prompt"), subject)
    new = checks.text(record, "target_new")
    before = answers(record.get("ground_truth"), "ground_truth")
    evaluation = (
        *prompts(record, "rephrase_prompt", PARAPHRASE),
        *prompts(record, "rephrase", PARAPHRASE),
        *_pairs(LOCALITY, "locality_prompt", record.get("locality_prompt"), record.get("locality_ground_truth"), None),
        *_grouped(record, new),
    )
    case = checks.identifier(record, "case_id")
    fact = FactRecord(
        wording.relation,
        subject,
        before[0] if before else new,
        None if case is None else f"{name}-{case}",
        (wording.prompt,),
        evaluation,
        RequestedEdit(number, {"target_new": new}),
    )
    collector.fact(fact)
    if wording.template is not None:
        collector.template(wording.relation, wording.template)


def _grouped(record: Record, new: str) -> Iterator[EvaluationPrompt]:
    """The prompts of `portability` and `locality`: lists of prompts with answers, by the name of their axis."""
    for field, kind in _GROUPS:
        if record.get(field) in (None, []):
            continue
        for axis, value in checks.an_object(record[field], field).items():
            under = new if kind == PORTABILITY or axis == _OF_THE_EDIT else None
            for item in value if isinstance(value, list) else [value]:
                one = checks.an_object(item, axis)
                yield from _pairs(kind, axis, one.get("prompt"), one.get("ground_truth"), under)


def _pairs(kind: str, axis: str, prompt: object, right: object, new: str | None) -> Iterator[EvaluationPrompt]:
    """A prompt with its acceptable answers; or a list of prompts with a list of theirs."""
    if prompt is None:
        return
    texts = prompt if isinstance(prompt, list) else [prompt]
    paired = isinstance(prompt, list) and isinstance(right, list) and len(right) == len(texts)
    for place, text in enumerate(texts):
        found = answers(right[place] if paired and isinstance(right, list) else right, axis)
        yield EvaluationPrompt(kind, axis, blank_at_end(checks.clean(text, axis), axis), found, new)


def _is_knowedit(_: Shape, fields: Fields) -> bool:
    if "requested_rewrite" in fields:
        return False
    grouped = "portability" in fields or "locality" in fields
    return grouped and (("prompt" in fields and "target_new" in fields) or ("labels" in fields and "text" in fields))


def _is_flat(_: Shape, fields: Fields) -> bool:
    return "requested_rewrite" not in fields and all(
        name in fields for name in ("subject", "prompt", "target_new", "ground_truth")
    )


KNOWEDIT = edit_list("knowedit", _EXPECTED, partial(_add, "knowedit"), _is_knowedit)
EASYEDIT = edit_list("easyedit", _EXPECTED, partial(_add, "easyedit"), _is_flat)
