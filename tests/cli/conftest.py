"""The command line in this process, and databases to run it on."""

import contextlib
import hashlib
import json
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kndb.cli.main import exit_code

FAMILIES = ("bert", "gpt2")


@dataclass(frozen=True)
class Outcome:
    """What a command printed."""

    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """An empty folder, which is the current one; the database in it is `kndb.db`."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("KNDB_DB", raising=False)
    return folder


@pytest.fixture
def kndb(place, capsys):
    """Runs a command in the empty folder, and checks its exit code."""

    def run(*words: object, code: int = 0) -> Outcome:
        capsys.readouterr()
        found = exit_code([str(word) for word in words])
        outcome = Outcome(*capsys.readouterr())
        assert found == code, f"exit code {found}\n{outcome.out}\n{outcome.err}"
        assert "Traceback" not in outcome.err
        return outcome

    return run


@pytest.fixture
def kndb_json(kndb):
    """Runs a command with `--format json` and parses what it printed on stdout."""
    return lambda *words: kndb(*words, "--format", "json").json


@pytest.fixture(scope="session")
def ready(small_stores):
    """For each family, a folder with a database in which model `tiny` is attributed and refined; only to be copied."""
    return {family: small_stores / "refined" / family for family in FAMILIES}


@pytest.fixture
def use_ready(ready, place):
    """Puts a copy of a ready database into the current folder."""
    return lambda family="bert": shutil.copytree(ready[family], place, dirs_exist_ok=True)


@pytest.fixture
def state(place):
    """Gives all that a database holds: its rows as SQL, and the bytes of its edit objects."""

    def read(name: str = "kndb.db") -> dict[str, str]:
        path = place / name
        if not path.exists():
            return {}
        found = {
            str(file.relative_to(place)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in path.with_suffix(".objects").rglob("*")
            if file.is_file()
        }
        with contextlib.closing(sqlite3.connect(path)) as connection:
            found["rows"] = "\n".join(connection.iterdump())
        return found

    return read
