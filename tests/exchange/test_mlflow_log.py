"""Evaluations as runs of MLflow: its client's own file store where it is installed, and what is said where it is "
"not."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from kndb.errors import OutputError, UsageError
from kndb.exchange import mlflow_log
from kndb.records.edits import Edit, Evaluation
from kndb.records.recipes import read_recipe

EDIT = Edit(3, "tiny", "erase", read_recipe("erase", {"relation": "P36", "top": 2, "neurons": ["L0.N1"]}), "ab" * 32,
            "path", "v1", "2026-01-01T00:00:00+00:00")  # fmt: skip
MEASURES = {
    "edited": {"own": {"success_rate": 0.5, "prompts": 7, "nothing": None}, "inter": {"perplexity": 1.25}},
    "control": {"own": {"success_rate": 0.0}},
    "intervals": {"edited": {"own": {"success_rate": [0.25, 0.75]}}, "control": {}},
    "flips": [],
}
EVALUATION = Evaluation(8, 3, "v1", "v2", {"sample": 20, "seed": 0}, MEASURES, "2026-01-01T00:00:00+00:00")
METRICS = {
    "edited.own.success_rate": 0.5,
    "edited.own.success_rate.low": 0.25,
    "edited.own.success_rate.high": 0.75,
    "edited.own.prompts": 7,
    "edited.inter.perplexity": 1.25,
    "control.own.success_rate": 0,
}
PARAMETERS = {
    "edit": "3",
    "model": "tiny",
    "kind": "erase",
    "evaluation": "8",
    "version_before": "v1",
    "version_after": "v2",
    "evaluation.sample": "20",
    "evaluation.seed": "0",
    "recipe.relation": "P36",
    "recipe.top": "2",
}


@pytest.fixture
def server(monkeypatch):
    """A client that takes what it is given, in place of MLflow's; gives its runs by their ids."""
    runs = {}

    class Client:
        def get_experiment_by_name(self, name):
            return None

        def create_experiment(self, name):
            return name

        def create_run(self, place, run_name, tags):
            run = SimpleNamespace(
                info=SimpleNamespace(run_id=f"run-{len(runs)}"), place=place, name=run_name, tags=tags
            )
            run.metrics, run.params, run.status = {}, {}, "running"
            runs[run.info.run_id] = run
            return run

        def log_batch(self, number, metrics, params):
            assert len(metrics) <= 100
            runs[number].metrics |= {one.key: one.value for one in metrics}
            runs[number].params |= {one.key: one.value for one in params}

        def set_terminated(self, number):
            runs[number].status = "finished"

    entities = SimpleNamespace(
        Metric=lambda key, value, timestamp, step: SimpleNamespace(key=key, value=value),
        Param=lambda key, value: SimpleNamespace(key=key, value=value),
    )
    package = SimpleNamespace(MlflowClient=Client, get_tracking_uri=lambda: "file:there", entities=entities)
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return runs


def test_an_evaluation_is_a_finished_run(server):
    number = mlflow_log.log_evaluation(EDIT, EVALUATION, "editing")
    run = server[number]
    assert (run.place, run.name, run.status) == ("editing", "edit 3", "finished")
    assert run.tags == {"what": "P36: 1 most common neurons to zero", "object": "ab" * 32}
    assert run.metrics == METRICS
    assert run.params == PARAMETERS


def test_a_server_that_takes_nothing_is_named(server, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(sys.modules["mlflow"].MlflowClient, "create_run", refuse)
    with pytest.raises(OutputError, match="stored as 8, and MLflow at file:there does not take it: no route"):
        mlflow_log.log_evaluation(EDIT, EVALUATION, "editing")


def test_without_the_client_it_is_said_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match=r"pip install 'kndb\[mlflow\]'"):
        mlflow_log.log_evaluation(EDIT, EVALUATION, "editing")


@pytest.mark.filterwarnings("ignore")
def test_mlflows_own_client_keeps_it(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path / 'runs'}")
    for _ in range(2):
        number = mlflow_log.log_evaluation(EDIT, EVALUATION, "editing")
    client = mlflow.MlflowClient()
    run = client.get_run(number)
    assert (run.data.metrics, run.data.params, run.info.status) == (METRICS, PARAMETERS, "FINISHED")
    assert len(client.search_runs([run.info.experiment_id])) == 2
