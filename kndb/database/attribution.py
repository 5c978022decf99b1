"""Use cases of attribution and refinement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..analysis.refinement import RefinementSettings, refine_relation
from ..attribution.engine import AttributionSettings, Engine
from ..attribution.method import Method
from ..attribution.methods import METHODS
from ..attribution.quadrature import Quadrature
from ..errors import AttributionError, NotFoundError, UsageError
from ..models import loading
from ..models.precision import PRECISIONS
from ..models.prompting import SKIP_REASONS, EncodedPrompt, Encoder, Skipped
from ..records.attribution import KnowledgeNeuron, PromptResult, Refinement, ResultBatch, Run, RunErrors
from ..records.display import Record, Rows
from ..records.facts import BLANK, SUBJECT_SLOT, Prompt
from ..records.models import StoredSettings
from ..store import facts as store_facts
from ..store import refinements as store_refinements
from ..store import runs as store_runs
from ..store.engine import Store
from ..store.free_prompts import add_free_prompts
from ..store.numbers import there_are
from ..store.queries import fact_findings as store_fact
from ..store.run_errors import run_errors
from ..store.selection import Selection, require_sense, select_facts
from .background import BackgroundWriter
from .models import ModelCommands, ModelVersion, question_text
from .query.commands import QueryCommands

Progress = Callable[[int, int], None]
"""Told how many prompts are done, of how many."""

GOLD, PREDICTED = "gold", "predicted"
"""The targets that are no answer's text."""

DEFAULT_THRESHOLD = 0.2
"""Of runs whose method this kndb does not know."""
_SKIPPED_AT_ONCE = 5000
EXAMPLE = f"The capital of France is {BLANK}."


@dataclass(frozen=True)
class AttributionReport(Record):
    """What an attribution did.

    Attributes:
        run: the run as it now stands.
        resumed: whether it existed before.
        attributed: prompts attributed now; `already_done`: those that had a result before.
        skipped: prompts of the whole run without a score, by reason.
        unfinished: relations that an earlier command left half done, with the prompts that they lack.
        held_out: prompts of held-out templates that were left out.
        seconds: time spent attributing now, loading the model left out.
        seconds_writing: how much of it was spent waiting for the store; the rest of the writing went on beside it.
        trust: completeness errors and the share of known answers, over the whole run.
        errors: how many prompts of the whole run are above the tolerance, and in which layers.
        facts: facts that this command chose.
        free_fact: the fact that free prompts were stored as; None without any.
    """

    run: Run
    resumed: bool
    attributed: int
    already_done: int
    skipped: dict[str, int]
    unfinished: dict[str, int]
    held_out: int
    seconds: float
    seconds_writing: float
    device: str
    trust: dict[str, float | int | None]
    errors: RunErrors
    facts: int
    free_fact: int | None = None

    @property
    def rate(self) -> float | None:
        """Prompts per second, if there were any."""
        return self.attributed / self.seconds if self.attributed else None

    def _line(self) -> str:
        return f"{self.run!r}, {self.attributed:,} of them now"


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
        facts: int | None = None,
        sample: int | None = None,
        subjects: Sequence[str] = (),
        fact_ids: Sequence[int] = (),
        prompts: Sequence[str] = (),
        answer: str | None = None,
        method: str = "integrated-gradients",
        target: str = GOLD,
        quadrature: str = "bisection",
        steps: int | None = None,
        tolerance: float = 1e-3,
        most_evaluations: int | None = None,
        floor: float = 0.1,
        negative: bool = False,
        known_only: bool = False,
        held_out: bool = False,
        seed: int = 0,
        dtype: str = "float32",
        device: str = "auto",
        batch_size: int | None = None,
        version: str = "current",
        run: int | None = None,
        progress: Progress | None = None,
    ) -> AttributionReport:
        """Attributes all prompts of some facts that have no result yet, and stores them batch by batch.

        The same model version, method and settings go on with the same run, whichever facts are chosen. Killed, it
        loses the two batches in flight at most: the one being computed and the one being written.

        Args:
            model: a registered model, or a lab model.
            relations: the relations' keys; none named means all.
            facts: of the facts chosen otherwise, only the first so many, in the store's order.
            sample: of these, only so many, drawn at random by `seed`; a larger sample holds the smaller ones.
            subjects: only facts of these subjects, by their exact texts.
            fact_ids: only the facts of these numbers.
            prompts: in place of facts of the store, sentences with one `[Y]` or `[MASK]` each (for a causal model, it
                may be left out at the end): they are stored as prompts of one fact, in the relation `free-prompts`.
            answer: the object of that fact.
            method: the kind of score, a name of `kndb.attribution.methods.METHODS`.
            target: the answer that scores are for: `gold` (the fact's), `predicted` (the model's own most probable
                token), or a text.
            quadrature: a name of `kndb.attribution.quadrature.QUADRATURES`.
            steps: a fixed number of nodes; None is adaptive where the rule can be.
            tolerance: the error wanted of each integral, if adaptive.
            most_evaluations: gradient evaluations of a prompt and layer at most, if adaptive; None takes the usual.
            floor: scores under this share of a prompt's largest are not kept.
            negative: keep scores below zero too, down to that share of the prompt's lowest.
            known_only: leave out prompts that the model answers otherwise.
            held_out: attribute prompts of held-out templates too.
            seed: of the random method, and of `sample`.
            dtype: what is computed in, a name of `kndb.models.precision.PRECISIONS`.
            device: `auto`, `cpu`, `cuda`, `mps`.
            batch_size: prompts per batch; None chooses by the memory.
            version: which version of the model.
            run: go on with this run; refused if anything that decides its numbers differs.
            progress: told of each batch.

        Raises:
            NotFoundError: for an unknown model, version, run, relation, subject or fact.
            AttributionError: if there is nothing to attribute, the model gives no numbers, or the run saw another
                version or other settings.
            UsageError: for settings that make no sense, or that the device can't compute.
        """
        integration = Quadrature.choose(quadrature, steps, tolerance, most_evaluations)
        settings = AttributionSettings(integration, floor, known_only, method, negative, seed, dtype)
        stored = {**settings.as_settings(), "held_out": held_out, "target": _checked_target(target)}
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"found batch size {batch_size}; expected auto or a number from 1")
        chosen = loading.choose_device(device)
        PRECISIONS[dtype].require(chosen)
        selection = Selection(relations, subjects, fact_ids, facts, sample, seed)
        require_sense(selection)
        free = _checked_free(prompts, answer, selection)
        with self._store.reading() as connection:
            chosen_facts = [] if free else select_facts(connection, selection, held_out=held_out)
        if not chosen_facts and not free:
            raise AttributionError(_nothing_to_attribute(selection))
        if run is not None:
            self._require_same(run, model, version, method, stored)
        loaded = self._models.load(model, version)
        if free and answer is not None:
            chosen_facts = [self._store_free(loaded, free, answer.strip(), target)]
        with self._store.reading() as connection:
            total = store_runs.count_prompts(connection, chosen_facts, held_out=held_out)
            everything = store_runs.count_prompts(connection, chosen_facts, held_out=True)
            present = store_runs.find_run(connection, loaded.record.id, loaded.version, method, stored)
            pending = store_runs.pending_prompts(connection, present, chosen_facts, held_out=held_out)
        encoded, skipped = _encode(loaded.encoder, pending, target)
        network = loaded.loaded.network(chosen, PRECISIONS[dtype].dtype)
        engine = Engine(network, loaded.loaded.decode, settings, batch_size)
        saver = _Saver(self._store, loaded.record.id, loaded.version, method, stored, skipped, chosen_facts)
        started, done = time.monotonic(), 0
        with BackgroundWriter(saver.save) as writer:
            for batch in engine.run(encoded):
                writer.submit(batch)
                done += len(batch.results)
                if progress is not None:
                    progress(done, len(encoded))
        run_id = saver.open()
        seconds = time.monotonic() - started
        with self._store.writing() as connection:
            finished, unfinished = store_runs.finish_run(connection, run_id, held_out=held_out)
        with self._store.reading() as connection:
            reasons = store_runs.skip_counts(connection, run_id)
            trust = store_runs.trust(connection, run_id)
            errors = run_errors(connection, finished)
        return AttributionReport(
            run=finished,
            resumed=present is not None,
            attributed=done,
            already_done=total - len(pending),
            skipped=reasons,
            unfinished=unfinished,
            held_out=0 if held_out else everything - total,
            seconds=seconds,
            seconds_writing=writer.waited,
            device=str(chosen),
            trust=trust,
            errors=errors,
            facts=len(chosen_facts),
            free_fact=chosen_facts[0] if free else None,
        )

    def refine(
        self,
        run: int | None = None,
        *,
        model: str | None = None,
        threshold: float | None = None,
        share: float = 0.7,
        min_prompts: int = 3,
        adapt: bool = True,
        negative: bool = False,
        allow_incomplete: bool = False,
    ) -> Refinement:
        """Turns a run's scores into knowledge neurons and stores them as a new refinement.

        Args:
            run: the run; None takes the one that was worked on last, of `model` if one is named.
            model: restricts that choice.
            threshold: share of a prompt's largest score that its coarse set asks for; None takes the usual one of
                the run's method.
            share: share of a fact's prompts that a neuron must be in the coarse sets of.
            min_prompts: the least number of those prompts.
            adapt: move the share for each relation until the mean size of its sets is between 2 and 5.
            negative: refine the lowest scores in place of the largest: neurons that speak against the answer.
            allow_incomplete: accept a run that was not finished.

        Raises:
            NotFoundError: if there is no such run.
            AttributionError: if the run is not complete, or keeps too few scores for this threshold.
        """
        with self._store.reading() as connection:
            chosen = self._run_to_refine(store_runs.runs(connection, model), run, model)
            if threshold is None:
                threshold = METHODS[chosen.method].threshold if chosen.method in METHODS else DEFAULT_THRESHOLD
            settings = RefinementSettings(threshold, share, min_prompts, adapt, negative)
            _require_refinable(chosen, settings, allow_incomplete)
            facts = store_refinements.attributed_facts(connection, chosen.id)
            keys = {relation.id: relation.key for relation in store_facts.relations(connection)}
            outcomes = []
            for relation_id, prompts_of_fact in facts.items():
                candidates = store_refinements.candidates(
                    connection, chosen.id, relation_id, threshold, negative=negative
                )
                outcome, kept = refine_relation(keys[relation_id], prompts_of_fact, candidates, settings)
                outcomes.append((relation_id, outcome, kept))
        if not outcomes:
            raise AttributionError(f"run {chosen.id} has no attributed prompts to refine; see: kndb query runs")
        with self._store.writing() as connection:
            number = store_refinements.add_refinement(connection, chosen.id, settings.as_settings(), outcomes)
            return store_refinements.refinement(connection, number)

    def errors(self, run: int) -> RunErrors:
        """How many prompts of a run are above its tolerance, and in which layers.

        Raises:
            NotFoundError: if there is no such run.
        """
        with self._store.reading() as connection:
            return run_errors(connection, store_runs.run(connection, run))

    def top_scores(self, run: int, fact: int, *, top: int = 10) -> Rows[KnowledgeNeuron]:
        """The neurons with the largest stored scores for a fact's prompts in a run, by the sum over the prompts.

        Unlike knowledge neurons, they are not refined: nothing asks that several prompts agree.

        Args:
            run: the run.
            fact: the fact.
            top: how many, at least 1.

        Returns:
            Each with the number of prompts of which a score is stored, and the mean of these scores.
        """
        if top < 1:
            raise UsageError(f"top must be at least 1 (got {top})")
        with self._store.reading() as connection:
            return Rows(store_fact.top_scores(connection, run, fact, top), KnowledgeNeuron)

    def _store_free(self, loaded: ModelVersion, prompts: Sequence[str], answer: str, target: str) -> int:
        """Stores free prompts that this model can be asked, and gives their fact's number."""
        texts = []
        for prompt in prompts:
            text = question_text(prompt, loaded.adapter.blank, f'kndb attribute --prompt "{EXAMPLE}" --answer Paris')
            _, skipped = _encode(loaded.encoder, [Prompt(0, 0, text, answer)], target)
            if skipped:
                raise UsageError(f"--prompt {prompt!r} can't be asked: {SKIP_REASONS[skipped[0].reason]}")
            texts.append(text)
        with self._store.writing() as connection:
            return add_free_prompts(connection, texts, answer)

    def runs(self, model: str | None = None) -> Rows[Run]:
        """All runs, or those of one model.

        Raises:
            NotFoundError: if there is no such model.
        """
        return QueryCommands(self._store).runs(model)

    def refinements(self, model: str | None = None) -> Rows[Refinement]:
        """All refinements, or those of one model's runs.

        Raises:
            NotFoundError: if there is no such model.
        """
        return QueryCommands(self._store).refinements(model)

    @staticmethod
    def _run_to_refine(runs: list[Run], number: int | None, model: str | None) -> Run:
        candidates = [run for run in runs if number is None or run.id == number]
        if candidates:
            return max(candidates, key=lambda run: (run.finished_at or run.created_at, run.id))
        of = f" of model {model!r}" if model else ""
        if number is None:
            raise NotFoundError(f"found no run{of}; make one with: kndb attribute --model {model or 'NAME'}")
        known = there_are([run.id for run in runs], number)
        raise NotFoundError(f"found no run {number}{of}; {known}. List them with: kndb query runs")

    def _require_same(self, number: int, model: str, version: str, method: str, settings: StoredSettings) -> None:
        """Refuses to go on with a run that saw another model, version or settings: its results must not be mixed."""
        with self._store.reading() as connection:
            present = store_runs.run(connection, number)
        if present.model != model:
            raise AttributionError(
                f"run {number} attributed {present.model}; found {model}. Results of two models are never mixed in one "
                f"run: name its model with --model {present.model}, or leave out --run for a run of its own"
            )
        resolved = self._models.resolve_version(model, version)
        if present.version != resolved:
            raise AttributionError(
                f"run {number} attributed version {present.version} of {present.model}; found version {resolved} of "
                f"{model}. Results of two versions are never mixed in one run: leave out --run for a run of its own, "
                f"or name the run's version with --version {present.version}"
            )
        wanted = {"method": method, **settings}
        have = {"method": present.method, **present.settings}
        differing = [name for name in {**have, **wanted} if have.get(name) != wanted.get(name)]
        if differing:
            # These two decide which other settings there are.
            name = next((one for one in ("method", "quadrature") if one in differing), differing[0])
            raise AttributionError(
                f"run {number} has {name}={have.get(name)!r}; found {name}={wanted.get(name)!r}. Results of different "
                "settings are never mixed in one run: leave out --run for a run of its own, or give the run's "
                "settings, which `kndb query runs --format json` lists"
            )


class _Saver:
    """Saves a run's batches.

    The run is there from its first batch on, so that one which can't be computed leaves nothing behind.
    """

    def __init__(
        self,
        store: Store,
        model_id: int,
        version: str,
        method: str,
        settings: StoredSettings,
        skipped: Sequence[Skipped],
        facts: Sequence[int],
    ) -> None:
        self._store = store
        self._facts = facts
        self._identity = (model_id, version, method, settings)
        self._skipped = skipped
        self._run_id: int | None = None

    def open(self) -> int:
        """The run's number; starts it, notes its facts and saves its skipped prompts, if that is still to be done."""
        if self._run_id is None:
            with self._store.writing() as connection:
                run, _ = store_runs.start_run(connection, *self._identity)
                store_runs.choose_facts(connection, run.id, self._facts)
            self._run_id = run.id
            for start in range(0, len(self._skipped), _SKIPPED_AT_ONCE):
                part = self._skipped[start : start + _SKIPPED_AT_ONCE]
                self._write(ResultBatch(tuple(PromptResult(one.prompt_id, skipped=one.reason) for one in part)))
        return self._run_id

    def save(self, batch: ResultBatch) -> None:
        """Writes one batch in a transaction of its own."""
        self.open()
        self._write(batch)

    def _write(self, batch: ResultBatch) -> None:
        assert self._run_id is not None
        with self._store.writing() as connection:
            store_runs.save_results(connection, self._run_id, batch)


def methods() -> list[Method]:
    """All methods of attribution."""
    return list(METHODS.values())


def _nothing_to_attribute(selection: Selection) -> str:
    if selection.narrowed or selection.relations:
        return (
            "none of the chosen facts has prompts to attribute; those of held-out templates count with --held-out. "
            "See: kndb query facts"
        )
    return "the store has no prompts to attribute; add some with: kndb ingest PATH"


def _checked_free(prompts: Sequence[str], answer: str | None, selection: Selection) -> list[str]:
    """The free prompts, if there are any, without those given twice."""
    if not prompts:
        if answer is not None:
            raise UsageError("--answer goes with --prompt: the answer to the prompts given there")
        return []
    if answer is None or not answer.strip():
        raise UsageError(f'--prompt needs --answer, as in: kndb attribute --prompt "{EXAMPLE}" --answer Paris')
    if selection.narrowed or selection.relations:
        raise UsageError(
            "--prompt takes no facts of the store; leave out --relation, --facts, --sample, --subject and --fact"
        )
    for text in (*prompts, answer):
        if SUBJECT_SLOT in text or not all(mark.isprintable() for mark in text):
            raise UsageError(
                f"--prompt and --answer must be one printable line each, without {SUBJECT_SLOT} (got {text!r})"
            )
    return list(dict.fromkeys(prompt.strip() for prompt in prompts))


def _checked_target(target: str) -> str:
    if not target.strip():
        raise UsageError("found an empty target; expected gold, predicted or an answer's text")
    return target


def _encode(encoder: Encoder, prompts: Sequence[Prompt], target: str) -> tuple[list[EncodedPrompt], list[Skipped]]:
    """Prompts as token ids, asking for the target, and those that can't be asked."""
    encoded: list[EncodedPrompt] = []
    skipped: list[Skipped] = []
    for prompt in prompts:
        gold = encoder.encode(prompt.id, prompt.text, prompt.answer)
        asked = gold
        if target != GOLD:
            asked = encoder.encode(prompt.id, prompt.text, None if target == PREDICTED else target)
        if isinstance(asked, Skipped):
            skipped.append(asked)
            continue
        own = gold.answers if isinstance(gold, EncodedPrompt) else ()
        encoded.append(replace(asked, fact_id=prompt.fact_id, gold=own))
    return encoded, skipped


def _require_refinable(run: Run, settings: RefinementSettings, allow_incomplete: bool) -> None:
    if run.status != "complete" and not allow_incomplete:
        raise AttributionError(
            f"run {run.id} is not complete: it was interrupted, or is still going on. Finish it by running the same "
            "kndb attribute command again, or refine what there is with --allow-incomplete"
        )
    if settings.negative and not run.settings.get("negative"):
        raise AttributionError(
            f"run {run.id} kept no scores below zero; attribute again with --negative to refine them"
        )
    threshold, floor = settings.threshold, float(str(run.settings.get("floor", 0.0)))
    if threshold < floor:
        raise AttributionError(
            f"threshold {threshold} is under the floor {floor} with which run {run.id} kept its scores; use a "
            f"threshold of at least {floor}, or attribute again with --floor {threshold}"
        )
