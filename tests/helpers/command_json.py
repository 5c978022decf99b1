"""The command line in this process, for tests that share what commands made: what one printed as JSON."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any


def command_json(*words: object) -> Any:
    """Runs a command with `--format json`, checks its exit code and parses what it printed."""
    from kndb.cli.main import exit_code

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        found = exit_code([*(str(word) for word in words), "--format", "json"])
    assert found == 0, f"{words}\n{out.getvalue()}\n{err.getvalue()}"
    return json.loads(out.getvalue())
