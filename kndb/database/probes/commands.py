"""Use cases of experiments: scale or read the activations of knowledge neurons, and look at what was stored.

The model computes outside any transaction. An experiment is written in one transaction at its end, so that one that
fails or is interrupted leaves nothing behind, but for what workers found: that is kept for the same experiment. What
computes is imported when something is computed: a list of experiments needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...analysis.probe_summaries import summarize_activations, summarize_scaling
from ...records.attribution import RefinementChoice
from ...records.display import Rows
from ...records.probes import ActivationSummary, ExtremeText, FactActivation, Probe, ProbeFact, ProbeSummary
from ...records.progress import Progress
from ...records.work import WorkEngine
from ...store import facts as store_facts
from ...store import models as store_models
from ...store import probes as store_probes
from ...store import work as store_work
from ...store.choosing import answering
from ...store.engine import Store
from ..models import ModelCommands

if TYPE_CHECKING:
    from ...models.device_maps import DeviceMapChoice
    from .choices import Choice
    from .making import MadeProbe
    from .settings import ProbeSettings, ReadingRequest, ScalingRequest


class ProbeCommands:
    """Make and read experiments on the activations of a refinement's neurons."""

    def __init__(self, store: Store, models: ModelCommands) -> None:
        self._store = store
        self._models = models

    # --- making --------------------------------------------------------------------------------------------

    def scale(
        self,
        kind: str,
        model: str,
        *,
        relations: Sequence[str] = (),
        refinement: RefinementChoice = None,
        baseline: RefinementChoice = None,
        factor: float | None = None,
        others: int = 20,
        facts: int | None = None,
        seed: int = 0,
        device: str = "auto",
        version: str = "current",
        dtype: str = "float32",
        batch_size: int | None = None,
        device_map: DeviceMapChoice = None,
        engine: WorkEngine | None = None,
        progress: Progress | None = None,
    ) -> Probe:
        """Multiplies the activations of facts' knowledge neurons, and stores what that does to the model's answers.

        Beside each fact's refined set, as many random neurons of the same layers are scaled, and the fact's set by the
        activation baseline. A fact without a set is left out of that arm.

        Args:
            kind: `suppress` or `amplify`.
            model: a registered model, or a lab model.
            relations: the keys of the relations whose facts are probed; none named means all.
            refinement: whose sets; see `QueryCommands.choose`.
            baseline: the refinement of the arm `activation`; None takes the one of this model and version whose run's
                method is `activation`, and goes without that arm if there is none.
            factor: what activations are multiplied by; None takes 0 to suppress, 2 to amplify.
            others: how many prompts of facts of other relations each fact is asked, drawn at random.
            facts: facts per relation, drawn at random; None takes all.
            seed: of all draws.
            device: `auto`, `cpu`, `cuda`, `mps`.
            version: which version of the model.
            dtype: what is computed in, a name of `kndb.models.dtypes.COMPUTE_DTYPES`.
            batch_size: prompts in one forward pass; None chooses by the memory.
            device_map: where the model's weights are kept, as for `AttributionSettings`.
            engine: who computes; None is this process.
            progress: told how many facts are done.

        Raises:
            UsageError: for settings that make no sense, or a refinement of another model.
            NotFoundError: for an unknown model, version, relation or refinement.
            AttributionError: if there is no fact to probe, or the model gives no numbers.
            WorkError: if workers can't be had, or some facts failed; what they did is kept for the same call.
        """
        from .settings import ProbeSettings, ScalingRequest

        request = ScalingRequest(kind, model, relations, factor, baseline, others, facts)
        settings = ProbeSettings(refinement, version, seed, dtype, device, batch_size, device_map)
        return self.run_scaling(request, settings, progress, engine=engine)

    def run_scaling(
        self,
        request: ScalingRequest,
        settings: ProbeSettings,
        progress: Progress | None = None,
        *,
        engine: WorkEngine | None = None,
    ) -> Probe:
        """As `scale`, with what to find out and how as values.

        Raises:
            UsageError, NotFoundError, AttributionError, WorkError: as `scale`.
        """
        from .making import scale

        choice = self._choose(
            request.model, settings, baseline=request.baseline, compare=True, relations=request.relations
        )
        made = scale(self._store, self._models, choice, request, settings, progress, engine)
        return self._save(request.kind, choice, made)

    def activation(
        self,
        model: str,
        texts: Sequence[str | Path],
        *,
        input_format: str = "auto",
        pairs: str | Path | None = None,
        refinement: RefinementChoice = None,
        keep: int = 3,
        seed: int = 0,
        device: str = "auto",
        version: str = "current",
        dtype: str = "float32",
        device_map: DeviceMapChoice = None,
        engine: WorkEngine | None = None,
        progress: Progress | None = None,
    ) -> Probe:
        """Reads the activations of facts' knowledge neurons over texts, and stores their means and extremes.

        Args:
            model: a registered model, or a lab model.
            texts: files of texts, see `kndb.facts.texts`.
            input_format: `auto`, `jsonl` or `bags`.
            pairs: the file that names the facts of bags; None looks for `query_pairs.json`.
            refinement: whose sets; see `QueryCommands.choose`.
            keep: how many texts of the highest and of the lowest activation are kept for each fact.
            seed: of the words left out, and of the texts of kind `neither` that bags have none of.
            device: `auto`, `cpu`, `cuda`, `mps`.
            version: which version of the model.
            dtype: what is computed in, a name of `kndb.models.dtypes.COMPUTE_DTYPES`.
            device_map: where the model's weights are kept, as for `AttributionSettings`.
            engine: who computes; None is this process.
            progress: told how many texts are done.

        Raises:
            UsageError: for settings that make no sense, or a refinement of another model.
            InputError: if a file can't be read, or names no fact of the store.
            NotFoundError: for an unknown model, version or refinement.
            AttributionError: if no text can be measured.
            WorkError: if workers can't be had, or some texts failed; what they did is kept for the same call.
        """
        from .settings import ProbeSettings, ReadingRequest

        request = ReadingRequest(model, texts, input_format, pairs, keep)
        settings = ProbeSettings(refinement, version, seed, dtype, device, device_map=device_map)
        return self.run_reading(request, settings, progress, engine=engine)

    def run_reading(
        self,
        request: ReadingRequest,
        settings: ProbeSettings,
        progress: Progress | None = None,
        *,
        engine: WorkEngine | None = None,
    ) -> Probe:
        """As `activation`, with what to find out and how as values.

        Raises:
            UsageError, InputError, NotFoundError, AttributionError, WorkError: as `activation`.
        """
        from .making import read_activations

        choice = self._choose(request.model, settings)
        made = read_activations(self._store, self._models, choice, request, settings, progress, engine)
        return self._save("activation", choice, made)

    # --- looking -------------------------------------------------------------------------------------------

    def all(self, model: str | None = None) -> Rows[Probe]:
        """All experiments, or those of one model, the oldest first.

        Raises:
            NotFoundError: if there is no such model.
        """
        with self._store.reading() as connection:
            if model is not None:
                store_models.model(connection, model)
            return Rows(store_probes.probes(connection, model), Probe)

    def get(self, probe_id: int) -> Probe:
        """One experiment.

        Raises:
            NotFoundError: if there is none of that number.
        """
        with self._store.reading() as connection:
            return store_probes.probe(connection, probe_id)

    def latest(self, kind: str, model: str | None = None) -> Probe | None:
        """The newest experiment of a kind, of one model if one is named; None if there is none."""
        with self._store.reading() as connection:
            found = store_probes.probes(connection, model, kind)
        return found[-1] if found else None

    def facts(self, probe_id: int, relations: Sequence[str] = ()) -> Rows[ProbeFact]:
        """What a scaling did, fact by fact; nothing for an experiment of another kind.

        Args:
            probe_id: the experiment.
            relations: the keys of the relations wanted; none named means all.

        Raises:
            NotFoundError: for an unknown experiment or relation.
        """
        with self._store.reading() as connection:
            store_probes.probe(connection, probe_id)
            relation_ids = store_facts.require_relations(connection, relations)
            return Rows(store_probes.probe_facts(connection, probe_id, relation_ids), ProbeFact)

    def summary(self, probe_id: int, relations: Sequence[str] = ()) -> Rows[ProbeSummary]:
        """What a scaling did, relation by relation, and last the means over the relations' values.

        Raises:
            NotFoundError: for an unknown experiment or relation.
        """
        return Rows(summarize_scaling(self.facts(probe_id, relations)), ProbeSummary)

    def activations(self, probe_id: int, relations: Sequence[str] = ()) -> Rows[FactActivation]:
        """Mean activations, fact by fact; nothing for an experiment of another kind.

        Raises:
            NotFoundError: for an unknown experiment or relation.
        """
        with self._store.reading() as connection:
            store_probes.probe(connection, probe_id)
            relation_ids = store_facts.require_relations(connection, relations)
            return Rows(store_probes.probe_activations(connection, probe_id, relation_ids), FactActivation)

    def activation_summary(self, probe_id: int, relations: Sequence[str] = ()) -> Rows[ActivationSummary]:
        """Mean activations, relation by relation, and last over all facts; each fact counts once.

        Raises:
            NotFoundError: for an unknown experiment or relation.
        """
        return Rows(summarize_activations(self.activations(probe_id, relations)), ActivationSummary)

    def texts(self, probe_id: int, fact_id: int | None = None) -> Rows[ExtremeText]:
        """The texts that activate facts' neurons most and least; of one fact or of all.

        Raises:
            NotFoundError: for an unknown experiment or fact.
        """
        with self._store.reading() as connection:
            store_probes.probe(connection, probe_id)
            if fact_id is not None:
                store_facts.fact(connection, fact_id)
            return Rows(store_probes.probe_texts(connection, probe_id, fact_id), ExtremeText)

    # --- parts ---------------------------------------------------------------------------------------------

    def _choose(
        self,
        model: str,
        settings: ProbeSettings,
        *,
        baseline: RefinementChoice = None,
        compare: bool = False,
        relations: Sequence[str] = (),
    ) -> Choice:
        """Version and refinements, before anything expensive is done."""
        from .choices import Choice, choose_baseline

        resolved = self._models.resolve_version(model, settings.version)
        with self._store.reading() as connection:
            chosen = answering(connection, settings.refinement, model=model, relations=relations)
            beside = choose_baseline(connection, model, resolved, baseline, relations) if compare else None
        return Choice(resolved, chosen, beside)

    def _save(self, kind: str, choice: Choice, made: MadeProbe) -> Probe:
        with self._store.writing() as connection:
            number = store_probes.add_probe(
                connection,
                model_id=made.model_id,
                version=choice.version,
                kind=kind,
                refinement_id=choice.refinement.id,
                settings=made.settings,
                facts=made.facts,
                activations=made.activations,
                texts=made.texts,
            )
            if made.work is not None:
                store_work.forget(connection, made.work)
            return store_probes.probe(connection, number)
