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
    assert set(counts) == {"apply_another", "restore", "cascade", "rebase"}
    for work in ("apply_another", "restore"):
        assert counts[work]["before"] > 25
        assert counts[work]["after"] > 0
    # Killed at every third step only: the few after the commit may be passed over.
    assert min(counts["cascade"]["before"], counts["rebase"]["before"]) > 8
