"""What an experiment is made on: the refinement, its baseline, the facts and their neurons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...analysis.interventions import random_neurons
from ...errors import NotFoundError, UsageError
from ...records.models import Neuron
from ...store.probes import NeuronSets, RefinementSource
from .draws import chance_of
from .scaling import ProbedFact

METHOD, BASELINE = "integrated-gradients", "activation"
"""The methods whose refinements are taken unless the user names others."""


@dataclass(frozen=True)
class Choice:
    """The refinements of an experiment on one version of a model."""

    version: str
    refinement: RefinementSource
    baseline: RefinementSource | None = None


def choose_refinement(sources: Sequence[RefinementSource], model: str, number: int | None) -> RefinementSource:
    """The refinement of a number, or the model's newest by integrated gradients that is not negative.

    Args:
        sources: all refinements, the newest first.
        model: the model's name.
        number: which one, if the user says.

    Raises:
        NotFoundError: if there is none.
        UsageError: if it is another model's.
    """
    if number is not None:
        return _of_model(sources, model, number)
    for source in sources:
        if source.model == model and source.method == METHOD and not source.negative:
            return source
    others = [str(source.id) for source in reversed(sources) if source.model == model]
    found = f"found refinements {', '.join(others)} of model {model!r}" if others else f"model {model!r} has none"
    raise NotFoundError(
        f"{found}; expected one of a run by {METHOD}, not negative. Make one with: kndb attribute --model {model}, "
        f"then kndb refine --model {model}; or name one with --refinement ID"
    )


def choose_baseline(
    sources: Sequence[RefinementSource], model: str, version: str, number: int | None
) -> RefinementSource | None:
    """The refinement of a number, or the newest by the activation baseline of the same model and version, if any.

    Raises:
        NotFoundError: if there is none of the number.
        UsageError: if it is another model's, or of another method.
    """
    if number is not None:
        chosen = _of_model(sources, model, number)
        if chosen.method != BASELINE:
            raise UsageError(
                f"refinement {number} is by {chosen.method}; expected one by {BASELINE}, as the baseline is. Make one "
                f"with: kndb attribute --model {model} --method {BASELINE}, then kndb refine"
            )
        return chosen
    wanted = (model, version, BASELINE, False)
    return next((one for one in sources if (one.model, one.version, one.method, one.negative) == wanted), None)


def probed_facts(
    knowledge: NeuronSets, activation: NeuronSets, *, per_relation: int | None, seed: int, per_layer: int
) -> list[ProbedFact]:
    """The facts to probe, with the neurons of each arm.

    Args:
        knowledge: refined sets, none of them empty.
        activation: those of the baseline.
        per_relation: so many facts of each relation, drawn at random; None takes all.
        seed: of that draw and of the random neurons.
        per_layer: neurons that a layer of the model has.

    Returns:
        Facts with at least one set, by relation and number.
    """
    relations: dict[str, list[int]] = {}
    for fact_id, (relation, _) in sorted({**knowledge, **activation}.items()):
        relations.setdefault(relation, []).append(fact_id)
    found = []
    for relation, numbers in sorted(relations.items()):
        chosen = numbers
        if per_relation is not None:
            chosen = sorted(chance_of(seed, "facts", relation).sample(numbers, min(per_relation, len(numbers))))
        for fact_id in chosen:
            arms: dict[str, tuple[Neuron, ...]] = {}
            if fact_id in knowledge:
                arms["knowledge"] = knowledge[fact_id][1]
                chance = chance_of(seed, "random", fact_id)
                arms["random"] = random_neurons(arms["knowledge"], per_layer, chance)
            if fact_id in activation:
                arms["activation"] = activation[fact_id][1]
            found.append(ProbedFact(fact_id, relation, {arm: neurons for arm, neurons in arms.items() if neurons}))
    return found


def _of_model(sources: Sequence[RefinementSource], model: str, number: int) -> RefinementSource:
    found = next((source for source in sources if source.id == number), None)
    if found is None:
        raise NotFoundError(f"found no refinement {number}; list them with: kndb query refinements --model {model}")
    if found.model != model:
        raise UsageError(
            f"found refinement {number}, which is of model {found.model}; expected one of model {model}. List them "
            f"with: kndb query refinements --model {model}"
        )
    return found
