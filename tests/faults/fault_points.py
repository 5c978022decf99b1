"""A program that lets a fault happen at each step of a work on a store, and looks at what is left.

    python fault_points.py FOLDER READY KIND:WORK=EVERY…

READY is a folder with a database to prepare the works from (see `works`). KIND is `kill`, `error` or `full`. For n = 1,
1 + EVERY, … a forked child does the work and meets the fault at its n-th step, until one comes to its end without.
Reopened, the store is before or after the work, and sound; it is after it where the work did not complain. Prints as
JSON, for each kind and work, how often it was which.

KIND may also be the name of a mutant of `mutants`: kndb is made to commit within the work, and children are killed
until the store is found in between. Prints whether it was.
"""

from __future__ import annotations

import gc
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from compiled_once import share_compiled
from disk_faults import KILL, Faults, run_in_child
from loaded_once import load_once
from mutants import MUTANTS
from works import State, UnsoundError, Work, works


class BetweenError(AssertionError):
    """A store that is neither before nor after a work."""


@dataclass(frozen=True)
class Ready:
    """A work that is tried often: prepared once.

    Attributes:
        work: the work.
        base: what it starts from; only to be copied.
        state: says what a folder holds, and remembers it.
        before, after: the states before and after it.
    """

    work: Work
    base: Path
    state: Callable[[Path], State]
    before: State
    after: State


def made_ready(folder: Path, work: Work) -> Ready:
    base, state = folder / "base", remembering(work.state)
    work.prepare(base)
    before = state(base)
    return Ready(work, base, state, before, done_once(folder, work, base, state, before))


def done_once(folder: Path, work: Work, base: Path, state: Callable[[Path], State], before: State) -> State:
    """The state after a work that nothing stops."""
    done = copied(base, folder / "done")
    work.act(done)
    after = state(done)
    shutil.rmtree(done)
    assert after != before
    return after


def try_each(folder: Path, ready: Ready, fault: str, every: int) -> dict[str, int]:
    work, base, state, before, after = ready.work, ready.base, ready.state, ready.before, ready.after
    counts = {"before": 0, "after": 0}
    for number in range(1, 100_000, every):
        place = copied(base, folder / "place")
        outcome, reached = run_in_child(partial(work.act, place), partial(Faults, fault, number))
        found = state(place)
        if found not in (before, after):
            raise BetweenError(f"neither before nor after at step {number}: {found}")
        assert found == after or outcome != "done", f"step {number}: the work said that it was done, and was not"
        if not reached:
            assert outcome == "done"
            return counts
        counts["before" if found == before else "after"] += 1
        # What a fault left must not stand in the way of the next try.
        if found == before and number % 5 == 0:
            work.act(place)
            assert state(place) == after
    raise AssertionError("the work never came to its end")


def remembering(state: Callable[[Path], State]) -> Callable[[Path], State]:
    """Looks at one of all the folders with the same bytes in the same files: many kills come before a write."""
    known: dict[bytes, State] = {}

    def look(place: Path) -> State:
        digest = hashlib.sha256()
        for path in sorted(place.rglob("*")):
            if path.is_file() and not path.name.endswith("-shm"):  # SQLite makes its shared memory anew
                content = path.read_bytes()
                digest.update(f"{path.relative_to(place)} {len(content)} ".encode() + content)
        key = digest.digest()
        if key not in known:
            known[key] = state(place)
        return known[key]

    return look


def is_noticed(folder: Path, ready: Ready, mutant: str, every: int) -> bool:
    """Whether kills at the same steps as of the real work find the mutant's store in between, or unsound."""
    work, base = ready.work, ready.base
    with MUTANTS[mutant](partial(work.act, copied(base, folder / "counted"))):
        after = done_once(folder, work, base, ready.state, ready.before)
        try:
            try_each(folder, replace(ready, after=after), KILL, every)
        except (BetweenError, UnsoundError):
            return True
    return False


def copied(base: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    return shutil.copytree(base, place)


def main(folder: Path, ready: Path, wanted: list[str]) -> None:
    torch.set_num_threads(1)
    # Every child of this process finds what it compiled and loaded.
    share_compiled(patch := pytest.MonkeyPatch())
    load_once(patch)
    (folder / "shared").mkdir()
    known = works(ready, folder / "shared")
    gc.freeze()  # a fork then copies fewer pages
    prepared: dict[str, Ready] = {}
    found: dict[str, dict[str, object]] = {}
    for one in wanted:
        kind, _, rest = one.partition(":")
        name, _, every = rest.partition("=")
        place = folder / one
        place.mkdir()
        if name not in prepared:
            (folder / f"ready {name}").mkdir()
            prepared[name] = made_ready(folder / f"ready {name}", known[name])
        attempt = is_noticed if kind in MUTANTS else try_each
        found.setdefault(kind, {})[name] = attempt(place, prepared[name], kind, int(every))
        shutil.rmtree(place)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
