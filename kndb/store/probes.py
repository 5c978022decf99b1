"""Stored experiments on the activations of a refinement's neurons, and the sets that they are made on.

A probe and all its rows are written in one transaction: there is no half of one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple

from sqlalchemy import Connection, insert, text

from ..advice import Placeholder, call
from ..errors import NotFoundError, StoreDamagedError
from ..records.models import Neuron, StoredSettings
from ..records.probes import ARMS, TEXT_KINDS, ExtremeText, FactActivation, Probe, ProbeFact
from .backends.finding import backend_of
from .clock import now
from .numbers import there_are
from .tables import ProbeRow, Table

_PROBES = """
SELECT probe.id, model.name, probe.version, probe.kind, probe.refinement_id, probe.settings, probe.created_at
FROM probe JOIN model ON model.id = probe.model_id
WHERE (CAST(:id AS BIGINT) IS NULL OR probe.id = CAST(:id AS BIGINT))
  AND (CAST(:model AS TEXT) IS NULL OR model.name = :model) AND (CAST(:kind AS TEXT) IS NULL OR probe.kind = :kind)
ORDER BY probe.id
"""
_FACTS = """
SELECT probe_fact.fact_id, relation.key, neurons_from, prompts_of, neurons, prompts,
       probability_before, probability_after, correct_before, correct_after, flips
FROM probe_fact JOIN fact ON fact.id = probe_fact.fact_id JOIN relation ON relation.id = fact.relation_id
WHERE probe_id = :probe
  AND (CAST(:relations AS TEXT) IS NULL OR fact.relation_id IN kndb_numbers(:relations))
"""
_ACTIVATIONS = """
SELECT probe_activation.fact_id, relation.key, kind, texts, mean_activation
FROM probe_activation
JOIN fact ON fact.id = probe_activation.fact_id JOIN relation ON relation.id = fact.relation_id
WHERE probe_id = :probe
  AND (CAST(:relations AS TEXT) IS NULL OR fact.relation_id IN kndb_numbers(:relations))
"""
_TEXTS = """
SELECT fact_id, rank, kind, text, activation FROM probe_text
WHERE probe_id = :probe AND (CAST(:fact AS BIGINT) IS NULL OR fact_id = CAST(:fact AS BIGINT))
ORDER BY fact_id, rank < 0, abs(rank)
"""
_FOREIGN = """
SELECT layer, neuron FROM knowledge_neuron
JOIN refinement ON refinement.id = refinement_id JOIN run ON run.id = run_id JOIN model ON model.id = model_id
WHERE refinement_id = :refinement
    AND (layer NOT BETWEEN 0 AND model.layers - 1 OR neuron NOT BETWEEN 0 AND model.neurons - 1)
LIMIT 1
"""
_SETS = """
SELECT knowledge_neuron.fact_id, relation.key, layer, neuron
FROM knowledge_neuron
JOIN fact ON fact.id = knowledge_neuron.fact_id JOIN relation ON relation.id = fact.relation_id
WHERE refinement_id = :refinement
  AND (CAST(:relations AS TEXT) IS NULL OR fact.relation_id IN kndb_numbers(:relations))
ORDER BY relation.key, knowledge_neuron.fact_id, layer, neuron
"""

NeuronSets = dict[int, tuple[str, tuple[Neuron, ...]]]
"""Facts' relations and refined sets, by the facts' numbers."""


def add_probe(
    connection: Connection,
    *,
    model_id: int,
    version: str,
    kind: str,
    refinement_id: int,
    settings: StoredSettings,
    facts: Iterable[ProbeFact] = (),
    activations: Iterable[FactActivation] = (),
    texts: Iterable[ExtremeText] = (),
) -> int:
    """Writes an experiment with all that it found, and returns its number."""
    statement = insert(ProbeRow).values(
        model_id=model_id,
        version=version,
        kind=kind,
        refinement_id=refinement_id,
        settings=dict(settings),
        created_at=now(),
    )
    number = int(connection.execute(statement.returning(ProbeRow.id)).scalar_one())
    _insert(connection, "probe_fact", ((number, row.fact_id, *astuple(row)[2:]) for row in facts))
    _insert(connection, "probe_activation", ((number, row.fact_id, *astuple(row)[2:]) for row in activations))
    _insert(connection, "probe_text", ((number, *astuple(row)) for row in texts))
    return number


def probe(connection: Connection, number: int) -> Probe:
    """One experiment.

    Raises:
        NotFoundError: if there is none of that number; the message names those that there are.
    """
    found = _probes(connection, number=number)
    if found:
        return found[0]
    present = [probe.id for probe in _probes(connection)]
    if not present:
        make = call("probes.scale", "suppress", model=Placeholder("NAME"))
        raise NotFoundError(f"no probe {number}: there are none yet; make one with: {make}")
    raise NotFoundError(f"no probe {number}; {there_are(present, number)}. List them with: {call('probes.all')}")


def probes(connection: Connection, model: str | None = None, kind: str | None = None) -> list[Probe]:
    """All experiments, or those of one model or kind, the oldest first."""
    return _probes(connection, model=model, kind=kind)


def probe_facts(connection: Connection, number: int, relation_ids: Sequence[int] = ()) -> list[ProbeFact]:
    """What scaling did, by fact; of some relations (none named: all)."""
    rows = connection.execute(text(_FACTS), {"probe": number, "relations": _chosen(relation_ids)})
    found = [ProbeFact(*row) for row in rows]
    return sorted(found, key=lambda row: (row.fact_id, ARMS.index(row.neurons_from), row.prompts_of != "own"))


def probe_activations(connection: Connection, number: int, relation_ids: Sequence[int] = ()) -> list[FactActivation]:
    """Mean activations, by fact and kind of text; of some relations (none named: all)."""
    rows = connection.execute(text(_ACTIVATIONS), {"probe": number, "relations": _chosen(relation_ids)})
    return sorted((FactActivation(*row) for row in rows), key=lambda row: (row.fact_id, TEXT_KINDS.index(row.kind)))


def probe_texts(connection: Connection, number: int, fact_id: int | None = None) -> list[ExtremeText]:
    """The texts of highest and lowest activation, of one fact or of all: ranks 1, 2, … before −1, −2, …."""
    return [ExtremeText(*row) for row in connection.execute(text(_TEXTS), {"probe": number, "fact": fact_id})]


def neuron_sets(connection: Connection, refinement_id: int, relation_ids: Sequence[int] = ()) -> NeuronSets:
    """Each fact's relation and refined set, where it is not empty; by relation and fact.

    Args:
        connection: a connection in a transaction.
        refinement_id: whose sets.
        relation_ids: the relations' keys in the store; none named means all.

    Raises:
        StoreDamagedError: if a neuron is none of the model's.
    """
    foreign = connection.execute(text(_FOREIGN), {"refinement": refinement_id}).first()
    if foreign is not None:
        raise StoreDamagedError(
            f"refinement {refinement_id} has the neuron {Neuron(*foreign)}, which its model does not have; see: "
            f"{call('maintenance.check')}"
        )
    sets: dict[int, tuple[str, list[Neuron]]] = {}
    rows = connection.execute(text(_SETS), {"refinement": refinement_id, "relations": _chosen(relation_ids)})
    for fact_id, relation, layer, neuron in rows:
        sets.setdefault(fact_id, (relation, []))[1].append(Neuron(layer, neuron))
    return {fact_id: (relation, tuple(neurons)) for fact_id, (relation, neurons) in sets.items()}


def _probes(
    connection: Connection, *, number: int | None = None, model: str | None = None, kind: str | None = None
) -> list[Probe]:
    rows = connection.execute(text(_PROBES), {"id": number, "model": model, "kind": kind})
    return [
        Probe(row.id, row.name, row.version, row.kind, row.refinement_id, json.loads(row.settings), row.created_at)
        for row in rows
    ]


def _insert(connection: Connection, table: str, rows: Iterable[tuple[object, ...]]) -> None:
    """Writes whole rows: every column of a table, in its order."""
    columns = [column.name for column in Table.metadata.tables[table].columns]
    backend_of(connection).write_rows(connection, table, columns, rows)


def _chosen(relation_ids: Sequence[int]) -> str | None:
    return json.dumps(list(relation_ids)) if relation_ids else None
