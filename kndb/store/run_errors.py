"""How exact a run's scores are: prompts whose completeness error exceeds the tolerance, and in which layers."""

from __future__ import annotations

import json

from sqlalchemy import Connection, select, text

from ..records.attribution import LayerErrors, Run, RunErrors, WorstPrompt, error_limit
from .tables import PromptResultRow, RunRow

_SUMMARY = """
SELECT COUNT(*) AS prompts, COUNT(CASE WHEN completeness_error > :limit THEN 1 END) AS above,
    MAX(completeness_error) AS worst, COUNT(DISTINCT prompt.fact_id) AS facts,
    COUNT(DISTINCT CASE WHEN completeness_error > :limit THEN prompt.fact_id END) AS facts_above,
    COUNT(CASE WHEN completeness_error > :limit AND worst_layer IS NULL THEN 1 END) AS unrecorded
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
_LAYERS = select(PromptResultRow.layers_above).where(PromptResultRow.layers_above.is_not(None))
_WRONG = """
SELECT result.run_id, result.prompt_id
FROM prompt_result AS result JOIN run ON run.id = result.run_id JOIN model ON model.id = run.model_id
WHERE (result.worst_layer IS NOT NULL AND (
        result.completeness_error IS NULL OR result.worst_layer NOT BETWEEN 0 AND model.layers - 1))
    OR (result.layers_above IS NOT NULL AND result.worst_layer IS NULL)
ORDER BY result.run_id, result.prompt_id
"""
_NOTED = """
SELECT prompt_id, completeness_error, worst_layer, layers_above FROM prompt_result
WHERE run_id = :run AND worst_layer IS NOT NULL AND completeness_error IS NOT NULL
    AND (layers_above IS NOT NULL OR completeness_error > :limit)
ORDER BY prompt_id
"""


def run_errors(connection: Connection, run: Run) -> RunErrors:
    """How many of a run's prompts have a completeness error above its tolerance, and in which layers.

    Args:
        connection: a connection in a transaction.
        run: the run.
    """
    values = {"run": run.id, "limit": run.error_limit}
    row = connection.execute(text(_SUMMARY), values).one()
    return RunErrors(
        limit=run.error_limit,
        asked=run.settings.get("tolerance") is not None,
        prompts=row.prompts,
        above=row.above,
        worst=row.worst,
        facts=row.facts,
        facts_above=row.facts_above,
        unrecorded=row.unrecorded,
        layers=_by_layer(connection, run.id),
    )


def _by_layer(connection: Connection, run_id: int) -> tuple[LayerErrors, ...]:
    """The layers whose errors are above the tolerance: those of most prompts first, then of the largest error."""
    errors: dict[int, list[float]] = {}
    for layers in connection.scalars(_LAYERS.where(PromptResultRow.run_id == run_id)):
        for layer, error in layers.items():
            errors.setdefault(int(layer), []).append(error)
    found = [LayerErrors(layer, len(some), max(some)) for layer, some in errors.items()]
    return tuple(sorted(found, key=lambda row: (-row.prompts, -row.worst, row.layer)))


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
        for prompt_id, error, worst, layers in connection.execute(text(_NOTED), {"run": run_id, "limit": limit}):
            if not _fits(error, str(worst), layers, limit):
                wrong.setdefault(run_id, set()).add(prompt_id)
    return [
        f"run {run_id}: worst_layer and layers_above don't fit completeness_error for {len(prompts)} prompts, the "
        f"first being prompt {min(prompts)}"
        for run_id, prompts in sorted(wrong.items())
    ]


def _fits(error: float, worst: str, layers: str | None, limit: float) -> bool:
    """Whether the errors noted for a prompt's layers are above the limit, and none above the prompt's own.

    Up to a last digit: a number that JSON has as text may have been read otherwise than it was written.
    """
    if (error > limit) != (layers is not None):
        return False
    if layers is None:
        return True
    try:
        noted = {str(layer): float(value) for layer, value in json.loads(layers).items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return False
    if abs(noted.get(worst, -1) - error) > 1e-9 * error:
        return False
    return all(value * (1 - 1e-9) <= error and value * (1 + 1e-9) > limit for value in noted.values())
