"""Check, repair, backup and info."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import insert

from kndb.errors import StoreDamagedError, StoreError, StoreMissingError, UsageError
from kndb.records.maintenance import CheckReport
from kndb.records.models import UNKNOWN
from kndb.store import checking, maintenance
from kndb.store.engine import Store, open_store
from kndb.store.schema import head_revision
from kndb.store.tables import EditRow, ModelRow, Table

HERE = Path(__file__).parent
TIME = "2026-01-02T03:04:05+00:00"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    # The edits made up here have objects, but no story that versions and history could tell.
    monkeypatch.setattr(checking, "ROW_CHECKS", ())
    (tmp_path / "home").mkdir()
    with open_store(tmp_path / "home" / "kndb.db", create=True, timeout=0.05) as opened:
        with opened.writing() as connection:
            model = {"id": 1, "name": "m", "layers": 1, "neurons": 1, "created_at": TIME, "version": UNKNOWN}
            model |= dict.fromkeys(("source", "fingerprint", "family"), "")
            connection.execute(insert(ModelRow).values(**model))
        yield opened


def add_edit(store: Store, content: bytes) -> Path:
    """Adds an edit with an object file of this content, and gives the file."""
    digest = hashlib.sha256(content).hexdigest()
    path = store.objects / digest[:2] / f"{digest}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    recipe = {"neurons": ["L0.N0"]}
    row = {"model_id": 1, "kind": "erase", "recipe": recipe, "base_version": UNKNOWN, "created_at": TIME}
    with store.writing() as connection:
        connection.execute(insert(EditRow).values(**row, object_hash=digest, object_path=f"{digest[:2]}/{path.name}"))
    return path


def rows(path: Path, table: str) -> int:
    with open_store(path, create=False) as store, store.reading() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()


# --- check ------------------------------------------------------------------------------------------


def test_sound_store(store):
    assert maintenance.check(store) == maintenance.check(store, repair=True)
    add_edit(store, b"one")
    add_edit(store, b"two")
    report = maintenance.check(store, repair=True)
    assert report.sound
    assert (report.problems, report.orphans, report.repaired) == ((), (), ())


def test_rows_are_checked_too(store, monkeypatch):
    monkeypatch.setattr(checking, "ROW_CHECKS", (lambda connection: ["a problem"], lambda connection: []))
    assert maintenance.check(store).problems == ("a problem",)


def test_edits_are_among_the_row_checks():
    from kndb.store.edits.checks import check_edits

    assert check_edits in checking.ROW_CHECKS


@pytest.mark.fault("a missing edit object")
def test_every_fault_of_an_object_is_found(store):
    path = add_edit(store, b"the object")
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        assert "changed or damaged" in maintenance.check(store).problems[0]
        path.write_bytes(good[:position])
        assert "changed or damaged" in maintenance.check(store).problems[0]
    path.unlink()
    assert "is missing" in maintenance.check(store, repair=True).problems[0]
    elsewhere = store.path.parent / "elsewhere"
    elsewhere.write_bytes(good)
    path.symlink_to(elsewhere)
    assert "symbolic link" in maintenance.check(store).problems[0]
    path.unlink()
    path.mkdir()
    assert "can't be read" in maintenance.check(store).problems[0]


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "ab/cd.safetensors"])
def test_object_paths_that_lead_elsewhere_are_not_followed(store, path):
    add_edit(store, b"the object")
    with store.writing() as connection:
        connection.exec_driver_sql("UPDATE edit SET object_path = ?", (path,))
    report = maintenance.check(store)
    assert "names the object" in report.problems[0]
    with pytest.raises(StoreDamagedError):
        maintenance.backup(store, store.path.parent.parent / "copy.db")


def test_orphans_are_listed_and_only_repair_removes_them(store):
    named = add_edit(store, b"named")
    outside = store.path.parent / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    for orphan in ("ab/abcd.safetensors", ".tmp-left-over", f"{named.parent.name}/.{named.stem}.1-2.tmp"):
        (store.objects / orphan).parent.mkdir(exist_ok=True)
        (store.objects / orphan).touch()
    (store.objects / "link").symlink_to(outside)
    report = maintenance.check(store)
    assert report.sound
    assert len(report.orphans) == 4
    assert all(os.path.lexists(orphan) for orphan in report.orphans)
    repaired = maintenance.check(store, repair=True)
    assert repaired.orphans == repaired.repaired == report.orphans
    assert [path for path in store.objects.rglob("*") if not path.is_dir()] == [named]
    assert (outside / "precious").exists()
    assert maintenance.check(store).orphans == ()


def test_repair_waits_for_a_writer(store):
    """A writer may have put down its object, but not yet committed the row."""
    add_edit(store, b"named")
    (store.objects / "orphan").touch()
    with (
        open_store(store.path, create=False) as writer,
        writer.writing(),
        pytest.raises(StoreError, match="in use by another process"),
    ):
        maintenance.check(store, repair=True)
    assert (store.objects / "orphan").exists()


def test_repair_spares_the_objects_of_a_database_of_the_same_stem(store):
    add_edit(store, b"named")
    (store.objects / "orphan").touch()
    other = store.path.with_suffix(".sqlite")
    other.write_text("no database\n")
    assert maintenance.check(store).sound
    other.unlink()
    open_store(other, create=True).close()
    report = maintenance.check(store, repair=True)
    assert "kndb.sqlite shares" in report.problems[0]
    assert report.repaired == ()
    assert (store.objects / "orphan").exists()


def test_dangling_rows_and_wrong_revisions_are_problems(store):
    with closing(sqlite3.connect(store.path)) as driver:
        driver.execute("INSERT INTO template (relation_id, text) VALUES (99, '[X] [Y]')")
        driver.commit()
        (problem,) = maintenance.check(store).problems
        expected = "table template, row 1, column relation_id: 99; it refers to a row of relation that doesn't exist"
        assert problem == expected
        driver.execute("UPDATE alembic_version SET version_num = '9999'")
        driver.commit()
    with Store(store.path) as other:
        assert "schema revision is 9999, and this kndb needs" in maintenance.check(other).problems[0]


def test_damaged_pages_are_problems(store):
    with store.writing() as connection:
        numbers = [(f"P{number}",) for number in range(5000)]
        connection.exec_driver_sql("INSERT INTO relation (key) VALUES (?)", numbers)
    store.close()
    content = bytearray(store.path.read_bytes())
    with closing(sqlite3.connect(store.path)) as driver:
        query = "SELECT rootpage FROM sqlite_master WHERE type = 'index' AND tbl_name = 'relation'"
        start = (driver.execute(query).fetchone()[0] - 1) * 4096
    content[start : start + 4096] = b"\xff" * 4096
    store.path.write_bytes(content)
    report = maintenance.check(store, repair=True)
    assert not report.sound
    assert report.repaired == ()


def test_check_of_a_missing_store(tmp_path):
    with pytest.raises(StoreError):
        maintenance.check(Store(tmp_path / "kndb.db"))
    assert not (tmp_path / "kndb.db").exists()


# --- backup -----------------------------------------------------------------------------------------


def test_backup_is_a_store_of_its_own(store, tmp_path):
    objects = [add_edit(store, b"one"), add_edit(store, b"two")]
    target = maintenance.backup(store, tmp_path / "copy.db")
    assert target == (tmp_path / "copy.db").resolve()
    store.close()
    for path in objects:
        path.unlink()
    store.path.unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "copy.objects", "home"]
    with open_store(target, create=False) as copy:
        assert maintenance.check(copy) == CheckReport()
        assert sorted(path.read_bytes() for path in copy.objects.rglob("*.safetensors")) == [b"one", b"two"]
    assert rows(target, "edit") == 2


def test_backup_holds_what_is_only_in_the_log_yet(store, tmp_path):
    add_edit(store, b"one")
    assert Path(f"{store.path}-wal").stat().st_size > 0
    with store.writing() as connection:
        connection.exec_driver_sql("INSERT INTO relation (key) VALUES ('not committed')")
        maintenance.backup(store, tmp_path / "copy.db")
    assert rows(tmp_path / "copy.db", "edit") == 1
    assert rows(tmp_path / "copy.db", "relation") == 0


def test_backup_replaces_only_databases_and_only_when_told(store, tmp_path):
    add_edit(store, b"one")
    target = maintenance.backup(store, tmp_path / "copy.db")
    add_edit(store, b"two")
    with pytest.raises(StoreError, match=r"exists.*overwrite=True"):
        maintenance.backup(store, target)
    assert rows(target, "edit") == 1
    damaged = next((tmp_path / "copy.objects").rglob("*.safetensors"))
    damaged.write_bytes(b"damaged")
    # A reader of the old copy, and a log beside it.
    with open_store(target, create=False) as reader, reader.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM edit").scalar_one() == 1
        maintenance.backup(store, target, overwrite=True)
        assert connection.exec_driver_sql("SELECT count(*) FROM edit").scalar_one() == 1
    assert rows(target, "edit") == 2
    with open_store(target, create=False) as copy:
        assert maintenance.check(copy) == CheckReport()
    (tmp_path / "text.db").write_text("notes")
    with pytest.raises(StoreError, match="not an SQLite database"):
        maintenance.backup(store, tmp_path / "text.db", overwrite=True)
    assert (tmp_path / "text.db").read_text() == "notes"


def test_backup_refuses_places_that_would_spoil_the_store(store, tmp_path):
    for name in ("kndb.db", "kndb.bak"):
        with pytest.raises(UsageError, match="would share"):
            maintenance.backup(store, store.path.parent / name, overwrite=True)
    with pytest.raises(StoreError, match="no folder"):
        maintenance.backup(store, tmp_path / "missing" / "copy.db")
    with pytest.raises(UsageError):
        maintenance.backup(store, "postgresql://host/copy")


def test_backup_of_a_damaged_object_is_refused(store, tmp_path):
    add_edit(store, b"one").write_bytes(b"other")
    with pytest.raises(StoreDamagedError, match="no copy was made"):
        maintenance.backup(store, tmp_path / "copy.db")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_every_failing_flush_and_rename_leaves_no_half_backup(store, tmp_path, monkeypatch):
    add_edit(store, b"one")
    messages: list[str] = []
    for number in range(1, 20):
        left = [number]

        def failing(real, left=left):
            def call(*arguments):
                left[0] -= 1
                if left[0] == 0:
                    raise OSError(5, "Input/output error")
                return real(*arguments)

            return call

        target = tmp_path / f"copy-{number}.db"
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing(os.fsync))
            patch.setattr(Path, "replace", failing(Path.replace))
            try:
                maintenance.backup(store, target)
            except StoreError as error:
                messages.append(str(error))
        if left[0] > 0:
            break
        assert list(tmp_path.rglob("*.tmp")) == []
        if target.exists():
            assert rows(target, "edit") == 1
        maintenance.backup(store, target, overwrite=True)
        assert rows(target, "edit") == 1
    assert len(messages) >= 7
    assert all("Input/output error" in message for message in messages)


# --- info -------------------------------------------------------------------------------------------


def test_info(store):
    add_edit(store, b"four")
    found = maintenance.info(store)
    assert found["path"] == str(store.path)
    assert found["objects"] == str(store.objects)
    assert found["size"] == store.path.stat().st_size
    assert found["objects_size"] == 4
    assert found["revision"] == head_revision()
    assert found["journal_mode"] == "wal"
    assert found["sqlite_version"] == sqlite3.sqlite_version
    assert set(found["rows"]) == set(Table.metadata.tables)
    assert found["rows"]["edit"] == found["rows"]["model"] == 1
    json.dumps(found)


def test_info_of_a_missing_store(tmp_path):
    with pytest.raises(StoreMissingError):
        open_store(tmp_path / "kndb.db", create=False)
