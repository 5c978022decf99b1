"""Refinements: the candidates they are made from, and the knowledge neurons they keep."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, text

from ..advice import call
from ..errors import NotFoundError
from ..records.attribution import KnowledgeNeuron, Refinement, RelationRefinement
from ..records.models import StoredSettings
from .backends.finding import backend_of
from .clock import now
from .numbers import there_are
from .tables import (
    FactRow,
    ModelRow,
    PromptResultRow,
    PromptRow,
    RefinementRelationRow,
    RefinementRow,
    RelationRow,
    RunRow,
)

# CROSS JOIN keeps the facts outermost: left to itself, SQLite reads every score of the run for each relation.
_CANDIDATES = """
SELECT prompt.fact_id, score.layer, score.neuron, COUNT(*) AS prompts, AVG(score.score) AS mean_score
FROM fact
CROSS JOIN prompt ON prompt.fact_id = fact.id
CROSS JOIN prompt_result ON prompt_result.run_id = :run AND prompt_result.prompt_id = prompt.id
CROSS JOIN score ON score.run_id = :run AND score.prompt_id = prompt.id
WHERE fact.relation_id = :relation
  AND {reaches}
GROUP BY prompt.fact_id, score.layer, score.neuron
ORDER BY prompt.fact_id, score.layer, score.neuron
"""
_ATTRIBUTED = """
SELECT fact.relation_id, fact.id, COUNT(*)
FROM kndb_numbers(:relations) AS chosen
CROSS JOIN fact ON fact.relation_id = chosen.value
CROSS JOIN prompt ON prompt.fact_id = fact.id
CROSS JOIN prompt_result AS result ON result.run_id = :run AND result.prompt_id = prompt.id
WHERE result.max_score IS NOT NULL
GROUP BY fact.relation_id, fact.id
ORDER BY fact.relation_id, fact.id
"""
REACHES = {
    False: "prompt_result.max_score > 0 AND score.score >= :threshold * prompt_result.max_score",
    True: "prompt_result.min_score < 0 AND score.score <= :threshold * prompt_result.min_score",
}
"""Which scores make a coarse set: the highest, or (negative) the lowest."""
_NEURON_COLUMNS = ("refinement_id", "fact_id", "layer", "neuron", "prompts", "mean_score")
_SUM_UP = """
INSERT INTO relation_neuron (refinement_id, relation_id, layer, neuron, facts)
SELECT knowledge_neuron.refinement_id, fact.relation_id, knowledge_neuron.layer, knowledge_neuron.neuron, COUNT(*)
FROM knowledge_neuron JOIN fact ON fact.id = knowledge_neuron.fact_id
WHERE knowledge_neuron.refinement_id = ?
GROUP BY knowledge_neuron.refinement_id, fact.relation_id, knowledge_neuron.layer, knowledge_neuron.neuron
"""


def attributed_facts(
    connection: Connection, run_id: int, relation_ids: Sequence[int] = ()
) -> dict[int, dict[int, int]]:
    """For each relation, the facts with results in a run and the number of their attributed prompts.

    Args:
        connection: a connection in a transaction.
        run_id: the run.
        relation_ids: only these relations, whose facts alone are looked up then; none means all.
    """
    if relation_ids:
        values = {"run": run_id, "relations": json.dumps(list(relation_ids))}
        return _by_relation(connection.execute(text(_ATTRIBUTED), values))
    rows = connection.execute(
        select(FactRow.relation_id, FactRow.id, func.count())
        .select_from(PromptResultRow)
        .join(PromptRow, PromptRow.id == PromptResultRow.prompt_id)
        .join(FactRow, FactRow.id == PromptRow.fact_id)
        .where(PromptResultRow.run_id == run_id, PromptResultRow.max_score.is_not(None))
        .group_by(FactRow.relation_id, FactRow.id)
        .order_by(FactRow.relation_id, FactRow.id)
    )
    return _by_relation(rows)


def _by_relation(rows: Iterable[Any]) -> dict[int, dict[int, int]]:
    facts: dict[int, dict[int, int]] = {}
    for relation_id, fact_id, prompts in rows:
        facts.setdefault(relation_id, {})[fact_id] = prompts
    return facts


def candidates(
    connection: Connection, run_id: int, relation_id: int, threshold: float, *, negative: bool = False
) -> list[KnowledgeNeuron]:
    """The neurons in at least one coarse set of each fact of a relation, with the number of those sets.

    Args:
        connection: a connection in a transaction.
        run_id: the run whose scores are read.
        relation_id: the relation's key in the store.
        threshold: a prompt's coarse set holds the neurons of at least this share of its largest score.
        negative: take the lowest scores in place of the largest: neurons that speak against the answer.
    """
    query = _CANDIDATES.format(reaches=REACHES[negative])
    rows = connection.execute(text(query), {"run": run_id, "relation": relation_id, "threshold": threshold})
    return [KnowledgeNeuron(*row) for row in rows]


def add_refinement(
    connection: Connection,
    run_id: int,
    settings: StoredSettings,
    relations: Iterable[tuple[int, RelationRefinement, Iterable[KnowledgeNeuron]]],
    created_at: str | None = None,
) -> int:
    """Writes a refinement: for each relation its outcome and its knowledge neurons.

    Args:
        connection: a write transaction.
        run_id: the run.
        settings: how the sets were made.
        relations: each relation's key in the store, outcome and sets.
        created_at: when they were made; None is now.

    Returns:
        The refinement's number.
    """
    backend = backend_of(connection)
    added = connection.execute(
        insert(RefinementRow).values(run_id=run_id, settings=dict(settings), created_at=created_at or now())
    )
    refinement_id = int(added.inserted_primary_key[0])  # type: ignore[index]
    for relation_id, outcome, neurons in relations:
        connection.execute(
            insert(RefinementRelationRow).values(
                refinement_id=refinement_id,
                relation_id=relation_id,
                share=outcome.share,
                passes=outcome.passes,
                facts=outcome.facts,
                facts_with_neurons=outcome.facts_with_neurons,
                mean_size=outcome.mean_size,
            )
        )
        rows = [(refinement_id, row.fact_id, row.layer, row.neuron, row.prompts, row.mean_score) for row in neurons]
        backend.write_rows(connection, "knowledge_neuron", _NEURON_COLUMNS, rows)
    connection.exec_driver_sql(_SUM_UP, (refinement_id,))
    backend.grown(connection, "refinement_relation", "knowledge_neuron", "relation_neuron")
    return refinement_id


def refinement(connection: Connection, refinement_id: int) -> Refinement:
    """One refinement.

    Raises:
        NotFoundError: if there is none of that number.
    """
    found = _refinements(connection, RefinementRow.id == refinement_id)
    if not found:
        raise no_refinement(connection, refinement_id)
    return found[0]


def no_refinement(connection: Connection, refinement_id: int) -> NotFoundError:
    """The error that there is no refinement of a number, which names the numbers there are."""
    known = there_are(connection.scalars(select(RefinementRow.id)).all(), refinement_id)
    return NotFoundError(f"no refinement {refinement_id}; {known}. List them with: {call('query.refinements')}")


def refinements(connection: Connection, model: str | None = None) -> list[Refinement]:
    """All refinements, or those of one model's runs, by id."""
    return _refinements(connection) if model is None else _refinements(connection, ModelRow.name == model)


def _refinements(connection: Connection, *conditions: Any) -> list[Refinement]:
    rows = connection.execute(
        select(RefinementRow, ModelRow.name.label("model"), RunRow.version, RunRow.method, RunRow.status)
        .join(RunRow, RunRow.id == RefinementRow.run_id)
        .join(ModelRow, ModelRow.id == RunRow.model_id)
        .where(*conditions)
        .order_by(RefinementRow.id)
    ).all()
    return [_record(connection, row) for row in rows]


def _record(connection: Connection, row: Any) -> Refinement:
    relations = connection.execute(
        select(RefinementRelationRow, RelationRow.key)
        .join(RelationRow, RelationRow.id == RefinementRelationRow.relation_id)
        .where(RefinementRelationRow.refinement_id == row.id)
        .order_by(RelationRow.key)
    )
    outcomes = tuple(
        RelationRefinement(
            relation=relation.key,
            share=relation.share,
            passes=relation.passes,
            facts=relation.facts,
            facts_with_neurons=relation.facts_with_neurons,
            mean_size=relation.mean_size,
        )
        for relation in relations
    )
    return Refinement(
        id=row.id,
        run_id=row.run_id,
        settings=row.settings,
        created_at=row.created_at,
        relations=outcomes,
        model=row.model,
        version=row.version,
        method=row.method,
        complete=row.status == "complete" and not row.settings.get("incomplete"),
    )
