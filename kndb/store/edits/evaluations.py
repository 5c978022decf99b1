"""Stored measures of edits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from ...advice import Placeholder, call
from ...errors import NotFoundError
from ...records.edits import Evaluation
from ...records.models import StoredSettings
from ..clock import now
from ..tables import EvaluationMeasureRow, EvaluationRow


def add_evaluation(
    connection: Connection,
    *,
    edit_id: int,
    version_before: str,
    version_after: str,
    settings: StoredSettings,
    measures: Mapping[str, object],
) -> int:
    """Writes the measures of an edit and returns their number."""
    statement = insert(EvaluationRow).values(
        edit_id=edit_id,
        version_before=version_before,
        version_after=version_after,
        settings=dict(settings),
        measures=dict(measures),
        created_at=now(),
    )
    number = int(connection.execute(statement.returning(EvaluationRow.id)).scalar_one())
    rows = list(_measure_rows(number, measures))
    if rows:
        connection.execute(insert(EvaluationMeasureRow), rows)
    return number


def _measure_rows(number: int, measures: Mapping[str, Any]) -> Iterator[dict[str, object]]:
    """Each measure of the JSON as a row."""
    for weights in ("edited", "control"):
        for group, values in measures.get(weights, {}).items():
            ends = measures.get("intervals", {}).get(weights, {}).get(group, {})
            for name, value in values.items():
                low, high = ends.get(name, (None, None))
                yield {
                    "evaluation_id": number,
                    "weights": weights,
                    "prompts_of": group,
                    "measure": name,
                    "value": value,
                    "low": low,
                    "high": high,
                    "facts": values.get("facts"),
                }


def evaluation(connection: Connection, number: int) -> Evaluation:
    """One evaluation.

    Raises:
        NotFoundError: if there is none of that number.
    """
    row = connection.execute(select(EvaluationRow).where(EvaluationRow.id == number)).first()
    if row is None:
        raise NotFoundError(
            f"no evaluation {number}; evaluate an edit with: {call('edits.evaluate', Placeholder('EDIT'))}"
        )
    return _record(row)


def evaluations(connection: Connection, edit_id: int | None = None) -> list[Evaluation]:
    """All evaluations, or those of one edit, the oldest first."""
    query = select(EvaluationRow).order_by(EvaluationRow.id)
    if edit_id is not None:
        query = query.where(EvaluationRow.edit_id == edit_id)
    return [_record(row) for row in connection.execute(query)]


def _record(row: Row[Any]) -> Evaluation:
    return Evaluation(
        id=row.id,
        edit=row.edit_id,
        version_before=row.version_before,
        version_after=row.version_after,
        settings=row.settings,
        measures=row.measures,
        created_at=row.created_at,
    )
