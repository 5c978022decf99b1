"""A program that kills a switch of a working copy at each of its steps, and its recovery at each of those.

    python kill_checkout.py FOLDER

For n = 1, 2, … a forked child kills itself with SIGKILL at its n-th step, until one comes to the end. Steps are the
calls that change the disk, before and after each. Opened again, also by a process that is killed in turn, the copy is
the version before or after, and says so. Prints as JSON how often it was which.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from plain_checkpoints import PlainCheckpoint, Slots

from kndb.editing.working_copy import bytes as copy_bytes
from kndb.editing.working_copy import opening as working_copy
from kndb.editing.working_copy import switch_log

CALLS = ("open", "write", "pwrite", "fsync", "fdatasync", "ftruncate", "replace", "unlink", "utime")


def run_killed(work: Callable[[], None], number: int) -> bool:
    child = os.fork()
    if child == 0:
        try:
            kill_at(number)
            work()
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


def kill_at(last: int) -> None:
    left = [last]

    def step() -> None:
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

    for name in CALLS:
        setattr(os, name, stepping(getattr(os, name)))
    copy_bytes._write_mapped = stepping(copy_bytes._write_mapped)


def look(copy: Path, base: PlainCheckpoint, versions: dict[str, Slots]) -> str:
    """The version of a copy, which holds exactly what it says."""
    with working_copy.opened(copy) as found:
        assert found.state.computed_version == found.state.version
        assert found.wrong_slots(found.state.slots.values()) == []
        assert found.changed_files() == []
        version = found.state.version
    assert (copy / "model.safetensors").read_bytes() == base.content(versions[version])
    left = {path.name for path in copy.iterdir()} - {switch_log.NAME}
    assert left == {"config.json", "model.safetensors", ".kndb-checkout.json", ".kndb-checkout.lock"}, left
    return version


def main(folder: Path) -> None:
    base = PlainCheckpoint(folder / "base")
    before, after = base.random_slots(1), base.random_slots(2)
    versions = {base.version(slots): slots for slots in (before, after)}
    base.copy(folder / "ready", before)
    counts = {"before": 0, "after": 0, "recoveries killed": 0}
    place = folder / "killed"

    def switch() -> None:
        with working_copy.opened(place) as copy:
            copy.switch(base.version(after), base.changes(before, after))

    def recover() -> None:
        with working_copy.opened(place):
            pass

    for number in range(1, 10_000):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder / "ready", place, copy_function=shutil.copy2)
        if not run_killed(switch, number):
            assert look(place, base, versions) == base.version(after)
            sys.stdout.write(json.dumps(counts))
            return
        if number % 3 == 0:
            for inner in range(1, 10_000):
                if not run_killed(recover, inner):
                    break
                counts["recoveries killed"] += 1
        found = look(place, base, versions)
        counts["before" if found == base.version(before) else "after"] += 1
        if found == base.version(before) and number % 2 == 0:
            switch()  # What a crash left must not stand in the way of the next try.
            assert look(place, base, versions) == base.version(after)
    raise AssertionError("the switch never came to its end")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
