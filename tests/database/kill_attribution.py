"""A program that kills an attribution at random batches, lets it go on, and looks at what comes out.

    python kill_attribution.py FOLDER SEED

FOLDER/base holds a database with model `tiny` and facts, not attributed. A forked child attributes them in batches of
four prompts, and is killed with SIGKILL before, within or after the transaction of a random batch, or at a random
moment or step, or its disk fails once, at a random step; the next one goes on, until one comes to the end; all this
until ten were stopped. Prints as JSON how often
children were killed in each way and how many prompts each found done; fails if the results are not those of an
undisturbed run, or a store is not sound.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from disk_faults import ERROR, KILL, REFUSED, Faults

from kndb.cli.main import exit_code
from kndb.database import check_database
from kndb.store import runs

WAYS = ("before", "within", "after", "moment", "step", "disk")
ANYWHERE = WAYS[3:]
KILLS = 12
QUERIES = (
    "SELECT id, model_id, version, method, settings, status FROM run ORDER BY id",
    "SELECT * FROM prompt_result ORDER BY run_id, prompt_id",
    "SELECT * FROM score ORDER BY run_id, prompt_id, layer, neuron",
)


def attribute(place: Path) -> int:
    return exit_code(["attribute", "--model", "tiny", "--batch-size", "4", "--db", str(place / "kndb.db")])


def kill_at(number: int, way: str) -> None:
    """Makes the process kill itself at the n-th batch that it saves."""
    save, left = runs.save_results, [number]

    def saving(*arguments: object) -> None:
        left[0] -= 1
        if left[0] == 0 and way == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        save(*arguments)
        if left[0] == 0 and way == "within":
            os.kill(os.getpid(), signal.SIGKILL)
        if left[0] < 0:  # the transaction before this one was committed
            os.kill(os.getpid(), signal.SIGKILL)

    runs.save_results = saving


def kill_after(seconds: float, victim: int) -> int:
    """A process that kills another one some time later."""
    killer = os.fork()
    if killer == 0:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        os._exit(0)
    return killer


def run_stopped(place: Path, number: int, way: str, seconds: float, step: int) -> bool:
    child = os.fork()
    if child == 0:
        with (place / "output.txt").open("a", encoding="utf-8") as output:
            os.dup2(output.fileno(), 1)
        if way not in ANYWHERE:
            kill_at(number, way)
        elif way != "moment":
            Faults(KILL if way == "step" else ERROR, step)
        code = attribute(place)
        os._exit(REFUSED if code else 0)
    killer = kill_after(seconds, child) if way == "moment" else None
    _, status = os.waitpid(child, 0)
    if killer is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(killer, signal.SIGKILL)
        os.waitpid(killer, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) in ((0, REFUSED) if way == "disk" else (0,))
    return os.WEXITSTATUS(status) == REFUSED


def results(place: Path) -> list[list[tuple[object, ...]]]:
    assert check_database(place / "kndb.db").sound
    with contextlib.closing(sqlite3.connect(place / "kndb.db")) as connection:
        return [connection.execute(query).fetchall() for query in QUERIES]


def main(folder: Path, seed: int) -> None:
    torch.set_num_threads(1)
    chance = random.Random(seed)
    shutil.copytree(folder / "base", folder / "undisturbed")
    # In this process, so that each child finds everything imported.
    with (folder / "output.txt").open("w", encoding="utf-8") as output, contextlib.redirect_stdout(output):
        started = time.monotonic()
        assert attribute(folder / "undisturbed") == 0
        longest = time.monotonic() - started
    expected = results(folder / "undisturbed")
    assert expected[0][0][-1] == "complete"
    ways = itertools.cycle(WAYS)
    killed, done = dict.fromkeys(WAYS, 0), []
    while sum(killed.values()) < KILLS:
        place = folder / "killed"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder / "base", place)
        saved = 0
        while run_stopped(
            place, number := chance.randint(1, 9), way := next(ways), chance.uniform(0, longest), chance.randint(1, 150)
        ):
            killed[way] += 1
            run, prompts, scores = results(place)
            # Only a stop anywhere may come when all is done, and the process about to end.
            done_now = way in ANYWHERE and len(prompts) == len(expected[1])
            assert [row[-1] for row in run] in ([], ["running"], *([["complete"]] if done_now else []))
            # All that was saved before is there; of this child's batches, but the last one, every one is new.
            whole = number if way == "after" else number - 1
            assert way in ANYWHERE or saved + whole <= len(prompts) <= saved + 4 * whole
            assert saved <= len(prompts)
            assert set(prompts) <= set(expected[1])
            numbers = {row[1] for row in prompts}
            assert set(scores) == {row for row in expected[2] if row[1] in numbers}
            saved = len(prompts)
            done.append(saved)
        assert results(place) == expected
    sys.stdout.write(json.dumps({"killed": killed, "done": done}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
