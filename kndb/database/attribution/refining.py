"""From a run's stored scores to a refinement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...advice import Placeholder, call, option
from ...analysis.refinement import RefinementSettings, refine_relation
from ...attribution.methods import METHODS
from ...errors import AttributionError, NotFoundError
from ...records.attribution import Refinement
from ...store import facts as store_facts
from ...store import refinements as store_refinements
from ...store import runs as store_runs
from ...store.engine import Store
from ...store.numbers import there_are
from ...store.runs import RunHead

DEFAULT_THRESHOLD = 0.2
"""Of runs whose method this kndb does not know."""


@dataclass(frozen=True)
class RefinementRequest:
    """Which run to refine, and how.

    Attributes:
        run: the run; None takes the one that was worked on last, of `model` if one is named.
        model: restricts that choice.
        threshold: share of a prompt's largest score that its coarse set asks for; None takes the usual one of the
            run's method.
        share, min_prompts, adapt, negative: as in `RefinementSettings`.
        allow_incomplete: accept a run that was not finished.
        relations: refine only these relations' facts; none named means all that the run has.
    """

    run: int | None = None
    model: str | None = None
    threshold: float | None = None
    share: float = 0.7
    min_prompts: int = 3
    adapt: bool = True
    negative: bool = False
    allow_incomplete: bool = False
    relations: Sequence[str] = ()

    def settings(self, method: str) -> RefinementSettings:
        """What to refine the scores of a method with.

        Raises:
            UsageError: if a number is out of its range.
        """
        usual = METHODS[method].threshold if method in METHODS else DEFAULT_THRESHOLD
        threshold = usual if self.threshold is None else self.threshold
        return RefinementSettings(threshold, self.share, self.min_prompts, self.adapt, self.negative)


def refine(store: Store, request: RefinementRequest) -> Refinement:
    """See `AttributionCommands.refine`."""
    with store.reading() as connection:
        run = _run_to_refine(store_runs.run_heads(connection, request.model), request.run, request.model)
        settings = request.settings(run.method)
        _require_refinable(run, settings, request.allow_incomplete)
        chosen = store_facts.named_relations(connection, request.relations)
        facts = store_refinements.attributed_facts(connection, run.id, list(chosen.values()))
        keys = {relation.id: relation.key for relation in store_facts.relations(connection)}
        outcomes = []
        for relation_id, prompts_of_fact in facts.items():
            candidates = store_refinements.candidates(
                connection, run.id, relation_id, settings.threshold, negative=settings.negative
            )
            outcome, kept = refine_relation(keys[relation_id], prompts_of_fact, candidates, settings)
            outcomes.append((relation_id, outcome, kept))
    if not outcomes:
        of = f" of {', '.join(chosen)}" if chosen else ""
        raise AttributionError(
            f"run {run.id} has no attributed prompts{of} to refine; see: {call('query.runs', model=run.model)}"
        )
    with store.writing() as connection:
        stored = settings.as_settings() | ({} if run.status == "complete" else {"incomplete": True})
        number = store_refinements.add_refinement(connection, run.id, stored, outcomes)
        return store_refinements.refinement(connection, number)


def _run_to_refine(runs: Sequence[RunHead], number: int | None, model: str | None) -> RunHead:
    """The run of a number; or the one that was worked on last."""
    candidates = [run for run in runs if number is None or run.id == number]
    if candidates:
        return max(candidates, key=lambda run: (run.finished_at or run.created_at, run.id))
    of = f" of model {model!r}" if model else ""
    if number is None:
        make = call("attribution.run", model=model or Placeholder("NAME"))
        raise NotFoundError(f"there is no run{of}; make one with: {make}")
    known = there_are([run.id for run in runs], number)
    raise NotFoundError(f"there is no run {number}{of}: {known}. List them with: {call('query.runs', model=model)}")


def _require_refinable(run: RunHead, settings: RefinementSettings, allow_incomplete: bool) -> None:
    if run.status != "complete" and not allow_incomplete:
        raise AttributionError(
            f"run {run.id} is not complete: it was interrupted, or is still in progress. Finish it by running the same "
            f"{call('attribution.run', model=run.model)} again, or refine what there is with "
            f"{option('allow_incomplete', True)}"
        )
    if settings.negative and not run.settings.get("negative"):
        raise AttributionError(
            f"run {run.id} kept no scores below zero; attribute again with {option('negative', True)} to refine them"
        )
    threshold, floor = settings.threshold, float(str(run.settings.get("floor", 0.0)))
    if threshold < floor:
        raise AttributionError(
            f"{option('threshold')} {threshold} is under the floor {floor} with which run {run.id} kept its scores; "
            f"use at least {floor}, or attribute again with {option('floor', threshold)}"
        )
