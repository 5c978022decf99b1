"""Works on a store that are killed, or whose disk fails, at each of their steps: the store is before or after."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from disk_faults import sqlite_is_reached
from torture import FACTOR
from works import WORKS

HERE = Path(__file__).parent
NAMES = {"kill": "killed at a step", "error": "an I/O error at a step", "full": "no space left from a step on"}
SHORT = ("apply", "revert", "cascade", "rebase", "restore", "pull", "ingest", "backup")
LONG = tuple(name for name in WORKS if name not in SHORT)
"""Works of many like statements: by default fewer of their steps are tried."""


def tried(folder: Path, fault: str, every: dict[str, int]) -> dict[str, dict[str, int]]:
    wanted = [f"{name}={step}" for name, step in every.items()]
    program = [sys.executable, "-W", "error", str(HERE / "fault_points.py"), str(folder), fault, *wanted]
    result = subprocess.run(program, capture_output=True, text=True, timeout=900, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("fault", NAMES)
def test_a_fault_at_any_step_leaves_before_or_after(fast_folder, count_points, fault):
    short, long = {"kill": (4, 10), "error": (6, 20), "full": (4, 13)}[fault] if FACTOR == 1 else (1, 3)
    counts = tried(fast_folder, fault, dict.fromkeys(SHORT, short) | dict.fromkeys(LONG, long))
    assert set(counts) == set(WORKS)
    for name, found in counts.items():
        count_points(f"{NAMES[fault]}: {name}", sum(found.values()))
        assert found["before"] > 0
        # SQLite's own writes come after the commit, too: its log is copied into the database.
        assert found["after"] > 0 or not sqlite_is_reached()
    assert fault != "kill" or sum(sum(found.values()) for found in counts.values()) >= 200


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
