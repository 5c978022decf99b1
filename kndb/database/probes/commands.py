"""Use cases of experiments: scale or read the activations of knowledge neurons, and look at what was stored.

The model computes outside any transaction. An experiment is written in one transaction at its end, so that one that
fails or is interrupted leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from ...analysis.interventions import Question
from ...analysis.probe_summaries import summarize_activations, summarize_scaling
from ...errors import AttributionError, UsageError
from ...facts.texts import read_texts
from ...files import sha256
from ...models import loading
from ...models.precision import PRECISIONS
from ...records.display import Rows
from ...records.probes import ActivationSummary, ExtremeText, FactActivation, Probe, ProbeFact, ProbeSummary
from ...store import facts as store_facts
from ...store import models as store_models
from ...store import probes as store_probes
from ...store.engine import Store
from ...store.fact_index import fact_index
from ..models import ModelCommands
from .choices import Choice, checked_factor, choose_baseline, choose_refinement, probed_facts, require_at_least
from .draws import require_seed
from .scaling import Progress, PromptBook, Scaling
from .texts import TEXT_SKIP_REASONS, join, read, show, summed_up


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
        refinement: int | None = None,
        baseline: int | None = None,
        factor: float | None = None,
        others: int = 20,
        facts: int | None = None,
        seed: int = 0,
        device: str = "auto",
        version: str = "current",
        dtype: str = "float32",
        batch_size: int | None = None,
        progress: Progress | None = None,
    ) -> Probe:
        """Multiplies the activations of facts' knowledge neurons, and stores what that does to the model's answers.

        Beside each fact's refined set, as many random neurons of the same layers are scaled, and the fact's set by the
        activation baseline. A fact without a set is left out of that arm.

        Args:
            kind: `suppress` or `amplify`.
            model: a registered model, or a lab model.
            relations: the keys of the relations whose facts are probed; none named means all.
            refinement: whose sets; None takes the model's newest by integrated gradients.
            baseline: the refinement of the arm `activation`; None takes the newest of this model and version whose
                run's method is `activation`, and goes without that arm if there is none.
            factor: what activations are multiplied by; None takes 0 to suppress, 2 to amplify.
            others: how many prompts of facts of other relations each fact is asked, drawn at random.
            facts: facts per relation, drawn at random; None takes all.
            seed: of all draws.
            device: `auto`, `cpu`, `cuda`, `mps`.
            version: which version of the model.
            dtype: what is computed in, a name of `kndb.models.precision.PRECISIONS`.
            batch_size: prompts in one forward pass; None chooses by the memory.
            progress: told how many facts are done.

        Raises:
            UsageError: for settings that make no sense, or a refinement of another model.
            NotFoundError: for an unknown model, version, relation or refinement.
            AttributionError: if there is no fact to probe, or the model gives no numbers.
        """
        given = checked_factor(kind, factor)
        for name, value, least in (("others", others, 0), ("facts", facts, 1), ("batch size", batch_size, 1)):
            require_at_least(name, value, least)
        choice = self._choose(model, version, refinement, seed, dtype, baseline=baseline, compare=True)
        chosen_device = _device(device, dtype)
        with self._store.reading() as connection:
            relation_ids = store_facts.require_relations(connection, relations)
            knowledge, activation = (
                store_probes.neuron_sets(connection, source.id, relation_ids) if source else {}
                for source in (choice.refinement, choice.baseline)
            )
            relation_of = {fact.id: fact.relation for fact in store_facts.find_facts(connection)}
            prompts = store_facts.prompts(connection, held_out=False)
        loaded = self._models.load(model, choice.version)
        probed = probed_facts(knowledge, activation, per_relation=facts, seed=seed, per_layer=loaded.record.neurons)
        book = PromptBook(prompts, relation_of, loaded.encoder)
        with PRECISIONS[dtype].computing():
            network = loaded.loaded.network(chosen_device, PRECISIONS[dtype].dtype)
            scaling = Scaling(network, book, factor=given, others=others, seed=seed, batch_size=batch_size)
            found = scaling.run(probed, progress)
        if not found:
            raise AttributionError(_nothing_to_probe(choice, relations, len(probed)))
        settings = {
            **_settings(kind, choice, seed, dtype, str(chosen_device)),
            "relations": list(relations),
            "factor": given,
            "baseline": choice.baseline and choice.baseline.id,
            "baseline_version": choice.baseline and choice.baseline.version,
            "others": others,
            "facts": facts,
            "batch_size": batch_size,
            "facts_without_prompts": scaling.without_prompts,
            "prompts_skipped": dict(book.skipped),
        }
        return self._save(loaded.record.id, kind, choice, settings, facts=found)

    def activation(
        self,
        model: str,
        texts: Sequence[str | Path],
        *,
        input_format: str = "auto",
        pairs: str | Path | None = None,
        refinement: int | None = None,
        keep: int = 3,
        seed: int = 0,
        device: str = "auto",
        version: str = "current",
        dtype: str = "float32",
        progress: Progress | None = None,
    ) -> Probe:
        """Reads the activations of facts' knowledge neurons over texts, and stores their means and extremes.

        Args:
            model: a registered model, or a lab model.
            texts: files of texts, see `kndb.facts.texts`.
            input_format: `auto`, `jsonl` or `bags`.
            pairs: the file that names the facts of bags; None looks for `query_pairs.json`.
            refinement: whose sets; None takes the model's newest by integrated gradients.
            keep: how many texts of the highest and of the lowest activation are kept for each fact.
            seed: of the words left out, and of the texts of kind `neither` that bags have none of.
            device: `auto`, `cpu`, `cuda`, `mps`.
            version: which version of the model.
            dtype: what is computed in, a name of `kndb.models.precision.PRECISIONS`.
            progress: told how many texts are done.

        Raises:
            UsageError: for settings that make no sense, or a refinement of another model.
            InputError: if a file can't be read, or names no fact of the store.
            NotFoundError: for an unknown model, version or refinement.
            AttributionError: if no text can be measured.
        """
        require_at_least("keep", keep, 0)
        if not texts:
            raise UsageError("found no file of texts; expected at least one")
        choice = self._choose(model, version, refinement, seed, dtype)
        chosen_device = _device(device, dtype)
        files = read_texts([Path(path) for path in texts], input_format, None if pairs is None else Path(pairs))
        with self._store.reading() as connection:
            index = fact_index(connection)
            sets = store_probes.neuron_sets(connection, choice.refinement.id)
        joined, unknown = join(files, index, seed)
        with_set = [(fact, text) for fact, text in joined if fact.id in sets]
        loaded = self._models.load(model, choice.version)
        shown, skipped = show(with_set, loaded.encoder, loaded.adapter.blank, seed)
        if not shown:
            raise AttributionError(
                f"found no text to measure: {len(joined) - len(with_set)} of {len(joined)} are of facts without "
                f"neurons in refinement {choice.refinement.id}, "
                f"the others are skipped: {'; '.join(TEXT_SKIP_REASONS[reason] for reason in skipped) or 'none'}"
            )
        with PRECISIONS[dtype].computing():
            network = loaded.loaded.network(chosen_device, PRECISIONS[dtype].dtype)
            values = read(network, [Question(text.encoded, sets[text.fact.id][1]) for text in shown], progress)
        settings = {
            **_settings("activation", choice, seed, dtype, str(chosen_device)),
            "texts": {str(path): sha256(Path(path)) for path in texts},
            "pairs": None if pairs is None else str(pairs),
            "input_format": input_format,
            "keep": keep,
            "facts_unknown": unknown,
            "facts_without_neurons": len({fact.id for fact, _ in joined} - sets.keys()),
            "texts_skipped": skipped,
        }
        means, extremes = summed_up(shown, values, keep)
        return self._save(loaded.record.id, "activation", choice, settings, activations=means, texts=extremes)

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
        version: str,
        refinement: int | None,
        seed: int,
        dtype: str,
        *,
        baseline: int | None = None,
        compare: bool = False,
    ) -> Choice:
        """Version and refinements, before anything expensive is done."""
        require_seed(seed)
        if dtype not in PRECISIONS:
            raise UsageError(f"found dtype {dtype!r}; expected one of: {', '.join(PRECISIONS)}")
        resolved = self._models.resolve_version(model, version)
        with self._store.reading() as connection:
            sources = store_probes.refinement_sources(connection)
        chosen = choose_refinement(sources, model, refinement)
        return Choice(resolved, chosen, choose_baseline(sources, model, resolved, baseline) if compare else None)

    def _save(
        self,
        model_id: int,
        kind: str,
        choice: Choice,
        settings: Mapping[str, object],
        *,
        facts: Iterable[ProbeFact] = (),
        activations: Iterable[FactActivation] = (),
        texts: Iterable[ExtremeText] = (),
    ) -> Probe:
        with self._store.writing() as connection:
            number = store_probes.add_probe(
                connection,
                model_id=model_id,
                version=choice.version,
                kind=kind,
                refinement_id=choice.refinement.id,
                settings=settings,
                facts=facts,
                activations=activations,
                texts=texts,
            )
            return store_probes.probe(connection, number)


def _device(name: str, dtype: str) -> torch.device:
    chosen = loading.choose_device(name)
    PRECISIONS[dtype].require(chosen)
    return chosen


def _settings(kind: str, choice: Choice, seed: int, dtype: str, device: str) -> dict[str, object]:
    """What all experiments note."""
    return {
        "kind": kind,
        "refinement": choice.refinement.id,
        "refinement_version": choice.refinement.version,
        "version": choice.version,
        "seed": seed,
        "dtype": dtype,
        "device": device,
    }


def _nothing_to_probe(choice: Choice, relations: Sequence[str], facts: int) -> str:
    of = f" of {', '.join(relations)}" if relations else ""
    if facts:
        return (
            f"found {facts} facts{of} with neurons, and no prompt of theirs that the model can be asked with an answer "
            "of one token; expected at least one. See: kndb query runs"
        )
    return (
        f"found no fact{of} with knowledge neurons in refinement {choice.refinement.id}; expected at least one. "
        f"Attribute them with: kndb attribute --model {choice.refinement.model}, then kndb refine"
    )
