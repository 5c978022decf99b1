"""Users with few rights on a server: those that docs/scale.md names are enough, and what is missing is said."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import psycopg
import pytest
from backends import POSTGRESQL, Places, run_on_server
from filled_store import fill

from kndb.database import Database, open_database
from kndb.errors import StoreError, UsageError
from kndb.records.attribution import PromptResult, ResultBatch, ScoreColumns
from kndb.store import maintenance, runs, schema_checks
from kndb.store.engine import open_store
from kndb.store.queries.reading_sql import read_sql
from kndb.store.queries.sql_limits import SqlLimits

DOCS = Path(__file__).parents[2] / "docs" / "scale.md"


def grants(who: str) -> list[str]:
    """The statements of docs/scale.md that make a user."""
    text = DOCS.read_text(encoding="utf-8")
    block = re.search(rf"^    CREATE ROLE {who} .*?(?=^$)", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    return [line.strip() for line in block[0].splitlines()]


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    """The same database as its owner, a reader and a writer see it; filled, and with more edits than rows."""
    places = Places(POSTGRESQL, tmp_path_factory.mktemp("rights"))
    place = places.apart()
    with place.database() as database:
        fill(database)
        with database.store.writing() as connection:
            database.store.backend.renumber(connection)
    name = re.search(r"/(\w+)\?", place.location)[1]
    with psycopg.connect(place.location, autocommit=True) as connection:
        for statement in (*grants("reader"), *grants("writer")):
            connection.execute(statement.replace("DATABASE lab", f'DATABASE "{name}"'))
        connection.execute("CREATE ROLE nobody LOGIN")
    seen = {who: place.location.replace("postgres@", f"{who}@") for who in ("reader", "writer", "nobody")}
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("KNDB_OBJECTS", str(place.objects))
    yield {"postgres": place.location, **seen}
    monkeypatch.undo()
    places.close()
    for who in ("reader", "writer", "nobody"):
        run_on_server(f"DROP ROLE {who}")


def test_a_reader_reads(users, monkeypatch):
    monkeypatch.setattr(schema_checks, "_EXPECTED", {})
    with open_database(users["reader"], create=False) as database, open_database(users["postgres"]) as owners:
        assert database.query.runs() == owners.query.runs()
        assert database.facts.find(subject="a") == owners.facts.find(subject="a")
        assert database.query.overlap() == owners.query.overlap()
        assert database.maintenance.info()["rows"] == owners.maintenance.info()["rows"]
        assert database.query.sql("SELECT count(*) FROM score") == owners.query.sql("SELECT count(*) FROM score")
        # What the tables must be is found out without a right to make any that stay.
        assert maintenance.check(database.store) == maintenance.check(owners.store)


def test_a_reader_is_told_that_it_can_not_write(users, tmp_path):
    with open_database(users["reader"], objects=tmp_path / "o") as database:
        for write in (
            lambda: database.snapshots.create("one", database.models.all()[0].name),
            lambda: insert(database, "INSERT INTO relation (key) VALUES ('x')"),
            lambda: insert(database, "DELETE FROM score"),
        ):
            with pytest.raises(StoreError, match=r"does not let this user do that: permission denied for (table|seq)"):
                write()


def insert(database: Database, statement: str) -> None:
    with database.store.writing() as connection:
        connection.exec_driver_sql(statement)


def test_a_writer_writes(users, tmp_path):
    with open_database(users["writer"], objects=tmp_path / "o") as database:
        insert(database, "INSERT INTO relation (key) VALUES ('x')")
        insert(database, "DELETE FROM relation WHERE key = 'x'")
        again = PromptResult(1, 0.25, "x", 0.5, True, 0.5, 0.5, 2.0, 0.0, 1, 2, 1)
        for _ in range(2):  # The second time by way of a temporary table.
            with database.store.writing() as connection:
                runs.save_results(connection, 1, ResultBatch((again,), ScoreColumns([1], [0], [1], [0.75])))
        assert not [one for one in maintenance.check(database.store).problems if "permission" in one]
        with pytest.raises(StoreError, match="must be owner of table"):
            insert(database, "DROP TABLE score")


def test_a_user_without_rights_is_told(users):
    for location in (users["nobody"],):
        with pytest.raises(StoreError, match="does not let this user do that: permission denied for table"):
            open_store(location, create=False)


def test_a_right_to_a_table_that_is_missing_is_no_damage(users):
    with (
        without(users, "REVOKE SELECT ON fact FROM reader", "GRANT SELECT ON fact TO reader"),
        open_database(users["reader"], create=False) as database,
        pytest.raises(StoreError, match="permission denied for table fact"),
    ):
        database.facts.find()


def test_without_a_right_to_temporary_tables_a_check_says_which(users, monkeypatch):
    monkeypatch.setattr(schema_checks, "_EXPECTED", {})
    name = re.search(r"/(\w+)\?", users["postgres"])[1]
    of = f'TEMPORARY ON DATABASE "{name}"'
    with (
        without(users, f"REVOKE {of} FROM PUBLIC, reader", f"GRANT {of} TO PUBLIC, reader"),
        open_store(users["reader"], create=False) as store,
        pytest.raises(StoreError, match="GRANT TEMPORARY ON DATABASE"),
    ):
        maintenance.check(store)


def test_a_server_that_only_reads(users, monkeypatch):
    """As a copy that follows another one; a user can be set to that, too."""
    monkeypatch.setattr(schema_checks, "_EXPECTED", {})
    location = f"{users['postgres']}&options=-cdefault_transaction_read_only%3Don"
    with open_database(location, create=False) as database:
        assert database.query.runs()
        assert maintenance.check(database.store) is not None
        with pytest.raises(StoreError, match=r"can't be written: .*read-only transaction"):
            insert(database, "DELETE FROM score")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_export(lo_from_bytea(0, 'x'), '/tmp/kndb-never')",
        "SELECT * FROM dblink('dbname=postgres', 'DROP DATABASE x') AS t(a text)",
        "SELECT pg_reload_conf()",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> current_user",
        "SELECT set_config('role', 'postgres', false)",
        "SELECT set_config('session_authorization', 'postgres', false)",
        "SELECT * FROM pg_authid",
        "SELECT set_config('log_statement', 'all', false)",
    ],
)
def test_a_readers_query_gets_no_further_than_tables(users, query):
    refused = pytest.raises((UsageError, StoreError), match=r"permission denied|does not exist|read-only|must be a")
    with open_store(users["reader"], create=False) as store, refused:
        read_sql(store.backend, query, SqlLimits(time_limit=5))


def test_a_readers_query_may_hold_up_writers_only_for_its_time(users):
    """It can take any advisory lock, and so kndb's; that goes with it."""
    query = "SELECT pg_advisory_lock(1802396770, hashtext(current_schema())), pg_sleep(9)"
    with open_store(users["reader"], create=False) as store, pytest.raises(UsageError, match="time_limit"):
        read_sql(store.backend, query, SqlLimits(time_limit=0.1))
    with open_store(users["writer"], create=False, timeout=5) as store, store.writing() as connection:
        connection.exec_driver_sql("SELECT 1")


@contextlib.contextmanager
def without(users, taken: str, given: str):
    """Takes a right for a block."""
    with psycopg.connect(users["postgres"], autocommit=True) as connection:
        connection.execute(taken)
        try:
            yield
        finally:
            connection.execute(given)
