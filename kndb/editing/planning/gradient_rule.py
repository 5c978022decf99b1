"""The directions of an update along the gradient, and how they turn where one gradient does not lead far enough.

At first a layer's slots move along the gradient of the new answer's mean log-probability on the model as it is
(`kndb.models.directions.gradient_directions`). A network is not linear: on some facts no step along it makes the new
answer win. Then the direction is turned: the gradient is taken again on the model with the edit at some λ₂, and added,

    t ← (t + t_edited) / ‖t + t_edited‖ ,

so that the edit stays one step from the weights as they were, v + s·‖v‖·λ₂·t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...advice import Placeholder, call
from ...errors import EditError
from ...models.directions import gradient_directions
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from ...records.models import Neuron
from ..objects.slots import edited
from .recipes import TRIED, UpdateRule, plan, slots_by_layer


def along_gradient(
    network: Network,
    rule: UpdateRule,
    neurons: Sequence[Neuron],
    prompts: Sequence[EncodedPrompt],
    turned_at: Sequence[float] = (),
) -> UpdateRule:
    """The rule with the directions that the model's present weights give it.

    Args:
        network: the model; it is as it was when this returns.
        rule: of name `gradient`, with tokens and weights; the weights are not needed where nothing is turned.
        neurons: whose value slots are to change.
        prompts: the fact's prompts, at least one.
        turned_at: λ₂ at which the directions are turned, one turn after the other.

    Raises:
        EditError: if there is no prompt, the model lacks a neuron, a gradient is zero or not a number, or an edit at
            one of these λ₂ can't be.
    """
    layers = list(slots_by_layer(network, neurons))
    found = replace(rule, directions=gradient_directions(network, prompts, rule.new, layers))
    for factor in turned_at:
        found = turned(network, found, neurons, prompts, factor)
    return found


def turned(
    network: Network, rule: UpdateRule, neurons: Sequence[Neuron], prompts: Sequence[EncodedPrompt], factor: float
) -> UpdateRule:
    """The rule with its directions turned by the gradient on the model with the edit at a λ₂.

    Raises:
        EditError: if that edit can't be, or a gradient there is zero, not a number, or just opposite.
    """
    parameters = dict(network.model.named_parameters())
    at = replace(rule, lambda_new=factor).on(network)
    with edited(parameters, plan(network, neurons, at, fingerprint="", recipe=TRIED)):
        there = gradient_directions(network, prompts, rule.new, list(rule.directions))
    sums = {layer: direction + there[layer] for layer, direction in rule.directions.items()}
    if not all(bool(total.norm() > 0) for total in sums.values()):
        raise EditError(
            "the gradient with the edit is just opposite to that without it; optimise the fact's slots instead: "
            + call("edits.plan_optimize", model=Placeholder("MODEL"), fact=Placeholder("ID"), to=Placeholder("ANSWER"))
        )
    return replace(rule, directions={layer: total / total.norm() for layer, total in sums.items()})
