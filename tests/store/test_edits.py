"""Adding, listing, applying and reverting edits, told by their slots' hashes alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from backends import BOTH
from sqlalchemy import Connection

from kndb.errors import ConflictError, EditError, NotFoundError, StoreDamagedError, VersionMovedError
from kndb.records.edits import Edit, SlotChange
from kndb.records.facts import FactFile, FactRecord
from kndb.records.recipes import read_recipe
from kndb.records.versions import HistoryEntry
from kndb.store import facts, models, versions
from kndb.store.edits import edit as edits
from kndb.store.edits import steps
from kndb.store.engine import Store
from kndb.versions import version_id

BACKENDS = BOTH

BASE = version_id("f" * 64, {})


def change(neuron: int, old: str, new: str) -> SlotChange:
    return SlotChange("down.1", 1, neuron, old, new)


def add_model(connection: Connection, name: str = "tiny") -> int:
    model = models.add_model(
        connection, name=name, source="folder", fingerprint="f" * 64, family="bert", layers=2, neurons=9,
        version=BASE,
    )  # fmt: skip
    versions.register_base(connection, model.id, BASE)
    return model.id


def add(connection: Connection, *changes: SlotChange, name: str, on: str = "current", model_id: int = 1) -> int:
    recipe = {"λ": [1.0, 8.0]}
    return edits.add_edit(connection, model_id, read_recipe("update", recipe), name, f"{name}.safetensors", on, changes)


def current(connection: Connection) -> str:
    return versions.current_model(connection, 1).version


def apply(connection: Connection, *edit_ids: int) -> None:
    for edit_id in edit_ids:
        steps.apply_edit(connection, edit_id, current(connection))


def revert(connection: Connection, *edit_ids: int) -> None:
    for edit_id in edit_ids:
        steps.revert_edit(connection, edit_id, current(connection))


@pytest.fixture
def connection(store: Store) -> Iterator[Connection]:
    with store.writing() as opened:
        add_model(opened)
        yield opened


def refused(kind: type[Exception], function, *arguments) -> str:
    with pytest.raises(kind) as caught:
        function(*arguments)
    assert type(caught.value) is kind
    return str(caught.value)


# --- adding and listing ---------------------------------------------------------------------------


def test_an_added_edit_is_listed(connection, monkeypatch):
    monkeypatch.setenv("KNDB_AUTHOR", "ada")
    assert add(connection, change(3, "a", "b"), change(1, "c", "d"), name="one") == 1
    edit = edits.edit(connection, 1)
    expected = Edit(
        1,
        "tiny",
        "update",
        read_recipe("update", {"λ": [1.0, 8.0]}),
        "one",
        "one.safetensors",
        BASE,
        edit.created_at,
        2,
        False,
        "ada",
    )
    assert edit == expected
    assert edits.edits(connection) == edits.edits(connection, 1) == [expected]
    assert edits.edits(connection, 2) == []
    assert edits.edit_slots(connection, 1) == [change(1, "c", "d"), change(3, "a", "b")]
    apply(connection, 1)
    assert edits.edit(connection, 1).applied


def test_an_edit_may_name_a_fact_and_a_relation(connection):
    facts.ingest(connection, [FactFile("x", {"P1": None}, (), (FactRecord("P1", "s", "o"),))])
    edit_id = edits.add_edit(
        connection,
        1,
        read_recipe("update", {}),
        "x",
        "x.safetensors",
        BASE,
        [change(1, "a", "b")],
        fact_id=1,
        relation_id=1,
    )
    row = connection.exec_driver_sql("SELECT fact_id, relation_id FROM edit WHERE id = ?", (edit_id,)).one()
    assert tuple(row) == (1, 1)


def test_the_same_object_is_one_edit(connection):
    assert add(connection, change(3, "a", "b"), name="one") == 1
    assert add(connection, change(3, "a", "b"), name="one") == 1
    assert len(edits.edits(connection)) == 1
    add_model(connection, "twin")
    assert add(connection, change(3, "a", "b"), name="one", model_id=2) == 2
    assert [edit.model for edit in edits.edits(connection)] == ["tiny", "twin"]


def test_an_edit_must_change_something_and_no_slot_twice(connection):
    assert "no value slot" in refused(EditError, lambda: add(connection, name="one"))
    twice = [change(3, "a", "b"), change(3, "a", "c")]
    assert "L1.N3 twice" in refused(EditError, lambda: add(connection, *twice, name="one"))


def test_an_edit_must_fit_the_version_that_it_was_planned_on(connection):
    apply(connection, add(connection, change(3, "a", "b"), name="one"))
    message = refused(EditError, lambda: add(connection, change(3, "a", "c"), name="two"))
    assert "L1.N3 holds sha256 b there, and the edit changes a" in message
    # Edit one told what the slot holds in the base checkpoint.
    refused(EditError, lambda: add(connection, change(3, "b", "c"), name="two", on="base"))
    add(connection, change(3, "a", "c"), name="two", on="base")
    add(connection, change(3, "b", "c"), name="three")
    rows = connection.exec_driver_sql("SELECT base_sha256 FROM edit_neuron").scalars().all()
    assert rows == ["a", "a", "a"]


def test_an_edit_of_an_unknown_version_or_model_is_refused(connection):
    refused(NotFoundError, lambda: add(connection, change(3, "a", "b"), name="one", on="v123456"))
    message = refused(NotFoundError, lambda: add(connection, change(3, "a", "b"), name="one", model_id=7))
    assert "db.models.all" in message


def test_unknown_edits(connection):
    for function in (edits.edit, edits.edit_slots):
        assert "db.edits.all()" in refused(NotFoundError, function, connection, 7)
    assert "db.edits.all()" in refused(NotFoundError, steps.apply_edit, connection, 7, BASE)
    assert "db.edits.all()" in refused(NotFoundError, steps.revert_edit, connection, 7, BASE)


# --- steps ----------------------------------------------------------------------------------------


def test_apply_and_revert_return_to_the_very_version(connection):
    add(connection, change(3, "a", "b"), name="one")
    applied = steps.apply_edit(connection, 1, BASE)
    version = version_id("f" * 64, {("down.1", 1, 3): "b"})
    assert applied == HistoryEntry(1, "tiny", "apply", 1, BASE, version, applied.created_at, applied.author)
    assert current(connection) == version
    assert versions.applied_edits(connection, 1) == [1]
    reverted = steps.revert_edit(connection, 1, version)
    assert reverted == HistoryEntry(2, "tiny", "revert", 1, version, BASE, reverted.created_at, reverted.author)
    assert current(connection) == BASE
    assert versions.applied_edits(connection, 1) == []
    assert edits.history(connection) == edits.history(connection, 1) == [applied, reverted]
    assert edits.history(connection, 2) == []


def test_planning_a_step_changes_nothing(connection):
    add(connection, change(3, "a", "b"), name="one")
    step = steps.plan_step(connection, 1, "apply")
    assert (step.edit_ids, step.model.version, step.version_after != BASE) == ((1,), BASE, True)
    assert current(connection) == BASE
    assert edits.history(connection) == []
    assert step.version_after == steps.apply_edit(connection, 1, BASE).version_after


def test_bytes_that_come_back_give_the_base_version(connection):
    apply(connection, add(connection, change(3, "a", "b"), name="there"))
    apply(connection, add(connection, change(3, "b", "a"), name="back"))
    assert current(connection) == BASE
    assert versions.version_edits(connection, 1, BASE) == []
    # Edit 1 still can't go: edit 2 builds on it.
    assert "edit 2" in refused(ConflictError, steps.revert_edit, connection, 1, BASE)


def test_a_version_keeps_its_first_road(connection):
    one, two = (add(connection, change(n, "a", "b"), name=str(n)) for n in (1, 2))
    apply(connection, one, two)
    version = current(connection)
    revert(connection, one, two)
    apply(connection, two, one)
    assert current(connection) == version
    assert versions.applied_edits(connection, 1) == [two, one]
    assert versions.version_edits(connection, 1, version) == [one, two]


def test_edits_of_other_slots_revert_in_any_order(connection):
    ids = [add(connection, change(n, "a", "b"), name=str(n)) for n in range(4)]
    apply(connection, *ids)
    revert(connection, ids[1], ids[0])
    apply(connection, ids[0])
    assert versions.applied_edits(connection, 1) == [ids[2], ids[3], ids[0]]
    revert(connection, ids[3], ids[2], ids[0])
    assert current(connection) == BASE


def test_applied_and_not_applied(connection):
    add(connection, change(3, "a", "b"), name="one")
    message = refused(EditError, steps.revert_edit, connection, 1, BASE)
    assert "not applied" in message
    assert "db.edits.apply(1)" in message
    apply(connection, 1)
    message = refused(EditError, steps.apply_edit, connection, 1, current(connection))
    assert "applied already" in message
    assert "db.edits.revert(1)" in message


def test_a_version_that_moved_is_refused(connection):
    add(connection, change(3, "a", "b"), name="one")
    apply(connection, 1)
    for function in (steps.apply_edit, steps.revert_edit):
        message = refused(VersionMovedError, function, connection, 1, BASE)
        assert f"moved from version {BASE} to {current(connection)}" in message
    assert len(edits.history(connection)) == 1


def test_an_overlap_names_edits_slots_and_commands(connection):
    six = range(6)
    wide = add(connection, *(change(n, "a", "w") for n in six), name="wide")
    low = add(connection, *(change(n, "a", "l") for n in six[:3]), name="low")
    high = add(connection, *(change(n, "a", "h") for n in six[3:]), name="high")
    apply(connection, low, high)
    before = current(connection)
    message = refused(ConflictError, steps.apply_edit, connection, wide, before)
    for part in (
        f"edit {wide} can't be applied to version {before} of model tiny",
        "6 value slots (L1.N0, L1.N1, L1.N2, L1.N3, L1.N4, …)",
        f"edit {low} and edit {high} changed them",
        f"first: db.edits.revert({high}), then db.edits.revert({low})",
        "plan the edit again on the current version",
    ):
        assert part in message
    assert current(connection) == before


def test_an_edit_planned_on_top_of_another_needs_it(connection):
    below = add(connection, change(3, "a", "b"), name="below")
    apply(connection, below)
    top = add(connection, change(3, "b", "c"), name="top")
    revert(connection, below)
    # The slot is untouched now: only its base hash tells that the edit doesn't fit.
    message = refused(ConflictError, steps.apply_edit, connection, top, BASE)
    assert f"it builds on edit {below}, not applied now" in message
    assert f"first: db.edits.apply({below})" in message
    apply(connection, below, top)
    revert(connection, top, below)
    assert current(connection) == BASE


def test_the_commands_leave_what_the_edit_builds_on(connection):
    apply(connection, add(connection, change(3, "a", "b"), name="below"))
    top = add(connection, change(3, "b", "c"), name="top")
    apply(connection, add(connection, change(3, "b", "d"), name="other"))
    message = refused(ConflictError, steps.apply_edit, connection, top, current(connection))
    assert "the edit changes: edit 3 changed them. Take these steps first: db.edits.revert(3)" in message
    revert(connection, 3)
    apply(connection, top)


def test_an_edit_planned_on_another_version_fits_where_the_bytes_do(connection):
    apply(connection, add(connection, change(1, "a", "b"), name="one"))
    other = add(connection, change(2, "a", "b"), name="two")
    revert(connection, 1)
    apply(connection, other)
    # Another way to the same bytes as edit 1's does as well.
    top = add(connection, change(1, "b", "c"), name="top", on=edits.history(connection)[0].version_after)
    apply(connection, add(connection, change(1, "a", "b"), change(4, "a", "b"), name="same"), top)


def test_a_later_edit_of_the_same_slot_stops_a_revert(connection):
    apply(connection, add(connection, change(1, "a", "b"), change(2, "a", "b"), name="one"))
    apply(connection, add(connection, change(2, "b", "c"), name="two"))
    apply(connection, add(connection, change(2, "c", "b"), name="three"))
    message = refused(ConflictError, steps.revert_edit, connection, 1, current(connection))
    for part in (
        "edit 1 can't be taken out",
        "edit 2 and edit 3, applied later, changed 1 value slot (L1.N2) too",
        "first: db.edits.revert(3), then db.edits.revert(2)",
    ):
        assert part in message
    revert(connection, 3, 2, 1)
    assert current(connection) == BASE


def test_an_edit_that_is_named_twice_is_refused(connection):
    one = add(connection, change(1, "a", "b"), name="one")
    two = add(connection, change(2, "a", "b"), name="two")
    message = refused(EditError, steps.plan_steps, connection, [one, two, two], "apply")
    assert message == "edit 2 is named twice; name each edit once"
    apply(connection, one, two)
    assert "edit 1 is named twice" in refused(EditError, steps.plan_steps, connection, [one, two, one], "revert")


def test_a_cascade_follows_overlaps_of_overlaps(connection):
    apply(connection, add(connection, change(1, "a", "b"), name="one"))
    apply(connection, add(connection, change(1, "b", "c"), change(2, "a", "b"), name="two"))
    apply(connection, add(connection, change(3, "a", "b"), name="apart"))
    apply(connection, add(connection, change(2, "b", "c"), change(4, "a", "b"), name="three"))
    apply(connection, add(connection, change(4, "b", "c"), name="four"))
    assert steps.plan_cascade(connection, 1)[1] == [5, 4, 2, 1]
    assert steps.plan_cascade(connection, 4)[1] == [5, 4]
    assert steps.plan_cascade(connection, 3)[1] == [3]


def test_an_edit_of_whole_parameters_alone(connection):
    whole = [SlotChange(name, versions.NO_LAYER, versions.NO_LAYER, "a", "b") for name in ("bias", "norm")]
    number = add(connection, *whole, name="one")
    assert [(slot.slot, slot.old, slot.new) for slot in versions.stored_slots(connection, 1, [number])[number]] == [
        (("bias", -1, -1), "a", "b"),
        (("norm", -1, -1), "a", "b"),
    ]
    apply(connection, number)
    assert current(connection) == version_id("f" * 64, {("bias", -1, -1): "b", ("norm", -1, -1): "b"})
    revert(connection, number)
    assert current(connection) == BASE


def test_the_version_that_an_edit_makes_of_another(connection):
    one = add(connection, change(1, "a", "b"), name="one")
    apply(connection, one)
    two = add(connection, change(2, "a", "b"), name="two")
    both = {("down.1", 1, 1): "b", ("down.1", 1, 2): "b"}
    assert versions.version_with_edit(connection, 1, "current", two) == version_id("f" * 64, both)
    assert versions.version_with_edit(connection, 1, "base", two) == version_id("f" * 64, {("down.1", 1, 2): "b"})
    assert versions.version_edits(connection, 1, "current") == [one]


def test_slot_state(connection):
    add(connection, change(1, "a", "b"), change(2, "x", "y"), name="one")
    apply(connection, 1)
    add(connection, change(1, "b", "c"), name="two")
    state = versions.slot_state(connection, 1, [1, 2])
    assert state == {("down.1", 1, 1): ("a", "c"), ("down.1", 1, 2): ("x", "y")}
    assert versions.slot_state(connection, 1, []) == {}
    for wrong in ([2], [2, 1], [1, 1], [1, 9]):
        assert "db.maintenance.check" in refused(StoreDamagedError, versions.slot_state, connection, 1, wrong)


def test_models_do_not_meet(connection):
    add_model(connection, "twin")
    apply(connection, add(connection, change(1, "a", "b"), name="one"))
    second = add(connection, change(1, "z", "b"), name="two", model_id=2)
    steps.apply_edit(connection, second, BASE)
    assert versions.applied_edits(connection, 2) == [second]
    assert [edit.id for edit in edits.edits(connection, 2)] == [second]
    assert [entry.model for entry in edits.history(connection)] == ["tiny", "twin"]
    refused(StoreDamagedError, versions.slot_state, connection, 1, [second])


def test_the_slots_of_several_edits(connection):
    ids = [add(connection, change(n, "a", "b"), name=str(n)) for n in range(5)]
    apply(connection, *ids)
    assert len(versions.slot_state(connection, 1, ids)) == 5


# --- versions -------------------------------------------------------------------------------------


def test_version_ids():
    slot, other = ("a", 1, 2), ("a", 1, 10)
    assert version_id("f", {}) != version_id("g", {})
    assert version_id("f", {slot: "x", other: "y"}) == version_id("f", {other: "y", slot: "x"})
    assert version_id("f", {slot: "x"}) != version_id("f", {slot: "y"})
    assert version_id("f", {("é", 1, 2): "x"})[0] == "v"
    assert len(version_id("f", {})) == 17


def test_resolving_versions(connection):
    apply(connection, add(connection, change(1, "a", "b"), name="one"))
    version = current(connection)
    for name, expected in {"base": BASE, "current": version, version: version, version[:6]: version}.items():
        assert versions.resolve_version(connection, 1, name) == expected
    assert versions.version_edits(connection, 1, "base") == []
    assert versions.version_edits(connection, 1, version[:4]) == [1]


def test_an_unknown_version_is_refused(connection):
    for name in ("", "v", "vzzz", "v0000000000000000", "current ", "Base", "%", "v___"):
        message = refused(NotFoundError, versions.resolve_version, connection, 1, name)
        assert f"no version {name!r}" in message
        assert "db.edits.log" in message
        refused(NotFoundError, versions.version_edits, connection, 1, name)


def test_a_prefix_of_several_versions_is_refused(connection):
    for version in ("vaaaa00000000000", "vaaaa11111111111"):
        versions.keep_version(connection, 1, version, [])
    message = refused(NotFoundError, versions.resolve_version, connection, 1, "vaaaa")
    assert "vaaaa00000000000, vaaaa11111111111" in message
    assert versions.resolve_version(connection, 1, "vaaaa1") == "vaaaa11111111111"


def test_the_base_version_must_be_the_fingerprints(connection):
    versions.register_base(connection, 1, BASE)
    assert BASE in refused(StoreDamagedError, versions.register_base, connection, 1, "v0000")
    refused(NotFoundError, versions.register_base, connection, 9, BASE)
