"""Which edits build each version, in histories longer than one row holds; and what a step of a long history reads."""

from __future__ import annotations

import random

import pytest
from backends import BOTH, SQLITE
from sqlalchemy import event

from kndb.errors import ConflictError, StoreDamagedError
from kndb.records.edits import SlotChange
from kndb.records.recipes import read_recipe
from kndb.store import models, version_lists, versions
from kndb.store.edits import deleting, steps
from kndb.store.edits import edit as edits
from kndb.store.edits.checks import check_edits
from kndb.store.tables import VersionRow
from kndb.versions import version_id

BACKENDS = BOTH
BASE = version_id("f", {})
SLOTS = 40


@pytest.fixture
def connection(store, monkeypatch):
    """A registered model, in a transaction; rows go on from whole lists for three edits at most."""
    monkeypatch.setattr(version_lists, "SEGMENT", 3)
    with store.writing() as opened:
        about = {"name": "tiny", "source": "x", "fingerprint": "f", "family": "bert"}
        model = models.add_model(opened, **about, layers=1, neurons=SLOTS, version=BASE)
        versions.register_base(opened, model.id, BASE)
        yield opened
        opened.rollback()


def add(connection, number, neuron, old, new):
    """Adds an edit of one slot that is planned on the current version."""
    changes = [SlotChange("w", 0, neuron, old, new)]
    name = f"edit {number}"
    return edits.add_edit(connection, 1, read_recipe("update", {}), name, name, "current", changes)


def current(connection):
    return versions.current_model(connection, 1).version


def lengthen(connection, first, last):
    """Adds edits of a slot each, and applies them; gives their numbers."""
    numbers = [add(connection, number, number, "base", f"new {number}") for number in range(first, last)]
    for number in numbers:
        steps.apply_edit(connection, number, current(connection))
    return numbers


def test_a_random_history_keeps_every_list(connection):
    """Against the lists kept beside the store, with reverts from the middle and versions that come up again."""
    chance = random.Random(3)
    numbers = [add(connection, number, number, "base", f"new {number}") for number in range(SLOTS)]
    kept, applied = {BASE: []}, []
    for _ in range(90):
        left = [one for one in numbers if one not in applied]
        if left and (not applied or chance.random() < 0.7):
            step = steps.apply_edit(connection, chance.choice(left), current(connection))
            applied = [*applied, step.edit]
        else:
            step = steps.revert_edit(connection, chance.choice(applied), current(connection))
            applied = [one for one in applied if one != step.edit]
        kept.setdefault(step.version_after, applied)
    assert {name: version_lists.listed_edits(connection, 1, name) for name in kept} == kept
    assert check_edits(connection) == []
    for name in kept:  # the same, found by name
        assert versions.version_edits(connection, 1, name) == kept[name]


def test_the_room_of_a_history_grows_as_it_does(connection):
    lengthen(connection, 0, SLOTS)
    rows = version_lists.version_lists(connection, 1)
    assert len(rows) == SLOTS + 1
    whole = [row for row in rows.values() if row.since is None]
    assert len(whole) <= 4 + SLOTS // 4  # lists of at most SEGMENT edits, and one of each SEGMENT + 1 after them
    assert all(len(row.edits) <= 3 for row in rows.values() if row.since is not None)


def test_deleting_finds_edits_in_lists_that_go_on_from_others(connection):
    numbers = lengthen(connection, 0, 9)
    built = {
        name: version_lists.listed_edits(connection, 1, name) for name in version_lists.version_lists(connection, 1)
    }
    some = [numbers[2], numbers[5]]
    expected = {name: [one for one in some if one in every] for name, every in built.items()}
    assert deleting.versions_with(connection, 1, some) == {name: found for name, found in expected.items() if found}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("since = 'v0000000000000000'", "v0000000000000000, whose edits come first, has no whole list"),
        (f"since = '{BASE}'", "can't be built|give version"),
        ("edits = '[]'", "give version"),
    ],
)
def test_damage_of_a_list_is_found(connection, change, problem):
    lengthen(connection, 0, 6)
    name = next(name for name, row in version_lists.version_lists(connection, 1).items() if row.since is not None)
    connection.exec_driver_sql(f"UPDATE version SET {change} WHERE version = '{name}'")
    found = check_edits(connection)
    assert any(part in one for one in found for part in problem.split("|")), found


def test_a_list_that_goes_on_from_nothing_is_refused(connection):
    lengthen(connection, 0, 6)
    name = next(name for name, row in version_lists.version_lists(connection, 1).items() if row.since is not None)
    connection.exec_driver_sql(f"UPDATE version SET since = 'v0000000000000000' WHERE version = '{name}'")
    with pytest.raises(StoreDamagedError, match="has no whole list"):
        versions.version_edits(connection, 1, name)


def test_a_version_is_found_by_its_start(connection):
    lengthen(connection, 0, 12)
    known = sorted(version_lists.version_lists(connection, 1))
    for name in known:
        alike = [other for other in known if other.startswith(name[:6])]
        if len(alike) == 1:
            assert versions.resolve_version(connection, 1, name[:6]) == name
    assert versions._begin_alike(connection, 1, "v") == known
    assert versions._begin_alike(connection, 1, "") == versions._begin_alike(connection, 1, "é") == []


# --- what a step reads ----------------------------------------------------------------------------


def read(connection, ask):
    """How many statements a call runs."""
    statements = []

    def remember(_connection, _cursor, statement, *_rest):
        statements.append(statement)

    event.listen(connection.engine, "before_cursor_execute", remember)
    try:
        ask()
    finally:
        event.remove(connection.engine, "before_cursor_execute", remember)
    return len(statements)


def test_planning_steps_reads_the_slots_that_they_touch(connection):
    """However many edits are applied: the slots read are the edit's own, and those of edits of the same slots."""
    numbers = lengthen(connection, 0, 20)
    again = add(connection, 99, 7, "new 7", "newer")
    assert set(steps._slots_of(connection, 1, [again])) == {again, numbers[7]}
    short = read(connection, lambda: steps.plan_steps(connection, [again], "apply"))
    lengthen(connection, 20, SLOTS)
    assert read(connection, lambda: steps.plan_steps(connection, [again], "apply")) == short


def test_what_builds_on_an_edit_is_found_from_slot_to_slot(connection):
    """Edits of slots 1; 1 and 2; 3; 2 and 4; 4; 5: from the first, all of them but those of 3 and of 5."""
    held, numbers = {}, []
    for number, neurons in enumerate([(1,), (1, 2), (3,), (2, 4), (4,), (5,)]):
        changes = [SlotChange("w", 0, one, held.get(one, "base"), f"{number} {one}") for one in neurons]
        held |= {one: f"{number} {one}" for one in neurons}
        name = f"edit {number}"
        numbers.append(edits.add_edit(connection, 1, read_recipe("update", {}), name, name, "current", changes))
        steps.apply_edit(connection, numbers[-1], current(connection))
    _, order = steps.plan_cascade(connection, numbers[0])
    assert order == [numbers[place] for place in (4, 3, 1, 0)]
    assert steps.plan_cascade(connection, numbers[3])[1] == [numbers[4], numbers[3]]
    with pytest.raises(ConflictError, match="can't be taken out"):
        steps.plan_steps(connection, [numbers[0]], "revert")


def test_indexes_find_the_edits_of_a_slot(store, backend):
    if backend != SQLITE:
        pytest.skip("PostgreSQL chooses by the tables' sizes")
    from kndb.store.backends.sqlite import _rendered

    with store.reading() as opened:
        for statement, values in zip(
            versions._SLOTS_TOUCHED,
            ({"model": 1, "places": "[[0, 1]]"}, {"model": 1, "names": '["w"]'}),
            strict=True,
        ):
            driver = opened.connection.driver_connection
            plan = [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {_rendered(statement)}", values)]
            assert not [
                step for step in plan if step.startswith("SCAN") and "asked" not in step and "VIRTUAL" not in step
            ]
            assert any("USING INDEX ix_edit_" in step for step in plan), plan


def test_there_is_one_row_for_each_version(connection):
    lengthen(connection, 0, 5)
    version_lists.keep_version(connection, 1, current(connection), [1])
    assert len(connection.execute(VersionRow.__table__.select()).all()) == 6
    assert len(version_lists.listed_edits(connection, 1, current(connection))) == 5
