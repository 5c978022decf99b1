"""A process that dies anywhere in the work on an edit leaves the store before it or after it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_before_or_after(tmp_path):
    program = Path(__file__).with_name("kill_edits.py")
    command = [sys.executable, str(program), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    counts = json.loads(result.stdout)
    assert set(counts) == {"apply_another", "restore"}
    for left in counts.values():
        assert left["before"] > 25
        assert left["after"] > 0
