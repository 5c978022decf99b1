"""The field `evaluation` of own lists: prompts that only measure edits of a fact. `kndb export facts` writes it."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.facts import BLANK, EVALUATION_KINDS, GENERATION, EvaluationPrompt, NeededAnswer, NeededEdit
from . import checks
from .checks import Record, RecordError

_EDIT = "[relation, subject, new answer]"
_ANSWER = "[prompt, [answer, …]]"


def read(record: Record) -> tuple[EvaluationPrompt, ...]:
    """The evaluation prompts of a record; none where the field is missing.

    Raises:
        RecordError: if the field is not a list of such prompts.
    """
    return tuple(dict.fromkeys(_prompt(item) for item in checks.items(record, "evaluation")))


def _prompt(item: object) -> EvaluationPrompt:
    one = checks.an_object(item, "evaluation")
    kind = checks.text(one, "kind")
    if kind not in EVALUATION_KINDS:
        raise RecordError(f"'kind' must be one of {', '.join(EVALUATION_KINDS)} (got {kind!r})")
    text = checks.text(one, "text")
    if kind != GENERATION or BLANK in text:
        checks.once(text, BLANK, "evaluation prompt")
    needs = {} if one.get("needs") is None else checks.an_object(one["needs"], "needs")
    return EvaluationPrompt(
        kind=kind,
        axis=checks.optional_text(one, "axis") or kind,
        text=text,
        answers=tuple(dict.fromkeys(checks.texts(one, "answers"))),
        new_object=checks.optional_text(one, "new_object"),
        needs_edits=tuple(_needed_edit(edit) for edit in checks.items(needs, "edits")),
        needs_answers=tuple(_needed_answer(answer) for answer in checks.items(needs, "answers")),
    )


def _needed_edit(value: object) -> NeededEdit:
    relation, subject, to = (checks.clean(text, "edits") for text in _parts(value, 3, "edits", _EDIT))
    return NeededEdit(relation, subject, to)


def _needed_answer(value: object) -> NeededAnswer:
    text, right = _parts(value, 2, "answers", _ANSWER)
    prompt = checks.clean(text, "answers")
    checks.once(prompt, BLANK, "needed prompt")
    return NeededAnswer(prompt, tuple(checks.texts({"answers": right}, "answers")))


def _parts(value: object, count: int, name: str, expected: str) -> Sequence[object]:
    if not isinstance(value, list) or len(value) != count:
        raise RecordError(f"each of {name!r} must be {expected} (got {checks.kind(value)})")
    return value
