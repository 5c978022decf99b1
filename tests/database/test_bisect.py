"""Finding the step that broke knowledge tests, against a scan of every version; nothing of the store moves."""

from __future__ import annotations

import math
import random

import pytest
from random_edits import plan_random

import kndb
from kndb.database.testing.versions import TestedModel
from kndb.errors import KnowledgeTestError, UsageError
from kndb.records.knowledge_tests import FAILED, PASSED

CAPITALS = {"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Japan": "Tokyo", "Egypt": "Cairo", "Peru": "Lima"}
TESTS = [
    kndb.KnowledgeTest(subject, f"The capital city of {subject} is called [Y].", answers=answer)
    for subject, answer in CAPITALS.items()
]
NEVER = kndb.KnowledgeTest("never", "The capital city of France is called [Y].", answers="Rome")
ABSURD = kndb.KnowledgeTest("absurd", fact=12345)
"""One fails and one can't be asked at every version."""


@pytest.fixture
def history(fresh):
    """Makes a random history of applies, reverts and restores of edits that do little or much harm."""

    def make(seed, steps=9):
        database, draw = fresh("gpt2"), random.Random(seed)
        database.snapshots.create("start", "tiny")
        harm = [
            plan_random(database, number, [(1, 10 * number + k) for k in range(4)], scale)
            for number, scale in enumerate((0.1, 0.2, 4.0, 3.0, 0.1, 5.0))
        ]
        while len(database.edits.log("tiny")) < steps:
            applied = [edit.id for edit in database.edits.all("tiny") if edit.applied]
            action = draw.random()
            if action < 0.6:
                rest = [number for number in harm if number not in applied]
                if rest:
                    database.edits.apply(draw.choice(rest))
            elif action < 0.9 and applied:
                database.edits.revert(draw.choice(applied))
            elif action >= 0.95:
                database.snapshots.restore("start", "tiny")
        return database

    return make


@pytest.fixture
def plain_scan(small_models):
    """For each of a history's versions, from the base on, the names of the tests that pass; each is loaded anew."""

    def scan(database):
        log = database.edits.log("tiny")
        versions = [log[0].version_before, *(entry.version_after for entry in log)]
        found = {}
        for version in dict.fromkeys(versions):
            (run,) = database.tests.run("tiny", [*TESTS, NEVER, ABSURD], versions=[version])
            found[version] = {one.name for one in run.outcomes if one.status == PASSED}
        return log, versions, [found[version] for version in versions]

    return scan


@pytest.mark.parametrize("seed", range(4))
def test_the_step_is_one_at_which_tests_break_as_a_scan_of_all_versions_finds(
    history, plain_scan, sql, seed, monkeypatch
):
    database = history(seed)
    log, versions, passing = plain_scan(database)
    before = sql(database, "SELECT * FROM history"), sql(database, "SELECT version FROM model")
    loads = []
    load = type(database.models).load
    monkeypatch.setattr(type(database.models), "load", lambda self, *words: loads.append(words) or load(self, *words))
    last = len(versions) - 1
    start = max(place for place in range(last) if versions[place] == versions[0])
    matrix = database.tests.walk("tiny", [*TESTS, NEVER, ABSURD])
    assert matrix.versions == tuple(versions)
    for name, row in zip(matrix.names, matrix.statuses, strict=True):
        assert [status == PASSED for status in row] == [name in found for found in passing]
    assert matrix.probes == len(set(versions))
    assert len(loads) == 1
    watched = passing[start] - passing[last]
    if versions[last] == versions[0] or not watched:
        with pytest.raises((UsageError, KnowledgeTestError)):
            database.tests.bisect("tiny", [*TESTS, NEVER, ABSURD])
        return
    report = database.tests.bisect("tiny", [*TESTS, NEVER, ABSURD])
    place = next(number for number, entry in enumerate(log) if entry.id == report.step.entry.id)
    assert start <= place < last
    # The watched tests all pass right before the step; those named fail right after it.
    assert watched <= passing[place]
    assert {one.name for one in report.broken} == watched - passing[place + 1] != set()
    assert set(report.broke_later) == watched & passing[place + 1]
    assert set(report.left_out) == {one.name for one in [*TESTS, NEVER, ABSURD]} - passing[start]
    # Where no test comes back on the way, it is the first step that breaks one.
    broken = [bool(watched - found) for found in passing[start:]]
    if broken == sorted(broken):
        assert place + 1 == start + broken.index(True)
    steps = last - start
    assert (report.steps, report.good, report.bad) == (steps, versions[start], versions[last])
    assert report.probes <= math.ceil(math.log2(steps)) + 2
    assert len(loads) == 2
    assert before == (sql(database, "SELECT * FROM history"), sql(database, "SELECT version FROM model"))


def test_a_step_says_who_and_what_and_a_revert_can_break_too(fresh, monkeypatch):
    database = fresh("bert")
    monkeypatch.setenv("KNDB_AUTHOR", "ada")
    harm = plan_random(database, 1, [(1, neuron) for neuron in range(30)], 3.0)
    monkeypatch.setenv("KNDB_AUTHOR", "bob")
    database.edits.apply(harm)
    report = database.tests.bisect("tiny", TESTS)
    assert (report.step.entry.edit, report.step.does, report.step.planned_by) == (harm, "apply", "ada")
    assert (report.step.entry.author, report.probes, report.broke_later) == ("bob", 2, ())
    assert all(one.status == FAILED and one.why for one in report.broken)
    database.edits.revert(harm)
    back = database.tests.bisect(
        "tiny",
        [kndb.KnowledgeTest(one.name, one.test.prompt, refused=one.test.answers) for one in report.broken],
        good=report.bad,
    )
    assert (back.step.entry.edit, back.step.does) == (harm, "revert")


def test_what_can_not_be_searched_is_said(fresh):
    database = fresh("bert")
    with pytest.raises(UsageError, match="have the same weights"):
        database.tests.bisect("tiny", TESTS)
    database.edits.apply(plan_random(database, 1, [(0, 1)], 0.001))
    with pytest.raises(KnowledgeTestError, match="no test broke: all 6 that pass at base pass at current"):
        database.tests.bisect("tiny", TESTS)
    with pytest.raises(KnowledgeTestError, match=r"none of 2 tests passes at base .*never: answers 'Paris'"):
        database.tests.bisect("tiny", [NEVER, ABSURD])
    with pytest.raises(UsageError, match="'current' must come before version 'base'"):
        database.tests.bisect("tiny", TESTS, good="current", bad="base")
    assert TestedModel.__test__ is False
