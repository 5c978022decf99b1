"""Facts, relations and prompts: adding them (see `ingest.py`) and reading them.

Relations are named by their keys (`P176`); an empty choice of relations means all of them. Lists of
identifiers reach SQL as one JSON text (`backends.portable`), as the number of variables in a statement is limited.
"""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, text

from ..advice import Placeholder, call, option
from ..errors import NotFoundError, UsageError
from ..records.facts import SUBJECT_SLOT, Fact, Prompt, Relation, TemplateRecord
from . import evaluation_prompts
from .ingest import ingest
from .numbers import there_are
from .tables import FactRow, RelationRow

__all__ = [
    "fact",
    "find_facts",
    "ingest",
    "labels",
    "named_relations",
    "prompts",
    "relations",
    "require_relations",
    "templates",
]

PATH = Placeholder("PATH")
EVERY_ROW = 2**62
"""A LIMIT that is none."""
_FACTS = """
    SELECT fact.id, relation.key, fact.subject, fact.object, fact.external_id,
           (SELECT count(*) FROM prompt WHERE prompt.fact_id = fact.id)
    FROM fact JOIN relation ON relation.id = fact.relation_id
"""
_NAMES = "SELECT fact.id, fact.subject, fact.object FROM fact"
_FACT_COLUMNS: list[Any] = [FactRow.id, RelationRow.key, FactRow.subject, FactRow.object, FactRow.external_id]
"""Their types refuse what no fact can have; the number of prompts at the end has none."""
_PROMPTS = """
    SELECT prompt.id, prompt.fact_id, prompt.text, fact.object, coalesce(template.held_out, FALSE) AS held_out,
        fact.subject, template.text AS template
    FROM prompt JOIN fact ON fact.id = prompt.fact_id LEFT JOIN template ON template.id = prompt.template_id
"""
_TEMPLATES = "SELECT text, held_out FROM template WHERE relation_id = :relation ORDER BY held_out, id"
_RELATIONS = """
    SELECT relation.id, relation.key, relation.label,
           coalesce(facts.number, 0), coalesce(templates.number, 0), coalesce(prompts.number, 0)
    FROM relation
    LEFT JOIN (SELECT relation_id, count(*) AS number FROM fact GROUP BY relation_id) AS facts
        ON facts.relation_id = relation.id
    LEFT JOIN (SELECT relation_id, count(*) AS number FROM template GROUP BY relation_id) AS templates
        ON templates.relation_id = relation.id
    LEFT JOIN (SELECT fact.relation_id, count(*) AS number FROM prompt JOIN fact ON fact.id = prompt.fact_id
               GROUP BY fact.relation_id) AS prompts
        ON prompts.relation_id = relation.id
    ORDER BY relation.key
"""


def relations(connection: Connection) -> list[Relation]:
    """Lists all relations with the numbers of their facts, templates and prompts, in the order of their keys.

    Args:
        connection: an open transaction.
    """
    return [Relation(*row) for row in connection.exec_driver_sql(_RELATIONS)]


def find_facts(
    connection: Connection,
    relations: Iterable[str] = (),
    subject: str | None = None,
    object_: str | None = None,
    limit: int | None = None,
) -> list[Fact]:
    """Finds facts, in the order in which they were added.

    Args:
        connection: an open transaction.
        relations: the keys of the relations to search; none means all.
        subject: text that the subject holds, in any case.
        object_: text that the object holds, in any case.
        limit: the largest number of facts to give.

    Raises:
        NotFoundError: if there is no relation of such a key.
    """
    conditions, values = _relation_condition(connection, relations)
    most = EVERY_ROW if limit is None else limit
    if subject is not None or object_ is not None:
        names = text(f"{_NAMES} {_where(conditions)} ORDER BY fact.id").execution_options(stream_results=True)
        with connection.execute(names, values) as rows:
            found = (number for number, *name in rows if _holds(name, (subject, object_)))
            numbers = list(itertools.islice(found, max(0, most)))
        conditions, values = ["fact.id IN kndb_numbers(:found)"], {"found": json.dumps(numbers)}
    query = text(f"{_FACTS} {_where(conditions)} ORDER BY fact.id LIMIT :limit").columns(*_FACT_COLUMNS)
    return [Fact(*row) for row in connection.execute(query, {**values, "limit": most})]


def labels(connection: Connection) -> dict[str, str | None]:
    """Each relation's label, by key, in the order of the keys."""
    return dict(map(tuple, connection.exec_driver_sql("SELECT key, label FROM relation ORDER BY key")))


def templates(connection: Connection, relation: str) -> list[TemplateRecord]:
    """A relation's templates in the order in which they were added, those that are held out last.

    Raises:
        NotFoundError: if there is no such relation.
    """
    ((key, number),) = named_relations(connection, [relation]).items()
    rows = connection.execute(text(_TEMPLATES), {"relation": number})
    return [TemplateRecord(key, row[0], bool(row[1])) for row in rows]


def _holds(names: Sequence[Any], parts: Sequence[str | None]) -> bool:
    """Whether each name holds its part, in any case; here, as no two database systems fold letters alike."""
    return all(
        part is None or (isinstance(name, str) and part.casefold() in name.casefold())
        for name, part in zip(names, parts, strict=True)
    )


def fact(connection: Connection, id: int) -> Fact:  # noqa: A002 - the record's own name for it
    """Gives one fact, with the number of its evaluation prompts by kind.

    Args:
        connection: an open transaction.
        id: the fact's number.

    Raises:
        NotFoundError: if there is none of that number; the message names the nearest ones.
        UsageError: for a text, such as a subject's.
    """
    if isinstance(id, str):
        if id.strip().isdecimal():
            raise UsageError(f"a fact's number must be a number, such as {int(id)} (got the text {id!r})")
        raise UsageError(f"{id!r} is not a fact's number; find it with: {call('facts.find', subject=id)}")
    query = text(f"{_FACTS} WHERE fact.id = :id").columns(*_FACT_COLUMNS)
    row = connection.execute(query, {"id": id}).first()
    if row is None:
        known = there_are([row[0] for row in connection.exec_driver_sql("SELECT id FROM fact")], id)
        raise NotFoundError(f"no fact has the number {id}; {known}. List the facts with: {call('facts.find')}")
    return replace(Fact(*row), evaluation_prompts=evaluation_prompts.counts(connection, [id]).get(id, {}))


def state(connection: Connection) -> tuple[int, ...]:
    """The highest numbers of facts, prompts and evaluation prompts: they grow whenever any are added."""
    highest = ", ".join(f"(SELECT MAX(id) FROM {table})" for table in ("fact", "prompt", "evaluation_prompt"))  # noqa: S608
    return tuple(number or 0 for number in connection.exec_driver_sql(f"SELECT {highest}").one())


def numbers(connection: Connection) -> list[int]:
    """The numbers of all facts, in their order."""
    return [row[0] for row in connection.exec_driver_sql("SELECT id FROM fact ORDER BY id")]


def facts_of(connection: Connection, numbers: Iterable[int]) -> list[Fact]:
    """The facts of some numbers, in their order; numbers of no fact are passed over."""
    query = text(f"{_FACTS} WHERE fact.id IN kndb_numbers(:found) ORDER BY fact.id").columns(*_FACT_COLUMNS)
    return [Fact(*row) for row in connection.execute(query, {"found": json.dumps(sorted(numbers))})]


def prompts(
    connection: Connection,
    fact_ids: Iterable[int] | None = None,
    relations: Iterable[str] = (),
    held_out: bool | None = None,
) -> list[Prompt]:
    """Gives prompts with the answers of their facts, in the order of their ids.

    Args:
        connection: an open transaction.
        fact_ids: the facts whose prompts to give; None means all, and numbers of no fact are passed over.
        relations: the keys of the relations whose prompts to give; none means all.
        held_out: True for prompts of held-out templates only, False for all others, None for both. A prompt
            that a file wrote out is not held out.

    Raises:
        NotFoundError: if there is no relation of such a key.
    """
    conditions, values = _relation_condition(connection, relations)
    if fact_ids is not None:
        conditions.append("prompt.fact_id IN kndb_numbers(:fact_ids)")
        values["fact_ids"] = json.dumps(list(fact_ids))
    if held_out is not None:
        conditions.append("coalesce(template.held_out, FALSE) = :held_out")
        values["held_out"] = bool(held_out)
    rows = connection.execute(text(f"{_PROMPTS} {_where(conditions)} ORDER BY prompt.id"), values)
    return [prompt_record(*row) for row in rows]


def prompt_record(
    id: int,  # noqa: A002
    fact_id: int,
    text: str,
    answer: str,
    held_out: int | bool | None,
    subject: str | None,
    template: str | None,
) -> Prompt:
    """A prompt of the store; `template` is the text of its template, if it comes from one."""
    return Prompt(id, fact_id, text, answer, bool(held_out), _span(text, subject, template))


def _span(text: str, subject: str | None, template: str | None) -> tuple[int, int] | None:
    """Where a prompt has its subject: at its template's `[X]`; in one that a file wrote out, at the first place."""
    if not subject:
        return None
    start = text.find(subject) if template is None else template.find(SUBJECT_SLOT)
    return (start, start + len(subject)) if start >= 0 else None


def require_relations(connection: Connection, keys: Iterable[str]) -> list[int]:
    """Gives the ids of relations, in the order of the keys given.

    Args:
        connection: an open transaction.
        keys: keys of relations, for example `P176`; or, where no key is like that, a key or a label in any case.

    Raises:
        NotFoundError: if there is no relation of such a key; the message names the nearest ones.
    """
    return [number for _, number in _found_relations(connection, keys)]


def named_relations(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Gives keys, as the store has them, and ids of relations that are named as `require_relations` takes them.

    Raises:
        NotFoundError: as `require_relations`.
    """
    return dict(_found_relations(connection, names))


def _found_relations(connection: Connection, names: Iterable[str]) -> list[tuple[str, int]]:
    """The key and id of each relation that is named."""
    if isinstance(names, str):
        raise UsageError(f"{option('relations')} must be a list of keys, such as [{names!r}] (got the text {names!r})")
    wanted = list(names)
    if not wanted:
        return []
    rows = connection.exec_driver_sql("SELECT key, label, id FROM relation").all()
    known: dict[str, int] = {row[0]: row[2] for row in rows}
    folded: dict[str, set[str]] = {}
    for key, label, _ in rows:
        for name in (key, label):
            if name is not None:
                folded.setdefault(name.strip().casefold(), set()).add(key)
    found = []
    for name in wanted:
        near = {name} if name in known else folded.get(name.strip().casefold(), set())
        if len(near) != 1:
            raise NotFoundError(_no_relation(name, sorted(near), folded))
        (key,) = near
        found.append((key, known[key]))
    return found


def _no_relation(name: str, same: list[str], folded: dict[str, set[str]]) -> str:
    """Why a name stands for no relation, or for several: `same`."""
    listed = f"See them all with: {call('facts.relations')}"
    if not folded:
        return f"no relation {name!r}: the database has no facts yet; add some with: {call('facts.ingest', PATH)}"
    if same:
        return f"{name!r} is the label of {' and '.join(same)}; name one by its key. {listed}"
    parts = [part.strip().casefold() for part in name.split(",")]
    if len(parts) > 1 and all(len(folded.get(part, ())) == 1 for part in parts):
        keys = [key for part in parts for key in folded[part]]
        return f"no relation {name!r}; several are given as {option('relations', keys)}"
    near = difflib.get_close_matches(name.strip().casefold(), folded, n=3, cutoff=0.5)
    keys = list(dict.fromkeys(key for one in near for key in sorted(folded[one])))
    hint = f"the nearest are {', '.join(keys[:3])}" if keys else "none is near"
    return f"no relation {name!r}; {hint}. {listed}"


def _relation_condition(connection: Connection, keys: Iterable[str]) -> tuple[list[str], dict[str, object]]:
    """Gives the SQL condition that chooses relations, with its values; none for no keys."""
    numbers = require_relations(connection, keys)
    if not numbers:
        return [], {}
    condition = "fact.relation_id IN kndb_numbers(:relations)"
    return [condition], {"relations": json.dumps(numbers)}


def _where(conditions: list[str]) -> str:
    return "WHERE " + " AND ".join(conditions) if conditions else ""
