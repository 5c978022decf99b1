"""RippleEdits: an edit as a sentence before and after, its subject by number only, and tests of what follows from it.

Objects are where the two sentences differ. A list of edits without a sentence before (`recent`) names its target in a
test; its facts are new, and the new answer is the fact's object. The subject is read out of the sentence where its form
leaves no doubt; elsewhere the fact has none, and its sentence is written out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..records.facts import (
    BLANK,
    LOCALITY,
    PORTABILITY,
    SUBJECT_SLOT,
    EvaluationPrompt,
    FactRecord,
    NeededAnswer,
    RequestedEdit,
)
from . import checks
from .checks import Record, RecordError
from .collector import Collector
from .edit_lists import answers, blank_at_end, edit_list
from .formats import Fields, Shape

_EXPECTED = "a JSON list of RippleEdits records with edit and tests by axis"
_AXES = {
    "Relation_Specificity": LOCALITY,
    "Relation_Specifity": LOCALITY,
    "Forgetfulness": LOCALITY,
    "Logical_Generalization": PORTABILITY,
    "Subject_Aliasing": PORTABILITY,
    "Compositionality_I": PORTABILITY,
    "Compositionality_II": PORTABILITY,
}
_OF_THE_EDIT = "Forgetfulness"
_BEFORE = ("original_fact", "previous_fact")
_FORMS = (
    re.compile(r"(?P<subject>.+) (?:is followed by|follows)"),
    re.compile(
        r".+ which (?P<subject>.+) (?:is associated with|is a member of|plays in|is part of|is the capital of) is"
    ),
    re.compile(r"The name of the (?:position held by|currency in) (?P<subject>.+) is"),
    re.compile(r"The name of the award (?P<subject>.+) won is"),
    re.compile(r"The number of children (?P<subject>.+) has is"),
)
"""Forms of sentence whose words give their subjects away. Beside them there is `The … of SUBJECT is`, in which the
words before `of` are the relation's."""
_WORDS = {"SEX_OR_GENDER": "gender", "NATIVE_LANGUAGE": "mother tongue", "CAPITAL": "capital city"}
"""Relations that are called otherwise in sentences."""


_LONGEST = 1000
"""Letters of a sentence whose form is looked at: the time that takes grows with their square."""


@dataclass(frozen=True)
class _Sentence:
    """An edit's sentence without its object, and the object before and after it."""

    begin: str
    old: str | None
    new: str


def _add(record: Record, number: int, collector: Collector) -> None:
    edit = checks.nested(record, "edit")
    relation = checks.text(edit, "relation")
    tests = list(_tests(record))
    sentence = _sentence(edit, tests)
    subject = _subject(sentence.begin, relation)
    old = sentence.new if sentence.old is None else sentence.old
    evaluation = tuple(_evaluation(axis, test, sentence.new) for axis, test in tests if _has_text(test))
    prompt = blank_at_end(sentence.begin, "prompt")
    name = f"ripple-edits-{checks.text(edit, 'subject_id')}-{relation}-{_before(edit).get('target_id', 'new')}"
    asked = RequestedEdit(number, {"target": sentence.new})
    collector.fact(FactRecord(relation, subject, old, name, (prompt,), evaluation, asked))
    if subject is not None:
        before, _, after = sentence.begin.rpartition(subject)
        collector.template(relation, f"{before}{SUBJECT_SLOT}{after} {BLANK}")


def _before(edit: Record) -> Record:
    """The fact from before the edit, under either of its names; empty without one."""
    found = next((edit[name] for name in _BEFORE if edit.get(name) is not None), {})
    return checks.an_object(found, _BEFORE[0])


def _sentence(edit: Record, tests: list[tuple[str, Record]]) -> _Sentence:
    after = checks.text(edit, "prompt").removesuffix(".")
    checks.no_slots(after, "prompt")
    if not _before(edit):
        target = edit.get("target_id")
        for _, test in tests:
            if target is not None and test.get("target_ids") == [target]:
                for value in _right(test):
                    if after.endswith(f" {value}"):
                        return _Sentence(after.removesuffix(f" {value}"), None, value)
        raise RecordError(
            "the edit has no fact from before, and no test names its target: where its sentence ends and the answer "
            "begins can't be told"
        )
    before = checks.text(_before(edit), "prompt").removesuffix(".")
    begin, old, new = _apart(before.split(" "), after.split(" "))
    if not begin or not old or not new:
        raise RecordError(f"the sentences {before!r} and {after!r} don't differ just in their objects, at their ends")
    return _Sentence(begin, old, new)


def _apart(before: list[str], after: list[str]) -> tuple[str, str, str]:
    """What two lists of words begin with alike, and the rest of each; the rest begins after the verb at the latest."""
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    # Two objects may begin alike (New York, New Jersey): the sentence ends with its verb.
    verbs = [place for place in range(same) if before[place] in ("is", "are", "by", "follows")]
    stop = verbs[-1] + 1 if verbs else same
    return " ".join(before[:stop]), " ".join(before[stop:]), " ".join(after[stop:])


def _subject(begin: str, relation: str) -> str | None:
    """The subject of a sentence without its object; None where its form leaves doubts."""
    if len(begin) > _LONGEST:
        return None
    words = _WORDS.get(relation, relation.lower().replace("_", " "))
    of = re.compile(rf"The (?:names? of the )?{re.escape(words)}(?:e?s)? of (?P<subject>.+) (?:is|are)", re.IGNORECASE)
    found = {match["subject"] for form in (of, *_FORMS) if (match := form.fullmatch(begin))}
    if len(found) != 1:
        return None
    (subject,) = found
    alone = begin.count(subject) == 1 and not any(slot in subject for slot in (SUBJECT_SLOT, BLANK))
    return subject if alone else None


def _tests(record: Record) -> Iterator[tuple[str, Record]]:
    """Every query of every test with its axis; what its test needs comes with it."""
    for axis in _AXES:
        for item in checks.items(record, axis):
            test = checks.an_object(item, axis)
            for query in checks.items(test, "test_queries"):
                yield axis, {**checks.an_object(query, axis), "needs": checks.items(test, "condition_queries")}


def _has_text(query: Record) -> bool:
    return checks.optional_text(query, "prompt") is not None


def _evaluation(axis: str, query: Record, new: str) -> EvaluationPrompt:
    kind = _AXES[axis]
    needs = [checks.an_object(need, "condition_queries") for need in checks.items(query, "needs")]
    return EvaluationPrompt(
        kind,
        axis,
        blank_at_end(checks.text(query, "prompt"), axis),
        _right(query),
        new if kind == PORTABILITY or axis == _OF_THE_EDIT else None,
        needs_answers=tuple(
            NeededAnswer(blank_at_end(checks.text(need, "prompt"), axis), _right(need))
            for need in needs
            if _has_text(need)
        ),
    )


def _right(query: Record) -> tuple[str, ...]:
    """The acceptable answers of a query: all its answers, and their aliases."""
    every = [checks.an_object(one, "answers") for one in checks.items(query, "answers")]
    return answers([name for one in every for name in (one.get("value"), one.get("aliases"))], "answers")


def _recognises(_: Shape, fields: Fields) -> bool:
    return "edit" in fields and any(axis in fields for axis in _AXES)


FORMAT = edit_list("ripple-edits", _EXPECTED, _add, _recognises)
