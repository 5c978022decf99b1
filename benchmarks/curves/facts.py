"""The store against facts: reading and storing a list, doing so again, finding facts, and what relations share.

The lists are JSON lines of 34 relations with nine templates each, so that a fact makes nine prompts (`fact_list`). Each
size has a process of its own, whose peak memory is that of the first `ingest`. For `query shared`, each fact is given a
set of four neurons: two of the relation's forty, and two at random.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from kndb.database import Database, open_database
from kndb.records.attribution import KnowledgeNeuron, RelationRefinement
from kndb.store import models, refinements, runs

from .fact_list import RELATIONS, name, write_list
from .measuring import Point, in_a_process, peak_bytes, show, timed

PART = "facts"
SIZES = (1_000, 10_000, 100_000, 1_000_000)
LAYERS, NEURONS = 12, 3_072


def measure(folder: Path, sizes: tuple[int, ...] = SIZES, repeats: int = 5) -> list[Point]:
    """Makes a list and a store of each size, and gives their points; both are removed afterwards."""
    points = []
    for size in sizes:
        place = folder / f"facts-{size}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        write_list(place / "list", size)
        found = in_a_process(_ingest, place, size) + in_a_process(_ask, place, size, repeats)
        show(found)
        points += found
        shutil.rmtree(place)
    return points


def _ingest(place: Path, size: int) -> list[Point]:
    before = peak_bytes()
    with open_database(place / "kndb.db") as database:
        first = timed(lambda: database.facts.ingest([place / "list"]))
        peak = peak_bytes() - before
        again = timed(lambda: database.facts.ingest([place / "list"]))
    return [
        Point(PART, "ingest", PART, size, *first),
        Point(PART, "ingest again", PART, size, *again),
        Point(PART, "memory of ingest, bytes", PART, size, value=peak),
        Point(PART, "database, bytes", PART, size, value=(place / "kndb.db").stat().st_size),
        Point(PART, "list, bytes", PART, size, value=sum(file.stat().st_size for file in (place / "list").iterdir())),
    ]


def _ask(place: Path, size: int, repeats: int) -> list[Point]:
    with open_database(place / "kndb.db") as database:
        refinement = _refined(database, size)
        number = size // 2
        subject = f"{name(number)} {number}"
        facts, query = database.facts, database.query
        questions = {
            "query facts --subject": lambda: facts.find(subject=subject, limit=20),
            "query facts --relation --limit 20": lambda: facts.find(["P7"], limit=20),
            "query fact": lambda: query.fact(number, refinement=refinement),
            "query shared": lambda: query.shared(["P7"], refinement=refinement),
            "query overlap": lambda: query.overlap(refinement=refinement),
            "query relations": lambda: facts.relations(),
        }
        return [Point(PART, what, PART, size, *timed(ask, repeats)) for what, ask in questions.items()]


def _refined(database: Database, size: int) -> int:
    with database.store.writing() as connection:
        model = models.add_imported_model(connection, name="synthetic", layers=LAYERS, neurons=NEURONS)
        run, _ = runs.start_run(connection, model.id, model.version, "imported", {})
        ids = dict(connection.exec_driver_sql("SELECT key, id FROM relation").fetchall())
        sets = []
        for relation in range(RELATIONS):
            first, last = (size * (relation + step) // RELATIONS for step in (0, 1))
            outcome = RelationRefinement(f"P{relation + 1}", None, None, last - first, last - first, 4.0)
            if last > first:
                sets.append((ids[outcome.relation], outcome, _neurons(relation, range(first + 1, last + 1))))
        return refinements.add_refinement(connection, run.id, {}, sets)


def _neurons(relation: int, facts: range) -> Iterator[KnowledgeNeuron]:
    draw = random.Random(relation)
    common = [divmod(draw.randrange(LAYERS * NEURONS), NEURONS) for _ in range(40)]
    for fact in facts:
        chosen = {*draw.sample(common, 2), *(divmod(draw.randrange(LAYERS * NEURONS), NEURONS) for _ in range(2))}
        for layer, neuron in sorted(chosen):
            yield KnowledgeNeuron(fact, layer, neuron, None, None)
