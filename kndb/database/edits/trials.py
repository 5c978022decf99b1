"""Use cases of trials: a bench of a way to edit, and a sweep over its settings; stored as they go, and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ...analysis.trial_summaries import CUMULATIVE, SINGLE, summarise
from ...errors import UsageError
from ...records.display import Rows
from ...records.edits import EditTrial, TrialResult, TrialSummary
from ...store import models as store_models
from ...store import versions as store_versions
from ...store.edits import trials as store_trials
from ...store.engine import Store
from ..models import ModelCommands
from .drafts import EditDrafts, chosen_refinement
from .trial_measures import EditMethod, TrialRun, TrialSizes

Progress = Callable[[int, int], None]
"""Is told the edits that were measured, and of how many."""
COUNTS = (1, 10, 100)
"""After how many edits, one on the other, a bench measures."""


class EditTrialCommands:
    """Try edits of many facts in memory; no edit is stored, and no version moves."""

    def __init__(self, store: Store, models: ModelCommands) -> None:
        self._store = store
        self._models = models

    def bench(
        self,
        model: str,
        method: EditMethod | None = None,
        *,
        sizes: TrialSizes | None = None,
        counts: Sequence[int] = COUNTS,
        relations: Sequence[str] = (),
        refinement: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> EditTrial:
        """Edits many facts, each alone and then one on the other, and measures; goes on where it was stopped.

        Args:
            model: a registered model; its current version is edited.
            method: how; None takes the paper's rule with its defaults.
            sizes: how many facts are edited and measured.
            counts: after how many edits, one on the other, to measure; those above the number of facts are left out.
            relations: the relations whose facts are edited; none stands for a draw of three quarters of them.
            refinement: whose knowledge neurons; None takes the model's newest.
            seed: of all that is drawn.
            progress: told the edits measured, of how many.

        Raises:
            UsageError: if a count is under 1.
            NotFoundError: if there is no such model, relation or refinement.
            EditError: if no fact has a knowledge neuron.
        """
        method, sizes = method or EditMethod(), sizes or TrialSizes()
        if any(count < 1 for count in counts):
            raise UsageError(f"found counts {', '.join(map(str, counts))}; expected numbers of at least 1")
        run, trial = self._begin(
            "bench", model, refinement, sizes, relations, seed, method.settings | {"counts": sorted(set(counts))}
        )
        kept = sorted({count for count in counts if count <= len(run.targets)})
        done = self._done(trial)
        total = len(run.targets) + max(kept, default=0)
        for place, target in enumerate(run.targets):
            if (SINGLE, place) not in done:
                self._add(trial, TrialResult(SINGLE, place, target.fact.id, run.single(target, method)))
            if progress is not None:
                progress(place + 1, total)
        measured = [place for part, place in done if part == CUMULATIVE]
        if set(kept) - set(measured):
            control = self._models.load(model, trial.version)
            for place, found in run.cumulative(method, kept, control, measured):
                if found is not None:
                    self._add(trial, TrialResult(CUMULATIVE, place, None, found))
                if progress is not None:
                    progress(len(run.targets) + place, total)
        return self._finished(trial)

    def sweep(
        self,
        model: str,
        methods: Sequence[EditMethod],
        *,
        sizes: TrialSizes | None = None,
        relations: Sequence[str] = (),
        refinement: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> EditTrial:
        """Edits the same facts, each alone, in several ways, and measures; goes on where it was stopped.

        Args:
            model: a registered model; its current version is edited.
            methods: the ways, at least one.
            sizes: how many facts are edited and measured.
            relations: the relations whose facts are edited; none stands for a draw of three quarters of them.
            refinement: whose knowledge neurons; None takes the model's newest.
            seed: of all that is drawn.
            progress: told the edits measured, of how many.

        Raises:
            UsageError: if there is no method.
            NotFoundError: if there is no such model, relation or refinement.
            EditError: if no fact has a knowledge neuron.
        """
        cells = {_cell(method): method for method in methods}
        if not cells:
            raise UsageError("found no settings to try; expected at least one")
        sizes = sizes or TrialSizes(facts=20)
        settings = {"cells": [method.settings for method in cells.values()]}
        run, trial = self._begin("sweep", model, refinement, sizes, relations, seed, settings)
        done = self._done(trial)
        tried = 0
        for cell, method in cells.items():
            for place, target in enumerate(run.targets):
                if (cell, place) not in done:
                    self._add(trial, TrialResult(cell, place, target.fact.id, run.single(target, method)))
                tried += 1
                if progress is not None:
                    progress(tried, len(cells) * len(run.targets))
        return self._finished(trial)

    # --- looking -------------------------------------------------------------------------------------------

    def all(self, model: str | None = None) -> Rows[EditTrial]:
        """All trials, or those of one model."""
        with self._store.reading() as connection:
            number = None if model is None else store_models.model(connection, model).id
            return Rows(store_trials.trials(connection, number), EditTrial)

    def get(self, trial: int) -> EditTrial:
        """One trial.

        Raises:
            NotFoundError: if there is none of that number.
        """
        with self._store.reading() as connection:
            return store_trials.trial(connection, trial)

    def table(self, trial: int) -> Rows[TrialSummary]:
        """What a trial found so far.

        Raises:
            NotFoundError: if there is none of that number.
        """
        with self._store.reading() as connection:
            found = store_trials.trial(connection, trial)
            results = store_trials.results(connection, trial)
        settings: Any = found.settings
        order = [json.dumps(cell, sort_keys=True) for cell in settings.get("cells", ())]
        results.sort(key=lambda result: order.index(result.part) if result.part in order else -1)
        return Rows(summarise(results, int(settings["seed"])), TrialSummary)

    def unplanned(self, trial: int) -> list[tuple[int, str]]:
        """The facts for which no edit could be planned alone, and why; those of a sweep once for each of its cells."""
        with self._store.reading() as connection:
            results = store_trials.results(connection, trial)
        return [
            (result.fact or 0, str(result.measures["unplanned"]))
            for result in results
            if result.part != CUMULATIVE and "unplanned" in result.measures
        ]

    # --- working -------------------------------------------------------------------------------------------

    def _begin(
        self,
        kind: str,
        model: str,
        refinement: int | None,
        sizes: TrialSizes,
        relations: Sequence[str],
        seed: int,
        settings: dict[str, Any],
    ) -> tuple[TrialRun, EditTrial]:
        if not 0 <= seed < 2**63:
            raise UsageError(f"found seed {seed}; expected a number from 0 to 2^63 - 1")
        self._models.get(model)
        with self._store.reading() as connection:
            chosen = chosen_refinement(connection, model, refinement)
        version = self._models.load(model)
        with self._store.reading() as connection:
            base = store_versions.current_model(connection, version.record.id).base
        unedited = None if version.version == base else self._models.load(model, "base")
        drafts = EditDrafts(self._store, self._models)
        run = TrialRun(self._store, drafts, version, unedited, chosen.id, sizes, relations, seed)
        settings |= {**asdict(sizes), "refinement": chosen.id, "relations": sorted(set(relations)), "seed": seed}
        settings["known_facts"] = run.known_facts  # With more of them, others would be drawn.
        with self._store.writing() as connection:
            trial = store_trials.begin(connection, version.record.id, version.version, kind, settings)
        return run, trial

    def _done(self, trial: EditTrial) -> set[tuple[str, int]]:
        with self._store.reading() as connection:
            return {(result.part, result.position) for result in store_trials.results(connection, trial.id)}

    def _add(self, trial: EditTrial, result: TrialResult) -> None:
        with self._store.writing() as connection:
            store_trials.add_result(connection, trial.id, result)

    def _finished(self, trial: EditTrial) -> EditTrial:
        with self._store.writing() as connection:
            store_trials.finish(connection, trial.id)
            return store_trials.trial(connection, trial.id)


def _cell(method: EditMethod) -> str:
    return json.dumps(method.settings, sort_keys=True)
