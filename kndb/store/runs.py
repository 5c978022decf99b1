"""Attribution runs and their results.

A run is all that one method with one group of settings gave on one version of a model. Which prompts it covers is
no setting: the same command goes on with the prompts that have no result yet, whether it was killed, or more facts
were ingested, or another relation is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, text, update

from ..errors import NotFoundError
from ..records import Prompt, ResultBatch, Run, Settings
from .clock import now
from .numbers import there_are
from .tables import FactRow, ModelRow, PromptResultRow, PromptRow, RunRow, TemplateRow

_INSERT_RESULT = """
INSERT OR REPLACE INTO prompt_result (run_id, prompt_id, probability, predicted, predicted_probability, correct,
    completeness_error, completeness_error_mean, max_score, min_score, evaluations, tokens, answer_tokens, skipped)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UNFINISHED = """
SELECT relation.key, COUNT(*) - COUNT(prompt_result.prompt_id) AS left_over
FROM prompt
JOIN fact ON fact.id = prompt.fact_id
JOIN relation ON relation.id = fact.relation_id
LEFT JOIN template ON template.id = prompt.template_id
LEFT JOIN prompt_result ON prompt_result.run_id = :run AND prompt_result.prompt_id = prompt.id
WHERE :held_out OR NOT COALESCE(template.held_out, 0)
GROUP BY relation.id
HAVING COUNT(prompt_result.prompt_id) > 0 AND left_over > 0
ORDER BY relation.key
"""
_INSERT_SCORE = "INSERT OR REPLACE INTO score (run_id, prompt_id, layer, neuron, score) VALUES (?, ?, ?, ?, ?)"


def start_run(connection: Connection, model_id: int, version: str, method: str, settings: Settings) -> tuple[Run, bool]:
    """The run of a model's version, method and settings: the one that exists, or a new one.

    Returns:
        The run, and whether it existed before.
    """
    present = find_run(connection, model_id, version, method, settings)
    if present is not None:
        connection.execute(update(RunRow).where(RunRow.id == present).values(status="running", finished_at=None))
        return run(connection, present), True
    number = add_run(
        connection, model_id, version=version, method=method, settings=settings, status="running", created_at=now()
    )
    return run(connection, number), False


def add_run(
    connection: Connection,
    model_id: int,
    *,
    version: str,
    method: str,
    settings: Settings,
    status: str,
    created_at: str,
    finished_at: str | None = None,
) -> int:
    """Adds a run as it is given, and gives its number."""
    added = connection.execute(
        insert(RunRow).values(
            model_id=model_id,
            version=version,
            method=method,
            settings=dict(settings),
            status=status,
            created_at=created_at,
            finished_at=finished_at,
        )
    )
    return _key(added)


def find_run(connection: Connection, model_id: int, version: str, method: str, settings: Settings) -> int | None:
    """The number of the run of a model's version, method and settings; None if there is none."""
    candidates = connection.execute(
        select(RunRow.id, RunRow.settings)
        .where(RunRow.model_id == model_id, RunRow.version == version, RunRow.method == method)
        .order_by(RunRow.id.desc())
    )
    wanted = json.dumps(dict(settings), sort_keys=True)
    return next((row.id for row in candidates if json.dumps(row.settings, sort_keys=True) == wanted), None)


def pending_prompts(
    connection: Connection, run_id: int | None, relation_ids: Sequence[int], *, held_out: bool
) -> list[Prompt]:
    """The prompts of some relations (none named: all) that have no result in a run yet, by id.

    Args:
        connection: a connection in a transaction.
        run_id: the run; None for one that is still to be made.
        relation_ids: the relations' keys in the store.
        held_out: whether prompts of held-out templates count.
    """
    done = select(PromptResultRow.prompt_id).where(PromptResultRow.run_id == run_id)
    query = _selected(relation_ids, held_out=held_out).where(PromptRow.id.not_in(done)).order_by(PromptRow.id)
    return [Prompt(row.id, row.fact_id, row.text, row.object, bool(row.held_out)) for row in connection.execute(query)]


def count_prompts(connection: Connection, relation_ids: Sequence[int], *, held_out: bool) -> int:
    """The number of prompts of some relations (none named: all)."""
    selected = _selected(relation_ids, held_out=held_out).subquery()
    return int(connection.scalar(select(func.count()).select_from(selected)) or 0)


def save_results(connection: Connection, run_id: int, batch: ResultBatch) -> None:
    """Writes a batch's results and scores; the run is open again, whatever another process made of it."""
    connection.execute(update(RunRow).where(RunRow.id == run_id).values(status="running", finished_at=None))
    if batch.results:
        connection.exec_driver_sql(
            _INSERT_RESULT,
            [
                (
                    run_id,
                    result.prompt_id,
                    result.probability,
                    result.predicted,
                    result.predicted_probability,
                    result.correct,
                    result.completeness_error,
                    result.completeness_error_mean,
                    result.max_score,
                    result.min_score,
                    result.evaluations,
                    result.tokens,
                    result.answer_tokens,
                    result.skipped,
                )
                for result in batch.results
            ],
        )
    scores = batch.scores
    if len(scores):
        rows = zip(scores.prompt_ids, scores.layers, scores.neurons, scores.scores, strict=True)
        connection.exec_driver_sql(_INSERT_SCORE, [(run_id, *row) for row in rows])


def unfinished_relations(connection: Connection, run_id: int, *, held_out: bool) -> dict[str, int]:
    """The relations of which a run has some results but not all, with the number of prompts that are left.

    Args:
        connection: a connection in a transaction.
        run_id: the run.
        held_out: whether prompts of held-out templates count.
    """
    rows = connection.execute(text(_UNFINISHED), {"run": run_id, "held_out": held_out})
    return {str(key): int(left) for key, left in rows}


def finish_run(connection: Connection, run_id: int, *, held_out: bool) -> tuple[Run, dict[str, int]]:
    """Marks a run complete, unless an earlier command left a relation of it half done.

    Returns:
        The run, and what `unfinished_relations` gives.
    """
    unfinished = unfinished_relations(connection, run_id, held_out=held_out)
    if not unfinished:
        connection.execute(update(RunRow).where(RunRow.id == run_id).values(status="complete", finished_at=now()))
    return run(connection, run_id), unfinished


def run(connection: Connection, run_id: int) -> Run:
    """One run.

    Raises:
        NotFoundError: if there is none of that number.
    """
    found = _runs(connection, RunRow.id == run_id)
    if not found:
        known = there_are(connection.scalars(select(RunRow.id)).all(), run_id)
        raise NotFoundError(f"found no run {run_id}; {known}. List them with: kndb query runs")
    return found[0]


def runs(connection: Connection, model: str | None = None) -> list[Run]:
    """All runs, or those of one model, by id."""
    return _runs(connection) if model is None else _runs(connection, ModelRow.name == model)


def skip_counts(connection: Connection, run_id: int) -> dict[str, int]:
    """How many prompts of a run have no result, by reason."""
    rows = connection.execute(
        select(PromptResultRow.skipped, func.count())
        .where(PromptResultRow.run_id == run_id, PromptResultRow.skipped.is_not(None))
        .group_by(PromptResultRow.skipped)
        .order_by(PromptResultRow.skipped)
    )
    return {str(reason): int(count) for reason, count in rows}


def trust(connection: Connection, run_id: int) -> dict[str, float | int | None]:
    """How right a run's numbers are: its completeness errors, and how many answers the model knew."""
    rows = connection.execute(
        select(
            func.count().label("prompts"),
            func.avg(PromptResultRow.correct).label("correct"),
            func.avg(PromptResultRow.probability).label("probability"),
            func.avg(PromptResultRow.completeness_error).label("completeness_error"),
            func.max(PromptResultRow.completeness_error).label("completeness_error_max"),
            func.avg(PromptResultRow.evaluations).label("evaluations"),
        ).where(PromptResultRow.run_id == run_id, PromptResultRow.max_score.is_not(None))
    )
    return dict(rows.mappings().one())


def _selected(relation_ids: Iterable[int], *, held_out: bool) -> Any:
    query = (
        select(PromptRow.id, PromptRow.fact_id, PromptRow.text, FactRow.object, TemplateRow.held_out)
        .join(FactRow, FactRow.id == PromptRow.fact_id)
        .outerjoin(TemplateRow, TemplateRow.id == PromptRow.template_id)
    )
    ids = list(relation_ids)
    if ids:
        query = query.where(FactRow.relation_id.in_(ids))
    if not held_out:
        query = query.where(func.coalesce(TemplateRow.held_out, False).is_(False))
    return query


def _runs(connection: Connection, *conditions: Any) -> list[Run]:
    counts = (
        select(
            PromptResultRow.run_id,
            func.count(PromptResultRow.max_score).label("prompts"),
            func.count(PromptResultRow.skipped).label("skipped"),
        )
        .group_by(PromptResultRow.run_id)
        .subquery()
    )
    rows = connection.execute(
        select(RunRow, ModelRow.name.label("model"), counts.c.prompts, counts.c.skipped)
        .join(ModelRow, ModelRow.id == RunRow.model_id)
        .outerjoin(counts, counts.c.run_id == RunRow.id)
        .where(*conditions)
        .order_by(RunRow.id)
    )
    return [_record(row) for row in rows]


def _record(row: Row[Any]) -> Run:
    return Run(
        id=row.id,
        model=row.model,
        version=row.version,
        method=row.method,
        settings=row.settings,
        status=row.status,
        created_at=row.created_at,
        finished_at=row.finished_at,
        prompts=row.prompts or 0,
        skipped=row.skipped or 0,
    )


def _key(result: Any) -> int:
    return int(result.inserted_primary_key[0])
