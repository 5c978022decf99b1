"""A store copied between backends, and back: the same rows, the same objects, whole or not at all."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from typing import Any

import pytest
from backends import BOTH, POSTGRESQL, SQLITE, Place, Places
from filled_store import fill

from kndb.database import copy_database
from kndb.errors import StoreDamagedError, StoreError, StoreMissingError, UsageError
from kndb.store import copying, maintenance
from kndb.store.tables import Table

ROUNDS = [(SQLITE, POSTGRESQL), (POSTGRESQL, POSTGRESQL), (SQLITE, SQLITE)]
"""From one to the other, and back."""


def rows(place: Place) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables."""
    found = {}
    with place.store(create=False) as store, store.reading() as connection:
        for table in Table.metadata.sorted_tables:
            keys = ", ".join(column.name for column in table.primary_key.columns)
            columns = ", ".join(column.name for column in table.columns)
            query = f"SELECT {columns} FROM {table.name} ORDER BY {keys}"
            found[table.name] = [tuple(row) for row in connection.exec_driver_sql(query)]
    return found


def filled(place: Place) -> Place:
    """Puts something into most tables, and the one edit's object into the folder."""
    with place.database() as database:
        fill(database)
        content = b"an edit"
        digest = hashlib.sha256(content).hexdigest()
        path = database.store.objects / digest[:2] / f"{digest}.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        with database.store.writing() as connection:
            connection.exec_driver_sql(
                "UPDATE edit SET object_hash = ?, object_path = ?", (digest, f"{digest[:2]}/{digest}.safetensors")
            )
    return place


def copied(source: Place, target: Place) -> dict[str, int]:
    return copy_database(source.location, target.location, source_objects=source.objects, target_objects=target.objects)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A folder with a store in a file; only to be copied."""
    folder = tmp_path_factory.mktemp("filled")
    filled(Place(folder / "kndb.db", None))
    return folder


@pytest.fixture
def ends(tmp_path):
    """Makes places of both backends."""
    made = {backend: Places(backend, tmp_path) for backend in BOTH}
    yield made
    for places in made.values():
        places.close()


@pytest.mark.parametrize(("one", "other"), ROUNDS)
def test_a_copy_and_its_copy_have_the_same_rows(ends, file, one, other):
    source = ends[SQLITE].copy_of(file, "a") if one == SQLITE else filled(ends[one].new("a"))
    there, back = ends[other].empty("b"), ends[one].empty("c")
    before = rows(source)
    assert copied(source, there) == {table: len(found) for table, found in before.items()}
    assert sum(map(len, before.values())) > 1000
    copied(there, back)
    assert rows(there) == before
    assert rows(back) == before
    with there.store(create=False) as store, source.store(create=False) as first:
        assert maintenance.check(store) == maintenance.check(first)
        with store.writing() as connection:
            connection.exec_driver_sql("INSERT INTO relation (key) VALUES ('another')")
            assert connection.exec_driver_sql("SELECT max(id) FROM relation").scalar_one() == 4
        assert [path.read_bytes() for path in store.objects.rglob("*.safetensors")] == [b"an edit"]


@pytest.mark.parametrize("backend", BOTH, indirect=True)
def test_nothing_is_copied_over_anything(db_places, ends, file, backend):
    source, target = ends[SQLITE].copy_of(file, "a"), db_places.new("b")
    target.store().close()
    with pytest.raises(StoreError, match="nothing was copied into it"):
        copied(source, target)
    with target.store() as store:
        assert not store.objects.exists()
    with pytest.raises(UsageError, match="both ends"):
        copied(source, source)


def test_a_folder_of_objects_is_no_two_stores(ends, file):
    source, target = ends[POSTGRESQL].copy_of(file, "a"), ends[POSTGRESQL].empty("b")
    with pytest.raises(UsageError, match="would share"):
        copy_database(source.location, target.location, source_objects=source.objects, target_objects=source.objects)
    with pytest.raises(UsageError, match="objects is missing"):
        copy_database(source.location, target.location, source_objects=source.objects)


@pytest.mark.parametrize("other", BOTH)
def test_a_copy_that_fails_leaves_nothing(ends, file, other, monkeypatch):
    source, target = ends[SQLITE].copy_of(file, "a"), ends[other].empty("b")
    chunks = copying._chunks
    left = [0]

    def fails(*arguments):
        left[0] -= 1
        if not left[0]:
            raise OSError("out of order")
        yield from chunks(*arguments)

    monkeypatch.setattr(copying, "_chunks", fails)
    for moment in (1, 5, 20):
        left[0] = moment
        with pytest.raises(OSError, match="out of order"):
            copied(source, target)
        with pytest.raises(StoreMissingError):
            target.store(create=False)
    monkeypatch.undo()
    copied(source, target)
    assert rows(target) == rows(source)


WRONG = {
    "UPDATE fact SET object = 'a' || char(0) || 'b' WHERE id = 1": "table fact: .*character NUL.*nothing was copied",
    "UPDATE OR REPLACE score SET layer = 1099511627776": "table score: .*larger than .*nothing was copied",
    "UPDATE prompt_result SET tokens = 1099511627776 WHERE prompt_id = 1": "table prompt_result: .*larger than",
    "UPDATE prompt_result SET tokens = 'many' WHERE prompt_id = 1": "a row of prompt_result is not as it must be",
    "UPDATE run SET status = 'over'": "a row of run is not as it must be .*ck_run_status",
    "UPDATE fact SET relation_id = 77 WHERE id = 1": "a row of fact is not as it must be .*relation_id",
}
"""What a file may hold, by a program of somebody else's, and what is said of it."""


def test_rows_that_a_server_can_not_hold_are_named(ends, file):
    """Nothing is copied, and it is the file's fault."""
    target = ends[POSTGRESQL].empty("b")
    for number, (statement, said) in enumerate(WRONG.items()):
        source = ends[SQLITE].copy_of(file, f"a{number}")
        connection = sqlite3.connect(source.location)
        with connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute(statement)
        connection.close()
        with pytest.raises((UsageError, StoreDamagedError), match=said) as caught:
            copied(source, target)
        assert f"{target.location} is damaged" not in str(caught.value)
    with pytest.raises(StoreMissingError, match="is empty, not yet a database"):
        target.store(create=False)


def test_a_missing_object_is_found_before(ends, file):
    source, target = ends[SQLITE].copy_of(file, "a"), ends[POSTGRESQL].empty("b")
    with source.store() as store:
        next(store.objects.rglob("*.safetensors")).unlink()
    with pytest.raises(StoreDamagedError, match="is missing; no copy was made"):
        copied(source, target)


KILLED = """
import os, signal, sys
from kndb.database import copy_database
from kndb.store import copying
left = [int(sys.argv[4])]
chunks = copying._chunks
def kills(*arguments):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    yield from chunks(*arguments)
copying._chunks = kills
copy_database(sys.argv[1], sys.argv[2], target_objects=sys.argv[3] or None)
"""


@pytest.mark.fault("a copy that is killed")
@pytest.mark.parametrize("other", BOTH)
def test_a_copy_that_is_killed_leaves_nothing(ends, file, other):
    source, target = ends[SQLITE].copy_of(file, "a"), ends[other].empty("b")
    words = [str(source.location), str(target.location), "" if target.objects is None else str(target.objects), "18"]
    done = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    copied(source, target)
    assert rows(target) == rows(source)
