"""What is PostgreSQL's own: databases, folders of objects, values, the schema and locks; on a real server."""

from __future__ import annotations

import threading

import pytest
from backends import POSTGRESQL, run_on_server
from filled_store import fill
from sqlalchemy import Engine, event

from kndb.database import Database, check_database, open_database
from kndb.errors import (
    SchemaVersionError,
    StoreDamagedError,
    StoreError,
    StoreMissingError,
    UsageError,
)
from kndb.records.attribution import PromptResult, ResultBatch, ScoreColumns
from kndb.records.facts import FactFile, FactRecord, TemplateRecord
from kndb.store import facts, maintenance, runs, schema
from kndb.store.engine import Store, open_store
from kndb.store.tables import Table

BACKENDS = (POSTGRESQL,)


def count(store: Store, table: str) -> int:
    with store.reading() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()


# --- databases ----------------------------------------------------------------------------------------


def test_a_server_or_database_that_is_not_there(db_places):
    place = db_places.empty()
    with pytest.raises(StoreMissingError, match="the server has no database of this name"):
        open_store(place.location.replace("?", "_missing?"), create=True)
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


def test_a_folder_is_shared_with_a_file_by_its_name(db_places, tmp_path):
    """A server's store and a file of the same stem: neither takes the other's objects for left-overs."""
    place, file = db_places.new("one"), tmp_path / "both.db"
    with open_store(place.location, create=True, objects=tmp_path / "both.objects") as store:
        store.backend.note_store()
        own = store.objects / "ab" / "x.safetensors"
        own.parent.mkdir()
        own.touch()
        with open_store(file, create=True) as other:
            for one, name in ((store, "both.db"), (other, "/public")):
                report = maintenance.check(one, repair=True)
                assert report.orphans == (str(own),)
                assert report.repaired == ()
                assert name in report.problems[0]
    assert own.exists()
    assert (tmp_path / "both.objects" / "stores.txt").exists()


def test_a_note_that_a_crash_cut_short_is_a_line_of_its_own(db_places, tmp_path):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "stores.txt").write_text("12345/la")
    with open_store(db_places.new().location, create=True, objects=tmp_path / "o") as store:
        store.backend.note_store()
    lines = (tmp_path / "o" / "stores.txt").read_text().splitlines()
    assert (len(lines), lines[0]) == (2, "12345/la")


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


def test_a_score_that_is_no_number_is_refused(store):
    """As by SQLite, to which it is NULL; however it is written."""
    with Database(store) as database:
        fill(database, experiments=False)

    def write_one(*row: object) -> None:
        with store.writing() as connection:
            connection.exec_driver_sql("INSERT INTO score VALUES (?, ?, ?, ?, ?)", row)

    def write_many(*row: object) -> None:
        with store.writing() as connection:
            columns = ("run_id", "prompt_id", "layer", "neuron", "score")
            store.backend.write_rows(connection, "score", columns, [row], replace=columns[:4])

    for write in (write_one, write_many):
        with pytest.raises(Exception, match=r"null value in column .* violates not-null"):
            write(1, 1, 2, 99, float("nan"))
    with pytest.raises(UsageError, match="larger than PostgreSQL can hold"):
        write_many(1, 1, 2**40, 0, 0.5)


def test_a_database_of_another_encoding_is_refused(db_places):
    place = db_places.empty()
    other = place.location.replace("?", "_latin?")
    with place.store() as store, store.reading() as connection:
        (name,) = connection.exec_driver_sql("SELECT current_database()").one()
    run_on_server(f'CREATE DATABASE "{name}_latin" TEMPLATE template0 ENCODING latin1')
    try:
        with pytest.raises(StoreError, match="keeps texts in LATIN1, which has not all letters"):
            open_store(other, create=True)
    finally:
        run_on_server(f'DROP DATABASE "{name}_latin"')


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
        assert len(checks) == 13


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
    place.store().close()
    with Store(place.location, objects=place.objects) as store:
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


@pytest.mark.parametrize("path", ["nobodys", "%22%22"])
def test_a_search_path_without_a_schema_is_said(db_places, path):
    location = f"{db_places.new().location}&options=-csearch_path%3D{path}"
    for create in (True, False):
        with pytest.raises(UsageError, match="search path names no schema"):
            open_store(location, create=create)


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


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_a_writer_that_waited_sees_what_the_one_before_it_wrote(db_places, level):
    """Whatever isolation the server or its user has by default."""
    place = db_places.new()
    location = f"{place.location}&options=-cdefault_transaction_isolation%3D{level.replace(' ', '%5C%20')}"
    with place.store() as one, open_store(location, create=False) as other:
        assert count(other, "relation") == 0
        begun, seen = threading.Event(), []

        def wait_and_count() -> None:
            begun.set()
            with other.writing() as connection:
                seen.append(connection.exec_driver_sql("SELECT count(*) FROM relation").scalar_one())
                seen.append(connection.exec_driver_sql("SHOW transaction_isolation").scalar_one())

        thread = threading.Thread(target=wait_and_count)
        with one.writing() as connection:
            connection.exec_driver_sql("INSERT INTO relation (key) VALUES ('P1')")
            thread.start()
            begun.wait()
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while connection.exec_driver_sql(waiting).scalar_one() == 0:
                pass
        thread.join()
        assert seen == [1, "read committed"]


def test_a_session_that_the_server_ends_is_said(db_places):
    location = f"{db_places.new().location}&options=-cidle_in_transaction_session_timeout%3D1"

    def read_until_it_ends() -> None:
        with open_store(location, create=False) as store, store.reading() as connection:
            while True:
                connection.exec_driver_sql("SELECT 1")

    with pytest.raises(StoreError, match="connection to the server was lost"):
        read_until_it_ends()


def test_a_database_is_opened_by_its_location(db_places):
    place = db_places.new()
    with open_database(place.location, objects=place.objects) as database:
        assert database.maintenance.info()["path"] == place.location


def test_statements_are_planned_for_the_rows_that_are_there(db_places):
    """A server that counted an empty table plans for no rows, and may take hours for what joins thousands."""
    store = db_places.apart().store()
    with store.writing() as connection:
        connection.exec_driver_sql("ANALYZE")
        connection.exec_driver_sql(
            "UPDATE pg_class SET reltuples = 0, relpages = 1 WHERE relname IN ('fact', 'prompt')"
        )
    counted = {}

    def note(connection, cursor, statement, *_):
        name = next((name for name, beginning in beginnings.items() if statement.strip().startswith(beginning)), None)
        if name is not None:
            counts = "SELECT relname, reltuples FROM pg_class WHERE relname IN ('fact', 'prompt')"
            counted[name] = dict(connection.connection.driver_connection.execute(counts).fetchall())

    beginnings = {
        "alias": "INSERT INTO fact_alias",
        "filled": "INSERT INTO prompt (fact_id, template_id",
        "claimed": "UPDATE prompt",
    }
    records = tuple(FactRecord("P1", f"subject {n}", "o", f"id {n}", (f"prompt {n}: [Y]",)) for n in range(300))
    templates = (TemplateRecord("P1", "[X] 1 [Y]"), TemplateRecord("P1", "[X] 2 [Y]"))
    event.listen(Engine, "before_cursor_execute", note)
    try:
        with store.writing() as connection:
            facts.ingest(connection, [FactFile("f", {"P1": None}, templates, records)])
    finally:
        event.remove(Engine, "before_cursor_execute", note)
        store.close()
    assert counted["alias"]["fact"] == counted["claimed"]["fact"] == 300
    assert (counted["filled"]["prompt"], counted["claimed"]["prompt"]) == (300, 900)
