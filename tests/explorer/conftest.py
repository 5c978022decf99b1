"""The explorer on a store made by hand, full of names that would break a page, and on one with a real model."""

import json
import shutil

import pytest
from asgi import HOST, TOKEN
from filled_store import HOSTILE, NAME, fill

from kndb.cli.advice import for_shell, nameless
from kndb.database import open_database
from kndb.explorer.application import Explorer
from kndb.explorer.guard import Rules

ODD_NAMES = [
    *(".", "..", "...", "a/b", "a\\b", "//x", "x.json", ".csv", "%2e", "%2e%2e", "~", "~2E", "index", "?q=1#f", "a b"),
    *("\u200b", "\u2800\u200d", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629", "\u202eback", "<script>x</script>&amp;"),
    *("\x7f", "long" * 2_000, "\u6771\u4eac" * 3_000, "'\"><img src=x>"),
]
"""Names of relations that a browser, a path or a page might take for something else."""


@pytest.fixture(autouse=True)
def no_database_named():
    """Commands that pages name leave out the database that other tests' commands named."""
    with nameless():
        yield


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """A database with something of everything, whose names are markup; only to be read."""
    with open_database(tmp_path_factory.mktemp("filled") / "kndb.db") as database:
        fill(database)
        database.snapshots.create(HOSTILE, NAME)
        yield database


@pytest.fixture(scope="session")
def explorer(filled):
    """The application on it."""
    return Explorer(filled, Rules(), for_shell)


@pytest.fixture(scope="session")
def editor(filled):
    """The application on it, edits allowed: its pages are read, and no form is sent."""
    return Explorer(filled, Rules(token=TOKEN, editing=True, port=int(HOST.rpartition(":")[2])), for_shell)


@pytest.fixture(scope="session")
def oddly_named(tmp_path_factory):
    """A database whose relations have the names of `ODD_NAMES`, each of one fact with a knowledge neuron of its own."""
    folder = tmp_path_factory.mktemp("odd")
    facts, sets = folder / "facts.jsonl", folder / "sets.csv"
    lines = [json.dumps({"relation": name, "subject": f"s{n}", "object": "o"}) for n, name in enumerate(ODD_NAMES)]
    facts.write_text("\n".join(lines), "utf-8")
    rows = "".join(f"{number},1,{number}\n" for number in range(1, len(ODD_NAMES) + 1))
    sets.write_text(f"fact,layer,neuron\n{rows}", "utf-8")
    with open_database(folder / "kndb.db") as database:
        database.facts.ingest([facts])
        database.exchange.import_neurons([sets], model_name="..", layers=2, neurons=99, facts_by="number")
        yield database


@pytest.fixture
def edited(rich_store, tmp_path):
    """A copy of the database with a real model, an applied edit and an unapplied one."""
    shutil.copytree(rich_store, tmp_path / "rich", symlinks=True)
    with open_database(tmp_path / "rich" / "kndb.db") as database:
        yield database


@pytest.fixture
def editing(edited):
    """The application on it, edits allowed."""
    return Explorer(edited, Rules(token=TOKEN, editing=True, port=int(HOST.rpartition(":")[2])), for_shell)
