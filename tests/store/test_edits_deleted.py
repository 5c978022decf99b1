"""Deleting edits: what nothing needs goes, and whatever something needs stays, with the reason."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import BOTH, SQLITE, Places, examples

from kndb.errors import EditError, NotFoundError, StoreError, UsageError
from kndb.records.edits import SlotChange
from kndb.records.maintenance import CheckReport
from kndb.records.recipes import read_recipe
from kndb.store import maintenance, models, snapshots, versions
from kndb.store.edits import deleting, edit, evaluations, steps
from kndb.store.engine import Store, open_store
from kndb.versions import version_id

BACKENDS = BOTH

BASE = version_id("f" * 64, {})


@pytest.fixture
def store(db_places: Places) -> Iterator[Store]:
    with db_places.new().store(timeout=0.05) as opened:
        for name in ("one", "two"):
            with opened.writing() as connection:
                model = models.add_model(
                    connection, name=name, source="folder", fingerprint="f" * 64, family="bert", layers=2, neurons=9,
                    version=BASE,
                )  # fmt: skip
                versions.register_base(connection, model.id, BASE)
        yield opened


def hashed(value: str) -> str:
    """The hash that stands for what a slot holds."""
    return hashlib.sha256(value.encode()).hexdigest()


@pytest.fixture
def add(store: Store):
    """Adds an edit of a neuron, with its object, planned on some edits, and gives its number."""

    def plan(neuron: int, old: str, new: str, on: tuple[int, ...] = (), model: int = 1) -> int:
        content = f"{neuron} {old} {new} {on}".encode()
        digest = hashlib.sha256(content).hexdigest()
        path = store.objects / digest[:2] / f"{digest}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        with store.writing() as connection:
            state = versions.slot_state(connection, model, list(on))
            version = versions.state_version("f" * 64, state)
            versions.keep_version(connection, model, version, list(on))
            changes = [SlotChange("down", 1, neuron, hashed(old), hashed(new))]
            recipe = read_recipe("erase", {"neurons": [f"L1.N{neuron}"]})
            return edit.add_edit(connection, model, recipe, digest, f"{digest[:2]}/{path.name}", version, changes)

    return plan


def delete(store: Store, *numbers: int) -> None:
    with store.writing() as connection:
        deleted = deleting.delete_edits(connection, numbers)
    deleting.remove_objects(store, store.objects, deleted.edits)


def held(store: Store) -> tuple[list[int], list[list[int]], int]:
    """The numbers of the edits, the edits of the versions, and how many objects there are; the store is sound."""
    assert maintenance.check(store) == CheckReport()
    with store.reading() as connection:
        rows = connection.exec_driver_sql("SELECT edits FROM version ORDER BY model_id, version").scalars().all()
        edits = [one.id for one in edit.edits(connection)]
    return edits, sorted(rows), len(list(store.objects.rglob("*.safetensors")))


def test_what_nothing_needs_goes_with_all_that_is_its_own(store, add):
    add(1, "a", "b")
    add(2, "c", "d")
    with store.writing() as connection:
        evaluations.add_evaluation(
            connection,
            edit_id=2,
            version_before=BASE,
            version_after="v" + 16 * "1",
            settings={},
            measures={"edited": {}, "control": {}},
        )
    with store.reading() as connection:
        planned = deleting.plan_deletion(connection, [2, 2])
    assert [(one.edit.id, one.evaluations) for one in planned.edits] == [(2, 1)]
    assert held(store) == ([1, 2], ["[]", "[]"], 2)
    delete(store, 2)
    assert held(store) == ([1], ["[]", "[]"], 1)
    with store.reading() as connection:
        assert evaluations.evaluations(connection) == []
    delete(store, 1)
    assert held(store) == ([], ["[]", "[]"], 0)
    assert list(store.objects.iterdir()) == []


def test_a_chain_goes_together_or_from_its_end(store, add):
    add(1, "a", "b")
    add(1, "b", "c", on=(1,))
    add(2, "x", "y", on=(1, 2))
    before = held(store)
    for numbers in ((1,), (2,), (1, 2), (1, 3), (2, 1)):
        with pytest.raises(EditError, match=r"can't be deleted alone: edit . was planned on a version with"):
            delete(store, *numbers)
    assert held(store) == before
    delete(store, 3)
    assert held(store) == ([1, 2], ["[1, 2]", "[1]", "[]", "[]"], 2), "a version that 1 and 2 lead to does no harm"
    delete(store, 2, 1)
    assert held(store) == ([], ["[]", "[]"], 0)


@pytest.mark.parametrize(("backend", "numbers"), examples(itertools.permutations((1, 2, 3))), indirect=["backend"])
def test_a_chain_goes_in_any_order_of_its_numbers(store, add, numbers):
    add(1, "a", "b")
    add(1, "b", "c", on=(1,))
    add(1, "c", "d", on=(1, 2))
    delete(store, *numbers)
    assert held(store) == ([], ["[]", "[]"], 0)


def test_an_edit_that_is_or_was_applied_stays(store, add):
    add(1, "a", "b")
    with store.writing() as connection:
        steps.apply_edit(connection, 1, BASE)
    with pytest.raises(EditError, match=r"edit 1 is applied to model one.*take it out .*db.edits.revert\(1\)"):
        delete(store, 1)
    with store.writing() as connection:
        steps.revert_edit(connection, 1, versions.current_model(connection, 1).version)
    with pytest.raises(EditError, match=r"edit 1 was applied to model one once \(\d{4}-\d\d-\d\d\): the log names it"):
        delete(store, 1)
    assert held(store)[0] == [1]


def test_a_version_of_the_log_that_another_edit_led_to_stays(store, add):
    """Two edits of the same bytes lead to one version, which is built by the one that was first."""
    add(1, "a", "b")
    add(2, "x", "y", on=(1,))
    with store.writing() as connection:
        twin = edit.add_edit(
            connection, 1, read_recipe("erase", {"neurons": ["L1.N1"], "top": 1}), "0" * 64, "00/x", BASE,
            [SlotChange("down", 1, 1, hashed("a"), hashed("b"))],
        )  # fmt: skip
        steps.apply_edit(connection, twin, BASE)
    with pytest.raises(EditError, match=r"the current version of model one is built with edit 1"), store.writing() as c:
        deleting.delete_edits(c, [1, 2])
    with store.writing() as connection:
        steps.revert_edit(connection, twin, versions.current_model(connection, 1).version)
    with pytest.raises(EditError, match=r"the log's step \d is of version v\w+, which is built with edit 1"):
        delete(store, 1, 2)


def test_a_snapshot_and_results_keep_their_versions(store, add):
    add(1, "a", "b")
    add(2, "x", "y", on=(1,))
    with store.writing() as connection:
        version = edit.edit(connection, 2).base_version
        snapshots.create(connection, 1, "mine", version)
    with pytest.raises(EditError, match=r"snapshot 'mine' names a version with edit 1. Delete the snapshot first"):
        delete(store, 1, 2)
    with store.writing() as connection:
        snapshots.delete(connection, 1, "mine")
        connection.exec_driver_sql(
            "INSERT INTO edit_trial (model_id, version, kind, settings, status, created_at) "
            "VALUES (1, ?, 'bench', '{}', 'running', '')",
            (version,),
        )
    with pytest.raises(EditError, match=r"trial 1 is of version v\w+, which is built with edit 1"):
        delete(store, 1, 2)
    with store.writing() as connection:
        connection.exec_driver_sql("DELETE FROM edit_trial")
    add(3, "m", "n")
    with store.writing() as connection:
        evaluations.add_evaluation(
            connection,
            edit_id=3,
            version_before=version,
            version_after="v" + 16 * "1",
            settings={},
            measures={"edited": {}, "control": {}},
        )
    with pytest.raises(EditError, match=r"edit 3 was measured on version v\w+.*db.edits.delete\(\[1, 2, 3\]\)"):
        delete(store, 1, 2)
    delete(store, 1, 2, 3)
    assert held(store) == ([], ["[]", "[]"], 0)


def test_another_models_edit_of_the_same_object_keeps_the_file(store, add):
    add(1, "a", "b")
    add(1, "a", "b", model=2)
    delete(store, 1)
    assert held(store) == ([2], ["[]", "[]"], 1)
    delete(store, 2)
    assert held(store) == ([], ["[]", "[]"], 0)


def test_another_database_of_this_folder_keeps_the_file(store, add, backend):
    add(1, "a", "b")
    if backend == SQLITE:
        open_store(store.path.with_suffix(".sqlite"), create=True).close()
    else:
        with (store.objects / "stores.txt").open("a") as file:
            file.write("1/another/public\n")
    delete(store, 1)
    assert len(list(store.objects.rglob("*.safetensors"))) == 1


def test_an_object_that_is_added_meanwhile_stays(store, add, backend):
    add(1, "a", "b")
    with store.writing() as connection:
        deleted = deleting.delete_edits(connection, [1])
    add(1, "a", "b")
    deleting.remove_objects(store, store.objects, deleted.edits)
    # A server gives no number twice.
    assert held(store) == ([1 if backend == SQLITE else 2], ["[]", "[]"], 1)


def test_a_crash_between_leaves_a_file_that_a_repair_removes(store, add):
    add(1, "a", "b")
    with store.writing() as connection:
        deleting.delete_edits(connection, [1])
    report = maintenance.check(store, repair=True)
    assert report.sound
    assert len(report.repaired) == 1
    assert held(store)[2] == 0


def test_a_file_that_cannot_be_removed_is_named(store, add, monkeypatch):
    add(1, "a", "b")

    def fails(path, missing_ok=False):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", fails)
    with pytest.raises(StoreError, match=r"the edits were deleted, but the object .* can't be removed: Permission"):
        delete(store, 1)


def test_no_row_leads_out_of_the_folder_of_objects(store, add, tmp_path):
    add(1, "a", "b")
    (tmp_path / "outside").mkdir()
    other = tmp_path / "outside" / f"{'0' * 64}.safetensors"
    other.write_text("mine")
    with store.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE edit SET object_hash = ?, object_path = ?", ("../outside/" + "0" * 64, "../outside/x")
        )
    delete(store, 1)
    again = add(1, "a", "b")
    (store.objects / "00").symlink_to(tmp_path / "outside")
    with store.writing() as connection:
        connection.exec_driver_sql("UPDATE edit SET object_hash = ?", ("0" * 64,))
    delete(store, again)
    assert other.read_text() == "mine"


def test_nothing_and_nobody(store, add):
    with pytest.raises(UsageError, match="there is no edit to delete"):
        delete(store)
    add(1, "a", "b")
    with pytest.raises(NotFoundError, match="no edit 2"):
        delete(store, 1, 2)
    assert held(store)[0] == [1]
