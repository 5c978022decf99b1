"""The rules of columns: the check in SQL and the check of what is read agree on any value."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kndb.errors import StoreDamagedError
from kndb.store import row_checks
from kndb.store.backends import sqlite
from kndb.store.backends.sqlite import SqliteBackend
from kndb.store.column_rules import FORMS
from kndb.store.engine import open_store
from kndb.store.stored_types import StoredType
from kndb.store.tables import Table

RULED = [
    (table.name, column.name, column.type.rule) for table in Table.metadata.sorted_tables for column in table.columns
]
RULES = sorted({rule for _, _, rule in RULED}, key=repr)
ANY = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=6),
    st.binary(max_size=6),
    st.sampled_from(
        [0, 1, -1, 9_999, 10_000, 0.5, 1.5, "0" * 64, "unknown", "v0123456789abcdef", "2026-01-02T03:04:05"]
    ),
)


def breaks(rule, value):
    """Whether the SQL says that a value breaks a rule."""
    with closing(sqlite3.connect(":memory:")) as driver:
        driver.create_function("kndb_fits_form", 2, sqlite._fits_form)
        driver.create_function("kndb_is_text", 1, sqlite._is_text)
        return bool(
            driver.execute(
                f"SELECT {SqliteBackend(Path('x')).breaks('x', rule)} FROM (SELECT ? AS x)", (value,)
            ).fetchone()[0]
        )


def test_every_column_has_a_rule():
    assert all(
        isinstance(column.type, StoredType) for table in Table.metadata.sorted_tables for column in table.columns
    )
    by_place = {f"{table}.{column}": rule for table, column, rule in RULED}
    assert by_place["score.layer"].most == 9_999
    assert by_place["run.settings"].kind == "object"
    assert by_place["version.edits"].kind == "list"
    assert by_place["template.held_out"].kind == "flag"
    assert by_place["edit_neuron.old_sha256"].form == "sha256"
    assert by_place["history.created_at"].form == "time"
    assert by_place["fact.relation_id"].least == 1
    assert {rule.form for rule in RULES} - {None} == set(FORMS)


@given(st.sampled_from(RULES), ANY)
def test_what_can_not_be_read_is_found_by_the_check(rule, value):
    if not rule.can_be_read(value):
        assert breaks(rule, value)


@given(st.sampled_from(RULES))
def test_null_is_left_to_sqlite(rule):
    assert not breaks(rule, None)


@given(
    st.sampled_from([rule for rule in RULES if rule.kind in ("whole", "number")]),
    st.floats(-10, 20_000) | st.integers(),
)
def test_bounds_are_those_of_the_rule(rule, value):
    right_type = isinstance(value, int) or rule.kind == "number"
    if abs(value) < 2**62:
        assert breaks(rule, value) == (not right_type or not rule.least <= value <= rule.most)


@pytest.mark.parametrize(
    ("form", "right", "wrong"),
    [
        ("time", ["2026-01-02T03:04:05+00:00", "2026-01-02"], ["soon", "", "2026-13-01"]),
        ("sha256", ["0f" * 32], ["", "0f" * 31, "0F" * 32, "0f" * 32 + "\n"]),
        ("fingerprint", ["", "ab" * 32], ["ab"]),
        ("version", ["v0123456789abcdef", "unknown"], ["v", "base", "v0123456789abcdeg", "v0123456789abcdef "]),
    ],
)
def test_forms(form, right, wrong):
    assert all(map(FORMS[form].fits, right))
    assert not any(map(FORMS[form].fits, wrong))


def test_of_many_rows_the_first_are_named_and_the_rest_counted(tmp_path):
    with open_store(tmp_path / "kndb.db", create=True) as store, store.writing() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        rows = [(number, f"P{number}", b"x") for number in range(1, 101)]
        connection.exec_driver_sql("INSERT INTO relation VALUES (?, ?, ?)", rows)
        problems = [problem.text for problem in row_checks.check_rows(connection)]
    assert len(problems) == row_checks.LISTED + 1
    assert problems[0] == "table relation, row 1, column label: a blob of 1 byte; it must be text"
    assert problems[-1] == "table relation, column label: 80 more rows; it must be text"


def test_what_a_statement_reads_goes_through_the_rules(tmp_path):
    from sqlalchemy import select

    from kndb.store.tables import RelationRow

    with open_store(tmp_path / "kndb.db", create=True) as store:
        with store.writing() as connection:
            connection.exec_driver_sql("INSERT INTO relation VALUES (1, x'ff', NULL)")
        with (
            store.reading() as connection,
            pytest.raises(StoreDamagedError, match=r"relation\.key holds a blob of 1 byte"),
        ):
            connection.execute(select(RelationRow.key)).all()
