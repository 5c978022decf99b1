"""Writing what files of others, or of another store, hold: facts found by their names, runs, refinements, results.

Everything happens in the caller's one write transaction. A run is known by model, version, method and settings, as in
`runs.py`; what the store has of it stays.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, select, update

from ..records.attribution import IMPORTED, KnowledgeNeuron, RelationRefinement, Run
from ..records.models import Model, StoredSettings
from .refinements import add_refinement, refinement
from .runs import find_run
from .tables import RefinementRow, RunRow
from .versions import resolve_version

Transaction = Connection
"""An open transaction, for callers that pass one on."""

RelationSets = tuple[int, RelationRefinement, list[KnowledgeNeuron]]
"""A relation's number, how its sets came out, and the sets."""


def imported_version(connection: Connection, model: Model) -> str:
    """The version that results of others are of: the unedited checkpoint's, where there is one."""
    return resolve_version(connection, model.id, "base") if model.has_checkpoint else model.version


def find_imported_run(connection: Connection, model_id: int, settings: StoredSettings) -> int | None:
    """The run of imported results of a model with some settings, whether or not it had a checkpoint at the time."""
    versions = connection.scalars(
        select(RunRow.version).where(RunRow.model_id == model_id, RunRow.method == IMPORTED).distinct()
    )
    found = (find_run(connection, model_id, version, IMPORTED, settings) for version in versions.all())
    return max((number for number in found if number is not None), default=None)


def store_sets(
    connection: Connection,
    run_id: int,
    settings: StoredSettings,
    relations: Sequence[RelationSets],
    created_at: str | None = None,
) -> tuple[int, bool]:
    """Adds a refinement of a run, unless the run has one with the same settings, outcomes and sets.

    Args:
        connection: a write transaction.
        run_id: the run.
        settings: the refinement's.
        relations: outcome and sets for each relation.
        created_at: when it was made; None is now, and matches any time.

    Returns:
        The refinement's number, and whether it was there already.
    """
    present = connection.execute(
        select(RefinementRow.id, RefinementRow.settings, RefinementRow.created_at)
        .where(RefinementRow.run_id == run_id)
        .order_by(RefinementRow.id.desc())
    ).all()
    wanted = json.dumps(dict(settings), sort_keys=True)
    for row in present:
        alike = json.dumps(row.settings, sort_keys=True) == wanted and created_at in (None, row.created_at)
        if alike and _has(connection, row.id, relations):
            return int(row.id), True
    return add_refinement(connection, run_id, settings, relations, created_at=created_at), False


def _has(connection: Connection, refinement_id: int, relations: Sequence[RelationSets]) -> bool:
    outcomes = {outcome.relation: outcome for outcome in refinement(connection, refinement_id).relations}
    if outcomes != {outcome.relation: outcome for _, outcome, _ in relations}:
        return False
    rows = connection.exec_driver_sql(
        "SELECT fact_id, layer, neuron, prompts, mean_score FROM knowledge_neuron WHERE refinement_id = ?",
        (refinement_id,),
    )
    return {tuple(row) for row in rows} == {
        (row.fact_id, row.layer, row.neuron, row.prompts, row.mean_score) for _, _, sets in relations for row in sets
    }


def prompts_with_results(connection: Connection, run_id: int) -> set[int]:
    """The prompts that have a result in a run, skipped ones included."""
    rows = connection.exec_driver_sql("SELECT prompt_id FROM prompt_result WHERE run_id = ?", (run_id,))
    return {row[0] for row in rows}


def prompts_by_text(connection: Connection, relation_id: int) -> dict[tuple[int, str], int]:
    """A relation's prompts: number by fact and text."""
    rows = connection.exec_driver_sql(
        "SELECT prompt.fact_id, prompt.text, prompt.id FROM fact JOIN prompt ON prompt.fact_id = fact.id"
        " WHERE fact.relation_id = ?",
        (relation_id,),
    )
    return {(fact_id, text): prompt_id for fact_id, text, prompt_id in rows}


def close_run(connection: Connection, before: Run, status: str, finished_at: str | None) -> None:
    """Sets what a run is after results of another store were added: complete only if both runs were.

    Args:
        connection: a write transaction.
        before: the run as it was before.
        status: the other run's status.
        finished_at: when the other run was finished.
    """
    complete = before.status == status == "complete"
    values = {
        "status": "complete" if complete else "running",
        "finished_at": (before.finished_at or finished_at) if complete else None,
    }
    connection.execute(update(RunRow).where(RunRow.id == before.id).values(**values))
