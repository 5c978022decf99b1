"""Units of work and their leases: who has what, until when, and what becomes of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from backends import BOTH

from kndb.store import work
from kndb.store.engine import Store
from kndb.store.processes import is_gone, own_name
from kndb.store.work import WorkUnit

BACKENDS = BOTH
ME, OTHER = "a machine 1 2 x", "another 1 2 y"
EVERY = frozenset(range(100))


@pytest.fixture
def connection(store: Store):
    with store.writing() as opened:
        work.plan(opened, "run 1", [[3, 4], [1, 2], [5]])
        work.plan(opened, "run 2", [[1]])
        yield opened


def leased(connection, holder, most=1, seconds=60.0, among=EVERY):
    return work.lease(connection, "run 1", among, holder, most, seconds)


def test_units_are_leased_in_order_each_to_one(connection):
    assert leased(connection, ME) == [WorkUnit(0, (3, 4))]
    assert leased(connection, OTHER, most=5) == [WorkUnit(1, (1, 2)), WorkUnit(2, (5,))]
    assert leased(connection, ME) == []
    assert work.left(connection, "run 1", EVERY) == 3
    assert work.left(connection, "run 1", {5}) == 1
    assert work.left(connection, "run 2", EVERY) == 1


def test_who_can_do_some_items_gets_units_of_these_alone(connection):
    assert leased(connection, ME, most=5, among={1, 2, 5, 3}) == [WorkUnit(1, (1, 2)), WorkUnit(2, (5,))]


def test_a_lease_that_ends_is_anybodys(connection):
    (mine,) = leased(connection, ME, seconds=-1.0)
    assert work.left(connection, "run 1", EVERY) == 3
    assert leased(connection, OTHER) == [mine]
    # What its first holder says of it now counts for nothing.
    work.finish(connection, "run 1", ME, mine)
    work.fail(connection, "run 1", ME, mine, "no")
    work.split(connection, "run 1", ME, mine, "no")
    work.reopen(connection, "run 1", ME, [mine], "no")
    work.prolong(connection, "run 1", ME, [mine], -100.0)
    assert work.count(connection, "run 1", work.LEASED) == 1
    work.finish(connection, "run 1", OTHER, mine, {"items": [0.1, None]})
    assert work.results(connection, "run 1") == [((3, 4), {"items": [0.1, None]})]


def test_prolonged_leases_last(connection):
    (mine,) = leased(connection, ME, seconds=-1.0)
    work.prolong(connection, "run 1", ME, [mine], 60.0)
    work.release_gone(connection, "run 1")
    assert work.count(connection, "run 1", work.LEASED) == 1


def test_a_unit_that_fails_is_opened_again_halved_and_given_up(connection):
    (unit,) = leased(connection, ME)
    work.reopen(connection, "run 1", ME, [unit], "too much")
    (again,) = leased(connection, ME)
    assert again == WorkUnit(0, (3, 4), 1)
    work.split(connection, "run 1", ME, again, "too much")
    halves = leased(connection, ME, most=9)[2:]
    assert [(half.items, half.attempts) for half in halves] == [((3,), 0), ((4,), 0)]
    work.fail(connection, "run 1", ME, halves[0], "too much")
    assert work.failed(connection, "run 1") == [(halves[0], "too much")]
    # Planned again, it is tried again.
    work.plan(connection, "run 1", [[3]])
    assert work.failed(connection, "run 1") == []


def test_a_new_plan_leaves_what_others_are_at(connection):
    leased(connection, ME)
    work.plan(connection, "run 1", [[1, 3, 6], [7]])
    assert [unit.items for unit in leased(connection, OTHER, most=9)] == [(1, 2), (5,), (6,), (7,)]


def test_a_new_plan_without_others_starts_afresh(connection):
    work.plan(connection, "run 1", [[1, 3, 6], [7]])
    assert [unit.items for unit in leased(connection, OTHER, most=9)] == [(1, 3, 6), (7,)]
    work.forget(connection, "run 1")
    assert work.left(connection, "run 1", EVERY) == 0
    assert work.left(connection, "run 2", EVERY) == 1


def test_what_a_process_that_is_gone_had_is_free_at_once(connection):
    program = "from kndb.store.processes import own_name; print(own_name())"
    gone = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    leased(connection, gone)
    leased(connection, own_name())
    leased(connection, OTHER)
    work.release_gone(connection, "run 1")
    assert [unit.items for unit in leased(connection, ME, most=9)] == [(3, 4)]


def test_names_of_processes():
    name = own_name()
    assert name != own_name()
    assert not is_gone(name)
    machine, _, _, noise = name.split(" ")
    assert is_gone(f"{machine} {os.getpid()} 1 {noise}")
    assert is_gone(f"{machine} 999999999 1 {noise}")
    assert not is_gone("elsewhere 999999999 1 x")
    assert not is_gone("somebody")
