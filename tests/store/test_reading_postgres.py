"""A user's SQL on PostgreSQL: it can only read, within its limits, and answers as SQLite would; on a real server."""

from __future__ import annotations

import logging
import resource

import pytest
from backends import POSTGRESQL, Places
from filled_store import fill

from kndb.database import Database
from kndb.errors import UsageError
from kndb.store.queries import reading_postgres
from kndb.store.queries.reading_sql import read_sql
from kndb.store.queries.sql_limits import SqlLimits
from kndb.store.tables import Table

BACKENDS = (POSTGRESQL,)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A store without rows, which no test changes."""
    places = Places(POSTGRESQL, tmp_path_factory.mktemp("reading"))
    with places.new().store() as opened:
        yield opened
    places.close()


def test_a_query_reads(store):
    with Database(store) as database:
        fill(database, experiments=False)
        columns, rows = database.query.sql(
            "SELECT key, key, 1.5 AS n, sum(length(key)) FROM relation GROUP BY key, label;"
        )
    assert columns == ["key", "key_2", "n", "sum"]
    assert sorted(rows)[1:] == [("P36", "P36", 1.5, 3), ("P37", "P37", 1.5, 3)]
    many = read_sql(store.backend, "SELECT * FROM generate_series(1, 1200)")[1]
    assert [row[0] for row in many] == list(range(1, 1201))
    assert read_sql(store.backend, "SELECT * FROM fact_alias WHERE false") == (
        ["external_id", "fact_id"],
        [],
    )


@pytest.mark.parametrize(
    "query", ["EXPLAIN SELECT 1", "-- why\nSHOW work_mem", "/* a /* b */ c */ explain TABLE fact;"]
)
def test_a_query_describes(empty, query):
    columns, rows = read_sql(empty.backend, query)
    assert columns[0] in ("QUERY PLAN", "work_mem")
    assert rows


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("now() > '2020-01-01'", True),
        ("null", None),
        ("2^62::numeric", 2**62),
        ("-9223372036854775808", -(2**63)),
        ("9223372036854775808", 9223372036854775808.0),
        ("1e400::numeric", "1" + "0" * 400),
        ("'-inf'::float8", float("-inf")),
        ("'[1, 2.50]'::jsonb", "[1, 2.50]"),
        ("'{\"a\":  1}'::json", '{"a":  1}'),
        ("ARRAY[1, NULL]", "{1,NULL}"),
        ("ARRAY['a,b']", '{"a,b"}'),
        ("'99999-01-01'::date", "99999-01-01"),
        ("'0044-03-15 BC'::date", "0044-03-15 BC"),
        ("'infinity'::timestamp", "infinity"),
        ("'400 days'::interval", "400 days"),
        ("'\\x00ff'::bytea", b"\x00\xff"),
        ("'é%s%(x)s?'", "é%s%(x)s?"),
    ],
)
def test_values_are_texts_and_numbers(empty, value, expected):
    assert read_sql(empty.backend, f"SELECT {value}")[1] == [(expected,)]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("DELETE FROM relation", "not allowed here"),
        ("WITH gone AS (DELETE FROM relation RETURNING 1) SELECT * FROM gone", "data-modifying|not allowed"),
        ("SELECT 1; DROP TABLE relation", "one statement"),
        ("COMMIT", "not allowed here"),
        ("SELECT setval('relation_id_seq', 7)", "read-only"),
        ("SELECT set_config('transaction_read_only', 'off', false)", "read-write mode"),
        ("SELECT * FROM relatoin", "the nearest .*relation"),
        ("SELECT lable FROM relation", r"the nearest .*relation\.label"),
        ("SELECT 1 + $1", "in place of parameters"),
        ("SELECT 1/0", "division by zero"),
        (" ; ", "there is no statement"),
        ("CREATE TABLE x (y int)", "not allowed here"),
        ("SELECT", "no columns"),
        ("-- only this", "there is no statement"),
        ("/* and /* this", "there is no statement"),
        ("SELECT 'a'\0; COMMIT", "character NUL"),
        ("SELECT 1; COMMIT; DELETE FROM relation", "one statement"),
        ("EXPLAIN SELECT 1; DELETE FROM relation", "one statement"),
        ("EXPLAIN ANALYZE DELETE FROM relation", "can't run this query: syntax error"),
        ("EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1", "can't run this query: syntax error"),
        ("EXPLAIN (ANALYZE) SELECT 1 INTO x", "INTO is not allowed here"),
        ("EXPLAIN ANALYZE VERBOSE WITH gone AS (DELETE FROM relation RETURNING 1) TABLE gone", "data-modifying"),
        ("EXPLAIN EXECUTE x", "can't run this query: syntax error"),
        # A comment within a comment hides no statement that is no query.
        ("/* /* */ EXPLAIN */ COMMIT", "not allowed here"),
        ("/* /* */ SHOW */ SET TRANSACTION READ WRITE", "not allowed here"),
        ("/* /* */ SHOW */ COPY relation TO PROGRAM 'false'", "not allowed here"),
        ("SET TRANSACTION READ WRITE", "not allowed here"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "not allowed here"),
        ("ROLLBACK", "not allowed here"),
        ("DO $$ BEGIN DELETE FROM relation; END $$", "not allowed here"),
        ("COPY relation FROM PROGRAM 'false'", "not allowed here"),
        ("LOCK TABLE relation", "not allowed here"),
        ("SELECT 1 INTO x", "INTO is not allowed here"),
        ("SELECT * FROM relation FOR UPDATE", "read-only"),
        ("SELECT nextval('relation_id_seq')", "read-only"),
        ("SELECT query_to_xml('DELETE FROM relation', true, true, '')", "not allowed in a non-volatile function"),
        ("SELECT set_config('transaction_read_only', 'off', true), setval('relation_id_seq', 7)", "read-"),
        ("FETCH 1 FROM kndb_answer", "not allowed here"),
        ("SELECT pg_sleep(100)", "time_limit"),
        ("SELECT set_config('statement_timeout', '0', false), pg_sleep(100)", "time_limit"),
        ("SELECT set_config('statement_timeout', '0', false), pg_sleep(0.002) FROM generate_series(1, 9999)", "time_"),
    ],
)
def test_a_query_can_only_read(empty, query, said):
    with pytest.raises(UsageError, match=said):
        read_sql(empty.backend, query, SqlLimits(time_limit=0.3 if "sleep" in query else 30))
    with empty.reading() as connection:
        assert empty.backend.tables(connection) == {*Table.metadata.tables, "alembic_version"}


def test_a_query_has_limits(empty):
    with pytest.raises(UsageError, match=r"time_limit: the query was stopped after 0\.2 s"):
        read_sql(empty.backend, "SELECT count(*) FROM generate_series(1, 100000000000)", SqlLimits(time_limit=0.2))
    with pytest.raises(UsageError, match="most_rows"):
        read_sql(empty.backend, "SELECT * FROM generate_series(1, 10)", SqlLimits(most_rows=9))
    with pytest.raises(UsageError, match="most_bytes"):
        read_sql(empty.backend, "SELECT repeat('x', 10)", SqlLimits(most_bytes=9))


def test_rows_of_any_size_are_held_one_by_one(empty):
    """An answer that is too large is refused before all of it has come."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UsageError, match="most_bytes"):
        read_sql(
            empty.backend, "SELECT repeat('x', 2000000) FROM generate_series(1, 400)", SqlLimits(most_bytes=1 << 22)
        )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80_000  # KiB; it would be 200 MB


def test_a_superusers_query_is_warned_of_once(empty, caplog):
    reading_postgres._warn_of_superuser.cache_clear()
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        read_sql(empty.backend, "SELECT 1")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "its user is a superuser" in warning
    assert "kndb.page_text('scale')" in warning
