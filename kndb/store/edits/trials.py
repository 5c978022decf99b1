"""Trials of edits: their settings, and one result after the other as they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select, text, true, update

from ...advice import call
from ...errors import NotFoundError
from ...records.edits import EditTrial, TrialResult
from ..clock import now
from ..tables import EditTrialResultRow, EditTrialRow, ModelRow


def facts_with_neurons(connection: Connection, refinement_id: int) -> list[int]:
    """The numbers of the facts that have knowledge neurons in a refinement, rising."""
    query = text("SELECT DISTINCT fact_id FROM knowledge_neuron WHERE refinement_id = :id ORDER BY fact_id")
    return list(connection.execute(query, {"id": refinement_id}).scalars())


def find(
    connection: Connection, model_id: int, version: str, kind: str, settings: Mapping[str, Any]
) -> EditTrial | None:
    """The newest trial of these settings that was begun on this version; None if there is none."""
    same = select(EditTrialRow).where(
        EditTrialRow.model_id == model_id, EditTrialRow.version == version, EditTrialRow.kind == kind
    )
    for row in connection.execute(same.order_by(EditTrialRow.id.desc())):
        if row.settings == settings:
            return trial(connection, row.id)
    return None


def begin(connection: Connection, model_id: int, version: str, kind: str, settings: Mapping[str, Any]) -> EditTrial:
    """The trial of these settings on this version: the one that was begun, or a new one."""
    begun = find(connection, model_id, version, kind, settings)
    if begun is not None:
        return begun
    statement = insert(EditTrialRow).values(
        model_id=model_id, version=version, kind=kind, settings=dict(settings), status="running", created_at=now()
    )
    return trial(connection, connection.execute(statement.returning(EditTrialRow.id)).scalar_one())


def add_result(connection: Connection, trial_id: int, result: TrialResult) -> None:
    """Adds a result; one that is there already, by another process, stays."""
    there = select(EditTrialResultRow.trial_id).where(
        EditTrialResultRow.trial_id == trial_id,
        EditTrialResultRow.part == result.part,
        EditTrialResultRow.position == result.position,
    )
    if connection.scalar(there) is None:
        connection.execute(
            insert(EditTrialResultRow).values(
                trial_id=trial_id,
                part=result.part,
                position=result.position,
                fact_id=result.fact,
                measures=dict(result.measures),
            )
        )


def finish(connection: Connection, trial_id: int) -> None:
    """Notes that all is measured."""
    connection.execute(
        update(EditTrialRow)
        .where(EditTrialRow.id == trial_id, EditTrialRow.status == "running")
        .values(status="complete", finished_at=now())
    )


def results(connection: Connection, trial_id: int) -> list[TrialResult]:
    """The results of a trial so far, by part and position."""
    query = select(EditTrialResultRow).where(EditTrialResultRow.trial_id == trial_id)
    rows = connection.execute(query.order_by(EditTrialResultRow.part, EditTrialResultRow.position))
    return [TrialResult(row.part, row.position, row.fact_id, row.measures) for row in rows]


def trial(connection: Connection, number: int) -> EditTrial:
    """One trial.

    Raises:
        NotFoundError: if there is none of that number.
    """
    found = _trials(connection, EditTrialRow.id == number)
    if not found:
        raise NotFoundError(f"no trial {number}; list them with: {call('trials.all')}")
    return found[0]


def trials(connection: Connection, model_id: int | None = None) -> list[EditTrial]:
    """All trials, or those of one model, the oldest first."""
    return _trials(connection, true() if model_id is None else EditTrialRow.model_id == model_id)


def _trials(connection: Connection, condition: ColumnElement[bool]) -> list[EditTrial]:
    query = select(EditTrialRow, ModelRow.name).join(ModelRow, ModelRow.id == EditTrialRow.model_id).where(condition)
    return [
        EditTrial(
            row.id, row.name, row.version, row.kind, _read(row.settings), row.status, row.created_at, row.finished_at
        )
        for row in connection.execute(query.order_by(EditTrialRow.id))
    ]


def _read(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings as they are written today: that facts had to be known, yes or no, was no share once."""
    known = settings.get("known")
    return {**settings, "known": float(known)} if isinstance(known, bool) else settings
