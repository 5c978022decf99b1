"""Making an experiment whose refinements are chosen: what it computes, outside any transaction, and what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...advice import call
from ...analysis.interventions import NeuronQuestion
from ...errors import AttributionError
from ...facts.texts import read_texts
from ...files import sha256
from ...models.device_maps import as_read
from ...records.probes import ExtremeText, FactActivation, ProbeFact
from ...records.progress import Progress
from ...records.work import WorkEngine
from ...store import facts as store_facts
from ...store import probes as store_probes
from ...store.engine import Store
from ...store.fact_index import fact_index
from ..models import ModelCommands
from .choices import Choice, probed_facts
from .computing import Prober
from .scaling import PromptBook, questions_of
from .settings import ProbeSettings, ReadingRequest, ScalingRequest
from .texts import TEXT_SKIP_REASONS, join, show, summed_up


@dataclass(frozen=True)
class MadeProbe:
    """What is to be stored of an experiment.

    Attributes:
        model_id: the probed model's number.
        settings: what decided it and what was left out, as plain values.
        work: under which name the parts that workers computed are kept until it is stored.
        facts: what a scaling did.
        activations: the means that a reading found; `texts`: its extremes.
    """

    model_id: int
    settings: dict[str, object]
    work: str | None = None
    facts: Sequence[ProbeFact] = field(default_factory=tuple)
    activations: Sequence[FactActivation] = field(default_factory=tuple)
    texts: Sequence[ExtremeText] = field(default_factory=tuple)


def scale(
    store: Store,
    models: ModelCommands,
    choice: Choice,
    request: ScalingRequest,
    settings: ProbeSettings,
    progress: Progress | None,
    engine: WorkEngine | None = None,
) -> MadeProbe:
    """Multiplies the activations of facts' neurons; see `ProbeCommands.scale`."""
    settings, seed = replace(settings, device_map=as_read(settings.device_map)), settings.seed
    with store.reading() as connection:
        relation_ids = store_facts.require_relations(connection, request.relations)
        knowledge, activation = (
            store_probes.neuron_sets(connection, source.id, relation_ids) if source else {}
            for source in (choice.refinement, choice.baseline)
        )
        relation_of = {fact.id: fact.relation for fact in store_facts.find_facts(connection)}
        prompts = store_facts.prompts(connection, held_out=False)
    prober = Prober(store, models, choice, settings, engine)
    per_layer = prober.record.neurons
    probed = probed_facts(knowledge, activation, per_relation=request.facts, seed=seed, per_layer=per_layer)
    book = PromptBook(prompts, relation_of, prober.encoder)
    asked = [questions_of(fact, book, request.others, seed) for fact in probed]
    if not any(asked):
        raise AttributionError(_nothing_to_probe(choice, request.relations, len(probed)))
    names = [f"fact {fact.id} of {fact.relation}" for fact in probed]
    found = prober.scale(asked, names, request.multiplier, progress)
    noted = {
        **_noted(request.kind, choice, settings, prober.device),
        "relations": list(request.relations),
        "factor": request.multiplier,
        "baseline": choice.baseline and choice.baseline.id,
        "baseline_version": choice.baseline and choice.baseline.version,
        "others": request.others,
        "facts": request.facts,
        "batch_size": settings.batch_size,
        "facts_without_prompts": sum(not groups for groups in asked),
        "prompts_skipped": dict(book.skipped),
    }
    return MadeProbe(prober.record.id, noted, prober.work, facts=[row for rows in found for row in rows])


def read_activations(
    store: Store,
    models: ModelCommands,
    choice: Choice,
    request: ReadingRequest,
    settings: ProbeSettings,
    progress: Progress | None,
    engine: WorkEngine | None = None,
) -> MadeProbe:
    """Reads the activations of facts' neurons over texts; see `ProbeCommands.activation`."""
    settings, seed = replace(settings, device_map=as_read(settings.device_map)), settings.seed
    pairs = None if request.pairs is None else Path(request.pairs)
    files = read_texts([Path(path) for path in request.texts], request.input_format, pairs)
    with store.reading() as connection:
        index = fact_index(connection)
        sets = store_probes.neuron_sets(connection, choice.refinement.id)
    joined, unknown = join(files, index, seed)
    with_set = [(fact, text) for fact, text in joined if fact.id in sets]
    prober = Prober(store, models, choice, settings, engine)
    shown, skipped = show(with_set, prober.encoder, prober.encoder.blank, seed)
    if not shown:
        reasons = "; ".join(TEXT_SKIP_REASONS[reason] for reason in skipped) or "none"
        raise AttributionError(
            f"there is no text to measure: {len(joined) - len(with_set)} of {len(joined)} are of facts without neurons "
            f"in refinement {choice.refinement.id}, the others are skipped: {reasons}"
        )
    questions = [NeuronQuestion(text.encoded, sets[text.fact.id][1]) for text in shown]
    values = prober.read(questions, [text.text for text in shown], progress)
    noted = {
        **_noted("activation", choice, settings, prober.device),
        "texts": {str(path): sha256(Path(path)) for path in request.texts},
        "pairs": None if request.pairs is None else str(request.pairs),
        "input_format": request.input_format,
        "keep": request.keep,
        "facts_unknown": unknown,
        "facts_without_neurons": len({fact.id for fact, _ in joined} - sets.keys()),
        "texts_skipped": skipped,
    }
    means, extremes = summed_up(shown, values, request.keep)
    return MadeProbe(prober.record.id, noted, prober.work, activations=means, texts=extremes)


def _noted(kind: str, choice: Choice, settings: ProbeSettings, device: str) -> dict[str, object]:
    """What all experiments note."""
    return {
        "kind": kind,
        "refinement": choice.refinement.id,
        "refinement_run": choice.refinement.run_id,
        "refinement_method": choice.refinement.method,
        "refinement_version": choice.refinement.version,
        "version": choice.version,
        "seed": settings.seed,
        "dtype": settings.dtype,
        "device": device,
    }


def _nothing_to_probe(choice: Choice, relations: Sequence[str], facts: int) -> str:
    of = f" of {', '.join(relations)}" if relations else ""
    model = choice.refinement.model
    if facts:
        return (
            f"none of the {facts} facts{of} with neurons has a prompt that the model can be asked with an answer of "
            f"one token. See: {call('query.runs', model=model)}"
        )
    return (
        f"no fact{of} has knowledge neurons in refinement {choice.refinement.id}. Attribute them with: "
        f"{call('attribution.run', model=model, relations=list(relations))}, then "
        f"{call('attribution.refine', model=model)}"
    )
