"""The store against scores: how long writing, refining and each question take, and how large the database gets.

The scores have the shape of ParaRel on BERT-base, as in `benchmarks/queries.py`: 12 layers of 3,072 neurons, nine
prompts of a fact, 50 scores of a prompt. A fact's prompts agree on a core of at most eleven neurons: three common to
all relations, five of the relation's, three its own; all other scores lie below the threshold of a coarse set. All
is written by the store's own ways: facts by `ingest`, scores by `save_results`, a thousand prompts a transaction.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import kndb.analysis.refinement  # noqa: F401 - what refining needs is there before it is timed
from kndb.database import Database, open_database
from kndb.records.attribution import PromptResult, ResultBatch, ScoreColumns
from kndb.records.models import Neuron
from kndb.store import models, runs

from .fact_list import RELATIONS, TEMPLATES, write_list
from .measuring import Point, in_a_process, peak_bytes, show, timed

PART = "scores"
SIZES = (1_000_000, 10_000_000, 100_000_000)
LAYERS, NEURONS, SCORES = 12, 3_072, 50
BATCH = 111
"""Facts whose prompts are written in one transaction: 999 prompts."""
_COMMON, _OF_RELATION, _OWN = 3, 5, 3
MODEL = "synthetic"


def measure(folder: Path, sizes: tuple[int, ...] = SIZES, repeats: int = 5) -> list[Point]:
    """Makes the stores that are not in the folder yet, asks each in a process of its own, and gives the points.

    What was found when a store was made (seconds of writing) is kept beside it, for when it is used again.
    """
    points = []
    for size in sizes:
        path = folder / f"scores-{size}.db"
        made = path.with_suffix(".written")
        if not made.exists():
            path.unlink(missing_ok=True)
            seconds = in_a_process(fill, path, size)
            made.write_text(" ".join(map(str, seconds)), encoding="utf-8")
        used, passed = map(float, made.read_text(encoding="utf-8").split())
        found = [Point(PART, "writing", PART, size, used, passed), *in_a_process(ask, path, size, repeats)]
        show(found)
        points += found
    return points


def fill(path: Path, scores: int) -> tuple[float, float]:
    """Makes a store with so many scores; processor seconds and seconds of writing the scores alone."""
    facts = -(-scores // (TEMPLATES * SCORES))
    source = write_list(path.with_suffix(".facts"), facts)
    with open_database(path) as database:
        database.facts.ingest([source])
        shutil.rmtree(source)
        with database.store.writing() as connection:
            model = models.add_imported_model(connection, name=MODEL, layers=LAYERS, neurons=NEURONS)
            settings = {"floor": 0.1, "negative": False}
            run, _ = runs.start_run(connection, model.id, model.version, "integrated-gradients", settings)
            runs.choose_facts(connection, run.id, range(1, facts + 1))
        used = passed = 0.0
        for batch in _batches(database, facts):
            processor, wall = time.process_time(), time.perf_counter()
            with database.store.writing() as connection:
                runs.save_results(connection, run.id, batch)
            used, passed = used + time.process_time() - processor, passed + time.perf_counter() - wall
        with database.store.writing() as connection:
            runs.finish_run(connection, run.id, held_out=False)
    return used, passed


def _batches(database: Database, facts: int) -> Iterator[ResultBatch]:
    generator = np.random.default_rng(0)
    common = _popular(generator, 200)
    of_relation = [_popular(generator, 400) for _ in range(RELATIONS)]
    for relation in range(RELATIONS):
        first, last = (facts * (relation + step) // RELATIONS for step in (0, 1))
        for begin in range(first, last, BATCH):
            count = min(BATCH, last - begin)
            with database.store.reading() as connection:
                rows = connection.exec_driver_sql(
                    "SELECT id FROM prompt WHERE fact_id > ? AND fact_id <= ? ORDER BY fact_id, id",
                    (begin, begin + count),
                )
                numbers = np.array([row[0] for row in rows])
            yield _batch(generator, numbers, common, of_relation[relation])


def _popular(generator: np.random.Generator, size: int) -> np.ndarray:
    """Distinct neurons, the later layers more likely; the first are the most popular."""
    weights = np.arange(1, LAYERS + 1) ** 2
    layers = generator.choice(LAYERS, size, p=weights / weights.sum())
    return generator.permutation(np.unique(layers * NEURONS + generator.integers(0, NEURONS, size)))


def _draw(generator: np.random.Generator, facts: int, pool: np.ndarray, size: int, fall: float) -> np.ndarray:
    """Distinct neurons of a pool for each fact, [facts, size]: the n-th most popular by n to the power -fall."""
    keys = generator.gumbel(size=(facts, len(pool))) - fall * np.log(np.arange(1, len(pool) + 1))
    return pool[np.argpartition(-keys, size, axis=1)[:, :size]]


def _batch(
    generator: np.random.Generator, numbers: np.ndarray, common: np.ndarray, of_relation: np.ndarray
) -> ResultBatch:
    """Results and scores of prompts, fact by fact; in the order of the table's key."""
    facts = len(numbers) // TEMPLATES
    drawn = np.concatenate(
        [
            _draw(generator, facts, common, _COMMON, 0.5),
            _draw(generator, facts, of_relation, _OF_RELATION, 1.0),
            generator.integers(0, LAYERS * NEURONS, (facts, _OWN)),
        ],
        axis=1,
    )
    core = np.zeros((facts, LAYERS * NEURONS), dtype=bool)
    core[np.arange(facts)[:, None], drawn] = True
    chosen = np.repeat(core, TEMPLATES, axis=0)
    left = SCORES - chosen.sum(axis=1)
    while left.any():
        rows = np.repeat(np.arange(len(numbers)), left)
        chosen[rows, generator.integers(0, LAYERS * NEURONS, len(rows))] = True
        left = SCORES - chosen.sum(axis=1)
    rows, places = chosen.nonzero()
    of_core = core[rows // TEMPLATES, places]
    scores = np.where(of_core, generator.uniform(0.15, 1, len(rows)), generator.uniform(0.1, 0.19, len(rows)))
    order = np.argsort(numbers[rows], kind="stable")
    columns = (numbers[rows], places // NEURONS, places % NEURONS, scores)
    results = tuple(
        PromptResult(number, 0.5, "object", 0.5, True, 1e-4, 1e-5, 1.0, -0.1, 40, 9, 1) for number in numbers.tolist()
    )
    return ResultBatch(results, ScoreColumns(*(column[order].tolist() for column in columns)))


def ask(path: Path, size: int, repeats: int) -> list[Point]:
    """Refines the store unless it is refined, asks each question, and looks at memory and size."""
    points = []
    with open_database(path) as database:
        if not database.query.refinements():
            points.append(_refine(database, size))
        refinement = database.query.refinements()[0].id
        one = timed(lambda: database.attribution.refine(1, relations=["P7"]))
        points.append(Point(PART, "refine --relation", PART, size, *one))
        for what, question in _questions(database, refinement).items():
            points.append(Point(PART, what, PART, size, *timed(question, repeats)))
        rows = database.query.neuron_counts(refinement)[0]
    points.append(Point(PART, "refined rows", PART, size, value=rows))
    points.append(Point(PART, "peak memory, bytes", PART, size, value=peak_bytes()))
    points.append(Point(PART, "database, bytes", PART, size, value=path.stat().st_size))
    return points


def _refine(database: Database, size: int) -> Point:
    return Point(PART, "refine", PART, size, *timed(lambda: database.attribution.refine(1, adapt=False)))


def _questions(database: Database, refinement: int) -> dict[str, Callable[[], object]]:
    query = database.query
    widest = query.shared([], refinement=refinement, across=1, top=1)[0]
    neuron = Neuron(widest.layer, widest.neuron)
    return {
        "query shared": lambda: query.shared(["P7"], refinement=refinement),
        "query shared --across 20": lambda: query.shared([], refinement=refinement, across=20),
        "query overlap": lambda: query.overlap(refinement=refinement),
        "query neuron": lambda: query.neuron(neuron, refinement=refinement),
        "query fact": lambda: query.fact(1234, refinement=refinement),
        "query layers": lambda: query.layers(refinement=refinement),
        "query counts": lambda: query.counts(refinement=refinement),
    }
