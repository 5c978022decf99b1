"""SQLite and PostgreSQL side by side, at the real size: scores written per second, and how long questions take.

    python benchmarks/postgres.py [--db FILE] [--facts 27738] [--server URL]

Fills a file as `benchmarks/queries.py` does, refines it, and copies it to PostgreSQL with `kndb.copy_database`; then
writes scores and asks questions of both, in turn. Without --server, a server is started for it, with PostgreSQL's own
settings, as durable as they are. What was filled and copied before is used again. Prints JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "helpers"))

from postgres_server import own_server
from queries import FACTS, LAYERS, NEURONS, _median_seconds, _questions, fill

from kndb.database import Database, copy_database, open_database
from kndb.errors import StoreMissingError
from kndb.records.attribution import PromptResult, ResultBatch, ScoreColumns
from kndb.store import runs

BATCHES, PROMPTS, SCORES = 10, 1_000, 50
"""Batches that are written, each in a transaction; prompts of a batch, and scores of a prompt."""


def ready_file(path: Path, facts: int) -> None:
    """Makes the file, with a refinement."""
    if not path.exists():
        fill(path, facts)
    with open_database(path) as database:
        if not database.query.refinements():
            database.attribution.refine(1, adapt=False)


def copied(path: Path, location: str) -> dict[str, float]:
    """Copies the file to the server, unless that was done before; rows, and rows per second."""
    with contextlib.suppress(StoreMissingError), open_database(location, create=False):
        return {}
    started = time.perf_counter()
    rows = sum(copy_database(path, location).values())
    seconds = time.perf_counter() - started
    return {"rows": rows, "seconds": seconds, "rows_per_second": rows / seconds}


def write(database: Database) -> float:
    """Writes results and scores into a run of their own; scores per second, commits included."""
    generator = np.random.default_rng(1)
    with database.store.writing() as connection:
        run, _ = runs.start_run(connection, 1, "unknown", "random", {"floor": 0.1, "at": time.time()})
    batches = [_batch(generator, 1 + number * PROMPTS) for number in range(BATCHES)]
    started = time.perf_counter()
    for batch in batches:
        with database.store.writing() as connection:
            runs.save_results(connection, run.id, batch)
    return BATCHES * PROMPTS * SCORES / (time.perf_counter() - started)


def _batch(generator: np.random.Generator, first: int) -> ResultBatch:
    numbers = range(first, first + PROMPTS)
    results = tuple(PromptResult(number, 0.5, "x", 0.5, True, 1e-4, 1e-5, 1.0, -0.1, 40, 9, 1) for number in numbers)
    prompts = [number for number in numbers for _ in range(SCORES)]
    places = np.concatenate([np.sort(generator.choice(LAYERS * NEURONS, SCORES, replace=False)) for _ in numbers])
    scores = generator.uniform(0.1, 1, len(prompts)).tolist()
    return ResultBatch(
        results, ScoreColumns(prompts, (places // NEURONS).tolist(), (places % NEURONS).tolist(), scores)
    )


def questions(database: Database) -> dict[str, float]:
    """Median seconds of each question."""
    (refinement,) = database.query.refinements()[:1]
    return {name: _median_seconds(ask) for name, ask in _questions(database, refinement.id).items()}


def measure(places: dict[str, Any]) -> dict[str, Any]:
    """Writes and asks; for each figure both backends, and the second's share of the first."""
    found: dict[str, dict[str, float]] = {}
    for name, place in places.items():
        with open_database(place) as database:
            found[name] = {"scores written per second": write(database), **questions(database)}
    one, other = found.values()
    ratios = {name: one[name] / other[name] if name.startswith("scores") else other[name] / one[name] for name in one}
    return {**found, "slower_by": ratios}


@contextlib.contextmanager
def server(named: str | None, folder: Path) -> Iterator[str]:
    """The database on the server that was named, or on one that is started for the block."""
    if named is not None:
        yield named
        return
    with own_server(folder=folder) as running:
        yield running.url()


def main() -> None:
    """Measures, and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", type=Path, default=Path("queries-benchmark.db"))
    parser.add_argument("--facts", type=int, default=FACTS)
    parser.add_argument("--server")
    parser.add_argument("--only-copy", action="store_true", help="Fill and copy, and measure nothing.")
    arguments = parser.parse_args()
    ready_file(arguments.db, arguments.facts)
    with server(arguments.server, arguments.db.resolve().with_suffix(".server")) as location:
        report: dict[str, Any] = {"copy": copied(arguments.db, location)}
        if not arguments.only_copy:
            report |= measure({"sqlite": arguments.db, "postgresql": location})
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
