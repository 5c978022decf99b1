"""Processor time of commands that list what a store has, on a database with some rows of each kind.

    python benchmarks/start.py --db kndb.db [--times 5]

For each command: the least user and system time of so many starts, in seconds, and what it imported that is heavy.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys

COMMANDS = (
    *("--help", "edit --help", "model list", "query relations", "query facts", "query runs", "query refinements"),
    *("edit list", "edit log", "edit show 1", "edit trials", "edit evaluations", "snapshot list", "probe list"),
)
HEAVY = ("torch", "transformers", "numpy", "alembic", "sqlalchemy.orm", "sqlalchemy")
IMPORTED = f"""
import atexit, sys
from kndb.cli.main import run
atexit.register(lambda: print(*[name for name in {HEAVY} if name in sys.modules], file=sys.stderr))
run()
"""


def cpu_seconds(command: list[str], environment: dict[str, str]) -> float:
    """User and system time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measures each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--db", required=True, help="The database.")
    parser.add_argument("--times", type=int, default=5, help="Starts of each command; the quickest counts.")
    options = parser.parse_args()
    environment = {**os.environ, "KNDB_DB": options.db}
    print(f"{'command':<20} {'CPU s':>6}  imported")
    for line in COMMANDS:
        words = line.split()
        command = [sys.executable, "-m", "kndb.cli.main", *words]
        seconds = min(cpu_seconds(command, environment) for _ in range(options.times))
        probe = [sys.executable, "-c", IMPORTED, *words]
        done = subprocess.run(probe, env=environment, capture_output=True, text=True, check=True)
        print(f"{line:<20} {seconds:>6.2f}  {done.stderr.splitlines()[-1]}")


if __name__ == "__main__":
    main()
