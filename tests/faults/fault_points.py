"""A program that lets a fault happen at each step of a work on a store, and looks at what is left.

    python fault_points.py FOLDER FAULT WORK=EVERY…

FAULT is `kill`, `error` or `full`; WORK is one of `works.WORKS`. For n = 1, 1 + EVERY, … a forked child does the work
and meets the fault at its n-th step, until one comes to its end without. Reopened, the store is before or after the
work, and sound; it is after it where the work did not complain. Prints as JSON, for each work, how often it was which.
"""

from __future__ import annotations

import gc
import json
import shutil
import sys
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from disk_faults import Faults, run_in_child
from works import WORKS, Work


def try_each(folder: Path, work: Work, fault: str, every: int) -> dict[str, int]:
    base, done = folder / "base", folder / "done"
    work.prepare(base)
    before = work.state(base)
    work.act(copied(base, done))
    after = work.state(done)
    assert after != before
    counts = {"before": 0, "after": 0}
    for number in range(1, 100_000, every):
        place = copied(base, folder / "place")
        outcome, reached = run_in_child(partial(work.act, place), partial(Faults, fault, number))
        found = work.state(place)
        assert found in (before, after), f"neither before nor after at step {number}: {found}"
        assert found == after or outcome != "done", f"step {number}: the work said that it was done, and was not"
        if not reached:
            assert outcome == "done"
            return counts
        counts["before" if found == before else "after"] += 1
        # What a fault left must not stand in the way of the next try.
        if found == before and number % 5 == 0:
            work.act(place)
            assert work.state(place) == after
    raise AssertionError("the work never came to its end")


def copied(base: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    return shutil.copytree(base, place)


def main(folder: Path, fault: str, wanted: list[str]) -> None:
    torch.set_num_threads(1)
    gc.freeze()  # a fork then copies fewer pages
    counts = {}
    for name, every in (one.split("=") for one in wanted):
        (folder / name).mkdir()
        counts[name] = try_each(folder / name, WORKS[name], fault, int(every))
    sys.stdout.write(json.dumps(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
