"""Edits when two write at once, and when a statement fails: the store is before or after, never between."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from backends import BOTH
from sqlalchemy import Connection, event
from torture import FACTOR

from kndb.errors import KndbError, VersionMovedError
from kndb.records.edits import SlotChange
from kndb.records.recipes import read_recipe
from kndb.store import models, snapshots, versions
from kndb.store.edits import checks as edit_checks
from kndb.store.edits import edit as edits
from kndb.store.edits import steps
from kndb.store.engine import Store, open_store
from kndb.versions import version_id

BACKENDS = BOTH

BASE = version_id("f", {})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "kndb.db", create=True) as opened:
        with opened.writing() as connection:
            model = models.add_model(
                connection, name="tiny", source="x", fingerprint="f", family="bert", layers=1, neurons=9,
                version=BASE,
            )  # fmt: skip
            versions.register_base(connection, model.id, BASE)
            for neuron in range(3):
                add(connection, neuron)
            steps.apply_edit(connection, 3, BASE)
            snapshots.create(connection, 1, "start")
        yield opened


def add(connection: Connection, neuron: int) -> int:
    changes = [SlotChange("w", 0, neuron, "a", "b")]
    return edits.add_edit(connection, 1, read_recipe("update", {}), f"hash {neuron}", "x", BASE, changes)


def dump(store: Store) -> list[str]:
    with store.reading() as connection:
        assert edit_checks.check_edits(connection) == []
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        return list(driver.iterdump())


def current(store: Store) -> str:
    with store.reading() as connection:
        return versions.current_model(connection, 1).version


@pytest.mark.fault("two writers at once")
@pytest.mark.parametrize("time", range(3 * FACTOR))
def test_of_two_writers_one_is_told_that_the_version_moved(store, time):
    expected = current(store)
    assert (
        at_once(store, [partial(steps.apply_edit, edit_id=number, expected_version=expected) for number in (1, 2)]) == 1
    )
    dump(store)
    with store.reading() as connection:
        assert len(edits.history(connection)) == 2


@pytest.mark.fault("two writers at once")
@pytest.mark.parametrize("time", range(3 * FACTOR))
def test_of_an_apply_and_a_cascade_at_once_one_is_told_that_the_version_moved(store, time):
    expected = current(store)
    works = [
        lambda connection: steps.apply_edit(connection, 1, expected),
        lambda connection: steps.revert_cascade(connection, 3, expected),
    ]
    assert at_once(store, works) == 1
    dump(store)
    with store.reading() as connection:
        assert len(edits.history(connection)) == 2


def at_once(store: Store, works: list[Callable[[Connection], object]]) -> int:
    """Runs two works at once, each on a connection of its own; gives how many were done, the others being refused."""
    start = threading.Barrier(len(works))
    outcomes: list[str] = []

    def write(work: Callable[[Connection], object]) -> None:
        with open_store(store.backend, create=False) as own:
            start.wait()
            try:
                with own.writing() as connection:
                    work(connection)
                outcomes.append("done")
            except KndbError as error:
                outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=write, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(outcomes) <= {"done", VersionMovedError.__name__}
    assert len(outcomes) == len(works)
    return outcomes.count("done")


def test_the_update_itself_checks_the_version(store):
    """Whoever gets past the first check, as if without BEGIN IMMEDIATE, still moves nothing."""
    expected = current(store)
    with store.writing() as connection:
        step = steps.plan_step(connection, 1, "apply")
        steps.apply_edit(connection, 2, expected)
        with pytest.raises(VersionMovedError):
            steps._move_version(connection, step)


def apply(connection: Connection) -> None:
    steps.apply_edit(connection, 1, versions.current_model(connection, 1).version)


def revert(connection: Connection) -> None:
    steps.revert_edit(connection, 3, versions.current_model(connection, 1).version)


def add_and_apply(connection: Connection) -> None:
    add(connection, 7)
    steps.apply_edit(connection, 4, versions.current_model(connection, 1).version)


def cascade(connection: Connection) -> None:
    """Takes out an edit with the two that build on it."""
    apply(connection)
    for number, (old, new) in enumerate((("b", "c"), ("c", "d")), 8):
        version = versions.current_model(connection, 1).version
        changes = [SlotChange("w", 0, 0, old, new)]
        edit_id = edits.add_edit(connection, 1, read_recipe("update", {}), f"hash {number}", "x", version, changes)
        steps.apply_edit(connection, edit_id, version)
    entries = steps.revert_cascade(connection, 1, versions.current_model(connection, 1).version)
    assert [entry.edit for entry in entries] == [5, 4, 1]


def restore(connection: Connection) -> None:
    snapshots.restore(connection, 1, "base", versions.current_model(connection, 1).version)
    apply(connection)
    snapshots.restore(connection, 1, "start", versions.current_model(connection, 1).version)


@pytest.mark.fault
@pytest.mark.parametrize("action", [apply, revert, add_and_apply, cascade, restore])
def test_a_statement_that_fails_undoes_all(store, count_points, action):
    before = dump(store)
    fail_at, failed = 0, True
    while failed:
        fail_at += 1
        failed = run_failing(store, action, fail_at)
        if failed:
            assert dump(store) == before
    assert dump(store) != before
    assert fail_at > 5
    count_points("a statement that fails: a step of edits", fail_at - 1)


def run_failing(store: Store, action, fail_at: int) -> bool:
    seen = 0

    def count(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == fail_at:
            raise RuntimeError("the disk is gone")

    event.listen(store._engine, "before_cursor_execute", count)
    try:
        with store.writing() as connection:
            action(connection)
        return False
    except RuntimeError:
        return True
    finally:
        event.remove(store._engine, "before_cursor_execute", count)
