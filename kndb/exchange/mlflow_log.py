"""Evaluations as runs of MLflow, by its client, at the tracking URI of the environment (`MLFLOW_TRACKING_URI`)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import OutputError, UsageError
from ..records.edits import Edit, Evaluation

_AT_ONCE = 100
"""Parameters, and metrics, that are sent in one request."""
_LONGEST = 500
"""Letters of a parameter or a tag."""
_NOT_IN_NAMES = re.compile(r"[^\w\-. /]", re.ASCII)


def require_mlflow() -> None:
    """Says how to install MLflow's client where it is not there.

    Raises:
        UsageError: if it is not.
    """
    try:
        import mlflow  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "evaluations are logged with MLflow's client, which is not installed; install it with: "
            "pip install 'kndb[mlflow]'"
        ) from error


def log_evaluation(edit: Edit, evaluation: Evaluation, experiment: str) -> str:
    """Logs an evaluation as a finished run.

    Args:
        edit: the edit.
        evaluation: what was measured of it.
        experiment: the experiment's name; it is made if there is none.

    Returns:
        The run's id.

    Raises:
        UsageError: if MLflow's client is not installed.
        OutputError: if the tracking server does not take it.
    """
    require_mlflow()
    import mlflow
    from mlflow.entities import Metric, Param

    uri = mlflow.get_tracking_uri()
    try:
        client = mlflow.MlflowClient()
        found = client.get_experiment_by_name(experiment)
        place = client.create_experiment(experiment) if found is None else found.experiment_id
        title = edit.what[:_LONGEST]
        run = client.create_run(place, run_name=f"edit {edit.id}", tags={"what": title, "object": edit.object_hash})
        number, now = run.info.run_id, int(time.time() * 1000)
        params = [Param(name, text) for name, text in parameters(edit, evaluation).items()]
        metrics = [Metric(name, value, now, 0) for name, value in measures(evaluation).items()]
        for start in range(0, max(len(params), len(metrics)), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            client.log_batch(number, metrics=metrics[part], params=params[part])
        client.set_terminated(number)
    except Exception as error:  # Of the server, of the network and of its own packages: any of theirs.
        raise OutputError(
            f"the evaluation is stored as {evaluation.id}, and MLflow at {uri} does not take it: {error}"
        ) from error
    return str(number)


def parameters(edit: Edit, evaluation: Evaluation) -> dict[str, str]:
    """What was evaluated and how: the edit, its versions, the settings of the evaluation and of the recipe."""
    about = {"edit": edit.id, "model": edit.model, "kind": edit.kind, "evaluation": evaluation.id}
    about |= {"version_before": evaluation.version_before, "version_after": evaluation.version_after}
    settings = {f"evaluation.{name}": value for name, value in evaluation.settings.items()}
    recipe = {f"recipe.{name}": value for name, value in edit.recipe.as_json().items()}
    found = {}
    for name, value in {**about, **settings, **recipe}.items():
        if isinstance(value, (str, int, float)):
            found[_NOT_IN_NAMES.sub("_", name)] = str(value)[:_LONGEST]
    return found


def measures(evaluation: Evaluation) -> dict[str, float]:
    """Each measure of the edit and of its control, `SIDE.GROUP.MEASURE`, with the ends of its interval."""
    values: Any = evaluation.measures
    return {_NOT_IN_NAMES.sub("_", name): value for name, value in _measures(values)}


def _measures(values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for side in ("edited", "control"):
        for group, of_group in values.get(side, {}).items():
            for measure, value in of_group.items():
                name = f"{side}.{group}.{measure}"
                if value is not None:
                    yield name, float(value)
                ends = values.get("intervals", {}).get(side, {}).get(group, {}).get(measure)
                if ends is not None:
                    yield from ((f"{name}.{end}", float(one)) for end, one in zip(("low", "high"), ends, strict=True))
