"""Where knowledge neurons lie (their layers), and how many facts have (the sizes of their sets)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import Connection, text

from ...records.queries import LayerCount, NeuronCounts
from .coverage import covered, refined_model, selection

# CROSS JOIN keeps the order of the tables, so that each relation's rows, which lie together, are read at once; likewise
# each fact's. SQLite knows no table's size without ANALYZE.
_LAYERS = """
SELECT NULL, layer, SUM(facts), COUNT(DISTINCT neuron)
FROM kndb_numbers(:relations) AS chosen
CROSS JOIN relation_neuron ON refinement_id = :refinement AND relation_id = chosen.value
GROUP BY layer
"""
_LAYERS_BY_RELATION = """
SELECT relation_id, layer, SUM(facts), COUNT(*)
FROM kndb_numbers(:relations) AS chosen
CROSS JOIN relation_neuron ON refinement_id = :refinement AND relation_id = chosen.value
GROUP BY relation_id, layer
"""
_NEURONS_BY_RELATION = """
SELECT relation_id, COUNT(*)
FROM kndb_numbers(:relations) AS chosen
CROSS JOIN relation_neuron ON refinement_id = :refinement AND relation_id = chosen.value
GROUP BY relation_id
"""
_NEURONS = """
SELECT COUNT(*) FROM (
    SELECT DISTINCT layer, neuron
    FROM kndb_numbers(:relations) AS chosen
    CROSS JOIN relation_neuron ON refinement_id = :refinement AND relation_id = chosen.value
) AS held
"""
_SIZES = """
SELECT relation_id, size, COUNT(*) FROM (
    SELECT fact.relation_id, COUNT(*) AS size
    FROM fact CROSS JOIN knowledge_neuron ON refinement_id = :refinement AND fact_id = fact.id
    WHERE fact.relation_id IN kndb_numbers(:relations)
    GROUP BY fact.id
) AS sized
GROUP BY relation_id, size
"""
_SIZE_OF_EACH = "SELECT fact_id, COUNT(*) FROM knowledge_neuron WHERE refinement_id = :refinement GROUP BY fact_id"


def layers(
    connection: Connection, refinement_id: int, relation_ids: Sequence[int] = (), *, by_relation: bool = False
) -> list[LayerCount]:
    """The knowledge neurons in each layer of the model, layers without any included.

    Args:
        connection: a connection in a transaction.
        refinement_id: whose refined sets.
        relation_ids: the relations' keys in the store; none means all.
        by_relation: one row per relation and layer, in place of one per layer over all of them.

    Raises:
        NotFoundError: if there is no such refinement.
    """
    number = refined_model(connection, refinement_id).layers
    relations = covered(connection, refinement_id, relation_ids)
    groups: dict[int | None, str | None] = {row.id: row.key for row in relations} if by_relation else {None: None}
    statement = _LAYERS_BY_RELATION if by_relation else _LAYERS
    found: dict[tuple[int | None, int], tuple[int, int]] = {}
    pairs_of: Counter[int | None] = Counter()
    for relation_id, layer, pairs, neurons in connection.execute(text(statement), selection(refinement_id, relations)):
        found[relation_id, layer] = pairs, neurons
        pairs_of[relation_id] += pairs
    rows = []
    for relation_id, key in groups.items():
        for layer in range(number):
            pairs, neurons = found.get((relation_id, layer), (0, 0))
            rows.append(LayerCount(key, layer, pairs, pairs / max(1, pairs_of[relation_id]), neurons))
    return rows


def counts(connection: Connection, refinement_id: int, relation_ids: Sequence[int] = ()) -> list[NeuronCounts]:
    """How many knowledge neurons attributed facts have: one row per relation by key, and one over all of them.

    Args:
        connection: a connection in a transaction.
        refinement_id: whose refined sets.
        relation_ids: the relations' keys in the store; none means all.

    Returns:
        No rows if the refinement has no attributed facts of these relations.

    Raises:
        NotFoundError: if there is no such refinement.
    """
    relations = covered(connection, refinement_id, relation_ids)
    if not relations:
        return []
    values = selection(refinement_id, relations)
    sizes = {relation.id: Counter({0: relation.facts - relation.facts_with_neurons}) for relation in relations}
    for relation_id, size, facts in connection.execute(text(_SIZES), values):
        sizes[relation_id][size] = facts
    neurons = dict(map(tuple, connection.execute(text(_NEURONS_BY_RELATION), values)))
    rows = [_counts(relation.key, sizes[relation.id], neurons.get(relation.id, 0)) for relation in relations]
    different = int(connection.scalar(text(_NEURONS), values) or 0)
    return [*rows, _counts(None, sum(sizes.values(), Counter[int]()), different)]


def set_sizes(connection: Connection, refinement_id: int) -> dict[int, int]:
    """How many knowledge neurons each fact has, by the fact's number; facts without any are left out.

    Raises:
        NotFoundError: if there is no such refinement.
    """
    refined_model(connection, refinement_id)
    return dict(map(tuple, connection.execute(text(_SIZE_OF_EACH), {"refinement": refinement_id})))


def quartile(sizes: Counter[int], quarter: int) -> float:
    """A quartile by the linear rule, from the number of facts of each size.

    Of n values in order, numbered from 0, it lies at place (n − 1) · quarter / 4, and between two values in
    proportion.

    Args:
        sizes: how many facts have each size; at least one fact.
        quarter: 1, 2 (the median) or 3.
    """
    place, rest = divmod((sizes.total() - 1) * quarter, 4)
    low = _at(sizes, place)
    return low + (_at(sizes, place + 1) - low) * rest / 4 if rest else float(low)


def _at(sizes: Counter[int], place: int) -> int:
    for size in sorted(sizes):
        place -= sizes[size]
        if place < 0:
            return size
    raise IndexError("a place beyond the last fact")


def _counts(key: str | None, sizes: Counter[int], neurons: int) -> NeuronCounts:
    facts = sizes.total()
    return NeuronCounts(
        relation=key,
        facts=facts,
        facts_with_none=sizes[0],
        neurons=neurons,
        mean=sum(size * number for size, number in sizes.items()) / facts,
        first_quartile=quartile(sizes, 1),
        median=quartile(sizes, 2),
        third_quartile=quartile(sizes, 3),
        largest=max(size for size, number in sizes.items() if number),
    )
