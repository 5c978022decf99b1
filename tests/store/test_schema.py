"""The schema revisions: what they make, that they are atomic, and that old databases come along."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from new_databases import alembic_upgrade, repeat_first_revisions
from sqlalchemy import create_engine

from kndb.errors import SchemaVersionError, StoreDamagedError, StoreError, StoreMissingError
from kndb.store import facts, runs, schema
from kndb.store.engine import open_store
from kndb.store.tables import Table

HERE = Path(__file__).parent
FROZEN = sorted((HERE / "frozen").glob("*.sql"))


@pytest.fixture(autouse=True)
def by_alembic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each database here is made by the revisions, and not by the statements of an earlier one."""
    monkeypatch.setattr(command, "upgrade", alembic_upgrade)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path.resolve() / "kndb.db"


# --- the revisions say what the tables say ----------------------------------------------------------


def test_revisions_are_those_that_alembic_finds(path):
    from importlib.resources import files

    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(files("kndb.migrations")))
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == schema.REVISIONS
    assert schema.head_revision() == found[0]
    assert schema.upgrade(path, create=True) == found[0]
    with open_store(path, create=False) as store, store.reading() as connection:
        assert schema.current_revision(connection) == found[0]


def test_alembic_finds_no_difference(path):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with open_store(path, create=True) as store, store.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Table.metadata) == []


def test_tests_databases_are_those_of_the_revisions(tmp_path, monkeypatch):
    schema.upgrade(tmp_path / "by-alembic.db", create=True)
    repeat_first_revisions(monkeypatch)
    for name in ("first", "second"):
        schema.upgrade(tmp_path / f"{name}.db", create=True)
        assert dumped(tmp_path / f"{name}.db") == dumped(tmp_path / "by-alembic.db")


def dumped(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as driver:
        return list(driver.iterdump())


def described(path: Path) -> dict[str, object]:
    """Describes a schema through SQLite's pragmas, and the clauses of its CREATE statements as sets."""
    with closing(sqlite3.connect(path)) as driver:
        statements = driver.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
        result: dict[str, object] = {}
        for kind, name, table, statement in statements:
            if table == "alembic_version":
                continue
            # An added column stands on the line of the one before it: commas outside parentheses part clauses, too.
            lines = re.split(r",?\s*\n\s*|, (?![^(]*\))", statement.strip()) if statement else []
            result[f"{kind} {name}"] = sorted(line.strip() for line in lines)
            if kind == "table":
                for pragma in ("table_xinfo", "foreign_key_list", "index_list"):
                    rows = driver.execute(f"PRAGMA {pragma}({name})").fetchall()
                    # The first column is a running number, save for table_xinfo, where it is the column's.
                    result[f"{pragma} {name}"] = sorted(map(repr, (row[pragma != "table_xinfo" :] for row in rows)))
            elif kind == "index":
                result[f"index_xinfo {name}"] = driver.execute(f"PRAGMA index_xinfo({name})").fetchall()
        return result


def test_revisions_make_what_the_models_say(path, tmp_path):
    schema.upgrade(path, create=True)
    other = tmp_path / "models.db"
    engine = create_engine(f"sqlite:///{other}")
    Table.metadata.create_all(engine)
    engine.dispose()
    found, expected = described(path), described(other)
    assert found == expected
    whole = json.dumps(found)
    assert whole.count("WITHOUT ROWID") == 18
    assert whole.count("CHECK (") == 13
    assert whole.count("WHERE subject IS") == 2


def test_every_constraint_has_a_name(path):
    schema.upgrade(path, create=True)
    with closing(sqlite3.connect(path)) as driver:
        query = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name <> 'alembic_version'"
        for (statement,) in driver.execute(query):
            for line in statement.splitlines():
                if re.search(r"PRIMARY KEY|UNIQUE|CHECK|FOREIGN KEY", line):
                    assert re.search(r"CONSTRAINT (pk|uq|ck|fk)_\w+ ", line), line


# --- upgrade ----------------------------------------------------------------------------------------


def test_upgrade_of_nothing(path, tmp_path):
    with pytest.raises(StoreMissingError):
        schema.upgrade(path)
    assert not path.exists()
    path.touch()
    with pytest.raises(StoreMissingError):
        schema.upgrade(path)
    with pytest.raises(StoreError, match="no folder"):
        schema.upgrade(tmp_path / "missing" / "kndb.db", create=True)


def test_upgrade_of_the_newest_changes_nothing(path):
    schema.upgrade(path, create=True)
    before = path.read_bytes()
    assert schema.upgrade(path) == schema.upgrade(path, create=True) == schema.head_revision()
    assert path.read_bytes() == before


def test_upgrade_refuses_newer_and_foreign_databases(path):
    schema.upgrade(path, create=True)
    with closing(sqlite3.connect(path)) as driver:
        driver.execute("UPDATE alembic_version SET version_num = 'f00d'")
        driver.commit()
        with pytest.raises(SchemaVersionError, match="update kndb"):
            schema.upgrade(path)
        driver.execute("DROP TABLE alembic_version")
        with pytest.raises(StoreDamagedError, match="it has kndb's tables and no schema revision"):
            schema.upgrade(path)
        driver.execute("DROP TABLE model")
        with pytest.raises(SchemaVersionError, match="not one of kndb's"):
            schema.upgrade(path)


def test_alembic_leaves_loggers_alone(path):
    import logging

    logger = logging.getLogger("somebody.elses")
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    schema.upgrade(path, create=True)
    assert not logger.disabled
    assert (logging.getLogger().handlers, logging.getLogger().level) == (handlers, level)


@pytest.mark.parametrize("table", ["alembic_version", "relation", "run", "evaluation"])
def test_failure_in_the_middle_leaves_nothing(path, table, monkeypatch):
    connect = sqlite3.connect

    def forbid(action, name, *_):
        return sqlite3.SQLITE_DENY if (action, name) == (sqlite3.SQLITE_CREATE_TABLE, table) else sqlite3.SQLITE_OK

    def forbidding(*arguments, **options):
        driver = connect(*arguments, **options)
        driver.set_authorizer(forbid)
        return driver

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", forbidding)
        with pytest.raises(Exception, match="not authorized"):
            schema.upgrade(path, create=True)
    with closing(connect(path)) as driver:
        assert driver.execute("SELECT * FROM sqlite_master").fetchall() == []
    schema.upgrade(path, create=True)
    open_store(path, create=False).close()


def test_broken_reference_undoes_the_migration(path, monkeypatch):
    run = schema.run_migrations

    def run_badly(connection):
        run(connection)
        statement = "INSERT INTO fact (relation_id, subject, object, source) VALUES (99, 's', 'o', 'f')"
        connection.exec_driver_sql(statement)

    monkeypatch.setattr(schema, "run_migrations", run_badly)
    with pytest.raises(StoreDamagedError, match=r"not upgraded.*tables fact"):
        schema.upgrade(path, create=True)
    with closing(sqlite3.connect(path)) as driver:
        assert driver.execute("SELECT * FROM sqlite_master").fetchall() == []


def test_revisions_are_not_for_the_alembic_command(path):
    from importlib.resources import files

    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(files("kndb.migrations")))
    with pytest.raises(RuntimeError, match="kndb db upgrade"):
        command.upgrade(config, "head")


# --- crashes and races ------------------------------------------------------------------------------


RACE = """
import os, sys
import alembic.command
from kndb.store import maintenance
from kndb.store.engine import open_store

folder, rounds, racers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
for number in range(rounds):
    path = f"{folder}/{number}.db"
    gate, opened = os.pipe()
    children = []
    for racer in range(racers):
        child = os.fork()
        if child == 0:
            os.close(opened)
            os.read(gate, 1)  # all start when the last end of the pipe closes
            try:
                with open_store(path, create=True) as store, store.writing() as connection:
                    connection.exec_driver_sql("INSERT INTO relation (key) VALUES (?)", (f"P{racer}",))
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    os.close(gate)
    os.close(opened)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * racers
    with open_store(path, create=False) as store:
        assert maintenance.check(store).sound
        with store.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM relation").scalar_one() == racers
"""


@pytest.mark.fault("several that create one database at once")
def test_processes_that_create_the_same_database_at_once(tmp_path):
    program = [sys.executable, "-W", "error", "-c", RACE, str(tmp_path), "6", "4"]
    run = subprocess.run(program, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


# --- frozen databases -------------------------------------------------------------------------------


def test_every_revision_has_a_frozen_database():
    assert tuple(path.stem for path in FROZEN) == schema.REVISIONS


@pytest.mark.fault("a database of an older revision")
@pytest.mark.parametrize("frozen", FROZEN, ids=lambda path: path.stem)
def test_frozen_database_upgrades_and_keeps_its_rows(frozen, path):
    with closing(sqlite3.connect(path)) as driver:
        driver.executescript(frozen.read_text(encoding="utf-8"))
        tables = [row[0] for row in driver.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        before = {}
        for table in tables:
            rows = driver.execute(f"SELECT * FROM {table}")
            before[table] = [column[0] for column in rows.description], rows.fetchall()
    assert all(rows for _, rows in before.values())
    if frozen.stem != schema.head_revision():
        with pytest.raises(SchemaVersionError, match=r"kndb\.upgrade_database"):
            open_store(path, create=True)
    schema.upgrade(path)
    with open_store(path, create=False) as store, store.reading() as connection:
        del before["alembic_version"]
        for table, (columns, rows) in before.items():
            found = connection.exec_driver_sql(f"SELECT {', '.join(columns)} FROM {table}").all()
            assert [tuple(row) for row in found] == rows
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        found = {(fact.relation, fact.subject, fact.object) for fact in facts.find_facts(connection)}
        assert found >= {("P176", "iPod Touch", "Apple"), ("P36", None, "Paris")}
        assert {prompt.text for prompt in facts.prompts(connection, held_out=True)} == {
            "The maker of iPod Touch is [Y] today.",
            "The maker of Škoda 'Favorit' is [Y] today.",
        }
        assert connection.exec_driver_sql("SELECT json_extract(edits, '$[0]') FROM version").scalars().all()
        assert connection.exec_driver_sql("SELECT * FROM relation_neuron").all() == [(1, 1, 3, 511, 1)]


@pytest.mark.fault("a database of an older revision")
def test_runs_of_the_first_revision_go_on(path):
    """What a run silently was is in its settings; what it passed over for its many tokens is open again."""
    settings = {"quadrature": "radau", "steps": None, "tolerance": 1e-3, "floor": 0.1, "known_only": False}
    with closing(sqlite3.connect(path)) as driver:
        driver.executescript((HERE / "frozen" / "0001.sql").read_text(encoding="utf-8"))
        version = driver.execute("SELECT version FROM run").fetchone()[0]
        row = (7, 1, version, "integrated-gradients", json.dumps(settings), "complete", "now", "now")
        driver.execute("INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        results = [(7, 1, *[None] * 9, "answer-of-several-tokens"), (7, 2, *[None] * 9, "blank-not-last")]
        driver.executemany(f"INSERT INTO prompt_result VALUES ({', '.join('?' * 12)})", results)
        driver.commit()
    schema.upgrade(path)
    with open_store(path, create=False) as store, store.reading() as connection:
        wanted = {**settings, "dtype": "float32", "target": "gold", "negative": False}
        assert runs.find_run(connection, 1, version, "integrated-gradients", wanted) == 7
        assert runs.find_run(connection, 1, version, "integrated-gradients", {**wanted, "negative": True}) is None
        assert runs.skip_counts(connection, 7) == {"blank-not-last": 1}
        assert 1 in {prompt.id for prompt in runs.pending_prompts(connection, 7, held_out=True)}


@pytest.mark.fault("a database of an older revision")
def test_runs_of_the_fifth_revision_know_their_facts(path):
    """Of a complete run, those with results; of an open one, all of the relations that it began."""
    with closing(sqlite3.connect(path)) as driver:
        driver.executescript((HERE / "frozen" / "0005.sql").read_text(encoding="utf-8"))
        facts_of = driver.execute("SELECT prompt.id, fact_id, relation_id FROM prompt JOIN fact ON fact.id = fact_id")
        prompts = {prompt: (fact, relation) for prompt, fact, relation in facts_of.fetchall()}
        driver.execute("DELETE FROM prompt_result")
        first = min(prompts)
        driver.executemany(
            "INSERT INTO prompt_result (run_id, prompt_id, max_score) VALUES (?, ?, 1.0)", [(1, first), (2, first)]
        )
        driver.commit()
    schema.upgrade(path)
    fact, relation = prompts[first]
    begun = sorted({other for other, of in prompts.values() if of == relation})
    assert len(begun) > 1
    with open_store(path, create=False) as store, store.reading() as connection:
        found = connection.exec_driver_sql("SELECT run_id, fact_id FROM run_fact ORDER BY 1, 2").all()
        assert [tuple(row) for row in found] == [(1, fact), *((2, other) for other in begun)]
        assert (
            connection.exec_driver_sql("SELECT worst_layer, layers_above FROM prompt_result").all()
            == [(None, None)] * 2
        )
        open_run = runs.unfinished_relations(connection, 2, held_out=False)
        assert sum(open_run.values()) == sum(
            1 for prompt in facts.prompts(connection, held_out=False) if prompt.fact_id in begun and prompt.id != first
        )
