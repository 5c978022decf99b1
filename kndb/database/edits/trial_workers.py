"""Benches of edits by workers: each edit alone, each number of edits piled up, and each cell of a comparison is a unit.

Workers read the store themselves, as plans draw on all of it: a database file has to be where they are, too. What they
measured is written here, like what this process measures itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from ...analysis.trial_summaries import compared_part
from ...records.edit_settings import EditSettings, TrialSettings
from ...records.edits import EditTrial, TrialResult
from ...records.progress import Progress
from ...records.work import WorkEngine
from ...store.backends.backend import Backend
from ...store.edits import trials as store_trials
from ...store.engine import Store, open_store
from ...work.actor import Prepare
from ...work.ray_engine import ray_workers
from ...work.schedule import Schedule
from ..ledger import StoreLedger
from ..models import ModelCommands
from ..threads import use_worker_threads
from ..units import require_all_done
from .comparing import Compared, ComparedCell, Comparisons, draws_of
from .trial_measures import TrialRun, trial_run

Cell = tuple[str, int, int | None]
"""Where a result goes: part, position, and the fact that it is about."""


def bench_by_workers(
    store: Store,
    trial: EditTrial,
    run: TrialRun,
    method: EditSettings,
    counts: Sequence[int],
    done: set[tuple[str, int]],
    engine: WorkEngine,
    progress: Progress | None,
) -> None:
    """Measures what is not measured yet of a bench; see `EditTrialCommands.bench`.

    Raises:
        WorkError: if workers can't be had, or some edits failed.
    """
    from .trials import CUMULATIVE, SINGLE

    targets = run.facts.targets
    cells: list[Cell] = [(CUMULATIVE, count, None) for count in reversed(counts)]
    cells += [(SINGLE, place, target.fact.id) for place, target in enumerate(targets)]
    left = [cell for cell in cells if cell[:2] not in done]
    prepare = _Benching(store.backend, trial.model, trial.version, run.refinement, run.settings, method, engine.threads)
    named = {SINGLE: "the edit of fact {2} alone", CUMULATIVE: "{1} edits piled up"}
    _measure(store, trial.id, left, [named[cell[0]].format(*cell) for cell in left], prepare, left, engine, progress)


def compare_by_workers(
    store: Store,
    trial: int,
    compared: Compared,
    cells: Sequence[ComparedCell],
    engine: WorkEngine,
    progress: Progress | None,
) -> None:
    """Measures cells of a comparison; see `EditTrialCommands.compare`.

    Raises:
        WorkError: if workers can't be had, or some cells failed.
    """
    # A draw after the other, as a worker keeps one; the larger cells first, so that nobody waits long for the last.
    ordered = sorted(cells, key=lambda cell: (cell.drawn.seed, -cell.size))
    places: list[Cell] = [(compared_part(one.method.method, one.drawn.seed), one.size, None) for one in ordered]
    names = [f"{one.size} edits by {one.method.method}, seed {one.drawn.seed}" for one in ordered]
    _measure(
        store, trial, places, names, _Comparing(store.backend, compared, engine.threads), ordered, engine, progress
    )


def _measure(
    store: Store,
    trial: int,
    places: Sequence[Cell],
    names: Sequence[str],
    prepare: Prepare,
    payloads: Sequence[Any],
    engine: WorkEngine,
    progress: Progress | None,
) -> None:
    """Has cells measured, each a unit, and writes each result where it goes."""
    if not places:
        return
    with ray_workers(engine, prepare, "cpu") as pool:
        pool.wait_for_first()
        ledger = StoreLedger(store, f"trial {trial}", [[place] for place in range(len(places))])
        schedule = Schedule(pool, ledger, lambda items: payloads[items[0]])
        measured = 0
        with closing(schedule.run()) as done:
            for unit, found in done:
                part, position, fact = places[unit.items[0]]
                with store.writing() as connection:
                    store_trials.add_result(connection, trial, TrialResult(part, position, fact, found))
                    ledger.finish(connection, unit)
                measured += 1
                if progress is not None:
                    progress(measured, len(places))
    require_all_done(ledger.end(), "measurement", names.__getitem__)


@dataclass(frozen=True)
class _Benching:
    """Prepares a worker for a bench of one method: loads the model's version, and draws the same facts."""

    backend: Backend
    model: str
    version: str
    refinement: int
    settings: TrialSettings
    method: EditSettings
    threads: int | None

    def __call__(self, beside: int) -> tuple[Callable[[Cell], dict[str, Any]], str]:
        from .trials import SINGLE

        use_worker_threads(self.threads, beside)
        store = open_store(self.backend, create=False)
        models = ModelCommands(store)
        version = models.load(self.model, self.version)
        run = trial_run(store, models, version, self.refinement, self.settings)

        def compute(cell: Cell) -> dict[str, Any]:
            part, position, _ = cell
            if part == SINGLE:
                return run.single(run.facts.targets[position], self.method)
            control = models.load(self.model, self.version)
            found = [one for _, one in run.cumulative(self.method, [position], control) if one is not None]
            return found[0]

        return compute, str(version.network.device)


@dataclass(frozen=True)
class _Comparing:
    """Prepares a worker for a comparison: loads the model's version, and draws the same facts."""

    backend: Backend
    compared: Compared
    threads: int | None

    def __call__(self, beside: int) -> tuple[Callable[[ComparedCell], dict[str, Any]], str]:
        use_worker_threads(self.threads, beside)
        store = open_store(self.backend, create=False)
        models = ModelCommands(store)
        version = models.load(self.compared.model, self.compared.version)
        draw = draws_of(store, version, self.compared)
        comparisons = Comparisons(store, models, version, self.compared.refinement, draw)

        def compute(cell: ComparedCell) -> dict[str, Any]:
            ((_, found),) = comparisons.of(cell.drawn).cells(cell.method, [cell.size], [])
            return dict(found)

        return compute, str(version.network.device)
