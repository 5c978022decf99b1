"""Queries at the real size: a store with the shape of ParaRel on BERT-base, and how long its questions take.

    python benchmarks/queries.py [--db FILE] [--facts 27738]

Fills a store with 34 relations, 27,738 facts, 253,448 prompts and 12.7 million scores drawn at random, so that the
refined sets have about 300,000 rows; then times `refine` and each query in a process of its own, prints the plans'
full scans, and the peak memory. A store that is there already is used again.

A fact's prompts agree on a core of neurons: some common to all relations, some to the relation, some its own. All other
scores lie below the threshold of a coarse set. As in the sets published for BERT-base, the most common neuron of all is
held by about one fact in eight, and a relation's most common ones by most of its facts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import resource
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import event

from kndb.database import Database, open_database
from kndb.records.models import Neuron

RELATIONS, FACTS, PROMPTS, SCORES = 34, 27_738, 253_448, 50
LAYERS, NEURONS = 12, 3_072
CORE = 11
"""Neurons that the prompts of a fact agree on."""
REPEATS = 5
FULL_SCAN = re.compile(r"SCAN (score|prompt_result|prompt)\b|SEARCH (score|prompt_result) .*\(run_id=\?\)")


def fill(path: Path, facts: int) -> None:
    """Makes the store; about a minute and 600 MB at the full size."""
    generator = np.random.default_rng(0)
    with open_database(path) as database, database.store.writing() as connection:
        driver = connection.connection.driver_connection
        driver.execute(
            "INSERT INTO model VALUES (1, 'synthetic', '', '', 'unknown', ?, ?, 'unknown', '2026-01-01', NULL)",
            (LAYERS, NEURONS),
        )
        driver.execute(
            "INSERT INTO run VALUES (1, 1, 'unknown', 'integrated-gradients', ?, 'complete', '2026', '2026')",
            (json.dumps({"floor": 0.1, "negative": False}),),
        )
        prompts = round(PROMPTS * facts / FACTS)
        common = _popular(generator, 200)
        of_relation = [_popular(generator, 400) for _ in range(RELATIONS)]
        prompt = 0
        for relation in range(RELATIONS):
            driver.execute("INSERT INTO relation VALUES (?, ?, NULL)", (relation + 1, f"P{relation + 1}"))
            first, last = (facts * (relation + step) // RELATIONS for step in (0, 1))
            for fact in range(first, last):
                count = prompts * (fact + 1) // facts - prompts * fact // facts
                _add_fact(driver, generator, relation, fact + 1, prompt + 1, count, common, of_relation[relation])
                prompt += count


def _popular(generator: np.random.Generator, size: int) -> np.ndarray:
    """Distinct neurons, the later layers more likely; the first are the most popular."""
    weights = np.arange(1, LAYERS + 1) ** 2
    layers = generator.choice(LAYERS, size, p=weights / weights.sum())
    return generator.permutation(np.unique(layers * NEURONS + generator.integers(0, NEURONS, size)))


def _draw(generator: np.random.Generator, pool: np.ndarray, size: int, fall: float) -> np.ndarray:
    weights = np.arange(1, len(pool) + 1) ** -fall
    return generator.choice(pool, size, replace=False, p=weights / weights.sum())


def _add_fact(
    driver: sqlite3.Connection,
    generator: np.random.Generator,
    relation: int,
    fact: int,
    prompt: int,
    count: int,
    common: np.ndarray,
    of_relation: np.ndarray,
) -> None:
    numbers = range(prompt, prompt + count)
    driver.execute(
        "INSERT INTO fact VALUES (?, ?, ?, ?, ?, 'synthetic')",
        (fact, relation + 1, f"subject {fact}", f"object {fact % 97}", f"id-{fact}"),
    )
    driver.executemany(
        "INSERT INTO prompt VALUES (?, ?, NULL, ?)",
        [(number, fact, f"Sentence {number} about [Y].") for number in numbers],
    )
    driver.executemany(
        "INSERT INTO prompt_result VALUES (1, ?, 0.5, 'object', 0.5, 1, 1e-4, 1e-5, 1.0, 40, 9, NULL, 1, -0.1, 0,"
        " NULL)",
        [(number,) for number in numbers],
    )
    own = generator.integers(0, LAYERS * NEURONS, 3)
    core = np.unique(
        np.concatenate([_draw(generator, common, 3, 0.5), _draw(generator, of_relation, CORE - 6, 1.0), own])
    )
    rows = []
    for number in numbers:
        noise = np.setdiff1d(generator.integers(0, LAYERS * NEURONS, SCORES - len(core)), core)
        rows += [
            (1, number, flat // NEURONS, flat % NEURONS, score)
            for flat, score in zip(
                np.concatenate([core, noise]).tolist(),
                np.concatenate(
                    [generator.uniform(0.15, 1, len(core)), generator.uniform(0.1, 0.19, len(noise))]
                ).tolist(),
                strict=True,
            )
        ]
    driver.executemany("INSERT INTO score VALUES (?, ?, ?, ?, ?)", sorted(rows))


def measure(path: Path) -> dict[str, object]:
    """Refines, then asks every question; seconds, and the largest resident memory of the process."""
    report: dict[str, object] = {}
    with open_database(path) as database:
        started = time.perf_counter()
        refinement = database.attribution.refine(1, adapt=False)
        report["refine"] = time.perf_counter() - started
        report["refined_rows"] = database.query.neuron_counts(refinement.id)[0]
        report["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        plans = _Plans(database.store._engine)  # noqa: SLF001 - to read plans, past the public interface
        for name, ask in _questions(database, refinement.id).items():
            plans.watch(name)
            report[name] = _median_seconds(ask)
        report["full_scans"] = plans.scans(path)
        report["peak_memory_with_queries_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return report


def _questions(database: Database, refinement: int) -> dict[str, Callable[[], object]]:
    query = database.query
    widest = query.shared([], refinement=refinement, across=1, top=1)[0]
    neuron = Neuron(widest.layer, widest.neuron)
    return {
        "shared, one relation": lambda: query.shared(["P7"], refinement=refinement),
        "shared, across 20 relations": lambda: query.shared([], refinement=refinement, across=20),
        "overlap, all relations": lambda: query.overlap(refinement=refinement),
        "layers": lambda: query.layers(refinement=refinement),
        "counts": lambda: query.counts(refinement=refinement),
        "neuron, the most widely held": lambda: query.neuron(neuron, refinement=refinement),
        "fact": lambda: query.fact(1234, refinement=refinement),
        "collateral of 10 neurons": lambda: query.collateral(
            [Neuron(row.layer, row.neuron) for row in query.neurons_of_fact(1234, refinement=refinement)],
            refinement=refinement,
        ),
        "consistency, one relation": lambda: query.consistency(["P7"], refinement=refinement),
    }


def _median_seconds(ask: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


class _Plans:
    """The statements that each question runs, and which of them read a whole large table."""

    def __init__(self, engine: object) -> None:
        self._statements: dict[str, dict[str, object]] = {}
        self._name = ""
        event.listen(engine, "before_cursor_execute", self._remember)

    def watch(self, name: str) -> None:
        self._name = name
        self._statements[name] = {}

    def _remember(self, *call: Any) -> None:
        statement, parameters = call[2:4]
        if self._name:
            self._statements[self._name][statement] = parameters

    def scans(self, path: Path) -> dict[str, list[str]]:
        """Steps that read every row, or every row of a run, of the largest tables, by question."""
        found: dict[str, list[str]] = {}
        driver = sqlite3.connect(path)
        for name, statements in self._statements.items():
            for statement, parameters in statements.items():
                if not re.match(r"\s*(SELECT|WITH)\b", statement) or statement.endswith("LIMIT 1"):
                    continue
                steps = [row[3] for row in driver.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
                found.setdefault(name, []).extend(step for step in steps if FULL_SCAN.match(step))
        driver.close()
        return {name: steps for name, steps in found.items() if steps}


def main() -> None:
    """Fills the store if need be, measures in a process of its own, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", type=Path, default=Path("queries-benchmark.db"))
    parser.add_argument("--facts", type=int, default=FACTS)
    arguments = parser.parse_args()
    if not arguments.db.exists():
        started = time.perf_counter()
        fill(arguments.db, arguments.facts)
        print(f"filled {arguments.db} in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        report = pool.apply(measure, (arguments.db,))
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
