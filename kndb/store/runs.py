"""Attribution runs and their results.

A run is all that one method with one group of settings gave on one version of a model. Which prompts it covers is
no setting: the same command resumes with the prompts that have no result yet, whether it was killed, or more facts
were ingested, or others are asked for. Which facts were asked for is kept beside the run (`run_fact`): it is complete
when each of them has the results of all its prompts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from sqlalchemy import (
    Boolean,
    Connection,
    Double,
    Integer,
    Row,
    cast,
    false,
    func,
    insert,
    literal_column,
    select,
    text,
    update,
)

from ..advice import call
from ..errors import NotFoundError
from ..records.attribution import ERROR_LIMIT, ResultBatch, Run
from ..records.facts import Prompt
from ..records.models import StoredSettings
from .backends.finding import backend_of
from .clock import now
from .facts import prompt_record
from .numbers import there_are
from .tables import FactRow, ModelRow, PromptResultRow, PromptRow, RunRow, TemplateRow

_RESULT = ("run_id", "prompt_id")
_RESULT_COLUMNS = (
    *_RESULT,
    *("probability", "predicted", "predicted_probability", "correct", "completeness_error", "completeness_error_mean"),
    *("max_score", "min_score", "evaluations", "tokens", "answer_tokens", "skipped", "worst_layer", "layers_above"),
)
_SCORE = ("run_id", "prompt_id", "layer", "neuron")
_UNFINISHED = """
SELECT relation.key, COUNT(*)
FROM run_fact
CROSS JOIN fact ON fact.id = run_fact.fact_id
CROSS JOIN relation ON relation.id = fact.relation_id
CROSS JOIN prompt ON prompt.fact_id = fact.id
LEFT JOIN template ON template.id = prompt.template_id
LEFT JOIN prompt_result ON prompt_result.run_id = :run AND prompt_result.prompt_id = prompt.id
WHERE run_fact.run_id = :run AND prompt_result.prompt_id IS NULL
    AND (:held_out OR NOT COALESCE(template.held_out, FALSE))
GROUP BY relation.id
ORDER BY relation.key
"""
_CHOOSE_FACTS = """
INSERT INTO run_fact (run_id, fact_id)
SELECT CAST(:run AS BIGINT), fact.id FROM kndb_numbers(:facts) AS chosen JOIN fact ON fact.id = chosen.value
ORDER BY fact.id
ON CONFLICT DO NOTHING
"""
_CHOOSE_FACTS_WITH_RESULTS = """
INSERT INTO run_fact (run_id, fact_id)
SELECT DISTINCT result.run_id, prompt.fact_id
FROM prompt_result AS result JOIN prompt ON prompt.id = result.prompt_id
WHERE result.run_id = :run ORDER BY prompt.fact_id
ON CONFLICT DO NOTHING
"""
_CHOOSE_RELATIONS_BEGUN = """
INSERT INTO run_fact (run_id, fact_id)
SELECT CAST(:run AS BIGINT), fact.id FROM fact WHERE fact.relation_id IN (
    SELECT named.relation_id FROM prompt_result AS result
    JOIN prompt ON prompt.id = result.prompt_id JOIN fact AS named ON named.id = prompt.fact_id
    WHERE result.run_id = :run)
ORDER BY fact.id
ON CONFLICT DO NOTHING
"""


def start_run(
    connection: Connection, model_id: int, version: str, method: str, settings: StoredSettings
) -> tuple[Run, bool]:
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
    settings: StoredSettings,
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


def find_run(connection: Connection, model_id: int, version: str, method: str, settings: StoredSettings) -> int | None:
    """The number of the run of a model's version, method and settings; None if there is none."""
    candidates = connection.execute(
        select(RunRow.id, RunRow.settings)
        .where(RunRow.model_id == model_id, RunRow.version == version, RunRow.method == method)
        .order_by(RunRow.id.desc())
    )
    wanted = json.dumps(dict(settings), sort_keys=True)
    return next((row.id for row in candidates if json.dumps(row.settings, sort_keys=True) == wanted), None)


def pending_prompts(
    connection: Connection, run_id: int | None, fact_ids: Sequence[int] | None = None, *, held_out: bool
) -> list[Prompt]:
    """The prompts of some facts (None: of all) that have no result in a run yet, by id.

    Args:
        connection: a connection in a transaction.
        run_id: the run; None for one that is still to be made.
        fact_ids: the facts.
        held_out: whether prompts of held-out templates count.
    """
    done = select(PromptResultRow.prompt_id).where(PromptResultRow.run_id == run_id)
    query = _selected(fact_ids, held_out=held_out).where(PromptRow.id.not_in(done)).order_by(PromptRow.id)
    return [prompt_record(*row) for row in connection.execute(query)]


def count_prompts(connection: Connection, fact_ids: Sequence[int] | None = None, *, held_out: bool) -> int:
    """The number of prompts of some facts (None: of all)."""
    selected = _selected(fact_ids, held_out=held_out).subquery()
    return int(connection.scalar(select(func.count()).select_from(selected)) or 0)


def choose_facts(connection: Connection, run_id: int, fact_ids: Sequence[int]) -> None:
    """Notes that a run is to have the results of these facts' prompts, beside those that it was to have before."""
    connection.execute(text(_CHOOSE_FACTS), {"run": run_id, "facts": json.dumps(list(fact_ids))})


def choose_facts_of_results(connection: Connection, run_id: int) -> None:
    """Notes of results that came from elsewhere which facts the run was asked for.

    If it is complete, those that have results. If it is not, nobody can say: all facts of the relations that it began.
    """
    complete = run(connection, run_id).status == "complete"
    statement = _CHOOSE_FACTS_WITH_RESULTS if complete else _CHOOSE_RELATIONS_BEGUN
    connection.execute(text(statement), {"run": run_id})


def save_results(connection: Connection, run_id: int, batch: ResultBatch) -> None:
    """Writes a batch's results and scores; the run is open again, whatever another process made of it."""
    connection.execute(update(RunRow).where(RunRow.id == run_id).values(status="running", finished_at=None))
    backend = backend_of(connection)
    results = [
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
            result.worst_layer,
            _layers_as_json(result.layers_above),
        )
        for result in batch.results
    ]
    backend.write_rows(connection, "prompt_result", _RESULT_COLUMNS, results, replace=_RESULT)
    scores = batch.scores
    if len(scores):
        rows = zip(repeat(run_id), scores.prompt_ids, scores.layers, scores.neurons, scores.scores)
        backend.write_rows(connection, "score", (*_SCORE, "score"), rows, replace=_SCORE)


def unfinished_relations(connection: Connection, run_id: int, *, held_out: bool) -> dict[str, int]:
    """The relations of which chosen facts have prompts without a result, with the number of these prompts.

    Args:
        connection: a connection in a transaction.
        run_id: the run.
        held_out: whether prompts of held-out templates count.
    """
    rows = connection.execute(text(_UNFINISHED), {"run": run_id, "held_out": held_out})
    return {str(key): int(left) for key, left in rows}


def finish_run(connection: Connection, run_id: int, *, held_out: bool) -> tuple[Run, dict[str, int]]:
    """Marks a run complete, unless an earlier command chose facts that are not done.

    Returns:
        The run, and what `unfinished_relations` gives.
    """
    unfinished = unfinished_relations(connection, run_id, held_out=held_out)
    if not unfinished:
        connection.execute(update(RunRow).where(RunRow.id == run_id).values(status="complete", finished_at=now()))
        backend_of(connection).grown(connection, "run_fact", "prompt_result", "score")
    return run(connection, run_id), unfinished


def run(connection: Connection, run_id: int) -> Run:
    """One run.

    Raises:
        NotFoundError: if there is none of that number.
    """
    found = _runs(connection, RunRow.id == run_id)
    if not found:
        raise _no_run(connection, run_id)
    return found[0]


def finished(connection: Connection, run_id: int) -> str | None:
    """When a run got the last of its results; None while it has not.

    Raises:
        NotFoundError: if there is none of that number.
    """
    found = connection.execute(select(RunRow.finished_at, RunRow.status).where(RunRow.id == run_id)).first()
    if found is None:
        raise _no_run(connection, run_id)
    return found.finished_at if found.status == "complete" else None


def _no_run(connection: Connection, run_id: int) -> NotFoundError:
    known = there_are(connection.scalars(select(RunRow.id)).all(), run_id)
    return NotFoundError(f"no run {run_id}; {known}. List them with: {call('query.runs')}")


def run_settings(connection: Connection, run_id: int) -> StoredSettings:
    """The settings of a run that there is."""
    return dict(connection.execute(select(RunRow.settings).where(RunRow.id == run_id)).scalar_one())


@dataclass(frozen=True)
class RunHead:
    """What a run is, as its row says; a `Run` without the counts, for which all its results have to be read."""

    id: int
    model: str
    method: str
    settings: StoredSettings
    status: str
    created_at: str
    finished_at: str | None


def run_heads(connection: Connection, model: str | None = None) -> list[RunHead]:
    """All runs, or those of one model, by id, without counting their results."""
    columns = (RunRow.method, RunRow.settings, RunRow.status, RunRow.created_at, RunRow.finished_at)
    query = select(RunRow.id, ModelRow.name, *columns).join(ModelRow, ModelRow.id == RunRow.model_id)
    if model is not None:
        query = query.where(ModelRow.name == model)
    return [RunHead(*row) for row in connection.execute(query.order_by(RunRow.id))]


def runs(connection: Connection, model: str | None = None) -> list[Run]:
    """All runs, or those of one model, by id."""
    return _runs(connection) if model is None else _runs(connection, ModelRow.name == model)


def count_skipped(connection: Connection, run_id: int, fact_ids: Sequence[int], *, held_out: bool) -> int:
    """How many prompts of some facts a run skipped; with `held_out`, those of held-out templates count too."""
    skipped = select(PromptResultRow.prompt_id).where(
        PromptResultRow.run_id == run_id, PromptResultRow.skipped.is_not(None)
    )
    selected = _selected(fact_ids, held_out=held_out).where(PromptRow.id.in_(skipped)).subquery()
    return int(connection.scalar(select(func.count()).select_from(selected)) or 0)


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
            func.avg(cast(cast(PromptResultRow.correct, Integer), Double)).label("correct"),
            func.avg(PromptResultRow.probability).label("probability"),
            func.avg(PromptResultRow.completeness_error).label("completeness_error"),
            func.max(PromptResultRow.completeness_error).label("completeness_error_max"),
            func.avg(cast(PromptResultRow.evaluations, Double)).label("evaluations"),
        ).where(PromptResultRow.run_id == run_id, PromptResultRow.max_score.is_not(None))
    )
    return dict(rows.mappings().one())


def _layers_as_json(layers: Mapping[int, float]) -> str | None:
    return json.dumps({str(layer): error for layer, error in layers.items()}) if layers else None


def _selected(fact_ids: Sequence[int] | None, *, held_out: bool) -> Any:
    query = (
        select(
            PromptRow.id,
            PromptRow.fact_id,
            PromptRow.text,
            FactRow.object,
            TemplateRow.held_out,
            FactRow.subject,
            TemplateRow.text.label("template"),
        )
        .join(FactRow, FactRow.id == PromptRow.fact_id)
        .outerjoin(TemplateRow, TemplateRow.id == PromptRow.template_id)
    )
    if fact_ids is not None:
        chosen = text("prompt.fact_id IN kndb_numbers(:fact_ids)").bindparams(fact_ids=json.dumps(list(fact_ids)))
        query = query.where(chosen)
    if not held_out:
        query = query.where(~func.coalesce(TemplateRow.held_out, false(), type_=Boolean()))
    return query


def _runs(connection: Connection, *conditions: Any) -> list[Run]:
    # No results of other runs are counted.
    chosen = select(RunRow.id).join(ModelRow, ModelRow.id == RunRow.model_id).where(*conditions)
    # As `error_limit` has it.
    limit = func.coalesce(literal_column("kndb_number_at(run.settings, tolerance)", Double), ERROR_LIMIT)
    counts = (
        select(
            PromptResultRow.run_id,
            func.count(PromptResultRow.max_score).label("prompts"),
            func.count(PromptResultRow.skipped).label("skipped"),
            func.sum(cast(PromptResultRow.completeness_error > limit, Integer)).label("above"),
        )
        .join(RunRow, RunRow.id == PromptResultRow.run_id)
        .where(PromptResultRow.run_id.in_(chosen))
        .group_by(PromptResultRow.run_id)
        .subquery()
    )
    rows = connection.execute(
        select(RunRow, ModelRow.name.label("model"), counts.c.prompts, counts.c.skipped, counts.c.above)
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
        above_tolerance=row.above,
    )


def _key(result: Any) -> int:
    return int(result.inserted_primary_key[0])
