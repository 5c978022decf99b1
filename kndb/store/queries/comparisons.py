"""Two refinements side by side, fact by fact."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import groupby

from sqlalchemy import Connection, select, text

from ...advice import call
from ...errors import UsageError
from ...records.models import Model, StoredSettings
from ...records.queries import ComparedFact, ComparedRelation, Comparison
from ..tables import RefinementRow, RunRow
from .coverage import covered, refined_model

_FACTS = """
SELECT fact.id, relation.key, fact.subject, fact.object,
    (SELECT COUNT(*) FROM knowledge_neuron WHERE refinement_id = :a AND fact_id = fact.id),
    (SELECT COUNT(*) FROM knowledge_neuron WHERE refinement_id = :b AND fact_id = fact.id),
    (SELECT COUNT(*) FROM knowledge_neuron AS one CROSS JOIN knowledge_neuron AS other
       ON other.refinement_id = :b AND other.fact_id = fact.id
       AND other.layer = one.layer AND other.neuron = one.neuron
     WHERE one.refinement_id = :a AND one.fact_id = fact.id)
FROM relation CROSS JOIN fact ON fact.relation_id = relation.id
WHERE relation.id IN kndb_numbers(:relations)
ORDER BY relation.key, fact.id
"""


def compare(connection: Connection, a: int, b: int, relation_ids: Sequence[int] = ()) -> Comparison:
    """Two refinements side by side, over the facts that have a set in either.

    Neurons are the same if layer and number are, whatever the model: two versions of one model, or two models of the
    same size.

    Args:
        connection: a connection in a transaction.
        a: the one refinement.
        b: the other.
        relation_ids: the relations' keys in the store; none means all.

    Returns:
        Facts by relation and number; relations by key, and a last row over all of them, if there are any facts.

    Raises:
        NotFoundError: if there is no such refinement.
        UsageError: if their models have other numbers of layers or neurons.
    """
    models = refined_model(connection, a), refined_model(connection, b)
    _require_same_size(a, models[0], b, models[1])
    chosen = {relation.id for number in (a, b) for relation in covered(connection, number, relation_ids)}
    rows = connection.execute(text(_FACTS), {"a": a, "b": b, "relations": json.dumps(sorted(chosen))})
    facts = [
        ComparedFact(number, key, subject, object_, size_a, size_b, shared, shared / (size_a + size_b - shared))
        for number, key, subject, object_, size_a, size_b, shared in rows
        if size_a or size_b
    ]
    relations = [_relation(key, list(of_key)) for key, of_key in groupby(facts, lambda fact: fact.relation)]
    if facts:
        relations.append(_relation(None, facts))
    settings = [_settings(connection, number, model) for number, model in zip((a, b), models, strict=True)]
    return Comparison(a, b, settings[0], settings[1], tuple(relations), tuple(facts))


def _require_same_size(a: int, one: Model, b: int, other: Model) -> None:
    if (one.layers, one.neurons) != (other.layers, other.neurons):
        raise UsageError(
            f"refinement {a} is of {one.name!r} ({one.layers} layers of {one.neurons} neurons), refinement {b} of "
            f"{other.name!r} ({other.layers} of {other.neurons}); only models of the same size can be compared. See: "
            f"{call('query.refinements')}"
        )


def _relation(key: str | None, facts: Sequence[ComparedFact]) -> ComparedRelation:
    number = len(facts)
    return ComparedRelation(
        relation=key,
        facts=number,
        facts_in_both=sum(bool(fact.size_a and fact.size_b) for fact in facts),
        mean_size_a=sum(fact.size_a for fact in facts) / number,
        mean_size_b=sum(fact.size_b for fact in facts) / number,
        mean_shared=sum(fact.shared for fact in facts) / number,
        mean_jaccard=math.fsum(fact.jaccard for fact in facts) / number,
        identical=sum(fact.shared == fact.size_a == fact.size_b for fact in facts),
    )


def _settings(connection: Connection, number: int, model: Model) -> StoredSettings:
    row = connection.execute(
        select(RefinementRow.settings, RunRow.id, RunRow.version, RunRow.method, RunRow.settings.label("run_settings"))
        .join(RunRow, RunRow.id == RefinementRow.run_id)
        .where(RefinementRow.id == number)
    ).one()
    return {
        "refinement": number,
        "model": model.name,
        "fingerprint": model.fingerprint,
        "version": row.version,
        "run": row.id,
        "method": row.method,
        "run_settings": row.run_settings,
        "refinement_settings": row.settings,
    }
