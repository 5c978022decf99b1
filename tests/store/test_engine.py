"""Opening a store: what is said when that can't be, transactions, locks, pragmas."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kndb.errors import (
    KndbError,
    SchemaVersionError,
    StoreDamagedError,
    StoreError,
    StoreMissingError,
    UsageError,
)
from kndb.store import connections
from kndb.store.engine import Store, open_store
from kndb.store.schema import head_revision


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "kndb.db", create=True, timeout=0.05) as opened:
        yield opened


def add_relation(store: Store, key: str = "P1") -> None:
    with store.writing() as connection:
        connection.exec_driver_sql("INSERT INTO relation (key) VALUES (?)", (key,))


def keys(store: Store) -> list[str]:
    with store.reading() as connection:
        return [row[0] for row in connection.exec_driver_sql("SELECT key FROM relation ORDER BY key")]


# --- locations --------------------------------------------------------------------------------------


def test_location_is_a_path_or_an_sqlite_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = tmp_path.resolve() / "kndb.db"
    for location in (
        "kndb.db",
        Path("kndb.db"),
        "./x/../kndb.db",
        "sqlite:///kndb.db",
        f"sqlite:///{expected}",
    ):
        store = Store(location)
        assert store.path == expected
        assert store.objects == tmp_path.resolve() / "kndb.objects"


def test_other_urls_are_refused():
    with pytest.raises(UsageError, match=r"sqlite:///PATH or postgresql://.*'mysql'"):
        Store("mysql://host/kndb")
    with pytest.raises(UsageError, match="three slashes"):
        Store("sqlite://kndb.db")
    for nothing in ("", ":memory:", "/", "sqlite:///", "sqlite:///:memory:"):
        with pytest.raises(UsageError, match="must be the path of a file"):
            Store(nothing)
    with pytest.raises(UsageError, match="folder of edit objects"):
        Store("kndb.objects")


@pytest.mark.parametrize("name", ["a b.db", "100%.db", "x?mode=ro#y.db", "données-知識.db", "no_suffix", "a'b;c.db"])
def test_names_with_odd_characters(tmp_path, name):
    with open_store(tmp_path / name, create=True) as store:
        add_relation(store)
    with open_store(tmp_path / name, create=False) as store:
        assert keys(store) == ["P1"]
    assert [path.name for path in tmp_path.iterdir()] == [name]


# --- what is there ----------------------------------------------------------------------------------


def test_missing_database(tmp_path):
    path = tmp_path / "kndb.db"
    with pytest.raises(StoreMissingError, match=r"kndb\.db.*kndb\.open\(location="):
        open_store(path, create=False)
    assert not path.exists()
    with pytest.raises(StoreError, match="no folder"):
        open_store(tmp_path / "missing" / "kndb.db", create=True)


def test_empty_file_becomes_a_database_only_for_writers(tmp_path):
    path = tmp_path / "kndb.db"
    path.touch()
    with pytest.raises(StoreMissingError, match="empty"):
        open_store(path, create=False)
    assert path.read_bytes() == b""
    open_store(path, create=True).close()
    open_store(path, create=False).close()


def test_database_without_tables_is_empty_too(tmp_path):
    path = tmp_path / "kndb.db"
    driver = sqlite3.connect(path)
    driver.execute("PRAGMA journal_mode=WAL")
    driver.close()
    assert path.stat().st_size > 0
    with pytest.raises(StoreMissingError, match="empty"):
        open_store(path, create=False)
    open_store(path, create=True).close()


@pytest.mark.parametrize("content", [b"x", b"relation,subject,object\n" * 100, b"SQLite format 3", b"\0" * 5000])
@pytest.mark.parametrize("create", [False, True])
def test_file_that_is_no_database(tmp_path, content, create):
    path = tmp_path / "facts.csv"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="not an SQLite database"):
        open_store(path, create=create)
    assert path.read_bytes() == content
    assert [*tmp_path.iterdir()] == [path]


def test_folder_is_no_database(tmp_path):
    with pytest.raises(StoreError, match="is a folder"):
        open_store(tmp_path, create=True)


def test_cut_database_is_damaged(tmp_path, store):
    add_relation(store)
    store.close()
    content = store.path.read_bytes()
    store.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreDamagedError, match=r"damaged.*db\.maintenance\.check"), store.reading() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM evaluation").fetchall()


@pytest.mark.parametrize("create", [False, True])
def test_other_revisions(tmp_path, store, create):
    def set_revision(statement: str) -> None:
        with closing(sqlite3.connect(store.path)) as driver, driver:
            driver.execute(statement)

    set_revision("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaVersionError, match=rf"revision 9999.*{head_revision()}.*update kndb"):
        open_store(store.path, create=create)
    set_revision("DELETE FROM alembic_version")
    with pytest.raises(StoreDamagedError, match="it has kndb's tables and no schema revision"):
        open_store(store.path, create=create)


@pytest.mark.parametrize("create", [False, True])
def test_older_revision_is_never_migrated_on_the_way(store, create, monkeypatch):
    from kndb.store import schema

    head = schema.head_revision()
    monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, "9999"))
    with pytest.raises(SchemaVersionError, match=rf"revision {head}.*needs 9999.*kndb\.upgrade_database"):
        open_store(store.path, create=create)


@pytest.mark.parametrize("revision", [None, "0001"])
def test_other_peoples_database_is_left_alone(tmp_path, revision):
    path = tmp_path / "other.db"
    driver = sqlite3.connect(path)
    driver.execute("CREATE TABLE customer (id INTEGER)")
    if revision:
        driver.execute("CREATE TABLE alembic_version (version_num TEXT)")
        driver.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    driver.commit()
    for create in (False, True):
        with pytest.raises(SchemaVersionError, match=r"not one of kndb's.*customer"):
            open_store(path, create=create)
    assert driver.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == (2 if revision else 1)
    driver.close()


# --- transactions -----------------------------------------------------------------------------------


def test_writing_commits_and_errors_roll_back(store):
    add_relation(store)

    class Stop(Exception):  # noqa: N818
        pass

    def write_and_stop(error: type[BaseException]) -> None:
        with store.writing() as connection:
            connection.exec_driver_sql("INSERT INTO relation (key) VALUES ('P2')")
            raise error

    for error in (Stop, KeyboardInterrupt):
        with pytest.raises(error):
            write_and_stop(error)
    assert keys(store) == ["P1"]


def test_ddl_rolls_back_too(store):
    def create_and_stop() -> None:
        with store.writing() as connection:
            connection.exec_driver_sql("CREATE TABLE extra (id INTEGER)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        create_and_stop()
    with store.reading() as connection:
        found = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE name = 'extra'").all()
    assert found == []


def test_reading_keeps_nothing_and_sees_one_state(store):
    add_relation(store)
    with store.reading() as connection:
        connection.exec_driver_sql("DELETE FROM relation")
    assert keys(store) == ["P1"]
    with store.reading() as connection:
        before = connection.exec_driver_sql("SELECT count(*) FROM relation").scalar_one()
        add_relation(store, "P2")
        assert connection.exec_driver_sql("SELECT count(*) FROM relation").scalar_one() == before == 1
    assert keys(store) == ["P1", "P2"]


def test_second_writer_is_told_so_and_readers_are_not_in_the_way(store):
    with store.writing() as connection:
        connection.exec_driver_sql("INSERT INTO relation (key) VALUES ('P1')")
        assert keys(store) == []
        with (
            open_store(store.path, create=True, timeout=0.05) as other,
            pytest.raises(StoreError, match="in use by another process"),
            other.writing(),
        ):
            raise AssertionError("two writers at once")
    assert keys(store) == ["P1"]


def test_foreign_keys_and_checks_hold(store):
    from sqlalchemy.exc import IntegrityError

    add_relation(store)
    for statement in (
        "INSERT INTO fact (relation_id, subject, object, source) VALUES (99, 's', 'o', 'f')",
        "INSERT INTO fact (relation_id, object, source) VALUES (1, 'o', 'f')",
    ):
        with pytest.raises(IntegrityError), store.writing() as connection:
            connection.exec_driver_sql(statement)


def test_pragmas(store):
    names = ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
    with store.reading() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]
    assert found == ["wal", 1, 2, 50]


def test_json_is_stored_in_one_form(store):
    from sqlalchemy import insert

    from kndb.store.tables import EvaluationRow

    with store.writing() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        for settings in ({"b": "é", "a": 1}, {"a": 1, "b": "é"}):
            connection.execute(
                insert(EvaluationRow).values(
                    edit_id=1,
                    version_before="",
                    version_after="",
                    settings=settings,
                    measures={},
                    created_at="",
                )
            )
        found = connection.exec_driver_sql("SELECT DISTINCT settings FROM evaluation").all()
        connection.exec_driver_sql("DELETE FROM evaluation")
    assert found == [('{"a": 1, "b": "é"}',)]


# --- the disk ---------------------------------------------------------------------------------------


def test_full_disk(store):
    add_relation(store)
    rows = [("x" * 3000 + str(number),) for number in range(100)]

    def fill() -> None:
        with store.writing() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
            connection.exec_driver_sql("INSERT INTO relation (key) VALUES (?)", rows)

    with pytest.raises(StoreError, match="disk is full"):
        fill()
    assert keys(store) == ["P1"]


READ_ONLY = """
import os, sys, tempfile
from pathlib import Path
from kndb.errors import StoreError
from kndb.store.engine import open_store
path, command = sys.argv[1:]
if os.geteuid() == 0:
    # All is imported before: another user may not be allowed to read the libraries.
    with tempfile.TemporaryDirectory() as folder:
        open_store(Path(folder, "kndb.db"), create=True).close()
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    with open_store(path, create=command != "read") as store:
        if command == "write":
            with store.writing() as connection:
                connection.exec_driver_sql("INSERT INTO relation (key) VALUES ('P2')")
        with store.reading() as connection:
            print("read", connection.exec_driver_sql("SELECT count(*) FROM relation").scalar_one())
except StoreError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may look into."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        folder.chmod(0o755)
        yield folder


def as_ordinary_user(path: Path, command: str) -> str:
    """Runs READ_ONLY as a user to whom the permissions of files mean something."""
    program = [sys.executable, "-W", "error", "-c", READ_ONLY, str(path), command]
    run = subprocess.run(program, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.fault("a read-only file or folder")
def test_read_only_file_and_folder(open_folder):
    path = open_folder / "kndb.db"
    with open_store(path, create=True) as store:
        add_relation(store)
    path.chmod(0o444)
    open_folder.chmod(0o555)
    assert as_ordinary_user(path, "write").startswith("StoreError")
    assert as_ordinary_user(path, "read").startswith("StoreError")
    assert as_ordinary_user(open_folder / "new.db", "create").startswith("StoreError")


@pytest.mark.fault("a read-only file or folder")
def test_unreadable_file(open_folder):
    path = open_folder / "kndb.db"
    open_store(path, create=True).close()
    path.chmod(0o000)
    open_folder.chmod(0o555)
    assert "can't be read: Permission denied" in as_ordinary_user(path, "read")


@pytest.mark.fault("a read-only file or folder")
def test_backup_can_be_read_in_a_read_only_folder(open_folder, store):
    from kndb.store.maintenance import backup

    add_relation(store)
    path = backup(store, open_folder / "copy.db")
    path.chmod(0o444)
    open_folder.chmod(0o555)
    assert as_ordinary_user(path, "read") == "read 1\n"
    assert "read-only" in as_ordinary_user(path, "write")


# --- network file systems ---------------------------------------------------------------------------

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
tmpfs /dev/shm tmpfs rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/me/local ext4 rw 0 0
//host/share /mnt/my\\040share cifs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/var/kndb.db", "ext4"),
        ("/home/me/kndb.db", "nfs4"),
        ("/home/me/local/kndb.db", "ext4"),
        ("/homes/kndb.db", "ext4"),
        ("/mnt/my share/kndb.db", "cifs"),
    ],
)
def test_file_system(path, expected):
    assert connections.file_system(Path(path), MOUNTS) == expected


def test_no_write_ahead_log_on_a_network_file_system(tmp_path, monkeypatch, caplog):
    path = tmp_path.resolve() / "kndb.db"
    with open_store(path, create=True) as store:
        add_relation(store)
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/x {path.parent} nfs4 rw 0 0\n")
    monkeypatch.setattr(connections, "_MOUNTS", mounts)
    with caplog.at_level(logging.WARNING), open_store(path, create=True) as store:
        add_relation(store, "P2")
        with store.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "delete"
    assert "network file system (nfs4)" in caplog.text
    monkeypatch.setattr(connections, "_MOUNTS", tmp_path / "none")
    with open_store(path, create=False) as store:
        assert keys(store) == ["P1", "P2"]


# --- errors -----------------------------------------------------------------------------------------


def test_unexpected_errors_are_not_hidden(store):
    from sqlalchemy.exc import OperationalError

    with pytest.raises(OperationalError, match="no such table"), store.reading() as connection:
        connection.exec_driver_sql("SELECT * FROM nonsense")
    assert connections.translate(ValueError("database is locked"), store.path) is None


@pytest.mark.parametrize(
    "message",
    [
        "database is locked",
        "database table is locked",
        "database or disk is full",
        "attempt to write a readonly database",
        "unable to open database file",
        "file is not a database",
        "database disk image is malformed",
        "disk I/O error",
    ],
)
def test_every_expected_error_is_told_in_our_words(message):
    error = connections.translate(sqlite3.OperationalError(message), Path("/some/kndb.db"))
    assert isinstance(error, KndbError)
    assert str(error).startswith("/some/kndb.db ")


def test_store_imports_neither_alembic_nor_torch():
    code = (
        "import sys, kndb.store.engine, kndb.store.facts, kndb.store.maintenance;"
        "print([name for name in ('alembic', 'torch', 'transformers') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
