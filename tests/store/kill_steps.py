"""A program that kills an action on a store at each of its steps, and looks at what is left.

    python kill_steps.py FOLDER ACTION STEP

ACTION is one of `ACTIONS`; STEP is `statements`, or a number of SQLite's virtual machine instructions. For
n = 1, 2, … a forked child runs the action and kills itself with SIGKILL at its n-th step, until one comes to
the end. Prints as JSON how often the store was left as before and as after the action; fails if it was ever
anything else.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import traceback
from pathlib import Path

from kndb.errors import StoreMissingError
from kndb.records import FactFile, FactRecord, TemplateRecord
from kndb.store import facts, maintenance
from kndb.store.engine import open_store

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


def main(folder: Path, action: str, step: str) -> None:
    import alembic.command  # noqa: F401 - once here, not in every child

    prepare, act, state = ACTIONS[action]
    prepare(folder / "base")
    before = state(folder / "base")
    counts = {"before": 0, "after": 0}
    after = None
    for number in range(1, 100_000):
        place = folder / str(number)
        shutil.copytree(folder / "base", place)
        killed = run_killed(act, place, step, number)
        found = state(place)
        if not killed:
            after = found
            break
        if found == before:
            counts["before"] += 1
            # What a crash left must not stand in the way of the next try.
            act(place)
            found = state(place)
        else:
            counts["after"] += 1
        after = after or found
        assert found == after, f"neither before nor after at step {number}: {found}"
        shutil.rmtree(place)
    assert after != before
    sys.stdout.write(json.dumps(counts))


def run_killed(act, place: Path, step: str, number: int) -> bool:
    child = os.fork()
    if child == 0:
        try:
            count_steps(step, number)
            act(place)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def count_steps(step: str, last: int) -> None:
    left = [last]

    def one(*_: object) -> int:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    connect = sqlite3.connect

    def counting(*arguments, **options):
        connection = connect(*arguments, **options)
        if step == "statements":
            connection.set_trace_callback(one)
        else:
            connection.set_progress_handler(one, int(step))
        return connection

    sqlite3.connect = counting


# --- the actions --------------------------------------------------------------------------------------


def state(path: Path) -> list[str]:
    """All that a sound store holds; nothing for no store."""
    try:
        store = open_store(path, create=False, timeout=0)
    except StoreMissingError:
        return []
    with store:
        report = maintenance.check(store)
        assert report.sound, report.problems
        with store.reading() as connection:
            return list(connection.connection.driver_connection.iterdump())


def make_folder(place: Path) -> None:
    place.mkdir()


def make_store(place: Path) -> None:
    place.mkdir()
    with open_store(place / "kndb.db", create=True) as store, store.writing() as connection:
        facts.ingest(connection, [FIRST])


def create(place: Path) -> None:
    open_store(place / "kndb.db", create=True).close()


def ingest(place: Path) -> None:
    with open_store(place / "kndb.db", create=True) as store, store.writing() as connection:
        facts.ingest(connection, [SECOND])


def backup(place: Path) -> None:
    with open_store(place / "kndb.db", create=False) as store:
        maintenance.backup(store, place / "copy.db", overwrite=True)


ACTIONS = {
    "create": (make_folder, create, lambda place: state(place / "kndb.db")),
    "ingest": (make_store, ingest, lambda place: state(place / "kndb.db")),
    "backup": (make_store, backup, lambda place: state(place / "copy.db")),
}

if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
