"""Which refinement answers a question: the one rule of queries, probes, edits, figures, reports and exports.

A question names facts, relations (all their facts), or none, and then is about all facts. A refinement *holds* a fact
that had an attributed prompt when it was made, whether or not any neuron reached its thresholds. The question goes to

1. the best rank (`rank`) of which any refinement holds one of the facts,
2. of these the refinement that holds most of the facts: all of them, if there is one,
3. of these the newest.

Where no refinement holds any, the newest of the best rank answers, that it has nothing. A number or a method that
somebody named narrows what is chosen from; so does a model. `kndb docs queries` says the same to users.

How many facts of a relation a refinement holds is in `refinement_relation`; whether it holds a single one follows from
its neurons, or from its run's results. No statement here reads scores, or all results of a run.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from ..advice import Placeholder, call, for_python, option
from ..errors import NotFoundError, UsageError
from ..records.attribution import (
    IMPORTED,
    INTEGRATED_GRADIENTS,
    ChosenRefinement,
    Refinement,
    RefinementChoice,
    attribute_and_refine,
)
from . import models
from .facts import named_relations
from .refinements import refinement
from .tables import RefinementRow, RunRow

_log = logging.getLogger(__name__)

_CANDIDATES = """
SELECT refinement.id, run.method, run.status, refinement.settings
FROM refinement JOIN run ON run.id = refinement.run_id JOIN model ON model.id = run.model_id
WHERE (CAST(:model AS TEXT) IS NULL OR model.name = :model)
  AND (CAST(:version AS TEXT) IS NULL OR run.version = :version)
  AND (CAST(:method AS TEXT) IS NULL OR run.method = :method)
ORDER BY refinement.id DESC
"""
_CANDIDATE_COLUMNS: list[Any] = [RefinementRow.id, RunRow.method, RunRow.status, RefinementRow.settings]
_HELD_OF_RELATIONS = """
SELECT refinement_id, SUM(facts) FROM refinement_relation
WHERE :every OR relation_id IN kndb_numbers(:relations)
GROUP BY refinement_id
"""
# CROSS JOIN keeps the order of joins: from refinements and facts on, each row is found by its key.
_FACTS_IN = """
SELECT refinement.id, refinement.run_id, fact.id, fact.relation_id, outcome.facts,
    EXISTS (SELECT 1 FROM knowledge_neuron WHERE refinement_id = refinement.id AND fact_id = fact.id)
FROM kndb_numbers(:refinements) AS candidate
CROSS JOIN refinement ON refinement.id = candidate.value
CROSS JOIN kndb_numbers(:facts) AS asked ON TRUE
CROSS JOIN fact ON fact.id = asked.value
CROSS JOIN refinement_relation AS outcome
    ON outcome.refinement_id = refinement.id AND outcome.relation_id = fact.relation_id
"""
_SIZES = """
SELECT relation_id, COUNT(*) FROM fact WHERE relation_id IN (
    SELECT relation_id FROM fact WHERE id IN kndb_numbers(:facts)) GROUP BY relation_id
"""
_ATTRIBUTED = """
SELECT DISTINCT fact.id
FROM fact
CROSS JOIN prompt ON prompt.fact_id = fact.id
CROSS JOIN prompt_result AS result ON result.run_id = :run AND result.prompt_id = prompt.id
WHERE fact.relation_id = :relation AND result.max_score IS NOT NULL
"""
_ASKED = """
SELECT fact.id, relation.id, relation.key FROM fact JOIN relation ON relation.id = fact.relation_id
WHERE fact.id IN kndb_numbers(:facts)
"""
_FACTS_OF_RELATIONS = """
SELECT COUNT(*) FROM fact WHERE relation_id IN kndb_numbers(:relations)
"""
_NOT_REFINED = """
SELECT run.id FROM run JOIN model ON model.id = run.model_id
WHERE (CAST(:model AS TEXT) IS NULL OR model.name = :model)
  AND (CAST(:method AS TEXT) IS NULL OR run.method = :method) AND run.method <> :imported
  AND NOT EXISTS (SELECT 1 FROM refinement WHERE run_id = run.id)
ORDER BY run.id DESC LIMIT 1
"""
_METHODS = """
SELECT DISTINCT run.method FROM refinement JOIN run ON run.id = refinement.run_id
JOIN model ON model.id = run.model_id WHERE CAST(:model AS TEXT) IS NULL OR model.name = :model ORDER BY run.method
"""


def rank(method: str, *, complete: bool, negative: bool) -> int:
    """How good a refinement is to answer a question that names none: 0 is best.

    Integrated gradients come before all other methods and imported sets, and negative scores, which say the opposite,
    last; in each of the three, complete ones before incomplete ones.
    """
    kind = 2 if negative else 0 if method == INTEGRATED_GRADIENTS else 1
    return 2 * kind + (not complete)


@dataclass(frozen=True)
class _Asked:
    """What a question is about: relations, and facts of others; neither is all facts."""

    relations: tuple[int, ...]
    facts: tuple[int, ...]
    keys: tuple[str, ...]
    count: int | None


def choose(
    connection: Connection,
    choice: RefinementChoice = None,
    *,
    model: str | None = None,
    method: str | None = None,
    relations: Sequence[str] = (),
    facts: Sequence[int] = (),
) -> ChosenRefinement:
    """The refinement that answers a question about facts.

    Args:
        connection: a connection in a transaction.
        choice: the refinement or its number, the name of its method, or None.
        model: only refinements of this model.
        method: only those by this method.
        relations: the keys of relations that the question is about.
        facts: the numbers of facts that it is about; those of no fact are passed over.

    Raises:
        NotFoundError: if there is no such refinement, model or relation, or none to choose from.
        UsageError: if the refinement is of another model or by another method than the one named.
    """
    if isinstance(choice, str):
        method = _one_method(choice, method)
        choice = None
    if choice is not None:
        number = choice.id if isinstance(choice, Refinement) else choice
        named, asked = _named(connection, number, model, method), _asked(connection, relations, facts)
        return _of(asked, named, _held(connection, asked, [number]), named=True)
    found = find(connection, model=model, method=method, relations=relations, facts=facts)
    if found is None:
        raise _none(connection, model, method, relations)
    return found


def answering(
    connection: Connection,
    choice: RefinementChoice = None,
    *,
    model: str | None = None,
    method: str | None = None,
    relations: Sequence[str] = (),
    facts: Sequence[int] = (),
) -> Refinement:
    """The refinement of `choose`; a warning is logged if it is none that questions usually go to."""
    found = choose(connection, choice, model=model, method=method, relations=relations, facts=facts)
    if found.warning is not None:
        _log.warning("%s", for_python(found.warning))
    return found.refinement


def find(
    connection: Connection,
    *,
    model: str | None = None,
    method: str | None = None,
    version: str | None = None,
    relations: Sequence[str] = (),
    facts: Sequence[int] = (),
) -> ChosenRefinement | None:
    """What `choose` chooses if no number is named; None if there is none to choose from.

    Its other arguments are those of `choose`; `version` narrows it to refinements of one version of a model.
    """
    asked = _asked(connection, relations, facts)
    candidates = text(_CANDIDATES).columns(*_CANDIDATE_COLUMNS)
    rows = connection.execute(candidates, {"model": model, "version": version, "method": method})
    ranked: dict[int, list[int]] = {}
    for number, by, status, settings in rows:
        complete = status == "complete" and not settings.get("incomplete")
        ranked.setdefault(rank(by, complete=complete, negative=bool(settings.get("negative"))), []).append(number)
    for _, numbers in sorted(ranked.items()):
        held = _held(connection, asked, numbers)
        most = max(held.values(), default=0)
        if most:
            return _chosen(connection, asked, numbers, held, most, named=method is not None)
    if not ranked:
        return None
    return _chosen(connection, asked, ranked[min(ranked)], {}, 0, named=method is not None)


def _chosen(
    connection: Connection, asked: _Asked, numbers: Sequence[int], held: dict[int, int], most: int, *, named: bool
) -> ChosenRefinement:
    """The newest of those, the newest first, that hold most."""
    number = next(one for one in numbers if held.get(one, 0) == most)
    newer = None if number == numbers[0] else numbers[0]
    return _of(asked, refinement(connection, number), held, named=named, newer=newer)


def _of(
    asked: _Asked, found: Refinement, held: Mapping[int, int], *, named: bool, newer: int | None = None
) -> ChosenRefinement:
    of_these = None if asked.count is None else held.get(found.id, 0)
    return ChosenRefinement(found, named, asked.count, of_these, newer, asked.keys)


def _asked(connection: Connection, keys: Sequence[str], facts: Sequence[int]) -> _Asked:
    relations = {number: key for key, number in named_relations(connection, keys).items()}
    if not relations and not facts:
        return _Asked((), (), (), None)
    rows = connection.execute(text(_ASKED), {"facts": json.dumps(list(facts))}).all()
    others = tuple(row[0] for row in rows if row[1] not in relations)
    count = connection.execute(text(_FACTS_OF_RELATIONS), {"relations": json.dumps(list(relations))}).scalar_one()
    of_facts = {row[2] for row in rows if row[1] not in relations}
    return _Asked(tuple(relations), others, (*relations.values(), *sorted(of_facts)), int(count) + len(others))


def _held(connection: Connection, asked: _Asked, numbers: Sequence[int]) -> dict[int, int]:
    """How many of the facts asked about each of some refinements holds; those that hold none are left out."""
    held: dict[int, int] = {}
    if asked.count is None or asked.relations:
        values = {"every": asked.count is None, "relations": json.dumps(asked.relations)}
        held = {row[0]: int(row[1]) for row in connection.execute(text(_HELD_OF_RELATIONS), values) if row[1]}
    if asked.facts:
        for number in _holders(connection, asked.facts, numbers):
            held[number] = held.get(number, 0) + 1
    return {number: held[number] for number in numbers if number in held}


def _holders(connection: Connection, facts: Sequence[int], numbers: Sequence[int]) -> Iterator[int]:
    """Which of some refinements hold some facts: a refinement's number for each fact that it holds.

    A fact without neurons is held if all facts of its relation are; or if all that have attributed prompts by now are,
    and it is one of them: the run may have gone on since it was refined.
    """
    lists = {"refinements": json.dumps(list(numbers)), "facts": json.dumps(list(facts))}
    sizes = {row[0]: int(row[1]) for row in connection.execute(text(_SIZES), {"facts": lists["facts"]})}
    attributed: dict[tuple[int, int], set[int]] = {}
    for number, run, fact, relation, count, has_neurons in connection.execute(text(_FACTS_IN), lists).all():
        if has_neurons or count >= sizes[relation]:
            yield number
            continue
        if (run, relation) not in attributed:
            rows = connection.execute(text(_ATTRIBUTED), {"run": run, "relation": relation})
            attributed[run, relation] = {row[0] for row in rows}
        if fact in attributed[run, relation] and count >= len(attributed[run, relation]):
            yield number


def _one_method(choice: str, method: str | None) -> str:
    if method not in (None, choice):
        raise UsageError(f"{option('refinement')} names the method {choice}, and {option('method')} {method}; give one")
    return choice


def _named(connection: Connection, number: int, model: str | None, method: str | None) -> Refinement:
    found = refinement(connection, number)
    if model is not None:
        models.model(connection, model)  # So that a name which nobody has is what the error is about.
    for name, given, own in (("model", model, found.model), ("method", method, found.method)):
        if given is not None and given != own:
            what = f"is of model {own!r}, not {given!r}" if name == "model" else f"is by {own}, not {given}"
            raise UsageError(
                f"{option('refinement', number)} {what}; leave out {option('refinement')} or {option(name)}, or choose "
                f"from: {call('query.refinements', model=model)}"
            )
    return found


def _none(connection: Connection, model: str | None, method: str | None, relations: Sequence[str]) -> NotFoundError:
    """The error that there is nothing to choose from, and how to get it."""
    if model is not None:
        models.model(connection, model)
    of = "" if model is None else f" of model {model!r}"
    present = [str(row[0]) for row in connection.execute(text(_METHODS), {"model": model})]
    if method is not None and present:
        near = difflib.get_close_matches(method, present, n=1)
        hint = f"did you mean {near[0]}? There" if near else "there"
        return NotFoundError(
            f"{option('method', method)}: no refinement{of} is by this method; {hint} are refinements by "
            f"{', '.join(present)}: {call('query.refinements', model=model)}"
        )
    values = {"model": model, "method": method, "imported": IMPORTED}
    run = connection.execute(text(_NOT_REFINED), values).scalar()
    if run is not None:
        refine = call("attribution.refine", run=run)
        return NotFoundError(f"there is no refinement{of} yet; make one of run {run} with: {refine}")
    make = attribute_and_refine(model or Placeholder("NAME"), relations, method=method)
    return NotFoundError(f"there is no refinement{of} yet; make one with: {make}")
