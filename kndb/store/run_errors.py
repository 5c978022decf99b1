"""How exact a run's scores are: prompts whose completeness error exceeds the tolerance, and in which layers."""

from __future__ import annotations

from sqlalchemy import Connection, select, text

from ..records.attribution import LayerErrors, Run, RunErrors, WorstPrompt, error_limit
from .tables import RunRow

_SUMMARY = """
SELECT COUNT(*) AS prompts, COALESCE(SUM(completeness_error > :limit), 0) AS above, MAX(completeness_error) AS worst,
    COUNT(DISTINCT prompt.fact_id) AS facts,
    COUNT(DISTINCT CASE WHEN completeness_error > :limit THEN prompt.fact_id END) AS facts_above,
    COALESCE(SUM(completeness_error > :limit AND worst_layer IS NULL), 0) AS unrecorded
FROM prompt_result JOIN prompt ON prompt.id = prompt_result.prompt_id
WHERE run_id = :run AND completeness_error IS NOT NULL
"""
_WORST = """
SELECT prompt.id, fact.id, prompt.text, fact.object, result.completeness_error, result.worst_layer
FROM prompt_result AS result
JOIN prompt ON prompt.id = result.prompt_id
JOIN fact ON fact.id = prompt.fact_id
WHERE result.run_id = :run AND result.completeness_error IS NOT NULL
ORDER BY result.completeness_error DESC, prompt.id
LIMIT :most
"""
_LAYERS = """
SELECT CAST(layer.key AS INTEGER) AS layer, COUNT(*) AS prompts, MAX(layer.value) AS worst
FROM prompt_result CROSS JOIN json_each(prompt_result.layers_above) AS layer
WHERE run_id = :run AND layers_above IS NOT NULL
GROUP BY CAST(layer.key AS INTEGER)
ORDER BY prompts DESC, worst DESC, layer
"""
_WRONG = """
SELECT result.run_id, result.prompt_id
FROM prompt_result AS result JOIN run ON run.id = result.run_id JOIN model ON model.id = run.model_id
WHERE (result.worst_layer IS NOT NULL AND (
        result.completeness_error IS NULL OR result.worst_layer NOT BETWEEN 0 AND model.layers - 1))
    OR (result.layers_above IS NOT NULL AND result.worst_layer IS NULL)
ORDER BY result.run_id, result.prompt_id
"""
_DIFFERING = """
SELECT prompt_id FROM prompt_result AS result
WHERE run_id = :run AND worst_layer IS NOT NULL AND (
    (completeness_error > :limit) <> (layers_above IS NOT NULL)
    OR CASE
        WHEN layers_above IS NULL THEN 0
        WHEN NOT json_valid(layers_above) THEN 1
        ELSE ABS(COALESCE(json_extract(layers_above, '$."' || worst_layer || '"'), -1) - completeness_error)
                > 1e-9 * completeness_error
            OR EXISTS (SELECT 1 FROM json_each(layers_above) AS layer
                WHERE layer.value * (1 - 1e-9) > result.completeness_error OR layer.value * (1 + 1e-9) <= :limit)
        END)
ORDER BY prompt_id
"""
"""Up to a last digit: SQLite may read a number that JSON has as text otherwise than it was written."""


def run_errors(connection: Connection, run: Run) -> RunErrors:
    """How many of a run's prompts have a completeness error above its tolerance, and in which layers.

    Args:
        connection: a connection in a transaction.
        run: the run.
    """
    values = {"run": run.id, "limit": run.error_limit}
    row = connection.execute(text(_SUMMARY), values).one()
    layers = connection.execute(text(_LAYERS), {"run": run.id})
    return RunErrors(
        limit=run.error_limit,
        asked=run.settings.get("tolerance") is not None,
        prompts=row.prompts,
        above=row.above,
        worst=row.worst,
        facts=row.facts,
        facts_above=row.facts_above,
        unrecorded=row.unrecorded,
        layers=tuple(LayerErrors(*layer) for layer in layers),
    )


def worst_prompts(connection: Connection, run_id: int, most: int) -> list[WorstPrompt]:
    """The prompts of a run with the largest completeness errors, the largest first.

    Args:
        connection: a connection in a transaction.
        run_id: the run.
        most: at most so many.
    """
    return [WorstPrompt(*row) for row in connection.execute(text(_WORST), {"run": run_id, "most": most})]


def check_run_errors(connection: Connection) -> list[str]:
    """Compares the errors noted for single layers with the prompts' largest errors; one line per run that differs."""
    wrong: dict[int, set[int]] = {}
    for run_id, prompt_id in connection.exec_driver_sql(_WRONG):
        wrong.setdefault(run_id, set()).add(prompt_id)
    for run_id, settings in connection.execute(select(RunRow.id, RunRow.settings)).all():
        limit = error_limit(settings)
        for (prompt_id,) in connection.execute(text(_DIFFERING), {"run": run_id, "limit": limit}):
            wrong.setdefault(run_id, set()).add(prompt_id)
    return [
        f"run {run_id}: worst_layer and layers_above don't fit completeness_error for {len(prompts)} prompts, the "
        f"first being prompt {min(prompts)}"
        for run_id, prompts in sorted(wrong.items())
    ]
