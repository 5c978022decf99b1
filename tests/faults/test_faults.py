"""Works on a store that are killed, or whose disk fails, at each of their steps: the store is before or after.

Whether these tests would notice a work of several transactions is tested with kndb made to do so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from disk_faults import ERROR, FORKS, FULL, KILL, sqlite_is_reached
from torture import FACTOR

from kndb.store import schema

HERE = Path(__file__).parent
FAULTS = {KILL: "killed at a step", ERROR: "an I/O error at a step", FULL: "no space left from a step on"}

WRITE_ROWS = ("apply", "revert", "cascade", "rebase", "restore", "add a batch", "pull", "ingest", "import facts")
WRITE_ROWS += ("import neurons", "import scores", "refine", "probe", "model add", "edit delete")
"""Works that write several rows."""
OTHERS = ("evaluate", "apply on conditions", "snapshot create", "snapshot delete", "backup", "create")
OLD = schema.REVISIONS[:-1] if FACTOR > 1 else ("0001", "0005", "0006", schema.REVISIONS[-2])
"""Of which revision databases are migrated. All go through the later ones: the short form begins at some."""
WORKS = (*WRITE_ROWS, *OTHERS, *(f"migrate {revision}" for revision in OLD))

SHORT = {KILL: 19, ERROR: 13, FULL: 13}
EVERY = SHORT if FACTOR == 1 else {KILL: 2, ERROR: 1, FULL: 1}
"""Of how many steps one is tried."""
LONG = {"apply on conditions": 3, "rebase": 2, "pull": 2, "evaluate": 2, "import scores": 7, "backup": 2, "create": 2}
"""Works of many like statements, or that compute: of these, as many times fewer."""
MANY_WRITES = {
    "apply on conditions": 2,
    "add a batch": 3,
    "pull": 4,
    "rebase": 2,
    "ingest": 3,
    "import facts": 3,
    "import neurons": 3,
}
MANY_WRITES |= {"import scores": 20, "backup": 4, "create": 8, "migrate 0001": 4, "migrate 0002": 4}
MANY_WRITES |= {"migrate 0003": 3, "migrate 0004": 3}
"""The same for works that call the disk often."""

HIDDEN = {"model add": 3}
"""Of how many steps of a broken work one is tried, where few of them lie between its transactions."""

NAMED_MUTANTS = {
    "apply each": ("apply",),
    "revert each": ("revert",),
    "ingest each": ("ingest",),
    "import each": ("import facts",),
    "add each": ("add a batch", "pull"),
}
"""Mutants of `mutants.py`, and the works that they break."""


def stride(fault: str, work: str) -> int:
    return EVERY[fault] * (LONG if fault == KILL else MANY_WRITES).get(work, 1)


@pytest.fixture(scope="module")
def found(small_stores, tmp_path_factory):
    """What became of all works under all faults, and of those that were broken on purpose: one run of a program."""
    wanted = [f"{fault}:{work}={stride(fault, work)}" for fault in FAULTS for work in WORKS]
    broken = [(mutant, work) for mutant, some in NAMED_MUTANTS.items() for work in some]
    broken += [("halfway", work) for work in WRITE_ROWS]
    wanted += [f"{mutant}:{work}={HIDDEN.get(work, SHORT[KILL] * LONG.get(work, 1))}" for mutant, work in broken]
    ready = small_stores / "refined" / "bert"
    folder = tmp_path_factory.mktemp("faults")
    program = [sys.executable, "-W", "error", str(HERE / "fault_points.py"), str(folder), str(ready), *wanted]
    environment = {**os.environ, **FORKS}
    result = subprocess.run(program, capture_output=True, text=True, timeout=1800, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_step_leaves_before_or_after(found, count_points, fault):
    assert set(found[fault]) == set(WORKS)
    for name, counts in found[fault].items():
        count_points(f"{FAULTS[fault]}: {name}", sum(counts.values()))
        assert counts["before"] > 0 or fault != KILL
    assert sum(counts["before"] for counts in found[fault].values()) > 10
    # SQLite's own writes come after the commit, too: its log is copied into the database.
    assert sum(counts["after"] for counts in found[fault].values()) > 10 or not sqlite_is_reached()
    assert fault != KILL or sum(sum(counts.values()) for counts in found[fault].values()) >= 200


@pytest.mark.slow
@pytest.mark.parametrize(("mutant", "works"), [*NAMED_MUTANTS.items(), ("halfway", WRITE_ROWS)])
def test_a_work_of_several_transactions_is_noticed(found, mutant, works):
    assert found[mutant] == dict.fromkeys(works, True)


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.skipif(FACTOR == 1, reason="tests/editing/test_working_copy.py runs the same program")
def test_a_killed_switch_of_a_working_copy(tmp_path, count_points):
    program = [sys.executable, str(HERE.parent / "editing" / "kill_checkout.py"), str(tmp_path / "kill")]
    result = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    counts = json.loads(result.stdout)
    count_points("killed at a step: checkout", counts["before"] + counts["after"])
    count_points("killed at a step: recovery of a checkout", counts["recoveries killed"])
