"""What `kndb db check` finds in edits, versions, histories and snapshots."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from backends import BOTH, SQLITE
from sqlalchemy import Connection

from kndb.records.edits import SlotChange
from kndb.records.recipes import read_recipe
from kndb.store import models, snapshots, versions
from kndb.store.edits import edit as edits
from kndb.store.edits import steps
from kndb.store.edits.checks import check_edits
from kndb.store.engine import Store
from kndb.versions import version_id

BACKENDS = BOTH

BASE = version_id("f", {})


@pytest.fixture
def connection(store: Store, backend: str) -> Iterator[Connection]:
    """Edits 1 and 2 of slot 0, edit 3 of slot 1; 1 and 2 are applied, 3 was and is not."""
    with store.writing() as opened:
        # The tests damage the store: no reference is looked up.
        sqlite = backend == SQLITE
        opened.exec_driver_sql(
            "PRAGMA defer_foreign_keys=ON" if sqlite else "SET LOCAL session_replication_role=replica"
        )
        model = models.add_model(
            opened, name="tiny", source="x", fingerprint="f", family="bert", layers=1, neurons=9, version=BASE
        )
        versions.register_base(opened, model.id, BASE)
        for name, neuron, old, new in (("one", 0, "a", "b"), ("two", 0, "b", "c"), ("three", 1, "a", "b")):
            changes = [SlotChange("w", 0, neuron, old, new)]
            edit_id = edits.add_edit(opened, 1, read_recipe("update", {}), name, name, "current", changes)
            steps.apply_edit(opened, edit_id, current(opened))
        steps.revert_edit(opened, 3, current(opened))
        snapshots.create(opened, 1, "ready")
        assert check_edits(opened) == []
        yield opened
        opened.rollback()


def current(connection: Connection) -> str:
    return versions.current_model(connection, 1).version


@pytest.mark.parametrize(
    ("statement", "problems"),
    [
        (
            "UPDATE model SET version = 'v1'",
            ["the applied edits, edits [1, 2]", "the current version is v1"],
        ),
        ("UPDATE model SET fingerprint = 'g'", ["the base version", "it has to be known"]),
        (
            "DELETE FROM applied_edit WHERE edit_id = 2",
            ["the applied edits, edits [1]", "leaves edits [1, 2]"],
        ),
        ("DELETE FROM applied_edit WHERE edit_id = 1", ["can't be built: edit 2 expects sha256 b"]),
        ("UPDATE version SET edits = '[1]' WHERE edits = '[1, 2]'", ["edits [1], give version"]),
        ("UPDATE version SET edits = '[2]' WHERE edits = '[1]'", ["can't be built: edit 2 expects"]),
        ("UPDATE version SET edits = '[9]' WHERE edits = '[1]'", ["edit 9 has no value slots"]),
        ("DELETE FROM version WHERE edits = '[]'", ["the base version", "edit 1 was planned on version"]),
        ("DELETE FROM version WHERE edits = '[1, 2]'", ["snapshot 'ready' names", "history 2 ends at"]),
        (
            "DELETE FROM history WHERE id = 1",
            ["history 2 begins at", "leaves edits [2] applied, and [1, 2] are"],
        ),
        ("DELETE FROM history WHERE id = 2", ["history 3 begins at"]),
        ("DELETE FROM history WHERE id = 4", ["the history ends at version", "leaves edits [1, 2, 3]"]),
        ("UPDATE history SET version_after = 'v1' WHERE id = 4", ["history 4 ends at version v1"]),
        ("UPDATE history SET action = 'revert' WHERE id = 1", ["history 1 says revert of edit 1"]),
        ("UPDATE history SET action = 'apply' WHERE id = 4", ["history 4 says apply of edit 3"]),
        ("UPDATE edit_neuron SET new_sha256 = 'x' WHERE edit_id = 3", ["give version", "in place of"]),
        ("UPDATE edit_neuron SET base_sha256 = 'x' WHERE edit_id = 2", ["2 different hashes in the base"]),
        ("DELETE FROM edit_neuron WHERE edit_id = 3", ["edit 3 changes no value slot", "can't be built"]),
        ("UPDATE edit SET base_version = 'v1' WHERE id = 3", ["edit 3 was planned on version v1"]),
        ("UPDATE snapshot SET version = 'v1'", ["snapshot 'ready' names version v1, which is not known"]),
    ],
)
def test_what_does_not_fit_is_found(connection, statement, problems):
    assert connection.exec_driver_sql(statement).rowcount >= 1
    found = check_edits(connection)
    assert all(line.startswith("model tiny: ") for line in found)
    for problem in problems:
        assert any(problem in line for line in found), found


def test_a_restore_is_followed_both_ways(connection):
    snapshots.restore(connection, 1, "base", current(connection))
    snapshots.restore(connection, 1, "ready", BASE)
    assert check_edits(connection) == []


def test_the_problem_names_its_model(connection):
    twin = models.add_model(
        connection, name="twin", source="x", fingerprint="f", family="bert", layers=1, neurons=9, version=BASE
    )
    assert [line.split(":")[0] for line in check_edits(connection)] == ["model twin"]
    versions.register_base(connection, twin.id, BASE)
    assert check_edits(connection) == []
