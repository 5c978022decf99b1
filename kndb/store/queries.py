"""Questions about refined knowledge neurons, answered in SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from ..records import KnowledgeNeuron, SharedNeuron

_SHARED = """
SELECT knowledge_neuron.layer, knowledge_neuron.neuron, COUNT(*) AS facts
FROM knowledge_neuron JOIN fact ON fact.id = knowledge_neuron.fact_id
WHERE knowledge_neuron.refinement_id = :refinement
  AND fact.relation_id IN (SELECT value FROM json_each(:relations))
GROUP BY knowledge_neuron.layer, knowledge_neuron.neuron
HAVING COUNT(*) >= :least
ORDER BY facts DESC, knowledge_neuron.layer, knowledge_neuron.neuron
LIMIT :top
"""
_FACTS_WITH_NEURONS = """
SELECT COUNT(DISTINCT knowledge_neuron.fact_id)
FROM knowledge_neuron JOIN fact ON fact.id = knowledge_neuron.fact_id
WHERE knowledge_neuron.refinement_id = :refinement
  AND fact.relation_id IN (SELECT value FROM json_each(:relations))
"""
_HOLDERS = """
SELECT wanted.layer, wanted.neuron, relation.key, COUNT(*)
FROM (SELECT json_extract(value, '$[0]') AS layer, json_extract(value, '$[1]') AS neuron FROM json_each(:neurons))
  AS wanted
JOIN knowledge_neuron ON knowledge_neuron.refinement_id = :refinement
  AND knowledge_neuron.layer = wanted.layer AND knowledge_neuron.neuron = wanted.neuron
JOIN fact ON fact.id = knowledge_neuron.fact_id
JOIN relation ON relation.id = fact.relation_id
GROUP BY wanted.layer, wanted.neuron, relation.key
ORDER BY COUNT(*) DESC, relation.key
"""
_OF_FACT = """
SELECT fact_id, layer, neuron, prompts, mean_score FROM knowledge_neuron
WHERE refinement_id = :refinement AND fact_id = :fact ORDER BY layer, neuron
"""
_EVERY_ROW = -1


def shared_neurons(
    connection: Connection,
    refinement_id: int,
    relation_ids: Sequence[int],
    *,
    top: int | None = None,
    min_share: float = 0.0,
) -> list[SharedNeuron]:
    """The neurons that facts of some relations hold, the most widely held first.

    Args:
        connection: a connection in a transaction.
        refinement_id: whose refined sets.
        relation_ids: the relations' keys in the store, at least one.
        top: at most so many rows.
        min_share: only neurons held by at least this share of the relations' facts with a refined set.

    Returns:
        Rows by facts descending, then layer, then neuron.
    """
    rows, total = _held(connection, refinement_id, relation_ids, top=top, min_share=min_share)
    holders = _holders(connection, refinement_id, [(row.layer, row.neuron) for row in rows])
    return [
        SharedNeuron(row.layer, row.neuron, row.facts, row.facts / total, holders[row.layer, row.neuron])
        for row in rows
    ]


def shares(connection: Connection, refinement_id: int, relation_ids: Sequence[int]) -> dict[tuple[int, int], float]:
    """For each (layer, neuron) that facts of some relations hold, its share as in `shared_neurons`."""
    rows, total = _held(connection, refinement_id, relation_ids)
    return {(row.layer, row.neuron): row.facts / total for row in rows}


def neurons_of_fact(connection: Connection, refinement_id: int, fact_id: int) -> list[KnowledgeNeuron]:
    """The refined set of one fact, by layer and neuron."""
    rows = connection.execute(text(_OF_FACT), {"refinement": refinement_id, "fact": fact_id})
    return [KnowledgeNeuron(*row) for row in rows]


def neuron_counts(connection: Connection, refinement_id: int) -> tuple[int, float]:
    """The number of (fact, neuron) rows of a refinement, and their mean over all facts that were attributed."""
    rows, facts = connection.execute(
        text(
            "SELECT (SELECT COUNT(*) FROM knowledge_neuron WHERE refinement_id = :refinement),"
            " (SELECT SUM(facts) FROM refinement_relation WHERE refinement_id = :refinement)"
        ),
        {"refinement": refinement_id},
    ).one()
    return int(rows), (rows / facts if facts else 0.0)


def _held(
    connection: Connection,
    refinement_id: int,
    relation_ids: Sequence[int],
    *,
    top: int | None = None,
    min_share: float = 0.0,
) -> tuple[Sequence[Any], int]:
    """Rows of layer, neuron and facts, and the number of the relations' facts with a refined set."""
    chosen = {"refinement": refinement_id, "relations": json.dumps(list(relation_ids))}
    total = int(connection.scalar(text(_FACTS_WITH_NEURONS), chosen) or 0)
    limits = {"least": max(1.0, min_share * total - 1e-9), "top": _EVERY_ROW if top is None else top}
    return connection.execute(text(_SHARED), {**chosen, **limits}).all(), total


def _holders(
    connection: Connection, refinement_id: int, neurons: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], dict[str, int]]:
    """Every relation whose facts hold each neuron, with the number of those facts."""
    holders: dict[tuple[int, int], dict[str, int]] = {neuron: {} for neuron in neurons}
    wanted = {"refinement": refinement_id, "neurons": json.dumps(neurons)}
    for layer, neuron, relation, facts in connection.execute(text(_HOLDERS), wanted):
        holders[layer, neuron][relation] = facts
    return holders
