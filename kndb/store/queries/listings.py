"""Lists that are looked through: facts with the sizes of their sets, page by page; held neurons; near relations.

Nothing here reads all of a refinement's sets: facts are counted by their keys, neurons on `relation_neuron`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from ...records.models import Neuron
from ...records.queries import HeldNeuron, ListedFact, NearRelation
from .coverage import covered, refined_model, selection

EVERY_ROW = 2**62
"""A LIMIT that is none."""
ORDERS = {
    "id": "fact.id",
    "relation": "relation.key",
    "subject": "fact.subject",
    "object": "fact.object",
    "neurons": "neurons",
}
"""What listed facts are sorted by, with its expression."""
# Sorting goes over the smallest rows there are; the neurons of facts that are listed are counted by their keys.
_LISTED = """
SELECT fact.id, relation.key, fact.subject, fact.object,
    (SELECT NULLIF(COUNT(*), 0) FROM knowledge_neuron AS held
     WHERE held.refinement_id = :refinement AND held.fact_id = fact.id) AS neurons
FROM fact JOIN relation ON relation.id = fact.relation_id
{where}
ORDER BY {order}
LIMIT :count OFFSET :start
"""
_BY_NEURONS = """
SELECT fact.id, relation.key, fact.subject, fact.object, sized.neurons
FROM fact JOIN relation ON relation.id = fact.relation_id
LEFT JOIN (
    SELECT fact_id, COUNT(*) AS neurons FROM knowledge_neuron WHERE refinement_id = :refinement GROUP BY fact_id
) AS sized ON sized.fact_id = fact.id
{where}
ORDER BY {order}
LIMIT :count OFFSET :start
"""
_NAMES = "SELECT fact.id, fact.subject, fact.object FROM fact {where}"
_COUNT = "SELECT COUNT(*) FROM fact {where}"
_HELD = """
SELECT layer, neuron, SUM(facts), COUNT(*)
FROM relation_neuron
WHERE refinement_id = :refinement AND relation_id IN kndb_numbers(:relations)
GROUP BY layer, neuron
ORDER BY layer, neuron
"""
_BESIDE = """
SELECT layer, neuron FROM relation_neuron
WHERE refinement_id = :refinement AND (layer {sign} :layer OR (layer = :layer AND neuron {sign} :neuron))
ORDER BY layer {order}, neuron {order}
LIMIT 1
"""
_NEAR = """
SELECT other.relation_id, SUM(own.facts * other.facts), COUNT(*)
FROM relation_neuron AS own
CROSS JOIN relation_neuron AS other INDEXED BY ix_relation_neuron_refinement_id_layer_neuron_relation_id_facts
  ON other.refinement_id = :refinement AND other.layer = own.layer AND other.neuron = own.neuron
WHERE own.refinement_id = :refinement AND own.relation_id = :relation AND other.relation_id <> :relation
GROUP BY other.relation_id
"""


def listed_facts(
    connection: Connection,
    refinement_id: int | None,
    relation_ids: Sequence[int] = (),
    holding: str | None = None,
    *,
    sort: str = "id",
    descending: bool = False,
    start: int = 0,
    count: int | None = None,
) -> tuple[list[ListedFact], int]:
    """Facts in an order, some of them from a place on, and how many there are in all.

    Args:
        connection: a connection in a transaction.
        refinement_id: whose sets are counted; None counts none.
        relation_ids: the relations' keys in the store; none means all.
        holding: only facts whose subject or object holds this text, in any case.
        sort: a key of `ORDERS`; facts that are alike in it follow by number.
        descending: the largest first. Facts without a subject, or without neurons, come last in any case.
        start: how many to pass over, at least 0.
        count: at most so many.
    """
    where, values = _facts_where(connection, relation_ids, holding)
    total = int(connection.scalar(text(_COUNT.format(where=where)), values) or 0)
    direction = "DESC" if descending else "ASC"
    order = f"{ORDERS[sort]} {direction} NULLS LAST, fact.id"
    statement = (_BY_NEURONS if sort == "neurons" else _LISTED).format(where=where, order=order)
    values |= {"refinement": refinement_id, "start": start, "count": EVERY_ROW if count is None else count}
    found = connection.execute(text(statement), values)
    rows = [ListedFact(row.id, row.key, row.subject, row.object, row.neurons) for row in found]
    return rows, total


def _facts_where(
    connection: Connection, relation_ids: Sequence[int], holding: str | None
) -> tuple[str, dict[str, Any]]:
    """The condition that chooses facts, and its values; texts are compared here, as in `store.facts.find_facts`."""
    conditions, values = [], {}
    if relation_ids:
        conditions.append("fact.relation_id IN kndb_numbers(:relations)")
        values["relations"] = json.dumps(list(relation_ids))
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    if not holding:
        return where, values
    wanted = holding.casefold()
    names = connection.execute(text(_NAMES.format(where=where)), values)
    found = [number for number, *name in names if any(one and wanted in one.casefold() for one in name)]
    return "WHERE fact.id IN kndb_numbers(:found)", {"found": json.dumps(found)}


def held_neurons(connection: Connection, refinement_id: int, relation_ids: Sequence[int] = ()) -> list[HeldNeuron]:
    """Every neuron that facts of some relations hold, by layer and number.

    Args:
        connection: a connection in a transaction.
        refinement_id: whose refined sets.
        relation_ids: the relations' keys in the store; none means all.

    Raises:
        NotFoundError: if there is no such refinement.
    """
    values = selection(refinement_id, covered(connection, refinement_id, relation_ids))
    return [HeldNeuron(*map(int, row)) for row in connection.execute(text(_HELD), values)]


def beside(connection: Connection, refinement_id: int, neuron: Neuron) -> tuple[Neuron | None, Neuron | None]:
    """The held neurons next to one, which need not be held itself: the one before it, and the one after it."""
    refined_model(connection, refinement_id)
    place = {"refinement": refinement_id, "layer": neuron.layer, "neuron": neuron.index}
    found: list[Neuron | None] = []
    for sign, order in (("<", "DESC"), (">", "ASC")):
        row = connection.execute(text(_BESIDE.format(sign=sign, order=order)), place).first()
        found.append(None if row is None else Neuron(*row))
    return found[0], found[1]


def near_relations(connection: Connection, refinement_id: int, relation_id: int) -> list[NearRelation]:
    """How many neurons a fact of a relation and one of another share on average, for each other relation; exact.

    Each neuron counts once for every pair of facts that hold it: df of the one relation times df of the other.

    Args:
        connection: a connection in a transaction.
        refinement_id: whose refined sets.
        relation_id: the relation's key in the store.

    Returns:
        The other relations of which facts have a set, by that mean, the largest first, then by key; none if no fact of
        the relation has a set.
    """
    relations = {row.id: row for row in covered(connection, refinement_id) if row.facts_with_neurons}
    own = relations.pop(relation_id, None)
    if own is None:
        return []
    values = {"refinement": refinement_id, "relation": relation_id}
    shared = {row[0]: (int(row[1]), int(row[2])) for row in connection.execute(text(_NEAR), values)}
    found = []
    for number, other in relations.items():
        pairs, neurons = shared.get(number, (0, 0))
        mean = pairs / (own.facts_with_neurons * other.facts_with_neurons)
        found.append(NearRelation(other.key, other.label, neurons, mean))
    return sorted(found, key=lambda row: (-row.mean, row.relation))
