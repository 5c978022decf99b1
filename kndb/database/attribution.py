"""Use cases of attribution and refinement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..analysis.refinement import RefinementSettings, refine_relation
from ..attribution.engine import AttributionSettings, Engine
from ..attribution.quadrature import Quadrature
from ..errors import AttributionError, NotFoundError, UsageError
from ..models import loading
from ..models.prompting import EncodedPrompt, Encoder, Skipped
from ..records import Prompt, PromptResult, Refinement, ResultBatch, Run
from ..store import facts as store_facts
from ..store import models as store_models
from ..store import refinements as store_refinements
from ..store import runs as store_runs
from ..store.engine import Store
from .models import ModelCommands

Progress = Callable[[int, int], None]
"""Told how many prompts are done, of how many."""

_SKIPPED_AT_ONCE = 5000


@dataclass(frozen=True)
class AttributionReport:
    """What an attribution did.

    Attributes:
        run: the run as it now stands.
        resumed: whether it existed before.
        attributed: prompts attributed now; `already_done`: those that had a result before.
        skipped: prompts of the whole run without a score, by reason.
        unfinished: relations that an earlier command left half done, with the prompts that they lack.
        held_out: prompts of held-out templates that were left out.
        seconds: time spent attributing now, loading the model left out.
        trust: completeness errors and the share of known answers, over the whole run.
    """

    run: Run
    resumed: bool
    attributed: int
    already_done: int
    skipped: dict[str, int]
    unfinished: dict[str, int]
    held_out: int
    seconds: float
    device: str
    trust: dict[str, float | int | None]

    @property
    def rate(self) -> float | None:
        """Prompts per second, if there were any."""
        return self.attributed / self.seconds if self.attributed else None


class AttributionCommands:
    """Attribute prompts and refine scores to knowledge neurons."""

    def __init__(self, store: Store, models: ModelCommands) -> None:
        self._store = store
        self._models = models

    def run(
        self,
        model: str,
        *,
        relations: Sequence[str] = (),
        method: str = "integrated-gradients",
        quadrature: str = "radau",
        steps: int | None = None,
        tolerance: float = 1e-3,
        floor: float = 0.1,
        known_only: bool = False,
        held_out: bool = False,
        device: str = "auto",
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> AttributionReport:
        """Attributes all prompts of some relations that have no result yet, and stores them batch by batch.

        The same model version, method and settings go on with the same run. Killed, it loses the batch in
        flight at most.

        Args:
            model: a registered model, or a lab model; its current version is used.
            relations: the relations' keys; none named means all.
            method: the kind of score.
            quadrature: a name of `kndb.attribution.quadrature.RULES`.
            steps: a fixed number of nodes; None is adaptive where the rule can be.
            tolerance: the error wanted of each integral, if adaptive.
            floor: scores under this share of a prompt's largest are not kept.
            known_only: leave out prompts that the model answers otherwise.
            held_out: attribute prompts of held-out templates too.
            device: `auto`, `cpu`, `cuda`, `mps`.
            batch_size: prompts per batch; None chooses by the memory.
            progress: told of each batch.

        Raises:
            NotFoundError: for an unknown model or relation.
            AttributionError: if there is nothing to attribute, or the model gives no numbers.
        """
        settings = AttributionSettings(Quadrature.choose(quadrature, steps, tolerance), floor, known_only, method)
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"found batch size {batch_size}; expected auto or a number from 1")
        chosen = loading.choose_device(device)
        with self._store.reading() as connection:
            relation_ids = store_facts.require_relations(connection, relations)
            total = store_runs.count_prompts(connection, relation_ids, held_out=held_out)
            everything = store_runs.count_prompts(connection, relation_ids, held_out=True)
        if not total:
            raise AttributionError("the store has no prompts to attribute; add some with: kndb ingest PATH")
        version = self._models.load(model)
        with self._store.writing() as connection:
            run, resumed = store_runs.start_run(
                connection, version.record.id, version.version, method, {**settings.as_settings(), "held_out": held_out}
            )
        with self._store.reading() as connection:
            pending = store_runs.pending_prompts(connection, run.id, relation_ids, held_out=held_out)
        encoded, skipped = _encode(version.encoder, pending)
        self._save_skipped(run.id, skipped)
        network = version.loaded.network(chosen, torch.float32)
        engine = Engine(network, version.loaded.decode, settings, batch_size)
        started, done = time.monotonic(), 0
        for batch in engine.run(encoded):
            with self._store.writing() as connection:
                store_runs.save_results(connection, run.id, batch)
            done += len(batch.results)
            if progress is not None:
                progress(done, len(encoded))
        seconds = time.monotonic() - started
        with self._store.writing() as connection:
            finished, unfinished = store_runs.finish_run(connection, run.id, held_out=held_out)
        with self._store.reading() as connection:
            reasons = store_runs.skip_counts(connection, run.id)
            trust = store_runs.trust(connection, run.id)
        return AttributionReport(
            run=finished,
            resumed=resumed,
            attributed=done,
            already_done=total - len(pending),
            skipped=reasons,
            unfinished=unfinished,
            held_out=0 if held_out else everything - total,
            seconds=seconds,
            device=str(chosen),
            trust=trust,
        )

    def refine(
        self,
        run: int | None = None,
        *,
        model: str | None = None,
        threshold: float = 0.2,
        share: float = 0.7,
        min_prompts: int = 3,
        adapt: bool = True,
        allow_incomplete: bool = False,
    ) -> Refinement:
        """Turns a run's scores into knowledge neurons and stores them as a new refinement.

        Args:
            run: the run; None takes the one that was worked on last, of `model` if one is named.
            model: restricts that choice.
            threshold: share of a prompt's largest score that its coarse set asks for.
            share: share of a fact's prompts that a neuron must be in the coarse sets of.
            min_prompts: the least number of those prompts.
            adapt: move the share for each relation until the mean size of its sets is between 2 and 5.
            allow_incomplete: accept a run that was not finished.

        Raises:
            NotFoundError: if there is no such run.
            AttributionError: if the run is not complete, or keeps too few scores for this threshold.
        """
        settings = RefinementSettings(threshold, share, min_prompts, adapt)
        with self._store.reading() as connection:
            chosen = self._run_to_refine(store_runs.runs(connection, model), run, model)
            _require_refinable(chosen, threshold, allow_incomplete)
            facts = store_refinements.attributed_facts(connection, chosen.id)
            keys = {relation.id: relation.key for relation in store_facts.relations(connection)}
            outcomes = []
            for relation_id, prompts_of_fact in facts.items():
                candidates = store_refinements.candidates(connection, chosen.id, relation_id, threshold)
                outcome, kept = refine_relation(keys[relation_id], prompts_of_fact, candidates, settings)
                outcomes.append((relation_id, outcome, kept))
        if not outcomes:
            raise AttributionError(f"run {chosen.id} has no attributed prompts to refine; see: kndb query runs")
        with self._store.writing() as connection:
            number = store_refinements.add_refinement(connection, chosen.id, settings.as_settings(), outcomes)
            return store_refinements.refinement(connection, number)

    def runs(self, model: str | None = None) -> list[Run]:
        """All runs, or those of one model.

        Raises:
            NotFoundError: if there is no such model.
        """
        with self._store.reading() as connection:
            if model is not None:
                store_models.model(connection, model)
            return store_runs.runs(connection, model)

    def refinements(self, model: str | None = None) -> list[Refinement]:
        """All refinements, or those of one model's runs.

        Raises:
            NotFoundError: if there is no such model.
        """
        with self._store.reading() as connection:
            if model is not None:
                store_models.model(connection, model)
            return store_refinements.refinements(connection, model)

    @staticmethod
    def _run_to_refine(runs: list[Run], number: int | None, model: str | None) -> Run:
        candidates = [run for run in runs if number is None or run.id == number]
        if candidates:
            return max(candidates, key=lambda run: (run.finished_at or run.created_at, run.id))
        of = f" of model {model!r}" if model else ""
        raise NotFoundError(
            f"found no run{of}{'' if number is None else f' {number}'}; make one with: kndb attribute --model NAME, "
            "or list them with: kndb query runs"
        )

    def _save_skipped(self, run_id: int, skipped: Sequence[Skipped]) -> None:
        for start in range(0, len(skipped), _SKIPPED_AT_ONCE):
            part = skipped[start : start + _SKIPPED_AT_ONCE]
            results = tuple(PromptResult(prompt.prompt_id, skipped=prompt.reason) for prompt in part)
            with self._store.writing() as connection:
                store_runs.save_results(connection, run_id, ResultBatch(results))


def _encode(encoder: Encoder, prompts: Sequence[Prompt]) -> tuple[list[EncodedPrompt], list[Skipped]]:
    encoded: list[EncodedPrompt] = []
    skipped: list[Skipped] = []
    for prompt in prompts:
        result = encoder.encode(prompt.id, prompt.text, prompt.answer)
        if isinstance(result, Skipped):
            skipped.append(result)
        else:
            encoded.append(result)
    return encoded, skipped


def _require_refinable(run: Run, threshold: float, allow_incomplete: bool) -> None:
    if run.status != "complete" and not allow_incomplete:
        raise AttributionError(
            f"run {run.id} is not complete: it was interrupted, or is still going on. Finish it by running the same "
            "kndb attribute command again, or refine what there is with --allow-incomplete"
        )
    floor = float(str(run.settings.get("floor", 0.0)))
    if threshold < floor:
        raise AttributionError(
            f"threshold {threshold} is under the floor {floor} with which run {run.id} kept its scores; use a "
            f"threshold of at least {floor}, or attribute again with --floor {threshold}"
        )
