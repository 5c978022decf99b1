"""`check` against the schema: what the revisions make has no difference, and each change of a part is one line."""

import sqlite3
from contextlib import closing

import pytest

from kndb.store import maintenance
from kndb.store.engine import Store, open_store
from kndb.store.schema_checks import expected_schema
from kndb.store.tables import Table


@pytest.fixture
def path(tmp_path):
    open_store(tmp_path / "kndb.db", create=True).close()
    return tmp_path / "kndb.db"


def changed(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as driver:
        driver.execute("PRAGMA foreign_keys=OFF")
        for statement in statements:
            driver.execute(statement)
    with Store(path) as store:
        return maintenance.check(store).problems


def test_every_part_is_looked_at(store):
    with store.reading() as connection:
        parts = expected_schema(connection).parts
    assert {name for kind, name in parts if kind == "table"} == {*Table.metadata.tables, "alembic_version"}
    columns = {f"{table.name}.{column.name}" for table in Table.metadata.tables.values() for column in table.columns}
    assert {name for kind, name in parts if kind == "column"} == {*columns, "alembic_version.version_num"}
    assert {name for kind, name in parts if kind == "index"} == {
        index.name for table in Table.metadata.tables.values() for index in table.indexes
    }
    kinds = [kind for kind, _ in parts]
    assert kinds.count("check constraint") == 13
    assert kinds.count("unique constraint") >= 5
    assert kinds.count("reference") > 30


def test_a_new_database_is_sound(path):
    assert changed(path) == ()


REBUILT = "CREATE TABLE relation (id INTEGER NOT NULL, {}, CONSTRAINT pk_relation PRIMARY KEY (id){})"
UNIQUE = ", CONSTRAINT uq_relation_key UNIQUE (key)"


@pytest.mark.parametrize(
    ("columns", "constraints", "said"),
    [
        ("key VARCHAR NOT NULL, label VARCHAR", "", "unique constraint relation (key) is missing"),
        (
            "key VARCHAR, label VARCHAR",
            UNIQUE,
            "column relation.key is TEXT, nullable; it must be TEXT, NOT NULL",
        ),
        (
            "key VARCHAR NOT NULL, label INTEGER",
            UNIQUE,
            "column relation.label is INTEGER, nullable; it must be TEXT, nullable",
        ),
        (
            "key VARCHAR NOT NULL, label VARCHAR DEFAULT 'x'",
            UNIQUE,
            "column relation.label is TEXT, nullable, default 'x'; it must be TEXT, nullable",
        ),
        (
            "key VARCHAR NOT NULL, label VARCHAR",
            UNIQUE + ", CHECK (label <> 'x')",
            "check constraint relation (label <> 'x') is not kndb's",
        ),
        (
            "key VARCHAR NOT NULL, label VARCHAR REFERENCES fact (id)",
            UNIQUE,
            "reference relation.label is not kndb's",
        ),
    ],
)
def test_a_table_that_was_made_anew(path, columns, constraints, said):
    assert changed(path, "DROP TABLE relation", REBUILT.format(columns, constraints)) == (said,)


def test_how_a_statement_is_written_makes_no_difference(path):
    columns = '"key"   TEXT NOT NULL,\n label CHARACTER(20)'
    assert changed(path, "DROP TABLE relation", REBUILT.format(columns, UNIQUE)) == ()


def test_of_a_missing_table_nothing_else_is_said(path):
    assert changed(path, "DROP TABLE fact") == ("table fact is missing",)
    assert changed(path, "CREATE VIEW fact AS SELECT * FROM prompt") == (
        "table fact is missing; a view that is not kndb's stands in its place",
        "view fact is not kndb's",
    )


def test_a_table_with_row_numbers_in_place_of_one_without(path):
    (problem,) = changed(
        path,
        "ALTER TABLE fact_alias RENAME TO old",
        "CREATE TABLE fact_alias (external_id VARCHAR NOT NULL, fact_id INTEGER NOT NULL, "
        "PRIMARY KEY (external_id, fact_id), FOREIGN KEY(fact_id) REFERENCES fact (id) ON DELETE CASCADE)",
        "DROP TABLE old",
        "CREATE INDEX ix_fact_alias_fact_id ON fact_alias (fact_id)",
    )
    assert problem == "table fact_alias is a table; it must be a table without row numbers"
