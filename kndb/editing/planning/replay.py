"""Recomputing an edit from its recipe on other weights, and how its result differs from the old one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ...advice import call
from ...errors import EditError
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from ...records.many_recipes import ManyRecipe
from ...records.models import Neuron
from ...records.recipes import REPLAYED_KINDS, EraseRecipe, OptimizeRecipe, OtherRecipe, Recipe, UpdateRecipe, replayed
from ...records.together import TogetherRecipe
from ..objects.diff_file import EditObject, slot_bytes
from . import recipes
from .gradient_rule import along_gradient

Values = dict[Neuron, torch.Tensor]
"""What some value slots hold, each [d] on the CPU, by neuron."""


@dataclass(frozen=True)
class Difference:
    """How value slots differ between two moments.

    Attributes:
        slots: how many were compared.
        different: how many of them hold other bytes.
        largest_change: the largest ‖after − before‖ / ‖before‖; infinite where a slot of zeros became another one.
    """

    slots: int
    different: int
    largest_change: float


Replayable = UpdateRecipe | OptimizeRecipe | EraseRecipe | TogetherRecipe | ManyRecipe
"""The recipes of edits that can be recomputed."""


def require_replayable(edit: int, recipe: Recipe) -> Replayable:
    """The recipe of an edit, if it says all that a replay needs.

    Args:
        edit: the edit's number, for the message.
        recipe: its recipe.

    Raises:
        EditError: if the kind is not one that can be replayed, or the recipe could not be read.
    """
    if isinstance(recipe, Replayable):
        return recipe
    why = f"kind {recipe.kind!r} is not one of {', '.join(REPLAYED_KINDS)}"
    if isinstance(recipe, OtherRecipe) and recipe.kind in REPLAYED_KINDS:
        why = f"its recipe of kind {recipe.kind!r} can't be read: {recipe.flaw}"
    raise EditError(
        f"edit {edit} can't be replayed: {why}. Take it out first, and plan it again afterwards: "
        f"{call('edits.revert', edit)}"
    )


def replay(
    network: Network,
    recipe: UpdateRecipe | EraseRecipe,
    edit: int,
    own: Sequence[EncodedPrompt] = (),
    *,
    fingerprint: str,
) -> EditObject:
    """Recomputes an edit by a rule on the weights that the model has now; changes nothing.

    The neurons, tokens, factors, rule and weights are those of the recipe; the new one notes `rebased_from`. The
    directions of rule `gradient` are taken again.

    Args:
        network: the model, in the dtype in which it is stored.
        recipe: the edit's recipe.
        edit: the edit's number.
        own: the fact's prompts, for an update by rule `gradient`.
        fingerprint: of the model's checkpoint.

    Raises:
        EditError: if a direction can't be taken, or nothing would change.
    """
    rule: recipes.SlotRule = recipes.erase_rule
    if isinstance(recipe, UpdateRecipe):
        rule = with_directions(update_rule(recipe), recipe, network, own).on(network)
    new = replayed(recipe, edit)
    return recipes.plan(network, recipe.neurons, rule, fingerprint=fingerprint, recipe=new)


def update_rule(recipe: UpdateRecipe, weights: Mapping[Neuron, float] | None = None) -> recipes.UpdateRule:
    """The rule of the recipe of an update.

    Rule `gradient` comes without directions: see `with_directions`.

    Args:
        recipe: the recipe.
        weights: of other neurons than the recipe's, to use in place of its own.
    """
    own = {"gradient": recipe.weights, "output": recipe.signs, "paper": None}[recipe.rule_name]
    if recipe.rule_name == "paper" or weights is None:
        weights = own or {}
    tokens_and_factors = recipe.old_token, recipe.new_token, recipe.lambda_old, recipe.lambda_new
    return recipes.UpdateRule(*tokens_and_factors, recipe.rule_name, weights)


def with_directions(
    rule: recipes.UpdateRule, recipe: UpdateRecipe, network: Network, own: Sequence[EncodedPrompt]
) -> recipes.UpdateRule:
    """The rule with the directions that the model's present weights give, if it is one that has any."""
    if rule.name != "gradient":
        return rule
    return along_gradient(network, rule, recipe.neurons, own, recipe.turned_at or ())


def present_slots(network: Network, neurons: Sequence[Neuron]) -> Values:
    """Copies the value slots of some neurons.

    Where layers share a parameter, a slot is named by the lowest of them.
    """
    found: Values = {}
    for neuron in neurons:
        layer = network.canonical_layer(neuron.layer)
        found[Neuron(layer, neuron.index)] = network.layers[layer].value_slots(torch.tensor([neuron.index]))[0]
    return found


def difference(before: Values, after: Values) -> Difference:
    """Compares what the same value slots held and hold: bytes for equality, lengths in double precision."""
    different, largest = 0, 0.0
    for neuron, old in before.items():
        new = after[neuron]
        if bool((slot_bytes(old[None]) == slot_bytes(new[None])).all()):
            continue
        different += 1
        change, length = (new.double() - old.double()).norm().item(), old.double().norm().item()
        largest = max(largest, change / length if length > 0 else math.inf if change > 0 else 0.0)
    return Difference(len(before), different, largest)
