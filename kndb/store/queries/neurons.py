"""Which neurons relations share, and those of one fact, answered in SQL.

Shares are counted on `relation_neuron`, which sums up the facts' sets, so that no query reads them all.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from ...records.attribution import KnowledgeNeuron, SharedNeuron
from .coverage import covered, selection

_SHARES = """
SELECT layer, neuron, SUM(facts)
FROM kndb_numbers(:relations) AS chosen
CROSS JOIN relation_neuron ON refinement_id = :refinement AND relation_id = chosen.value
GROUP BY layer, neuron
"""
# CROSS JOIN and INDEXED BY settle how SQLite goes about it: relation by relation, then neuron by neuron. It knows no
# table's size without ANALYZE, and left to itself may read all of a refinement's rows for each neuron.
_HOLDERS = """
WITH held AS MATERIALIZED (
    SELECT layer, neuron, SUM(facts) AS facts
    FROM kndb_numbers(:relations) AS chosen
    CROSS JOIN relation_neuron ON refinement_id = :refinement AND relation_id = chosen.value
    GROUP BY layer, neuron
    HAVING SUM(facts) >= :least AND COUNT(*) >= :across
    ORDER BY SUM(facts) DESC, layer, neuron
    LIMIT :top
)
SELECT held.layer, held.neuron, held.facts, kndb_listed(holder.relation_id), kndb_listed(-holder.facts)
FROM held
CROSS JOIN relation_neuron AS holder INDEXED BY ix_relation_neuron_refinement_id_layer_neuron_relation_id_facts
  ON holder.refinement_id = :refinement AND holder.layer = held.layer AND holder.neuron = held.neuron
GROUP BY held.layer, held.neuron, held.facts
"""
# A row for each neuron, not for each of its holders: there may be hundreds of thousands of these.
_OF_FACT = """
SELECT fact_id, layer, neuron, prompts, mean_score FROM knowledge_neuron
WHERE refinement_id = :refinement AND fact_id = :fact ORDER BY layer, neuron
"""
_EVERY_ROW = 2**62
_ROUNDING = 1e-9
"""So that a share that is met exactly counts, whatever the last bit of its product."""


def shared_neurons(
    connection: Connection,
    refinement_id: int,
    relation_ids: Sequence[int] = (),
    *,
    across: int = 1,
    top: int | None = None,
    min_share: float = 0.0,
) -> list[SharedNeuron]:
    """The neurons that facts of some relations hold, the most widely held first.

    Args:
        connection: a connection in a transaction.
        refinement_id: whose refined sets.
        relation_ids: the relations' keys in the store; none means all.
        across: only neurons held by facts of at least so many of these relations.
        top: at most so many rows.
        min_share: only neurons held by at least this share of the relations' facts with a refined set.

    Returns:
        Rows by facts descending, then layer, then neuron.

    Raises:
        NotFoundError: if there is no such refinement.
    """
    relations = covered(connection, refinement_id, relation_ids)
    total = sum(relation.facts_with_neurons for relation in relations)
    values = {
        **selection(refinement_id, relations),
        "least": max(1.0, min_share * total - _ROUNDING),
        "across": across,
        "top": _EVERY_ROW if top is None else top,
    }
    names = _Names(connection)
    rows = sorted(connection.execute(text(_HOLDERS), values), key=lambda row: (-row[2], row[0], row[1]))
    return [
        SharedNeuron(layer, neuron, int(facts), facts / total, names.by_facts(holders, negative_counts))
        for layer, neuron, facts, holders, negative_counts in rows
    ]


class _Names:
    """The relations' keys, by their numbers in the store."""

    def __init__(self, connection: Connection) -> None:
        # In the order of Python, which is that of the keys' bytes, as in both databases.
        found = sorted(connection.execute(text("SELECT key, id FROM relation")).all())
        self._keys = [str(key) for key, _ in found]
        self._places = {str(number): place for place, (_, number) in enumerate(found)}

    def by_facts(self, relations: str, negative_counts: str) -> dict[str, int]:
        """Keys and numbers of facts from lists of relations and of negative numbers; most facts first, then by key."""
        counts = map(int, negative_counts.split(","))
        places = map(self._places.__getitem__, relations.split(","))
        return {self._keys[place]: -count for count, place in sorted(zip(counts, places, strict=True))}


def shares(connection: Connection, refinement_id: int, relation_ids: Sequence[int]) -> dict[tuple[int, int], float]:
    """For each (layer, neuron) that facts of some relations hold, its share as in `shared_neurons`."""
    relations = covered(connection, refinement_id, relation_ids)
    total = sum(relation.facts_with_neurons for relation in relations)
    rows = connection.execute(text(_SHARES), selection(refinement_id, relations))
    return {(layer, neuron): facts / total for layer, neuron, facts in rows}


def neurons_of_fact(connection: Connection, refinement_id: int, fact_id: int) -> list[KnowledgeNeuron]:
    """The refined set of one fact, by layer and neuron."""
    rows = connection.execute(text(_OF_FACT), {"refinement": refinement_id, "fact": fact_id})
    return [KnowledgeNeuron(*row) for row in rows]


def neuron_counts(connection: Connection, refinement_id: int) -> tuple[int, float]:
    """The number of (fact, neuron) rows of a refinement, and their mean over all facts that were attributed."""
    rows, facts = connection.execute(
        text(
            "SELECT (SELECT COALESCE(SUM(facts), 0) FROM relation_neuron WHERE refinement_id = :refinement),"
            " (SELECT SUM(facts) FROM refinement_relation WHERE refinement_id = :refinement)"
        ),
        {"refinement": refinement_id},
    ).one()
    return int(rows), (rows / facts if facts else 0.0)
