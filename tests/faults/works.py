"""The works that are killed, or whose disk fails: how each is prepared and done, and what a store then holds.

All are done as a user does them, by a method of `Database` or by the command line: transactions are theirs to open.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import alembic.command  # noqa: F401 - once here, not in every child

from kndb.cli.main import exit_code
from kndb.database import Database, check_database, open_database, upgrade_database
from kndb.database.edits.batch import Batch, Target
from kndb.database.edits.draft import Draft
from kndb.database.models import ModelVersion
from kndb.editing.objects import diff_file, slots
from kndb.errors import KndbError
from kndb.records.edit_settings import EvaluationSettings, UpdateSettings
from kndb.store import schema
from kndb.store.edits import edit as edits

FROZEN = Path(__file__).parents[1] / "store" / "frozen"
UNEXPECTED = 1
"""The exit code of an error that is not kndb's."""

MOST_ORPHANS = 7
"""The largest number of objects that a work writes, and one that is not finished."""

State = list[object]


class UnsoundError(AssertionError):
    """A store in which `kndb db check` finds something."""


@dataclass(frozen=True)
class Work:
    """A work on a folder.

    Attributes:
        prepare: makes the folder that the work is done in.
        act: does it.
        state: says all that is held there, and fails where it is not sound.
    """

    prepare: Callable[[Path], object]
    act: Callable[[Path], object]
    state: Callable[[Path], State]


def opened(place: Path) -> Database:
    return open_database(place / "kndb.db")


def command(place: Path, *words: object) -> None:
    """Runs a command in a folder, quietly.

    Raises:
        KndbError: if it ended with the exit code of one of kndb's errors.
    """
    printed = io.StringIO()
    with inside(place), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = exit_code([*map(str, words), "--db", "kndb.db"])
    assert code != UNEXPECTED, printed.getvalue()
    if code:
        raise KndbError(printed.getvalue())


@contextlib.contextmanager
def inside(place: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(before)


# --- what a store holds -----------------------------------------------------------------------------------


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """The rows of all tables, times left out."""
    with closing(sqlite3.connect(path)) as driver:
        assert driver.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = {}
        for (table,) in driver.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall():
            columns = [row[1] for row in driver.execute(f"PRAGMA table_info({table})") if not row[1].endswith("_at")]
            found[table] = driver.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
        return found


def sound_rows(place: Path) -> State:
    """All rows of a sound store; the objects that they name are read and compared with them."""
    path = place / "kndb.db"
    if not path.exists():
        return []
    report = check_database(path)
    if not report.sound:
        raise UnsoundError(report.problems)
    assert len(report.orphans) <= MOST_ORPHANS
    with opened(place) as database, database.store.reading() as connection:
        for edit in edits.edits(connection):
            content = diff_file.read(database.store.objects, edit.object_path, edit.object_hash)
            assert slots.changes(content) == edits.edit_changes(connection, edit.id)
    return [rows(path)]


def rows_of_any_revision(place: Path, name: str = "kndb.db") -> State:
    """All rows of a database, of whatever revision, and what is wrong with it; nothing for no database."""
    path = place / name
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as driver:
        assert driver.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        dump = list(driver.iterdump())
        if not driver.execute("SELECT * FROM sqlite_master").fetchall():
            return []
    problems = [problem.replace(str(place), "") for problem in check_database(path).problems]
    assert not any(word in problem for problem in problems for word in ("damaged", "refers to"))
    return [problems, dump]


# --- folders to work in -----------------------------------------------------------------------------------

FACTS = (
    [
        {"relation": "P176", "relation_label": "manufacturer", "template": "[X] is produced by [Y]."},
        {"relation": "P176", "subject": "iPod", "object": "Apple", "id": "f1"},
        {"relation": "P176", "subject": "Fusion", "object": "Ford", "id": "f2", "prompts": ["[Y] built Fusion."]},
    ],
    [
        {"relation": "P176", "template": "[X] comes from [Y]."},
        {"relation": "P20", "relation_label": "place of death", "template": "[X] died in [Y].", "held_out": True},
        *({"relation": "P20", "subject": f"one {n}", "object": f"town {n}", "id": f"c{n}"} for n in range(9)),
        {
            "relation": "P20",
            "subject": "one 0",
            "object": "town 0",
            "evaluation": [{"kind": "locality", "text": f"{n} is [Y]", "answers": ["so"]} for n in range(3)],
        },
    ],
)
"""Two files of facts: the second one adds to the relation of the first."""


@dataclass(frozen=True)
class Places:
    """Prepared folders, each made when it is first asked for and then copied.

    Attributes:
        ready: a folder with a database in which model `tiny` has knowledge neurons of 16 facts; only to be read.
        folder: where others are made.
    """

    ready: Path
    folder: Path

    def make_empty(self, place: Path) -> None:
        """Two files of facts, and no database."""
        place.mkdir()
        for name, lines in zip(("one.jsonl", "two.jsonl"), FACTS, strict=True):
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (place / name).write_text(text, encoding="utf-8")

    def make_ready(self, place: Path) -> None:
        """Facts, a model, a run and its refinement, and two more files of facts."""
        self.make_empty(place)
        shutil.copytree(self.ready, place, dirs_exist_ok=True)

    def make_facts(self, place: Path) -> None:
        """The facts of the ready database alone."""
        self.make_empty(place)
        with opened(place) as database:
            database.exchange.import_facts([self.exported("facts.jsonl")])

    def make_applied(self, place: Path) -> None:
        """Edit 1 was applied, kept as snapshot `ready` and taken out; 2 to 4, of which each overlaps the next, are."""
        shutil.copytree(_applied(self), place)

    def make_edits(self, place: Path) -> None:
        """The same with edits 5 to 7, which are planned one on the other and not applied."""
        shutil.copytree(_edits(self), place)

    def exported(self, name: str) -> Path:
        """A file of what the ready database and the one with edits hold."""
        return _exported(self) / name

    @property
    def batch(self) -> Batch:
        """Three edits of the version with edits 2 to 4, planned before any work begins."""
        return _batch(self)

    @property
    def checkpoint(self) -> str:
        """The folder of model `tiny`."""
        with opened(self.ready) as database:
            return database.models.get("tiny").source


@cache
def _applied(places: Places) -> Path:
    place = places.folder / "applied"
    places.make_ready(place)
    with opened(place) as database:
        for number, to in enumerate(("Cairo", "Oslo", "Rome", "Lima"), 1):
            assert database.edits.plan_update("tiny", 1, to, UpdateSettings(max_share=1.0)).id == number
            database.edits.apply(number)
            if number == 1:
                database.snapshots.create("ready", "tiny")
                database.edits.revert(1)
        slots_of = [{(slot.layer, slot.neuron) for slot in database.edits.slots(number)} for number in (2, 3, 4)]
        assert slots_of[0] & slots_of[1]
        assert slots_of[1] & slots_of[2]
    return place


@cache
def _edits(places: Places) -> Path:
    place = places.folder / "edits"
    places.make_applied(place)
    with opened(place) as database:
        assert [edit.id for edit in database.edits.add_batch(places.batch)] == [5, 6, 7]
    return place


@cache
def _batch(places: Places) -> Batch:
    with opened(_applied(places)) as database:
        targets = [Target(fact, "Lima") for fact in (2, 9, 10)]

        def plan(target: Target, version: ModelVersion) -> Draft:
            return database.edits.drafts.update(
                "tiny", target.fact, target.to, UpdateSettings(max_share=1.0), on=version
            )

        return database.edits.draft_batch("tiny", targets, plan)


@cache
def _exported(places: Places) -> Path:
    folder = places.folder / "exported"
    folder.mkdir()
    with opened(places.ready) as database:
        database.exchange.export_facts(folder / "facts.jsonl")
        database.exchange.export_neurons(folder / "neurons.csv")
        database.exchange.export_scores(folder / "scores.csv")
    with opened(_edits(places)) as database:
        database.edits.push([5, 6, 7], folder / "edits.kndb")
    return folder


def make_frozen(revision: str, place: Path) -> None:
    place.mkdir()
    with closing(sqlite3.connect(place / "kndb.db")) as driver:
        driver.executescript((FROZEN / f"{revision}.sql").read_text(encoding="utf-8"))


def works(ready: Path, folder: Path) -> dict[str, Work]:
    """All works by name.

    Args:
        ready: a folder with a database in which model `tiny` has knowledge neurons of 16 facts.
        folder: an empty folder for what the works are prepared from.
    """
    places = Places(ready, folder)

    def of(prepare: Callable[[Path], None], act: Callable[[Database], object]) -> Work:
        def on_database(place: Path) -> None:
            with inside(place), opened(place) as database:
                act(database)

        return Work(prepare, on_database, sound_rows)

    def typed(prepare: Callable[[Path], None], *words: object) -> Work:
        return Work(prepare, lambda place: command(place, *words), sound_rows)

    two_files = [Path("one.jsonl"), Path("two.jsonl")]
    return {
        "apply": typed(places.make_edits, "edit", "apply", 5, 6, 7),
        "apply on conditions": typed(places.make_edits, "edit", "apply", 5, "--require", "success>=0"),
        "revert": typed(places.make_edits, "edit", "revert", 3, 4),
        "cascade": of(places.make_edits, lambda database: database.edits.revert_cascade(2)),
        "rebase": of(places.make_edits, lambda database: database.edits.rebase(2)),
        "restore": of(places.make_edits, lambda database: database.snapshots.restore("ready", "tiny")),
        "edit delete": typed(places.make_edits, "edit", "delete", 5, 6, 7),
        "add a batch": of(places.make_applied, lambda database: database.edits.add_batch(places.batch)),
        "pull": of(places.make_ready, lambda database: database.edits.pull(places.exported("edits.kndb"))),
        "evaluate": of(places.make_edits, lambda database: database.edits.evaluate(5, EvaluationSettings(sample=1))),
        "ingest": typed(places.make_ready, "ingest", *two_files),
        "import facts": of(places.make_ready, lambda database: database.exchange.import_facts(two_files)),
        "import neurons": of(
            places.make_facts, lambda database: database.exchange.import_neurons([places.exported("neurons.csv")])
        ),
        "import scores": of(
            places.make_facts, lambda database: database.exchange.import_scores(places.exported("scores.csv"))
        ),
        "model add": of(places.make_facts, lambda database: database.models.add(places.checkpoint, "tiny")),
        "refine": typed(places.make_ready, "refine", "--threshold", 0.5),
        "probe": of(places.make_ready, lambda database: database.probes.scale("suppress", "tiny", facts=2, others=1)),
        "snapshot create": typed(places.make_edits, "snapshot", "create", "named", "--model", "tiny"),
        "snapshot delete": typed(places.make_edits, "snapshot", "delete", "ready", "--model", "tiny"),
        "backup": Work(
            places.make_edits,
            lambda place: command(place, "db", "backup", "copy.db"),
            partial(rows_of_any_revision, name="copy.db"),
        ),
        "create": Work(places.make_empty, lambda place: opened(place).close(), rows_of_any_revision),
        **{
            f"migrate {revision}": Work(
                partial(make_frozen, revision),
                lambda place: upgrade_database(place / "kndb.db"),
                rows_of_any_revision,
            )
            for revision in schema.REVISIONS[:-1]
        },
    }
