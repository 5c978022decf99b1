"""What a refinement, and the edits of its model, know of one neuron."""

from __future__ import annotations

from itertools import starmap

from sqlalchemy import Connection, text

from ...records.facts import Fact
from ...records.models import Neuron
from ...records.queries import HoldingFact, HoldingRelation, NeuronFindings, TouchingEdit
from .coverage import refined_model

# Without statistics, SQLite takes the primary key for as good as these indexes, and would read a whole refinement.
_FACTS = """
SELECT fact.id, relation.key, fact.subject, fact.object, held.prompts, held.mean_score
FROM knowledge_neuron AS held INDEXED BY ix_knowledge_neuron_refinement_id_layer_neuron
CROSS JOIN fact ON fact.id = held.fact_id
CROSS JOIN relation ON relation.id = fact.relation_id
WHERE held.refinement_id = :refinement AND held.layer = :layer AND held.neuron = :neuron
ORDER BY abs(held.mean_score) DESC NULLS LAST, fact.id
"""
_RELATIONS = """
SELECT relation.key, relation.label, held.facts, outcome.facts_with_neurons
FROM relation_neuron AS held INDEXED BY ix_relation_neuron_refinement_id_layer_neuron_relation_id_facts
CROSS JOIN relation ON relation.id = held.relation_id
CROSS JOIN refinement_relation AS outcome
    ON outcome.refinement_id = held.refinement_id AND outcome.relation_id = held.relation_id
WHERE held.refinement_id = :refinement AND held.layer = :layer AND held.neuron = :neuron
ORDER BY held.facts DESC, relation.key
"""
_EDITS = """
SELECT edit.id, edit.kind, edit.created_at, fact.id AS fact, fact.subject, fact.object, relation.key,
    applied_edit.edit_id IS NOT NULL AS applied, edit.fact_numbers IS NOT NULL AS pulled
FROM edit_neuron
JOIN edit ON edit.id = edit_neuron.edit_id
LEFT JOIN applied_edit ON applied_edit.model_id = edit.model_id AND applied_edit.edit_id = edit.id
LEFT JOIN fact ON fact.id = edit.fact_id
LEFT JOIN relation ON relation.id = COALESCE(fact.relation_id, edit.relation_id)
WHERE edit_neuron.layer = :layer AND edit_neuron.neuron = :neuron AND edit.model_id = :model
ORDER BY edit.id
"""


def neuron_findings(connection: Connection, refinement_id: int, neuron: Neuron) -> NeuronFindings:
    """All that a refinement and its model's edits know of one neuron.

    Args:
        connection: a connection in a transaction.
        refinement_id: an existing refinement.
        neuron: one of its model's neurons.

    Returns:
        Facts by mean score (its size, where scores are negative), the largest first; relations by facts that hold it,
        the most first; edits by number. Where a model's layers share their weights, its edits name the lowest one. Mean
        scores are over facts that have one, and None if none has.
    """
    place = {"refinement": refinement_id, "layer": neuron.layer, "neuron": neuron.index}
    facts = tuple(starmap(HoldingFact, connection.execute(text(_FACTS), place).all()))
    scores: dict[str, list[float]] = {}
    for fact in facts:
        if fact.mean_score is not None:
            scores.setdefault(fact.relation, []).append(fact.mean_score)
    relations = tuple(
        HoldingRelation(row.key, row.label, row.facts, row.facts / row.facts_with_neurons, _mean(scores.get(row.key)))
        for row in connection.execute(text(_RELATIONS), place)
    )
    return NeuronFindings(
        layer=neuron.layer,
        neuron=neuron.index,
        facts_holding=len(facts),
        mean_score=_mean([score for some in scores.values() for score in some]),
        relations=relations,
        facts=facts,
        edits=_edits(connection, refined_model(connection, refinement_id).id, neuron),
    )


def _edits(connection: Connection, model_id: int, neuron: Neuron) -> tuple[TouchingEdit, ...]:
    values = {"model": model_id, "layer": neuron.layer, "neuron": neuron.index}
    found = []
    for row in connection.execute(text(_EDITS), values):
        target = row.key or "(no longer in the store)"
        if row.fact is not None:
            target = Fact(row.fact, row.key, row.subject, row.object).title
        found.append(TouchingEdit(row.id, row.kind, target, bool(row.applied), row.created_at, bool(row.pulled)))
    return tuple(found)


def _mean(scores: list[float] | None) -> float | None:
    return sum(scores) / len(scores) if scores else None
