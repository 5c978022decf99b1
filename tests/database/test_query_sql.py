"""`query sql` reads whatever SQL can, and changes nothing: no byte of the database, no file beside it."""

import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from kndb.database import open_database
from kndb.database.query.sql import SqlLimits, query_database, streaming_query
from kndb.errors import StoreError, StoreMissingError, UsageError
from kndb.store.queries.sql_limits import Watch


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small database; only to be copied."""
    folder = tmp_path_factory.mktemp("made")
    with open_database(folder / "kndb.db") as database, database.store.writing() as connection:
        connection.exec_driver_sql("INSERT INTO relation VALUES (1, 'P36', 'capital'), (2, 'P37', NULL)")
        connection.exec_driver_sql("INSERT INTO fact VALUES (1, 1, 'ÉTAT', 'Paris', NULL, 's')")
    return folder / "kndb.db"


@pytest.fixture
def path(made, tmp_path):
    """A copy of it, alone in a folder."""
    folder = tmp_path / "place"
    folder.mkdir()
    return Path(shutil.copy(made, folder))


def contents(path):
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


READ = [
    ("SELECT key, label FROM relation ORDER BY key", ["key", "label"], [("P36", "capital"), ("P37", None)]),
    ("SELECT 1 AS one -- a remark; and more\n;\n /* the end */", ["one"], [(1,)]),
    ("SELECT key FROM relation WHERE 0", ["key"], []),
    ("VALUES (1, x'00ff'), (2, 1.5)", ["column1", "column2"], [(1, b"\x00\xff"), (2, 1.5)]),
    ("SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a", ["a", "a_3", "a_2", "a_4"], [(1, 2, 3, 4)]),
    (
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 3) SELECT sum(x) AS s FROM c",
        ["s"],
        [(6,)],
    ),
    ("SELECT kndb_casefold(subject) AS s FROM fact", ["s"], [("état",)]),
    ("SELECT value FROM json_each('[1, 2]')", ["value"], [(1,), (2,)]),
    ("SELECT name FROM pragma_table_info('relation')", ["name"], [("id",), ("key",), ("label",)]),
    ("SELECT count(*) OVER () AS n FROM relation LIMIT 1", ["n"], [(2,)]),
    ("PRAGMA user_version", ["user_version"], [(0,)]),
    ("SELECT version_num FROM alembic_version WHERE version_num = 'x'", ["version_num"], []),
]


@pytest.mark.parametrize(("query", "columns", "rows"), READ, ids=[query[:30] for query, _, _ in READ])
def test_reads(path, query, columns, rows):
    before = contents(path)
    assert query_database(query, path) == (columns, rows)
    assert contents(path) == before


def test_describes(path):
    assert [row[1] for row in query_database("PRAGMA table_info(relation)", path)[1]] == ["id", "key", "label"]
    assert query_database("EXPLAIN QUERY PLAN SELECT * FROM fact", path)[1]
    with open_database(path) as database:
        assert database.query.sql("SELECT count(*) AS n FROM fact") == (["n"], [(1,)])


WRITES = [
    "INSERT INTO relation VALUES (3, 'P38', NULL)",
    "INSERT INTO relation VALUES (3, 'P38', NULL) RETURNING id",
    "REPLACE INTO relation VALUES (1, 'P38', NULL)",
    "UPDATE relation SET key = 'P1'",
    "DELETE FROM relation",
    "WITH x AS (SELECT 1) DELETE FROM relation",
    "EXPLAIN DELETE FROM relation",
    "CREATE TABLE other (x)",
    "CREATE TABLE other AS SELECT * FROM relation",
    "CREATE TEMP TABLE other (x)",
    "CREATE TEMP VIEW other AS SELECT 1",
    "CREATE VIEW other AS SELECT 1",
    "CREATE INDEX other ON relation (label)",
    "CREATE TRIGGER other AFTER INSERT ON relation BEGIN DELETE FROM fact; END",
    "CREATE VIRTUAL TABLE other USING fts5(x)",
    "DROP TABLE fact",
    "DROP INDEX ix_fact_subject",
    "ALTER TABLE fact RENAME TO other",
    "ALTER TABLE fact ADD COLUMN other",
    "ATTACH 'other.db' AS other",
    "ATTACH ':memory:' AS other",
    "DETACH main",
    "VACUUM",
    "VACUUM INTO 'other.db'",
    "REINDEX",
    "ANALYZE",
    "BEGIN",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT other",
    "RELEASE other",
    "UPDATE sqlite_master SET sql = ''",
    "PRAGMA writable_schema = 1",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA journal_mode(DELETE)",
    "PRAGMA user_version = 7",
    "PRAGMA application_id = 7",
    "PRAGMA query_only = 0",
    "PRAGMA wal_checkpoint",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA optimize",
    "PRAGMA incremental_vacuum",
    "PRAGMA temp_store_directory = '.'",
    "PRAGMA encoding = 'UTF-16'",
    "PRAGMA page_size = 512",
    "SELECT load_extension('other')",
    "SELECT writefile('other', 'x')",
    "SELECT 1; DELETE FROM relation",
    "DELETE FROM relation; SELECT 1",
]


@pytest.mark.parametrize("query", WRITES)
def test_nothing_can_be_written(path, query, monkeypatch):
    monkeypatch.chdir(path.parent)
    before = contents(path)
    with pytest.raises(UsageError):
        query_database(query, path)
    assert contents(path) == before


@pytest.mark.parametrize("query", WRITES)
def test_each_lock_holds_without_the_other(path, query, monkeypatch):
    """A connection that may write, with the authorizer alone."""
    from kndb.store.queries import reading_sqlite as reading_sql

    plain = reading_sql._connect
    monkeypatch.setattr(reading_sql, "_connect", lambda path, _options, timeout: plain(path, "mode=rw", timeout))
    monkeypatch.chdir(path.parent)
    before = contents(path)
    with pytest.raises(UsageError):
        query_database(query, path)
    assert contents(path) == before


MISTAKES = [
    ("SELECT * FROM relatoin", ["no such table: relatoin", "nearest are relation, ", r"kndb.page_text\('schema'\)"]),
    ("SELECT fact.subjct FROM fact", ["no such column", r"fact\.subject"]),
    ("SELECT subjct FROM fact AS f", ["no such column", r"fact\.subject"]),
    ("SELECT f.subjct FROM fact AS f", ["no such column", r"fact\.subject"]),
    ("SELECT zzzzzzzz FROM fact", ["none is near"]),
    ("SELCT 1", ["syntax error"]),
    ("SELECT nonesuch(1)", ["no such function: nonesuch"]),
    ("SELECT ?", ["parameter"]),
    ("SELECT :name", ["parameter"]),
    ("SELECT 1; SELECT 2", ["give one statement"]),
    ("", ["no statement"]),
    ("  -- nothing\n", ["no statement"]),
    ("SELECT \0", ["null character"]),
    ("SELECT '\udcff'", ["surrogates"]),
    ("SELECT CAST(x'ff' AS TEXT)", ["UTF-8"]),
    ("DELETE FROM fact", ["DELETE", "only reads"]),
    ("PRAGMA journal_mode = OFF", ["PRAGMA journal_mode=OFF"]),
    ("SELECT * FROM busy", ["no such table: busy"]),
]


@pytest.mark.parametrize(("query", "patterns"), MISTAKES, ids=[repr(query) for query, _ in MISTAKES])
def test_mistakes(path, query, patterns):
    before = contents(path)
    for pattern in patterns:
        with pytest.raises(UsageError, match=pattern):
            query_database(query, path)
    assert contents(path) == before


def test_beside_a_writer(path):
    with open_database(path) as database, database.store.writing() as connection:
        connection.exec_driver_sql("INSERT INTO relation VALUES (3, 'P38', NULL)")
        assert query_database("SELECT count(*) AS n FROM relation", path) == (["n"], [(2,)])
    assert query_database("SELECT count(*) AS n FROM relation", path) == (["n"], [(3,)])
    assert list(contents(path)) == ["kndb.db"]


def test_any_revision_and_any_database(path, tmp_path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    assert query_database("SELECT version_num AS v FROM alembic_version", path) == (["v"], [("9999",)])
    with pytest.raises(StoreMissingError, match=r"kndb\.open"):
        query_database("SELECT 1", tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no database\n" * 100)
    with pytest.raises(StoreError, match="not an SQLite database"):
        query_database("SELECT 1", tmp_path / "text.db")


@pytest.mark.parametrize("message", ["unable to open database file", "attempt to write a readonly database"])
def test_a_database_that_nobody_can_write(path, monkeypatch, message):
    """SQLite can't make a log beside it: it is read as a file that nobody changes, unless there is a log."""
    from kndb.store.queries import reading_sqlite as reading_sql

    plain = reading_sql._connect

    def refusing(path, options, timeout):
        if options == "immutable=1":
            return plain(path, options, timeout)
        raise sqlite3.OperationalError(message)

    monkeypatch.setattr(reading_sql, "_connect", refusing)
    assert query_database("SELECT count(*) AS n FROM relation", path) == (["n"], [(2,)])
    path.with_name("kndb.db-wal").write_bytes(b"x")
    with pytest.raises(StoreError, match="folder"):
        query_database("SELECT 1", path)


def test_an_endless_query_can_be_interrupted(path, monkeypatch):
    def interrupted(watch):
        raise KeyboardInterrupt

    monkeypatch.setattr(Watch, "look", interrupted)
    with pytest.raises(KeyboardInterrupt):
        query_database("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c", path)
    assert list(contents(path)) == ["kndb.db"]


# --- limits -----------------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"


def test_an_endless_query_is_stopped(path):
    with pytest.raises(UsageError, match=r"time_limit: the query was stopped after 0\.05 s"):
        query_database(f"{ENDLESS} SELECT count(*) FROM c", path, SqlLimits(time_limit=0.05))
    assert list(contents(path)) == ["kndb.db"]


@pytest.mark.parametrize(
    ("query", "rows", "size"),
    [
        (f"{ENDLESS} SELECT x FROM c LIMIT 10", 10, 80),
        (f"{ENDLESS} SELECT x, 'äb', x'00', NULL FROM c LIMIT 3", 3, 3 * (8 + 3 + 1 + 8)),
    ],
)
def test_answers_end_at_their_limits(path, query, rows, size):
    assert len(query_database(query, path, SqlLimits(most_rows=rows, most_bytes=size))[1]) == rows
    with pytest.raises(UsageError, match=f"most_rows: the answer has more than {rows - 1} rows"):
        query_database(query, path, SqlLimits(most_rows=rows - 1))
    with pytest.raises(UsageError, match=f"most_bytes: the answer has more than {size - 1} bytes"):
        query_database(query, path, SqlLimits(most_bytes=size - 1))


def test_rows_are_given_while_they_are_found(path):
    """Of a billion rows, those before the limit arrive, and no more than one at a time is held."""
    with streaming_query(f"{ENDLESS} SELECT x FROM c LIMIT 1000000000", path) as (columns, rows):
        assert columns == ["x"]
        assert [next(rows) for _ in range(3)] == [(1,), (2,), (3,)]
    with (
        pytest.raises(UsageError, match="most_rows"),
        streaming_query(f"{ENDLESS} SELECT x FROM c", path, SqlLimits(most_rows=2000)) as (_, rows),
    ):
        assert sum(1 for _ in rows) == 2000


def test_sorting_takes_no_more_memory_than_it_may(path, monkeypatch):
    from kndb.store.queries import sql_limits

    monkeypatch.setattr(sql_limits, "MOST_MEMORY", 1 << 26)
    blobs = "SELECT randomblob(100000) AS x UNION ALL SELECT randomblob(100000) FROM c"
    query = f"WITH RECURSIVE c(x) AS ({blobs}) SELECT count(*) FROM (SELECT x FROM c ORDER BY x)"
    with pytest.raises(UsageError, match=r"more than 0\.0625 GiB of memory to sort"):
        query_database(query, path)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="this Python can't set SQLite's limits")
def test_no_value_is_longer_than_it_may(path):
    with pytest.raises(UsageError, match="too big"):
        query_database("SELECT hex(zeroblob(200000000))", path)


def test_limits_that_make_no_sense():
    for wrong in ({"time_limit": 0}, {"time_limit": float("nan")}, {"most_rows": 0}, {"most_bytes": -1}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            SqlLimits(**wrong)
