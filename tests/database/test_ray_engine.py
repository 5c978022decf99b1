"""Work by workers of a real Ray cluster on this machine: what they give, and what becomes of it when something dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
from backends import POSTGRESQL

from kndb import WorkEngine
from kndb.cli.main import exit_code
from kndb.database.attribution import computing
from kndb.errors import AttributionError, UsageError, WorkError
from kndb.records.edit_settings import TrialSettings, UpdateSettings
from kndb.work import ray_engine, schedule

# Ray leaves its programs to themselves, and Python warns of those.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
TWO = WorkEngine("ray", workers=2)
BACKENDS = (POSTGRESQL,)
"""Where probes and benches are tried; attributions are on SQLite."""
RESULTS = """
SELECT prompt_id, predicted, correct, evaluations, tokens, answer_tokens, skipped, layers_above
FROM prompt_result ORDER BY 1
"""
NUMBERS = """
SELECT probability, completeness_error, completeness_error_mean, max_score, min_score FROM prompt_result
WHERE max_score IS NOT NULL ORDER BY prompt_id
"""
SCORES = "SELECT prompt_id, layer, neuron, score FROM score ORDER BY 1, 2, 3"
KILL = """
import os, signal, sys
from kndb.cli.main import exit_code
from kndb.store import runs
save, left = runs.save_results, [3]
def saving(*arguments):
    save(*arguments)
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
runs.save_results = saving
exit_code(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this program's, which all of these tests use; their workers end with each call."""
    from ray import cloudpickle

    from kndb.work.cluster import joined

    # What workers are to do wrong is in this module, which they can't import.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with joined(TWO):
        yield


@pytest.fixture
def pools(monkeypatch):
    """The pools of workers, as they are made."""
    made = []

    class Watched(ray_engine.RayPool):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(ray_engine, "RayPool", Watched)
    return made


def rows_of(database, sql, attribution=True):
    return sql(database, RESULTS), sql(database, NUMBERS), sql(database, SCORES)


def assert_same(found, expected):
    """The same rows, and numbers as near as another batch size makes them."""
    assert found[0] == expected[0]
    for some, others in zip(found[1], expected[1], strict=True):
        assert some == pytest.approx(others, rel=1e-3, abs=1e-5)
    assert [row[:3] for row in found[2]] == [row[:3] for row in expected[2]]
    assert [row[3] for row in found[2]] == pytest.approx([row[3] for row in expected[2]], rel=1e-3)


def flat(measures, name=""):
    """Nested measures by their paths."""
    if not isinstance(measures, dict | list):
        return {name: measures}
    inner = measures.items() if isinstance(measures, dict) else enumerate(measures)
    return {path: value for key, one in inner for path, value in flat(one, f"{name}.{key}").items()}


def busy_processes(pool):
    """The numbers of the workers' processes that have a unit, as far as the pool knows: one may just have died."""
    return [member.place.process for member in pool._members if member.units]


@dataclass(frozen=True)
class FailsAt(computing._Attributing):
    """A worker that can't attribute one prompt."""

    prompt: int = 0

    def __call__(self, beside):
        compute, said = super().__call__(beside)

        def failing(prompts):
            if any(prompt.prompt_id == self.prompt for prompt in prompts):
                raise AttributionError(f"prompt {self.prompt} is too much")
            return compute(prompts)

        return failing, said


def test_killed_and_stopped_workers_and_a_prompt_that_fails(cluster, fresh, attributed, sql, pools, monkeypatch):
    database = fresh("gpt2")
    prompt = sql(database, "SELECT id FROM prompt ORDER BY id LIMIT 1 OFFSET 30")[0][0]
    monkeypatch.setattr(computing, "_Attributing", lambda *told: FailsAt(*told, prompt))
    monkeypatch.setattr(computing, "LEAST", 4)
    monkeypatch.setattr(schedule, "LEASE", 2.0)
    signals = [signal.SIGKILL, signal.SIGSTOP]
    told, stopped = [], []

    def progress(done, total):
        told.append((done, total))
        for process in busy_processes(pools[0]):
            if signals and process not in stopped:
                os.kill(process, signals.pop(0))
                stopped.append(process)
                break

    report = database.attribution.run("tiny", engine=TWO, progress=progress)
    assert not signals
    assert [(one.item, one.error) for one in report.failed] == [(prompt, f"prompt {prompt} is too much")]
    assert report.failed[0].what == sql(database, f"SELECT text FROM prompt WHERE id = {prompt}")[0][0]
    assert (report.attributed, report.workers, report.threads, report.device) == (79, 2, 1, "cpu")
    assert (report.run.status, sum(report.unfinished.values())) == ("running", 1)
    assert told[-1] == (79, 80)
    assert sql(database, "SELECT state, items FROM work_unit") == [("failed", json.dumps([prompt]))]
    assert len(told) == len(set(told))
    # The same command without workers finds what is left, and the rows are those that one process would have given.
    rest = database.attribution.run("tiny")
    assert (rest.attributed, rest.already_done, rest.run.status, rest.failed) == (1, 79, "complete", ())
    assert_same(rows_of(database, sql), rows_of(attributed("gpt2"), sql))


def test_the_command_line_says_what_failed_and_the_next_command_does_it(
    cluster, fresh, attributed, sql, monkeypatch, capfd
):
    database = fresh("bert")
    place = str(database.store.path)
    prompt = sql(database, "SELECT id FROM prompt ORDER BY id")[0][0]
    words = ["attribute", "--model", "tiny", "--engine", "ray", "--workers", "1", "--db", place, "--format", "json"]
    with monkeypatch.context() as patched:
        patched.setattr(computing, "_Attributing", lambda *told: FailsAt(*told, prompt))
        assert exit_code(words) == WorkError.exit_code
    said = capfd.readouterr()
    assert json.loads(said.out)["failed"] == 1
    assert f"Warning: prompt {prompt} failed (" in said.err
    assert "The same command tries them again" in said.err
    assert exit_code(words) == 0
    said = capfd.readouterr()
    record = json.loads(said.out)
    assert (record["attributed"], record["already_done"], record["workers"]) == (1, 79, 1)
    assert sql(database, "SELECT * FROM work_unit") == []
    assert_same(rows_of(database, sql), rows_of(attributed("bert"), sql))


def test_a_killed_driver_leaves_nothing_but_what_is_done_and_the_next_command_goes_on(fresh, attributed, sql, tmp_path):
    database = fresh("gpt2")
    place = str(database.store.path)
    words = ["attribute", "--model", "tiny", "--batch-size", "4", "--db", place]
    command = [sys.executable, "-c", KILL, *words, "--engine", "ray", "--workers", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    units = sql(database, "SELECT state, COUNT(*) FROM work_unit GROUP BY state")
    done = sql(database, "SELECT COUNT(*) FROM prompt_result WHERE skipped IS NULL")[0][0]
    assert done > 0
    # Those that the worker has, the one that is being written and the one that waits for that.
    assert dict(units)["leased"] <= schedule.AHEAD + 2
    # Whoever comes next on this machine sees that it is gone, and does not wait for its leases.
    from kndb.store import work

    with database.store.writing() as connection:
        work.release_gone(connection, "run 1")
    assert "leased" not in dict(sql(database, "SELECT state, COUNT(*) FROM work_unit GROUP BY state"))
    report = database.attribution.run("tiny")
    assert (report.already_done, report.attributed) == (done, 80 - done)
    assert_same(rows_of(database, sql), rows_of(attributed("gpt2"), sql))


def test_probes_and_benches_are_those_of_one_process(cluster, refined_folders, db_places, sql, monkeypatch):
    with db_places.copy_of(refined_folders["gpt2"], "refined").database() as database:
        alone = database.probes.scale("suppress", "tiny", others=3)
        together = database.probes.scale("suppress", "tiny", others=3, engine=TWO, device_map={"": "disk"})
        query = (
            "SELECT fact_id, neurons_from, prompts_of, neurons, prompts, flips, {} FROM probe_fact WHERE probe_id = "
        )
        numbers = "probability_before, probability_after"
        order = " ORDER BY 1, 2, 3"
        found, expected = (sql(database, f"{query.format(numbers)}{one.id}{order}") for one in (together, alone))
        assert [row[:6] for row in found] == [row[:6] for row in expected]
        assert [row[6:] for row in found] == [pytest.approx(row[6:], rel=1e-4) for row in expected]
        assert together.settings == alone.settings
        sizes = TrialSettings(3, 3, 3, seed=2)
        one = database.trials.bench("tiny", UpdateSettings(max_share=1.0), sizes, counts=(1, 3))
        # The same once more, as if it had not been measured.
        sql(database, "UPDATE edit_trial SET settings = '{\"seed\": 0}' RETURNING id")
        two = database.trials.bench("tiny", UpdateSettings(max_share=1.0), sizes, counts=(1, 3), engine=TWO)
        assert (two.status, two.id) == ("complete", one.id + 1)
        results = "SELECT part, position, fact_id, measures FROM edit_trial_result WHERE trial_id = {} ORDER BY 1, 2"
        found, expected = ([(*row[:3], json.loads(row[3])) for row in sql(database, results.format(number))]
                           for number in (two.id, one.id))  # fmt: skip
        assert [row[:3] for row in found] == [row[:3] for row in expected]
        for some, others in zip(found, expected, strict=True):
            one, other = flat(some[3]), flat(others[3])
            said = {path: value for path, value in other.items() if isinstance(value, str)}
            assert {path: one.pop(path) for path in said} == said
            assert one == pytest.approx({path: other[path] for path in other.keys() - said}, rel=1e-4, abs=1e-6)
        assert sql(database, "SELECT * FROM work_unit") == []


def test_a_cluster_that_is_connected_already_is_the_one(cluster, fresh):
    with pytest.raises(UsageError, match="address: this program is connected to a Ray cluster already"):
        fresh("gpt2").attribution.run("tiny", engine=replace(TWO, address="auto"))
