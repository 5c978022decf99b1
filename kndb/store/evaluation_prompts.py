"""Prompts that only measure edits of a fact: adding them with fact lists, and reading those of a fact.

They are never attributed: no run draws on this table. A prompt is stored once for each of what its sources say of it,
so that the order of ingests makes no difference.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

from ..advice import call
from ..errors import StoreDamagedError
from ..records.facts import EvaluationPrompt, FactRecord, NeededAnswer, NeededEdit

_COLUMNS = "kind, axis, text, answers, new_object, needs"
_ADD_NAMED = f"""
    INSERT INTO evaluation_prompt (fact_id, {_COLUMNS})
    SELECT id, ?, ?, ?, ?, ?, ? FROM fact WHERE relation_id = ? AND subject = ? AND object = ?
    ON CONFLICT DO NOTHING
"""  # noqa: S608 - _COLUMNS is a constant
_ADD_UNNAMED = f"""
    INSERT INTO evaluation_prompt (fact_id, {_COLUMNS})
    SELECT id, ?, ?, ?, ?, ?, ? FROM fact WHERE relation_id = ? AND subject IS NULL AND external_id = ?
    ON CONFLICT DO NOTHING
"""  # noqa: S608 - _COLUMNS is a constant
_OF_FACT = f"SELECT {_COLUMNS} FROM evaluation_prompt WHERE fact_id = ? ORDER BY id"  # noqa: S608 - a constant
_COUNTS = """
    SELECT fact_id, kind, count(*) FROM evaluation_prompt WHERE fact_id IN kndb_numbers(?)
    GROUP BY fact_id, kind ORDER BY min(id)
"""


def add(connection: Connection, facts: Iterable[FactRecord], relations: Mapping[str, int]) -> None:
    """Adds the evaluation prompts of facts that are in the store; what is there already stays as it is.

    Args:
        connection: a writing transaction.
        facts: the facts.
        relations: the ids of their relations, by key.
    """
    named: list[tuple[object, ...]] = []
    unnamed: list[tuple[object, ...]] = []
    for fact in facts:
        for prompt in fact.evaluation:
            row = (prompt.kind, prompt.axis, prompt.text, *_packed(prompt), relations[fact.relation])
            if fact.subject is None:
                unnamed.append((*row, fact.external_id))
            else:
                named.append((*row, fact.subject, fact.object))
    for statement, rows in ((_ADD_NAMED, named), (_ADD_UNNAMED, unnamed)):
        if rows:
            connection.exec_driver_sql(statement, rows)


def of_fact(connection: Connection, fact_id: int) -> list[EvaluationPrompt]:
    """The evaluation prompts of a fact, in the order in which they were added.

    Args:
        connection: an open transaction.
        fact_id: the fact's number.
    """
    return [_record(*row) for row in connection.exec_driver_sql(_OF_FACT, (fact_id,))]


def counts(connection: Connection, fact_ids: Iterable[int]) -> dict[int, dict[str, int]]:
    """How many evaluation prompts facts have, by kind; facts and kinds without any are left out.

    Args:
        connection: an open transaction.
        fact_ids: the facts' numbers.
    """
    found: dict[int, dict[str, int]] = {}
    for fact, kind, number in connection.exec_driver_sql(_COUNTS, (json.dumps(list(fact_ids)),)):
        found.setdefault(fact, {})[kind] = number
    return found


def needs_as_json(prompt: EvaluationPrompt) -> dict[str, Any]:
    """What has to be so for a prompt's answers to hold; empty if nothing has."""
    edits = [[edit.relation, edit.subject, edit.to] for edit in prompt.needs_edits]
    answers = [[answer.text, list(answer.answers)] for answer in prompt.needs_answers]
    return {**({"edits": edits} if edits else {}), **({"answers": answers} if answers else {})}


def _packed(prompt: EvaluationPrompt) -> tuple[str, str | None, str]:
    return _json(list(prompt.answers)), prompt.new_object, _json(needs_as_json(prompt))


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _record(kind: str, axis: str, text: str, answers: str, new_object: str | None, needs: str) -> EvaluationPrompt:
    try:
        needed: dict[str, Any] = json.loads(needs)
        found = EvaluationPrompt(
            kind=kind,
            axis=axis,
            text=text,
            answers=_texts(json.loads(answers)),
            new_object=new_object,
            needs_edits=tuple(NeededEdit(*_texts(edit)) for edit in needed.get("edits", ())),
            needs_answers=tuple(NeededAnswer(asked, _texts(right)) for asked, right in needed.get("answers", ())),
        )
        _texts([kind, axis, text, *(() if new_object is None else (new_object,))])
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise StoreDamagedError(
            f"the database is damaged: the evaluation prompt {text!r:.60} has answers, or needs, of another form than "
            f"kndb writes; see: {call('maintenance.check')}, and restore a backup"
        ) from None
    return found


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise TypeError("no list of texts")
    return tuple(values)
