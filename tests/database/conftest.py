"""Databases with results in them, made by hand or by the small models."""

import json

import pytest

from kndb.database import open_database

FAMILIES = ("bert", "gpt2")


@pytest.fixture(scope="session")
def ready(small_stores):
    """For each family, a folder with a database in which model `tiny` is attributed; only to be copied."""
    return {family: small_stores / "attributed" / family for family in FAMILIES}


@pytest.fixture
def attributed(ready, db_places):
    """Gives a copy of a family's attributed database, open."""
    opened = []

    def copy(family="bert"):
        opened.append(db_places.copy_of(ready[family], family).database())
        return opened[-1]

    yield copy
    for database in opened:
        database.close()


@pytest.fixture(scope="session")
def refined_folders(small_stores):
    """For each family, a folder with a database in which model `tiny` is refined; only to be copied."""
    return {family: small_stores / "refined" / family for family in FAMILIES}


@pytest.fixture
def refined(refined_folders, db_places, family):
    """Gives a copy of the refined database of each family in turn, open."""
    with db_places.copy_of(refined_folders[family], "refined").database() as opened:
        yield opened


@pytest.fixture
def fresh(small_facts, small_models, tmp_path):
    """Gives a database with the small facts, or others, and model `tiny` of a family, not attributed."""
    opened = []

    def make(family="bert", facts=small_facts):
        folder = tmp_path / f"fresh-{len(opened)}"
        folder.mkdir()
        opened.append(open_database(folder / "kndb.db"))
        opened[-1].facts.ingest([facts])
        opened[-1].models.add(str(small_models[family]), "tiny")
        return opened[-1]

    yield make
    for database in opened:
        database.close()


@pytest.fixture
def write_facts(tmp_path):
    """Writes a list of facts and templates as JSON lines, and gives its path."""

    def write(*rows):
        path = tmp_path / f"facts-{len(list(tmp_path.iterdir()))}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def sql():
    """Runs a query on an open database, past kndb's own reads."""

    def run(database, query, *values):
        with database.store.writing() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(query, values)]

    return run
