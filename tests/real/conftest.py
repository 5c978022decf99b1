"""The command line in this process, for fixtures that several tests share."""

import contextlib
import io
import json
from typing import Any

import pytest

from kndb.cli.main import exit_code


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty folder, which is the current one while a module's tests run."""
    folder = tmp_path_factory.mktemp("real")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("KNDB_DB", raising=False)
        yield folder


@pytest.fixture(scope="module")
def kndb_json(place):
    """Runs a command in that folder with `--format json`, checks its exit code and parses what it printed."""

    def run(*words: object) -> Any:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = exit_code([*(str(word) for word in words), "--format", "json"])
        assert found == 0, f"{words}\n{out.getvalue()}\n{err.getvalue()}"
        return json.loads(out.getvalue())

    return run
