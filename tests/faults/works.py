"""The works that are killed, or whose disk fails: how each is prepared and done, and what a store then holds."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import alembic.command  # noqa: F401 - once here, not in every child
import torch

from kndb.database.edits import pull as edit_pull
from kndb.database.edits import rebase as edit_rebase
from kndb.editing.objects import diff_file, slots
from kndb.editing.objects.diff_tensors import TensorDiff
from kndb.editing.planning.replay import Difference
from kndb.exchange.edit_bundle import Bundle, BundledEdit
from kndb.records.facts import FactFile, FactRecord, TemplateRecord
from kndb.records.recipes import read_recipe
from kndb.store import facts, maintenance, models, schema, snapshots, versions
from kndb.store.edits import edit as edits
from kndb.store.edits import steps
from kndb.store.engine import Store, open_store
from kndb.versions import version_id

BASE = version_id("f", {})
WEIGHTS = torch.arange(24, dtype=torch.float32).reshape(4, 6)
OLD = torch.tensor([1.0, 2.0])
FROZEN = Path(__file__).parents[1] / "store" / "frozen"

State = list[object]


@dataclass(frozen=True)
class Work:
    """A work on a folder.

    Attributes:
        prepare: makes the folder that the work is done in.
        act: does it.
        state: says all that is held there, and fails where it is not sound.
    """

    prepare: Callable[[Path], None]
    act: Callable[[Path], object]
    state: Callable[[Path], State]


# --- edits ----------------------------------------------------------------------------------------


def edit_of(indices: list[int], added: int = 0) -> diff_file.EditObject:
    chosen = torch.tensor(indices)
    old = slots.read_slots(WEIGHTS, "column", chosen) + added
    diff = diff_file.ParameterDiff("w", "column", chosen, old, old + 1)
    return diff_file.EditObject("f", read_recipe("update", {"of": indices}), (diff,), {"w": 0}, {"w": (4, 6)})


def open_at(place: Path, *, create: bool = False) -> Store:
    return open_store(place / "kndb.db", create=create, timeout=0)


def add_and_apply(place: Path, indices: list[int], added: int = 0) -> None:
    edit = edit_of(indices, added)
    with open_at(place) as store, store.writing() as connection:
        object_hash, path = diff_file.write(edit, store.objects)
        version = versions.current_model(connection, 1).version
        edit_id = edits.add_edit(connection, 1, edit.recipe, object_hash, path, version, slots.changes(edit))
        steps.apply_edit(connection, edit_id, version)


def make_edits(place: Path) -> None:
    """Edit 1 was applied, kept as a snapshot and taken out; 2 and 3, which overlap, are applied."""
    place.mkdir()
    with open_at(place, create=True) as store, store.writing() as connection:
        names = {"name": "tiny", "source": "x", "fingerprint": "f", "family": "bert"}
        model = models.add_model(connection, **names, layers=1, neurons=6, version=BASE)
        versions.register_base(connection, model.id, BASE)
    add_and_apply(place, [1, 2])
    with open_at(place) as store, store.writing() as connection:
        snapshots.create(connection, 1, "ready")
        steps.revert_edit(connection, 1, versions.current_model(connection, 1).version)
    add_and_apply(place, [4])
    add_and_apply(place, [4], 1)


def apply(place: Path) -> None:
    add_and_apply(place, [0, 5])


def revert(place: Path) -> None:
    with open_at(place) as store, store.writing() as connection:
        steps.revert_edit(connection, 3, versions.current_model(connection, 1).version)


def restore(place: Path) -> None:
    with open_at(place) as store, store.writing() as connection:
        snapshots.restore(connection, 1, "ready", versions.current_model(connection, 1).version)


def cascade(place: Path) -> None:
    with open_at(place) as store, store.writing() as connection:
        steps.revert_cascade(connection, 2, versions.current_model(connection, 1).version)


def rebase(place: Path) -> None:
    anew = edit_rebase.Replay(
        3, replace(edit_of([4, 5]), recipe=read_recipe("update", {"rebased_from": 3})), Difference(2, 2, 1.0)
    )
    with open_at(place) as store:
        with store.reading() as connection:
            version = versions.current_model(connection, 1).version
        edit_rebase.store_rebase(store, 2, version, [anew])


def pull(place: Path) -> None:
    """Two edits from another store, of which one builds on the other; the second changes a whole parameter."""
    first = edit_of([0, 5])
    hashes_of_whole = slots.region_hash(OLD), slots.region_hash(OLD + 1)
    whole = TensorDiff("v", (2,), "F32", None, *hashes_of_whole, slots.raw(OLD), slots.raw(OLD + 1))
    second = replace(edit_of([5], 1), tensors=(whole,))
    encoded = [diff_file.encode(edit) for edit in (first, second)]
    hashes = [hashlib.sha256(content).hexdigest() for content in encoded]
    told = [
        BundledEdit(name, "update", "x", "ada", "then", tuple(hashes[:at]), True, (), ())
        for at, name in enumerate(hashes)
    ]
    bundle = Bundle("theirs", "f", "bert", 1, 6, tuple(told), dict(zip(hashes, encoded, strict=True)))
    contents = dict(zip(hashes, (first, second), strict=True))
    with open_at(place) as store:
        with store.reading() as connection:
            model = models.model(connection, "tiny")
        edit_pull.take_in(store, model, bundle, contents, Path("edits.kndb"))


def edits_state(place: Path) -> State:
    """What a sound store holds, times left out; the objects that its rows name are read and checked."""
    with open_at(place) as store:
        report = maintenance.check(store)
        assert report.sound, report.problems
        assert len(report.orphans) <= 2
        with store.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
            for edit in edits.edits(connection):
                content = diff_file.read(store.objects, edit.object_path, edit.object_hash)
                assert slots.changes(content) == edits.edit_changes(connection, edit.id)
            return [
                versions.current_model(connection, 1).version,
                versions.applied_edits(connection, 1),
                [edit.object_hash for edit in edits.edits(connection)],
                [(entry.action, entry.edit, entry.version_after) for entry in edits.history(connection)],
            ]


# --- facts, copies, new databases -----------------------------------------------------------------

FIRST = FactFile(
    "first.jsonl",
    {"P176": "manufacturer"},
    (TemplateRecord("P176", "[X] is produced by [Y]."),),
    (
        FactRecord("P176", "iPod", "Apple", "f1"),
        FactRecord("P176", "Fusion", "Ford", "f2", ("[Y] built Fusion.",)),
    ),
)
SECOND = FactFile(
    "second.jsonl",
    {"P176": None, "P36": "capital"},
    (
        TemplateRecord("P176", "[X] comes from [Y]."),
        TemplateRecord("P36", "The capital of [X] is [Y].", held_out=True),
    ),
    tuple(FactRecord("P36", f"land {n}", f"town {n}", f"c{n}", (f"land {n}: [Y]",)) for n in range(20)),
)


def make_folder(place: Path) -> None:
    place.mkdir()


def make_facts(place: Path) -> None:
    place.mkdir()
    with open_at(place, create=True) as store, store.writing() as connection:
        facts.ingest(connection, [FIRST])


def create(place: Path) -> None:
    open_at(place, create=True).close()


def ingest(place: Path) -> None:
    with open_at(place, create=True) as store, store.writing() as connection:
        facts.ingest(connection, [SECOND])


def backup(place: Path) -> None:
    with open_at(place) as store:
        maintenance.backup(store, place / "copy.db", overwrite=True)


def rows_state(place: Path, name: str = "kndb.db") -> State:
    """All rows of a sound database, of whatever revision, and what is wrong with it; nothing for no database."""
    path = place / name
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as driver:
        assert driver.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = list(driver.iterdump())
        if not driver.execute("SELECT * FROM sqlite_master").fetchall():
            return []
    with Store(path, timeout=0) as store:
        problems = [problem.replace(str(place), "") for problem in maintenance.check(store).problems]
        assert not any(word in problem for problem in problems for word in ("damaged", "refers to"))
        return [problems, rows]


# --- migrations -----------------------------------------------------------------------------------


def make_frozen(revision: str, place: Path) -> None:
    place.mkdir()
    with closing(sqlite3.connect(place / "kndb.db")) as driver:
        driver.executescript((FROZEN / f"{revision}.sql").read_text(encoding="utf-8"))


def migrate(place: Path) -> None:
    schema.upgrade(place / "kndb.db", timeout=0)


WORKS = {
    **{act.__name__: Work(make_edits, act, edits_state) for act in (apply, revert, cascade, rebase, restore, pull)},
    "ingest": Work(make_facts, ingest, rows_state),
    "backup": Work(make_facts, backup, partial(rows_state, name="copy.db")),
    "create": Work(make_folder, create, rows_state),
    **{
        f"migrate {revision}": Work(partial(make_frozen, revision), migrate, rows_state)
        for revision in schema.REVISIONS[:-1]
    },
}
