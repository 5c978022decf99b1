"""The namespace of attribution: attribute prompts, refine their scores, look at single scores.

Imports no torch until prompts are attributed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...advice import option
from ...attribution.method import AttributionMethod
from ...attribution.methods import METHODS
from ...attribution.quadrature import Quadrature as Quadrature
from ...attribution.settings import AttributionSettings as AttributionSettings
from ...errors import UsageError
from ...records.attribution import AttributionReport, KnowledgeNeuron, Refinement, RunErrors
from ...records.display import Rows
from ...records.progress import Progress
from ...records.work import WorkEngine
from ...store import runs as store_runs
from ...store.engine import Store
from ...store.queries import fact_findings as store_fact
from ...store.run_errors import run_errors
from ..models import ModelCommands
from .refining import RefinementRequest, refine
from .request import GOLD
from .request import AttributionRequest as AttributionRequest

if TYPE_CHECKING:
    from ...models.device_maps import DeviceMapChoice


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
        device_map: DeviceMapChoice = None,
        version: str = "current",
        run: int | None = None,
        engine: WorkEngine | None = None,
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
            dtype: what is computed in, a name of `kndb.models.dtypes.COMPUTE_DTYPES`.
            device: `auto`, `cpu`, `cuda`, `mps`.
            batch_size: prompts per batch; None chooses by the memory.
            device_map: where the model's weights are kept, as for `AttributionSettings`.
            version: which version of the model.
            run: go on with this run; refused if anything that decides its numbers differs.
            engine: who computes; None is this process.
            progress: told of each batch.

        Raises:
            NotFoundError: for an unknown model, version, run, relation, subject or fact.
            AttributionError: if there is nothing to attribute, the model gives no numbers, or the run saw another
                version or other settings.
            UsageError: for settings that make no sense, or that the device can't compute.
            WorkError: if workers can't be had.
        """
        request = AttributionRequest(
            model=model,
            version=version,
            relations=relations,
            facts=facts,
            sample=sample,
            subjects=subjects,
            fact_ids=fact_ids,
            prompts=prompts,
            answer=answer,
            target=target,
            held_out=held_out,
            run=run,
        )
        settings = AttributionSettings(
            quadrature=Quadrature.choose(quadrature, steps, tolerance, most_evaluations),
            floor=floor,
            known_only=known_only,
            method=method,
            negative=negative,
            seed=seed,
            dtype=dtype,
            device=device,
            batch_size=batch_size,
            device_map=device_map,
        )
        return self.run_request(request, settings, progress, engine=engine)

    def run_request(
        self,
        request: AttributionRequest,
        settings: AttributionSettings,
        progress: Progress | None = None,
        *,
        engine: WorkEngine | None = None,
    ) -> AttributionReport:
        """As `run`, with what to attribute and how as values.

        Args:
            request: what to attribute.
            settings: how.
            progress: told how many prompts are done, and how many there are.
            engine: who computes; None is this process.

        Raises:
            NotFoundError, AttributionError, UsageError, WorkError: as `run`.
        """
        from .running import attribute

        return attribute(self._store, self._models, request, settings, progress, engine)

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
        relations: Sequence[str] = (),
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
            relations: the keys of the relations to refine; none named means all that the run has.

        Raises:
            NotFoundError: if there is no such run or relation.
            AttributionError: if the run is not complete, keeps too few scores for this threshold, or has none of these
                relations.
        """
        request = RefinementRequest(
            run,
            model,
            threshold,
            share,
            min_prompts,
            adapt,
            negative,
            allow_incomplete=allow_incomplete,
            relations=tuple(relations),
        )
        return refine(self._store, request)

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
            raise UsageError(f"{option('top')} must be at least 1 (got {top})")
        with self._store.reading() as connection:
            return Rows(store_fact.top_scores(connection, run, fact, top), KnowledgeNeuron)


def methods() -> list[AttributionMethod]:
    """All methods of attribution."""
    return list(METHODS.values())
