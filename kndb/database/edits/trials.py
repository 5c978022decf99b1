"""Use cases of trials: a bench of a way to edit, and a sweep over its settings; stored as they go, and resumed.

What computes is imported when something is computed: a list of trials needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ...records.attribution import RefinementChoice
from ...records.bench_methods import BenchMethod
from ...records.display import Rows
from ...records.edit_settings import EditSettings, TrialSettings, UpdateSettings
from ...records.edits import EditTrial, TrialResult, TrialSummary
from ...records.progress import Progress
from ...records.work import WorkEngine
from ...store import facts as store_facts
from ...store import models as store_models
from ...store.choosing import answering
from ...store.edits import trials as store_trials
from ...store.engine import Store
from ..models import ModelCommands

if TYPE_CHECKING:
    from .trial_measures import TrialRun

SINGLE, CUMULATIVE = "single", "cumulative"
"""The parts of a bench, as `analysis.trial_summaries` reads them."""
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
        method: EditSettings | None = None,
        settings: TrialSettings | None = None,
        *,
        counts: Sequence[int] = COUNTS,
        refinement: RefinementChoice = None,
        engine: WorkEngine | None = None,
        progress: Progress | None = None,
    ) -> EditTrial:
        """Edits many facts, each alone and then one on the other, and measures; goes on where it was stopped.

        Args:
            model: a registered model; its current version is edited.
            method: how: the settings of an update or of an optimisation; None takes an update's defaults.
            settings: what is edited and measured; None takes the defaults.
            counts: after how many edits, one on the other, to measure; those above the number of facts are left out.
            refinement: whose knowledge neurons; see `QueryCommands.choose`.
            engine: who computes; None is this process.
            progress: told how many edits were measured, and how many there are.

        Raises:
            WorkError: if workers can't be had, or some edits failed; all others are measured.
            UsageError: if a count is under 1.
            NotFoundError: if there is no such model, relation or refinement.
            EditError: if no fact has a knowledge neuron.
        """
        method = method or UpdateSettings()
        if any(count < 1 for count in counts):
            raise UsageError(f"counts must be at least 1 (got {', '.join(map(str, counts))})")
        own = method.as_trial() | {"counts": sorted(set(counts))}
        run, trial = self._begin("bench", model, refinement, settings or TrialSettings(), own)
        targets = run.facts.targets
        kept = sorted({count for count in counts if count <= len(targets)})
        done = self._done(trial)
        if engine is not None and engine.remote:
            from .trial_workers import bench_by_workers

            bench_by_workers(self._store, trial, run, method, kept, done, engine, progress)
            return self._finished(trial)
        total = len(targets) + max(kept, default=0)
        for place, target in enumerate(targets):
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
                    progress(len(targets) + place, total)
        return self._finished(trial)

    def sweep(
        self,
        model: str,
        methods: Sequence[EditSettings],
        settings: TrialSettings | None = None,
        *,
        refinement: RefinementChoice = None,
        progress: Progress | None = None,
    ) -> EditTrial:
        """Edits the same facts, each alone, in several ways, and measures; goes on where it was stopped.

        Args:
            model: a registered model; its current version is edited.
            methods: the ways, at least one: the settings of each.
            settings: what is edited and measured; None takes the defaults, with 20 facts.
            refinement: whose knowledge neurons; see `QueryCommands.choose`.
            progress: told how many edits were measured, and how many there are.

        Raises:
            UsageError: if there is no method.
            NotFoundError: if there is no such model, relation or refinement.
            EditError: if no fact has a knowledge neuron.
        """
        cells = {_cell(method): method for method in methods}
        if not cells:
            raise UsageError("there are no settings to try; give at least one")
        own = {"cells": [method.as_trial() for method in cells.values()]}
        run, trial = self._begin("sweep", model, refinement, settings or TrialSettings(facts=20), own)
        done = self._done(trial)
        tried = 0
        for cell, method in cells.items():
            for place, target in enumerate(run.facts.targets):
                if (cell, place) not in done:
                    self._add(trial, TrialResult(cell, place, target.fact.id, run.single(target, method)))
                tried += 1
                if progress is not None:
                    progress(tried, len(cells) * len(run.facts.targets))
        return self._finished(trial)

    def compare(
        self,
        model: str,
        methods: Sequence[BenchMethod],
        settings: TrialSettings | None = None,
        *,
        sizes: Sequence[int] = COUNTS,
        seeds: Sequence[int] = (),
        refinement: RefinementChoice = None,
        engine: WorkEngine | None = None,
        progress: Progress | None = None,
    ) -> EditTrial:
        """Edits the same facts by several methods, so many at once, and measures after the last edit of each; resumes.

        Methods that plan many facts make one edit of all of them; update, optimize and rome plan one after the other.
        Of the facts that are not edited, plans look at `settings.share`, to keep their answers or to count their keys;
        what is measured is drawn from the others. Results are stored cell by cell: method × seed × size.

        Args:
            model: a registered model; its current version is edited.
            methods: the ways to edit, each of another name, at least one; see `kndb.bench_method`.
            settings: what is edited and measured; None takes the defaults. Facts hold knowledge neurons if one of the
                methods changes these; new answers are one token if one of them needs that.
            sizes: how many facts to edit; those above the number of facts are left out.
            seeds: of all that is drawn, one table for each; none takes that of the settings.
            refinement: whose knowledge neurons; see `QueryCommands.choose`.
            engine: who computes; None is this process.
            progress: told how many cells were measured, and how many there are.

        Raises:
            WorkError: if workers can't be had, or some cells failed; all others are measured.
            UsageError: if there is no method, one is named twice, or a size is under 1; if texts are to be continued,
                and the model is not causal.
            NotFoundError: if there is no such model, relation or refinement.
            EditError: if there is no fact to edit.
        """
        from .comparing import compare_methods

        number = compare_methods(
            self._store,
            self._models,
            model,
            methods,
            settings,
            sizes=sizes,
            seeds=seeds,
            refinement=refinement,
            progress=progress,
            engine=engine,
        )
        return self.get(number)

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
        from ...analysis.trial_summaries import summarise, summarise_compared

        if "methods" in settings:
            return Rows(summarise_compared(results, [one["method"] for one in settings["methods"]]), TrialSummary)
        order = [json.dumps(cell, sort_keys=True) for cell in settings.get("cells", ())]
        results.sort(key=lambda result: order.index(result.part) if result.part in order else -1)
        return Rows(summarise(results, int(settings["seed"])), TrialSummary)

    def unplanned(self, trial: int) -> list[tuple[int, str]]:
        """The facts for which no edit could be planned, and why; those of a sweep once for each of its cells."""
        with self._store.reading() as connection:
            results = store_trials.results(connection, trial)
        found = [
            (result.fact or 0, result.measures.get("unplanned")) for result in results if result.part != CUMULATIVE
        ]
        alone = [(fact, reason) for fact, reason in found if isinstance(reason, str)]
        # Of a comparison, each size names the facts of the sizes under it again.
        many = {(int(fact), str(why)) for _, pairs in found if isinstance(pairs, list) for fact, why in pairs}
        return alone + sorted(many)

    # --- working -------------------------------------------------------------------------------------------

    def _begin(
        self,
        kind: str,
        model: str,
        refinement: RefinementChoice,
        settings: TrialSettings,
        own: dict[str, Any],
    ) -> tuple[TrialRun, EditTrial]:
        from .trial_measures import trial_run

        self._models.get(model)
        with self._store.reading() as connection:
            settings = replace(settings, relations=tuple(store_facts.named_relations(connection, settings.relations)))
            chosen = answering(connection, refinement, model=model, relations=settings.relations)
        run = trial_run(self._store, self._models, self._models.load(model), chosen.id, settings)
        version = run.version
        # With more known facts, others would be drawn.
        stored = {**own, **settings.as_json(), "refinement": chosen.id, "known_facts": run.facts.known}
        with self._store.writing() as connection:
            trial = store_trials.begin(connection, version.record.id, version.version, kind, stored)
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


def _cell(method: EditSettings) -> str:
    return json.dumps(method.as_trial(), sort_keys=True)
