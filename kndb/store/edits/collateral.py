"""Who holds given value slots: what an edit of them would touch."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from itertools import groupby

from sqlalchemy import Connection, text

from ...advice import call
from ...errors import UsageError
from ...records.models import Neuron
from ...records.queries import Collateral, TouchedFact, TouchedRelation
from ..models import require_neuron
from ..queries.coverage import covered, refined_model
from . import edit as edits

# CROSS JOIN and INDEXED BY settle the order: SQLite knows no table's size without ANALYZE.
_HOLDERS = """
SELECT fact.id, fact.relation_id, relation.key, relation.label, fact.subject, fact.object, held.layer, held.neuron
FROM kndb_rows(:neurons, layer, neuron) AS wanted
CROSS JOIN knowledge_neuron AS held INDEXED BY ix_knowledge_neuron_refinement_id_layer_neuron
  ON held.refinement_id = :refinement AND held.layer = wanted.layer AND held.neuron = wanted.neuron
JOIN fact ON fact.id = held.fact_id
JOIN relation ON relation.id = fact.relation_id
ORDER BY fact.id, held.layer, held.neuron
"""


def edit_neurons(connection: Connection, edit_id: int, refinement_id: int) -> list[Neuron]:
    """The neurons whose value slots an edit changes, by layer and number.

    Raises:
        NotFoundError: if there is no such edit or refinement.
        UsageError: if the refinement is of another model.
    """
    slots = edits.edit_slots(connection, edit_id)
    model, refined = edits.edit(connection, edit_id).model, refined_model(connection, refinement_id).name
    if model != refined:
        raise UsageError(
            f"edit {edit_id} is of model {model!r}, refinement {refinement_id} of {refined!r}; list the refinements of "
            f"the edit's model with: {call('query.refinements', model=model)}"
        )
    return [Neuron(slot.layer, slot.neuron) for slot in slots]


def collateral(
    connection: Connection, refinement_id: int, neurons: Sequence[Neuron], edited: Collection[int] = ()
) -> Collateral:
    """The facts and relations that hold some of these neurons.

    Args:
        connection: a connection in a transaction.
        refinement_id: whose refined sets.
        neurons: at least one.
        edited: the numbers of facts that an edit of them is for: not counted.

    Returns:
        Relations by facts, the most first, then by key; facts by neurons, the most first, then by number.

    Raises:
        NotFoundError: if there is no such refinement.
        UsageError: for a neuron that the refinement's model does not have.
    """
    wanted = sorted(set(neurons))
    model = refined_model(connection, refinement_id)
    for neuron in wanted:
        require_neuron(model, neuron)
    values = {"refinement": refinement_id, "neurons": json.dumps([(one.layer, one.index) for one in wanted])}
    facts: list[TouchedFact] = []
    touched: dict[int, tuple[set[int], set[Neuron]]] = {}
    own: list[int] = []
    for fact, rows in groupby(connection.execute(text(_HOLDERS), values), lambda row: row[:6]):
        number, relation_id, key, label, subject, object_ = fact
        if number in edited:
            own.append(number)
            continue
        held = [Neuron(layer, neuron) for *_, layer, neuron in rows]
        facts.append(TouchedFact(number, key, label, subject, object_, tuple(map(str, held))))
        fact_numbers, held_by_relation = touched.setdefault(relation_id, (set(), set()))
        fact_numbers.add(number)
        held_by_relation.update(held)
    relations = [
        TouchedRelation(row.key, row.label, len(numbers), len(numbers) / row.facts_with_neurons, len(held_neurons))
        for row in covered(connection, refinement_id, touched)
        for numbers, held_neurons in [touched.get(row.id, (set(), set()))]
        if numbers
    ]
    relations.sort(key=lambda row: (-row.facts, row.relation))
    facts.sort(key=lambda row: (-len(row.neurons), row.fact))
    return Collateral(tuple(map(str, wanted)), tuple(relations), tuple(facts), tuple(own))
