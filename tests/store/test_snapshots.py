"""Snapshots: names for versions, and the steps back to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from backends import BOTH
from sqlalchemy import Connection

from kndb.errors import EditError, NotFoundError, StoreDamagedError, VersionMovedError
from kndb.records.edits import SlotChange
from kndb.records.recipes import read_recipe
from kndb.records.versions import Snapshot
from kndb.store import models, snapshots, versions
from kndb.store.edits import allowed_steps, steps
from kndb.store.edits import checks as edit_checks
from kndb.store.edits import edit as edits
from kndb.store.engine import Store
from kndb.versions import version_id

BACKENDS = BOTH

BASE = version_id("f", {})


@pytest.fixture
def connection(store: Store) -> Iterator[Connection]:
    """A model with four edits of slots 0 to 3; the fifth, on top of the first, is of slot 0 too."""
    with store.writing() as opened:
        model = models.add_model(
            opened, name="tiny", source="x", fingerprint="f", family="bert", layers=1, neurons=9, version=BASE
        )
        versions.register_base(opened, model.id, BASE)
        for neuron in range(4):
            add(opened, neuron, "a", "b")
        apply(opened, 1)
        add(opened, 0, "b", "c")
        steps.revert_edit(opened, 1, current(opened))
        yield opened


def add(connection: Connection, neuron: int, old: str, new: str) -> int:
    changes = [SlotChange("w", 0, neuron, old, new)]
    name = f"{neuron}{old}{new}"
    return edits.add_edit(connection, 1, read_recipe("update", {}), name, name, "current", changes)


def current(connection: Connection) -> str:
    return versions.current_model(connection, 1).version


def apply(connection: Connection, *edit_ids: int) -> str:
    for edit_id in edit_ids:
        steps.apply_edit(connection, edit_id, current(connection))
    return current(connection)


def restore(connection: Connection, name: str) -> list[int | None]:
    entries = snapshots.restore(connection, 1, name, current(connection))
    assert all(entry.action == "restore" for entry in entries)
    assert edit_checks.check_edits(connection) == []
    return [entry.edit for entry in entries]


def test_a_snapshot_names_a_version(connection):
    version = apply(connection, 1)
    made = snapshots.create(connection, 1, "ready")
    assert made == Snapshot("ready", "tiny", version, made.created_at)
    older = snapshots.create(connection, 1, "before", "base")
    assert sorted(snapshots.snapshots(connection), key=lambda one: one.name) == [older, made]
    assert snapshots.snapshots(connection, 2) == []
    assert versions.resolve_version(connection, 1, "ready") == version
    assert versions.version_edits(connection, 1, "before") == []


@pytest.mark.parametrize("name", ["", " ", "a\nb", "base", "current", "v0123456789abcdef"])
def test_names_that_a_snapshot_can_not_have(connection, name):
    with pytest.raises(EditError, match=r"can't name a snapshot|means a version already"):
        snapshots.create(connection, 1, name)


def test_a_name_is_given_once(connection):
    snapshots.create(connection, 1, "ready")
    with pytest.raises(EditError, match=r"already.*db\.snapshots\.all"):
        snapshots.create(connection, 1, "ready")


def test_unknown_versions_models_and_snapshots(connection):
    with pytest.raises(NotFoundError, match="'v99999'"):
        snapshots.create(connection, 1, "ready", "v99999")
    with pytest.raises(NotFoundError, match="no model 7"):
        snapshots.create(connection, 7, "ready")
    with pytest.raises(NotFoundError, match=r"no version 'ready'.*db\.snapshots\.all"):
        snapshots.restore(connection, 1, "ready", current(connection))


def test_restore_goes_back_to_where_the_roads_part(connection):
    target = apply(connection, 1, 2, 5)
    snapshots.create(connection, 1, "ready")
    steps.revert_edit(connection, 5, target)
    steps.revert_edit(connection, 2, current(connection))
    apply(connection, 3, 4)
    before = len(edits.history(connection))
    assert restore(connection, "ready") == [4, 3, 2, 5]
    assert current(connection) == target
    assert versions.applied_edits(connection, 1) == [1, 2, 5]
    assert len(edits.history(connection)) == before + 4


def test_restore_to_base_and_to_where_the_model_is(connection):
    version = apply(connection, 1, 5, 3)
    assert restore(connection, version[:8]) == []
    assert restore(connection, "base") == [3, 5, 1]
    assert current(connection) == BASE


def test_the_same_version_by_another_road_takes_no_step(connection):
    version = apply(connection, 2, 3)
    steps.revert_edit(connection, 2, version)
    assert apply(connection, 2) == version
    assert restore(connection, version) == []
    assert versions.applied_edits(connection, 1) == [3, 2]


def test_restore_from_a_version_that_moved_is_refused(connection):
    apply(connection, 1)
    with pytest.raises(VersionMovedError):
        snapshots.restore(connection, 1, "base", BASE)


def test_a_restore_that_would_end_elsewhere_is_refused(connection):
    version = apply(connection, 1)
    connection.exec_driver_sql("UPDATE version SET edits = '[2]' WHERE version = ?", (version,))
    apply(connection, 3)
    with pytest.raises(StoreDamagedError, match=r"db\.maintenance\.check"):
        snapshots.restore(connection, 1, version, current(connection))


@pytest.mark.parametrize(
    ("present", "wanted", "steps_between"),
    [
        ([], [], []),
        ([1, 2], [1, 2], []),
        ([1, 2], [1], [(2, "revert")]),
        ([1], [1, 2], [(2, "apply")]),
        ([1, 2], [2, 1], [(2, "revert"), (1, "revert"), (2, "apply"), (1, "apply")]),
        ([1, 2, 3], [1, 4], [(3, "revert"), (2, "revert"), (4, "apply")]),
    ],
)
def test_the_way_between_two_lists_of_edits(present, wanted, steps_between):
    assert allowed_steps.way(present, wanted) == steps_between
