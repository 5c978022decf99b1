"""How many neurons two facts share on average, for each pair of relations; exact, without going over pairs of facts.

Summed over all pairs of facts, |A ∩ B| counts each neuron once for every pair that holds it. With df facts of a
relation holding a neuron, that is df·(df − 1)/2 pairs within the relation, and df_r·df_s between two relations. The
same sum over objects in place of neurons counts the pairs of facts with the same object, and over neurons of each
object their shared neurons.

SQL gathers who holds what: one row per neuron (or object, or both), with the holding relations and the numbers of
their facts. The products are made here: for a join of these rows with themselves SQLite, which knows no table's size
without ANALYZE, may choose a plan that takes minutes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations_with_replacement

from sqlalchemy import Connection, text

from ...records.queries import Overlap, OverlapSummary, RelationOverlap
from .coverage import Covered, covered, selection

_BY_NEURON = """
SELECT kndb_listed(relation_id), kndb_listed(facts)
FROM relation_neuron
WHERE refinement_id = :refinement AND relation_id IN kndb_numbers(:relations)
GROUP BY layer, neuron
HAVING SUM(facts) > 1
"""
_BY_OBJECT = """
WITH holding AS (
    SELECT object, relation_id, COUNT(*) AS facts
    FROM fact
    WHERE relation_id IN kndb_numbers(:relations)
      AND EXISTS (SELECT 1 FROM knowledge_neuron WHERE refinement_id = :refinement AND fact_id = fact.id)
    GROUP BY object, relation_id
)
SELECT kndb_listed(relation_id), kndb_listed(facts) FROM holding GROUP BY object HAVING SUM(facts) > 1
"""
# Objects are numbered first: sorting numbers is faster than sorting texts. CROSS JOIN keeps the order of the tables.
_BY_NEURON_AND_OBJECT = """
WITH numbered AS MATERIALIZED (
    SELECT id, relation_id, DENSE_RANK() OVER (ORDER BY object) AS object
    FROM fact
    WHERE relation_id IN kndb_numbers(:relations)
), holding AS (
    SELECT layer, neuron, object, relation_id, COUNT(*) AS facts
    FROM numbered CROSS JOIN knowledge_neuron ON refinement_id = :refinement AND fact_id = numbered.id
    GROUP BY layer, neuron, object, relation_id
)
SELECT kndb_listed(relation_id), kndb_listed(facts)
FROM holding GROUP BY layer, neuron, object HAVING SUM(facts) > 1
"""


def overlap(connection: Connection, refinement_id: int, relation_ids: Sequence[int] = ()) -> Overlap:
    """The relation × relation matrix of mean pairwise intersections.

    Args:
        connection: a connection in a transaction.
        refinement_id: whose refined sets.
        relation_ids: the relations' keys in the store; none means all.

    Raises:
        NotFoundError: if there is no such refinement.
    """
    relations = [row for row in covered(connection, refinement_id, relation_ids) if row.facts_with_neurons]
    values = selection(refinement_id, relations)
    shared = _pairs(connection, _BY_NEURON, values)
    same_object = _pairs(connection, _BY_OBJECT, values)
    same_object_shared = _pairs(connection, _BY_NEURON_AND_OBJECT, values)
    within: list[_Cell] = []
    across: list[_Cell] = []
    for one, other in combinations_with_replacement(relations, 2):
        at = min(one.id, other.id), max(one.id, other.id)
        cell = _Cell(one, other, shared[at], same_object[at], same_object_shared[at])
        (within if one is other else across).append(cell)
    cells = sorted((*within, *across), key=lambda cell: (cell.one.key, cell.other.key))
    return Overlap(
        tuple(relation.key for relation in relations),
        tuple(cell.record() for cell in cells),
        (_summary("within", within), _summary("across", across)),
    )


class _Cell:
    """A cell's sums: pairs of facts, and neurons shared by all of them together."""

    def __init__(
        self, one: Covered, other: Covered, shared: int, same_object_pairs: int, same_object_shared: int
    ) -> None:
        self.one, self.other = one, other
        if one is other:
            self.pairs = math.comb(one.facts_with_neurons, 2)
        else:
            self.pairs = one.facts_with_neurons * other.facts_with_neurons
        self.shared = shared
        self.same_object_pairs = same_object_pairs
        self.same_object_shared = same_object_shared

    def record(self) -> RelationOverlap:
        """The cell with means in place of sums."""
        different = self.pairs - self.same_object_pairs
        return RelationOverlap(
            self.one.key,
            self.other.key,
            self.pairs,
            _mean(self.shared, self.pairs),
            self.same_object_pairs,
            _mean(self.same_object_shared, self.same_object_pairs),
            different,
            _mean(self.shared - self.same_object_shared, different),
        )


def _summary(where: str, cells: Sequence[_Cell]) -> OverlapSummary:
    filled = [cell for cell in cells if cell.pairs]
    pairs = sum(cell.pairs for cell in filled)
    same_object_pairs = sum(cell.same_object_pairs for cell in filled)
    shared = sum(cell.shared for cell in filled)
    same_object_shared = sum(cell.same_object_shared for cell in filled)
    different = pairs - same_object_pairs
    return OverlapSummary(
        where,
        len(filled),
        pairs,
        _mean(shared, pairs),
        _mean(math.fsum(cell.shared / cell.pairs for cell in filled), len(filled)),
        same_object_pairs,
        _mean(same_object_shared, same_object_pairs),
        different,
        _mean(shared - same_object_shared, different),
    )


def _mean(total: float, number: int) -> float | None:
    return total / number if number else None


def _pairs(connection: Connection, statement: str, values: dict[str, object]) -> Counter[tuple[int, int]]:
    """For each two relations (smaller key in the store first), the pairs of facts in common groups, over all groups."""
    pairs: Counter[tuple[int, int]] = Counter()
    for relation_text, facts_text in connection.execute(text(statement), values):
        relations = [int(part) for part in str(relation_text).split(",")]
        facts = [int(part) for part in str(facts_text).split(",")]
        for place, (one, number) in enumerate(zip(relations, facts, strict=True)):
            pairs[one, one] += number * (number - 1) // 2
            for other, other_number in zip(relations[place + 1 :], facts[place + 1 :], strict=True):
                pairs[(one, other) if one < other else (other, one)] += number * other_number
    return pairs
