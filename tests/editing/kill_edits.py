"""A program that kills the work on an edit at each of its steps, and looks at what is left.

    python kill_edits.py FOLDER

The work: write an edit's object, add its row, apply it, all in one transaction; restore a snapshot; take an edit
out with the later one that overlaps it; or take it out and put the later one, computed anew, in its place. Its
steps are the calls that change the disk and the statements that SQLite runs. For n = 1, 2, … a forked child
kills itself with SIGKILL at its n-th step, until one comes to the end. Prints as JSON, for each kind of work,
how often the store was left as before and as after it; fails if it was ever anything else.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from kndb.database import edit_rebase
from kndb.editing import diff_file, slots
from kndb.editing.replay import Difference
from kndb.store import edits, maintenance, models, snapshots, steps, versions
from kndb.store.engine import Store, open_store
from kndb.versions import version_id

BASE = version_id("f", {})
WEIGHTS = torch.arange(24, dtype=torch.float32).reshape(4, 6)

Work = Callable[[Path], None]


def edit_of(indices: list[int], added: int = 0) -> diff_file.EditObject:
    chosen = torch.tensor(indices)
    old = slots.read_slots(WEIGHTS, "column", chosen) + added
    diff = diff_file.ParameterDiff("w", "column", chosen, old, old + 1)
    return diff_file.EditObject("f", "update", {"of": indices}, (diff,), {"w": 0}, {"w": (4, 6)})


def open_at(place: Path, *, create: bool = False) -> Store:
    return open_store(place / "kndb.db", create=create, timeout=0)


def add_and_apply(place: Path, indices: list[int], added: int = 0) -> None:
    edit = edit_of(indices, added)
    with open_at(place) as store, store.writing() as connection:
        object_hash, path = diff_file.write(edit, store.objects)
        version = versions.current_model(connection, 1).version
        edit_id = edits.add_edit(connection, 1, edit.kind, edit.recipe, object_hash, path, version, slots.changes(edit))
        steps.apply_edit(connection, edit_id, version)


def prepare(place: Path) -> None:
    place.mkdir()
    with open_at(place, create=True) as store, store.writing() as connection:
        model = models.add_model(
            connection,
            name="tiny",
            source="x",
            fingerprint="f",
            family="bert",
            layers=1,
            neurons=6,
            version=BASE,
        )
        versions.register_base(connection, model.id, BASE)
    add_and_apply(place, [1, 2])
    with open_at(place) as store, store.writing() as connection:
        snapshots.create(connection, 1, "ready")
        steps.revert_edit(connection, 1, versions.current_model(connection, 1).version)
    add_and_apply(place, [4])
    add_and_apply(place, [4], 1)


def apply_another(place: Path) -> None:
    add_and_apply(place, [0, 5])


def restore(place: Path) -> None:
    with open_at(place) as store, store.writing() as connection:
        snapshots.restore(connection, 1, "ready", versions.current_model(connection, 1).version)


def cascade(place: Path) -> None:
    with open_at(place) as store, store.writing() as connection:
        steps.revert_cascade(connection, 2, versions.current_model(connection, 1).version)


def rebase(place: Path) -> None:
    anew = edit_rebase.Replay(3, replace(edit_of([4, 5]), recipe={"rebased_from": 3}), Difference(2, 2, 1.0))
    with open_at(place) as store:
        with store.reading() as connection:
            version = versions.current_model(connection, 1).version
        edit_rebase.store_rebase(store, 2, version, [anew])


def state(place: Path) -> list[object]:
    """What a sound store holds, times left out; the objects that its rows name are read and checked."""
    with open_at(place) as store:
        report = maintenance.check(store)
        assert report.sound, report.problems
        assert len(report.orphans) <= 1
        with store.reading() as connection:
            for edit in edits.edits(connection):
                content = diff_file.read(store.objects, edit.object_path, edit.object_hash)
                assert slots.changes(content) == edits.edit_slots(connection, edit.id)
            return [
                versions.current_model(connection, 1).version,
                versions.applied_edits(connection, 1),
                [edit.object_hash for edit in edits.edits(connection)],
                [(entry.action, entry.edit, entry.version_after) for entry in edits.history(connection)],
            ]


def kill_at_each_step(folder: Path, work: Work, every: int = 1) -> dict[str, int]:
    base = folder / "base"
    before = state(base)
    work(copied(base, folder / "done"))
    after = state(folder / "done")
    assert after != before
    counts = {"before": 0, "after": 0}
    for number in range(1, 10_000, every):
        place = copied(base, folder / "killed")
        if not run_killed(work, place, number):
            return counts
        found = state(place)
        assert found in (before, after), f"neither before nor after at step {number}: {found}"
        counts["before" if found == before else "after"] += 1
        # What a crash left must not stand in the way of the next try.
        if found == before and number % 5 == 0:
            work(place)
            assert state(place) == after
    raise AssertionError("the work never came to its end")


def copied(base: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(base, place)
    return place


def run_killed(work: Work, place: Path, number: int) -> bool:
    child = os.fork()
    if child == 0:
        try:
            step = kill_at(number)
            work(place)
            step()
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


def kill_at(last: int) -> Callable[[], None]:
    left = [last]

    def step(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def stepping(real):
        def call(*arguments, **options):
            step()
            result = real(*arguments, **options)
            step()
            return result

        return call

    for name in ("mkdir", "write", "fsync", "replace"):
        setattr(os, name, stepping(getattr(os, name)))
    connect = sqlite3.connect

    def traced(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(step)
        return connection

    sqlite3.connect = traced
    return step


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    prepare(folder / "base")
    counts = {work.__name__: kill_at_each_step(folder, work) for work in (apply_another, restore)}
    # These are made of the same steps.
    counts |= {work.__name__: kill_at_each_step(folder, work, every=3) for work in (cascade, rebase)}
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
