"""The command line in this process, for fixtures that several tests share."""

import pytest
from command_json import command_json


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
    return command_json
