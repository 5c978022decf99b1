"""A server that is killed, connections that are cut, and passwords; on servers of this module's own."""

from __future__ import annotations

import logging
import threading

import pytest
from postgres_server import KILLED, own_server

from kndb.database import open_database
from kndb.errors import KndbError, StoreError
from kndb.store import runs
from kndb.store.engine import Store, open_store

PASSWORD = "geheim-7"


@pytest.fixture(scope="module")
def server():
    with own_server(settings=KILLED, tcp=True) as running:
        yield running


@pytest.fixture
def location(server, request) -> str:
    """A database of the test's own."""
    import psycopg

    name = f"t{abs(hash(request.node.name))}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
    return server.url(name)


def keys(store: Store) -> list[str]:
    with store.reading() as connection:
        return [row[0] for row in connection.exec_driver_sql("SELECT key FROM relation ORDER BY key")]


def add(store: Store, key: str) -> None:
    with store.writing() as connection:
        connection.exec_driver_sql("INSERT INTO relation (key) VALUES (?)", (key,))


@pytest.mark.fault("a server that is killed")
def test_a_killed_server_keeps_what_was_stored(server, location):
    with open_store(location, create=True) as store:
        add(store, "before")

        def write_and_kill() -> None:
            with store.writing() as connection:
                connection.exec_driver_sql("INSERT INTO relation (key) VALUES ('lost')")
                server.kill()

        with pytest.raises(StoreError, match="connection to the server was lost"):
            write_and_kill()
        with pytest.raises(StoreError, match="can't be reached"):
            add(store, "while it is gone")
        server.start()
        assert keys(store) == ["before"]
        add(store, "after")
        assert keys(store) == ["after", "before"]


@pytest.mark.fault("a connection that is cut")
def test_a_cut_connection_undoes_its_transaction_alone(location):
    with open_store(location, create=True) as store, open_store(location, create=True) as other:

        def cut(connection) -> None:
            (pid,) = connection.exec_driver_sql("SELECT pg_backend_pid()").one()
            with other.reading() as apart:
                apart.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)")

        def write() -> None:
            with store.writing() as connection:
                connection.exec_driver_sql("INSERT INTO relation (key) VALUES ('lost')")
                cut(connection)
                connection.exec_driver_sql("SELECT 1")

        def read() -> None:
            with store.reading() as connection:
                cut(connection)
                connection.exec_driver_sql("SELECT 1")

        for work in (write, read):
            with pytest.raises(StoreError, match="connection to the server was lost"):
                work()
        # The lock went with the transaction, and the pool with its dead connections.
        add(store, "after")
        assert keys(other) == ["after"]


@pytest.mark.fault("a server that is killed")
def test_attribution_goes_on_where_it_was(server, location, small_models, small_facts, tmp_path, monkeypatch):
    saved, batches = runs.save_results, []

    def save_and_kill(connection, run_id, batch):
        saved(connection, run_id, batch)
        batches.append(batch)
        if len(batches) == 2:
            server.kill()

    with open_database(location, objects=tmp_path / "objects") as database:
        database.facts.ingest([small_facts])
        database.models.add(str(small_models["bert"]), "tiny")
        monkeypatch.setattr(runs, "save_results", save_and_kill)
        with pytest.raises(StoreError, match="connection to the server was lost"):
            database.attribution.run("tiny", relations=["P36"], batch_size=8)
        monkeypatch.undo()
        server.start()
        (open_run,) = database.query.runs()
        assert open_run.status == "running"
        assert 0 < open_run.prompts < 40

        looked: list[int] = []

        def look_on() -> None:
            with open_database(location) as reader:
                looked.extend(run.prompts for run in reader.query.runs())

        def save_and_look(connection, run_id, batch):
            saved(connection, run_id, batch)
            thread = threading.Thread(target=look_on)
            thread.start()
            thread.join()

        monkeypatch.setattr(runs, "save_results", save_and_look)
        database.attribution.run("tiny", relations=["P36"], batch_size=8)
        monkeypatch.undo()
        (complete,) = database.query.runs()
        assert (complete.status, complete.prompts) == ("complete", 40)
        # Whoever reads meanwhile sees whole batches, and never what is not committed.
        assert looked == sorted(looked)
        assert looked[-1] < 40
        scores = database.query.sql("SELECT prompt_id, layer, neuron, score FROM score ORDER BY 1, 2, 3")[1]
    with open_database(tmp_path / "undisturbed.db") as other:
        other.facts.ingest([small_facts])
        other.models.add(str(small_models["bert"]), "tiny")
        other.attribution.run("tiny", relations=["P36"], batch_size=8)
        assert other.query.sql("SELECT prompt_id, layer, neuron, score FROM score ORDER BY 1, 2, 3")[1] == scores


def test_a_password_is_told_to_nobody(server, location, caplog, capsys):
    import psycopg

    from kndb.cli.main import exit_code

    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE limited LOGIN PASSWORD '{PASSWORD}'")
    given = location.replace("postgres@", f"limited:{PASSWORD}@")
    wrong = given.replace("limited:", "nobody:")
    told: list[str] = []
    caplog.set_level(logging.DEBUG)
    for name in (given, wrong, given.replace("/t", "/missing_t"), f"{location}?password={PASSWORD}", f"{given}@"):
        try:
            with open_database(name) as database:
                told.append(repr(database))
                told.append(str(database.maintenance.info()))
        except KndbError as error:
            chain: BaseException | None = error
            while chain is not None:
                told.append(str(chain))
                chain = chain.__cause__
        for words in (["db", "info"], ["db", "check"], ["query", "fact", "9"], ["db", "upgrade"], ["db", "init"]):
            exit_code(["--verbose", *words, "--db", name])
            exit_code(["--db", name, *words, "--db", "other.db"])
    said = capsys.readouterr()
    everything = "\n".join([*told, said.out, said.err, caplog.text])
    assert len(everything) > 1000
    assert PASSWORD not in everything
