"""The default number of threads beside one thread: on the machine as it is, and with a busy loop on each processor.

    python benchmarks/threads.py [--model lab-bert] [--repeats 3] [--facts 150]

Attributes facts of the project's own lists in a fresh database each time, by the command line: with `--threads 1`, and
with the default. Prints for each the least wall time of the attribution (loading the model left out) and of the whole
command, the threads taken, and the default's time over that of one thread.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kndb.database import open_database
from kndb.database.lab import own_facts
from kndb.database.threads import OTHERS, VARIABLE, usable_cpus


def spin() -> None:
    """Uses a processor, without end."""
    while True:
        pass


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes that do nothing but use a processor."""
    processes = [multiprocessing.Process(target=spin, daemon=True) for _ in range(loops)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def attribute(model: str, facts: int, threads: list[str]) -> dict[str, Any]:
    """What one command reports, and how long all of it took."""
    environment = {name: value for name, value in os.environ.items() if name not in (VARIABLE, *OTHERS)}
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder, "kndb.db"))
        with open_database(place) as database:
            database.facts.ingest([own_facts()])
        words = [sys.executable, "-m", "kndb.cli.main", "attribute", "--model", model, "--facts", str(facts), *threads]
        started = time.monotonic()
        done = subprocess.run(
            [*words, "--format", "json", "--db", place], env=environment, capture_output=True, text=True, check=True
        )
        return {**json.loads(done.stdout), "whole": time.monotonic() - started}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lab-bert")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--facts", type=int, default=150)
    options = parser.parse_args()
    cpus = len(usable_cpus())
    for loops in (0, cpus):
        with busy(loops):
            found: dict[str, list[dict[str, Any]]] = {"one": [], "default": []}
            for _ in range(options.repeats):  # in turns, so that what else the machine does meets both
                found["one"].append(attribute(options.model, options.facts, ["--threads", "1"]))
                found["default"].append(attribute(options.model, options.facts, []))
        print(f"{cpus} processors, {loops} busy loops beside it:")
        for name, runs in found.items():
            taken = "/".join(str(run["threads"]) for run in runs)
            least, whole = min(run["seconds"] for run in runs), min(run["whole"] for run in runs)
            print(f"  {name:8} {least:8.2f} s attributing, {whole:8.2f} s in all, threads {taken}")
        ratio = min(run["seconds"] for run in found["default"]) / min(run["seconds"] for run in found["one"])
        print(f"  default over one thread: {ratio:.2f}")


if __name__ == "__main__":
    main()
