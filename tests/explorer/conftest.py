"""The explorer on a store made by hand, full of names that would break a page, and on one with a real model."""

import shutil

import pytest
from asgi import HOST, TOKEN
from filled_store import HOSTILE, NAME, fill

from kndb.cli.advice import for_shell
from kndb.database import open_database
from kndb.explorer.application import Explorer
from kndb.explorer.guard import Rules


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
