"""What an experiment is made on: the refinement, its baseline, the facts and their neurons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...advice import option
from ...analysis.interventions import random_neurons
from ...errors import UsageError
from ...records.attribution import Refinement, RefinementChoice, attribute_and_refine
from ...records.models import Neuron
from ...store.choosing import answering, find
from ...store.probes import NeuronSets
from .draws import chance_of
from .scaling import ProbedFact

BASELINE = "activation"
"""The method whose refinements are taken beside the others, to compare with."""


@dataclass(frozen=True)
class Choice:
    """The refinements of an experiment on one version of a model."""

    version: str
    refinement: Refinement
    baseline: Refinement | None = None


def choose_baseline(
    connection: Any, model: str, version: str, choice: RefinementChoice, relations: Sequence[str] = ()
) -> Refinement | None:
    """The refinement named, or the one by the activation baseline of the same model and version, if any.

    Raises:
        NotFoundError: if there is none of the number.
        UsageError: if it is another model's, or of another method.
    """
    if choice is None:
        found = find(connection, model=model, method=BASELINE, version=version, relations=relations)
        return None if found is None or found.refinement.negative else found.refinement
    chosen = answering(connection, choice, model=model, relations=relations)
    if chosen.method != BASELINE:
        make = attribute_and_refine(model, relations, method=BASELINE)
        raise UsageError(
            f"{option('baseline', chosen.id)} is by {chosen.method}, not by {BASELINE}; make one with: {make}"
        )
    return chosen


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
