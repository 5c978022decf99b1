"""What is PostgreSQL's own: locations and passwords, objects, values, locks, and a user's SQL; on a real server."""

from __future__ import annotations

import threading

import pytest
from backends import POSTGRESQL
from filled_store import fill

from kndb.database import Database, check_database, open_database
from kndb.errors import (
    SchemaVersionError,
    StoreDamagedError,
    StoreError,
    StoreMissingError,
    UsageError,
)
from kndb.records.attribution import PromptResult, ResultBatch, ScoreColumns
from kndb.records.locations import without_password
from kndb.store import maintenance, runs, schema
from kndb.store.engine import Store, open_store
from kndb.store.queries.reading_sql import read_sql
from kndb.store.queries.sql_limits import SqlLimits
from kndb.store.tables import Table

BACKENDS = (POSTGRESQL,)


def count(store: Store, table: str) -> int:
    with store.reading() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()


# --- locations --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("postgresql://me:geheim@host:5433/lab", "postgresql://me@host:5433/lab"),
        ("postgres://me@host/lab", "postgres://me@host/lab"),
        ("postgresql:///lab?host=/run/pg&password=geheim", "postgresql:///lab?host=/run/pg"),
        ("postgresql://me:a%40geheim@[::1]/lab?sslpassword=geheim&sslmode=require", "postgresql://me@[::1]/lab?sslmode=require"),
        ("postgresql://me:ge@heim@host/lab", "postgresql://me@host/lab"),
        ("postgresql://me:ge/heim@host/lab", "postgresql://…"),
        ("postgresql://me:geheim@host:99999999/lab#x", "postgresql://me@host:99999999/lab"),
        ("kndb.db", "kndb.db"),
    ],
)  # fmt: skip
def test_no_password_is_shown(location, shown):
    assert without_password(location) == shown


def test_locations_that_are_none():
    for location in ("postgresql://me:geheim@host", "postgresql://me:ge@heim@host:x/lab", "postgresql://"):
        with pytest.raises(UsageError, match="write it like postgresql://") as caught:
            Store(location)
        assert "geheim" not in str(caught.value)
        assert "heim@" not in str(caught.value)
    with pytest.raises(UsageError, match="objects is for databases on a server"):
        Store("kndb.db", objects="somewhere")


def test_a_server_or_database_that_is_not_there(db_places):
    place = db_places.empty()
    with pytest.raises(StoreMissingError, match="the server has no database of this name"):
        open_store(place.location.replace("?", "_missing?"), create=True)
    with pytest.raises(StoreError, match="can't be reached") as caught:
        open_store("postgresql://me:geheim@127.0.0.1:9/lab", create=True, timeout=2)
    assert "geheim" not in str(caught.value)
    with pytest.raises(StoreError, match=r"can't be reached: .*nowhere\.invalid"):
        open_store("postgresql://me@nowhere.invalid/lab", create=True, timeout=2)
    with pytest.raises(StoreMissingError, match="is empty, not yet a database"):
        place.store(create=False)
    with place.store() as store:
        assert repr(Database(store)) == f"Database({place.location!r})"


# --- edit objects -----------------------------------------------------------------------------------


def test_a_folder_of_objects_is_named(db_places, monkeypatch, tmp_path):
    monkeypatch.delenv("KNDB_OBJECTS", raising=False)
    location = db_places.new().location
    assert check_database(location).sound
    with open_store(location, create=True) as store:
        for folder in ("objects", "statistics"):
            with pytest.raises(UsageError, match=r"objects is missing.*KNDB_OBJECTS"):
                getattr(store, folder)
        assert maintenance.check(store).sound
        assert maintenance.info(store)["objects"] is None
        with pytest.raises(UsageError, match="is no file"):
            assert store.path
        with pytest.raises(UsageError, match="pg_dump"):
            maintenance.backup(store, tmp_path / "copy.db")
    monkeypatch.setenv("KNDB_OBJECTS", str(tmp_path / "lab.objects"))
    with open_store(location, create=True) as store:
        assert store.objects == tmp_path / "lab.objects"
        assert store.statistics == tmp_path / "lab.statistics"
        store.backend.note_store()
        store.backend.note_store()
        (note,) = store.objects.iterdir()
        assert len(note.read_text().splitlines()) == 1
        assert store.backend.sharing_objects() == []
        assert maintenance.check(store, repair=True).sound


def test_left_overs_stay_while_two_stores_share_a_folder(db_places, tmp_path):
    places_ = db_places.new("one"), db_places.new("two")
    for place in places_:
        with open_store(place.location, create=True, objects=tmp_path / "both") as store:
            store.backend.note_store()
    orphan = tmp_path / "both" / "ab" / "x.safetensors"
    orphan.parent.mkdir()
    orphan.touch()
    with open_store(places_[0].location, create=True, objects=tmp_path / "both") as store:
        report = maintenance.check(store, repair=True)
    assert report.orphans == (str(orphan),)
    assert report.repaired == ()
    assert "shares" in report.problems[0]
    assert orphan.exists()


# --- values -----------------------------------------------------------------------------------------


def test_values_that_a_server_can_not_hold(store):
    def write(statement: str, *values: object) -> None:
        with store.writing() as connection:
            connection.exec_driver_sql(statement, values)

    with pytest.raises(UsageError, match="character NUL"):
        write("INSERT INTO relation (key) VALUES (?)", "a\0b")
    with pytest.raises(UsageError, match="larger than"):
        write("INSERT INTO run_fact VALUES (?, 1)", 2**40)
    with pytest.raises(UsageError, match="too long for an index"):
        write("INSERT INTO relation (key) VALUES (?)", "".join(chr(0x4E00 + number) for number in range(9000)))
    with pytest.raises(UsageError, match="no UTF-8"):
        write("INSERT INTO relation (key) VALUES (?)", "\ud800")
    assert count(store, "relation") == 0


def test_long_texts_are_facts_and_prompts(store):
    from kndb.records.facts import FactFile, FactRecord, TemplateRecord
    from kndb.store import facts

    long = "".join(chr(0x4E00 + number) for number in range(9000))
    record = FactRecord("P1", long, "o", "id" + long[:500], (f"{long} is [Y].",))
    file = FactFile("f", {"P1": None}, (TemplateRecord("P1", f"{long} of [X] is [Y]."),), (record,))
    for added in (1, 0):
        with store.writing() as connection:
            assert facts.ingest(connection, [file]).facts_added == added
    with store.reading() as connection:
        assert len(facts.prompts(connection)) == 2
        assert facts.find_facts(connection, subject=long.upper())[0].object == "o"


def test_results_are_written_again(store):
    """Rows that are there already are replaced, as where two processes attribute one prompt."""
    with Database(store) as database:
        fill(database, experiments=False)
        nan = float("nan")
        again = PromptResult(1, 0.25, "x", nan, True, 0.5, 0.5, 2.0, 0.0, 1, 2, 1)
        scores = ScoreColumns([1, 1], [0, 0], [1, 8], [0.75, 0.5])
        for _ in range(2):
            with store.writing() as connection:
                runs.save_results(connection, 1, ResultBatch((again,), scores))
        with store.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT probability, predicted_probability, correct FROM prompt_result "
                "WHERE run_id = 1 AND prompt_id = 1"
            ).all()
            found = connection.exec_driver_sql(
                "SELECT score FROM score WHERE run_id = 1 AND prompt_id = 1 AND layer = 0 AND neuron IN (1, 8)"
            ).scalars()
            assert [tuple(row) for row in rows] == [(0.25, None, True)]
            assert sorted(found) == [0.5, 0.75]


def test_check_finds_what_no_constraint_keeps_out(store):
    with Database(store) as database:
        fill(database, experiments=False)
    assert maintenance.check(store).problems == ()
    with store.writing() as connection:
        connection.exec_driver_sql("INSERT INTO score VALUES (1, 999, 0, 0, 0.5)")
        connection.exec_driver_sql("INSERT INTO score VALUES (1, 1, 2, 99, 'Infinity')")
        connection.exec_driver_sql("UPDATE run SET created_at = 'yesterday'")
        connection.exec_driver_sql("UPDATE run SET settings = '[]'")
    problems = "\n".join(maintenance.check(store).problems)
    for part in ("column prompt_id: 999; it refers to a row of prompt that doesn't exist", "finite number", "ISO 8601"):
        assert part in problems
    with store.reading() as connection, pytest.raises(StoreDamagedError, match="a JSON object"):
        runs.runs(connection)


# --- the schema -------------------------------------------------------------------------------------


def test_revisions_make_what_the_models_say(db_places):
    with db_places.empty().store() as store, store.reading() as connection:
        parts = store.backend.described(connection).parts
        for table in Table.metadata.tables.values():
            for column in table.columns:
                words = parts["column", f"{table.name}.{column.name}"]
                kind = column.type.rule.kind
                expected = {"whole": "integer", "number": "double precision", "flag": "boolean"}.get(kind)
                assert words.startswith(expected or "character varying"), (table.name, column.name)
                assert ("nullable" in words) == bool(column.nullable)
                assert expected is not None or "collation C" in words, (table.name, column.name)
            for index in table.indexes:
                assert ("index", index.name) in parts
        checks = [text for (kind, _), text in parts.items() if kind == "check constraint"]
        assert len(checks) == 12


def test_changed_tables_are_named(db_places):
    place = db_places.apart()
    with place.store() as store:
        assert maintenance.check(store).sound
        with store.writing() as connection:
            for statement in (
                "ALTER TABLE fact DROP COLUMN source",
                "DROP INDEX ix_prompt_template_id",
                "CREATE VIEW extra AS SELECT 1 AS one",
                "ALTER TABLE score ALTER score TYPE real",
            ):
                connection.exec_driver_sql(statement)
        problems = maintenance.check(store).problems
        assert set(problems) == {
            "column fact.source is missing",
            "index ix_prompt_template_id is missing",
            "view extra is not kndb's",
            "column score.score is real, NOT NULL; it must be double precision, NOT NULL",
        }
    with pytest.raises(StoreDamagedError, match=r"column fact\.source is missing"):
        place.store()


def test_other_peoples_database_is_left_alone(db_places):
    place = db_places.empty()
    with place.store() as store:
        with store.writing() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(SchemaVersionError, match=r"revision 9999.*update kndb"):
            place.store()
        with store.writing() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
            connection.exec_driver_sql("CREATE TABLE customer (id integer)")
    with pytest.raises(SchemaVersionError, match=r"not one of kndb's.*customer"):
        place.store()


def test_processes_that_create_the_same_store_at_once(db_places):
    place = db_places.empty()
    outcomes: list[str] = []

    def make() -> None:
        outcomes.append(schema.upgrade(place.location, create=True))

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [schema.head_revision()] * 3
    with place.store(create=False) as store:
        assert maintenance.check(store).sound


# --- transactions -----------------------------------------------------------------------------------


def test_one_writer_at_a_time_and_readers_see_one_state(db_places):
    place = db_places.new()
    with place.store() as store, place.store(timeout=0.05) as other:
        with store.writing() as connection, other.reading() as reading:
            before = reading.exec_driver_sql("SELECT count(*) FROM relation").scalar_one()
            connection.exec_driver_sql("INSERT INTO relation (key) VALUES ('P1')")
            with pytest.raises(StoreError, match="in use by another process"), other.writing():
                raise AssertionError("two writers at once")
            assert reading.exec_driver_sql("SELECT count(*) FROM relation").scalar_one() == before == 0
        with other.reading() as reading:
            assert reading.exec_driver_sql("SELECT count(*) FROM relation").scalar_one() == 1
            with store.writing() as connection:
                connection.exec_driver_sql("INSERT INTO relation (key) VALUES ('P2')")
            assert reading.exec_driver_sql("SELECT count(*) FROM relation").scalar_one() == 1
        with store.reading() as connection:
            connection.exec_driver_sql("DELETE FROM relation")
        assert count(store, "relation") == 2


# --- a user's SQL -----------------------------------------------------------------------------------


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
    assert read_sql(store.backend, "EXPLAIN SELECT 1")[1]
    assert read_sql(store.backend, "SELECT now() > '2020-01-01', '[1]'::json, null")[1] == [(True, "[1]", None)]


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
    ],
)
def test_a_query_can_only_read(store, query, said):
    with pytest.raises(UsageError, match=said):
        read_sql(store.backend, query)
    assert store.backend.tables is not None
    with store.reading() as connection:
        assert store.backend.tables(connection) == {*Table.metadata.tables, "alembic_version"}


def test_a_query_has_limits(store):
    with pytest.raises(UsageError, match=r"time_limit: the query was stopped after 0\.2 s"):
        read_sql(store.backend, "SELECT count(*) FROM generate_series(1, 100000000000)", SqlLimits(time_limit=0.2))
    with pytest.raises(UsageError, match="most_rows"):
        read_sql(store.backend, "SELECT * FROM generate_series(1, 10)", SqlLimits(most_rows=9))
    with pytest.raises(UsageError, match="most_bytes"):
        read_sql(store.backend, "SELECT repeat('x', 10)", SqlLimits(most_bytes=9))


def test_a_database_is_opened_by_its_location(db_places):
    place = db_places.new()
    with open_database(place.location, objects=place.objects) as database:
        assert database.maintenance.info()["path"] == place.location
