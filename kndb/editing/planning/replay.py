"""Computing an edit anew from its recipe on other weights, and how its result differs from the old one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch

from ...errors import EditError, UsageError
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from ...records.models import Neuron
from ..objects.diff_file import EditObject, slot_bytes
from . import recipes
from .gradient_rule import along_gradient
from .optimize import OptimizeSettings

REPLAYED_KINDS = ("erase", "optimize", "update")

_AT_ONCE_BEFORE = 40
"""Other prompts that counted in one step when recipes did not say how many."""
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


def require_replayable(edit: int, kind: str, recipe: Mapping[str, object]) -> None:
    """Checks that a recipe says all that a replay needs.

    Args:
        edit: the edit's number, for the message.
        kind: kind of edit.
        recipe: its recipe.

    Raises:
        EditError: if the kind is not one that can be replayed, or the recipe lacks something.
    """
    if kind not in REPLAYED_KINDS:
        raise EditError(
            f"edit {edit} can't be replayed: found kind {kind!r}, expected one of {', '.join(REPLAYED_KINDS)}. "
            f"Run `kndb edit revert {edit}` first, and plan it anew afterwards"
        )
    try:
        recipe_neurons(recipe)
        if kind == "update":
            recipe_update_rule(recipe)
            turns_of(recipe)
        if kind == "optimize":
            _number(recipe, "new_token", int)
            recipe_settings(recipe)
    except (KeyError, TypeError, UsageError) as error:
        raise EditError(
            f"edit {edit} can't be replayed: found a recipe of kind {kind!r} without sound neurons, tokens and factors "
            f"({error}). Run `kndb edit revert {edit}` first, and plan it anew afterwards"
        ) from None


def replay(network: Network, planned: EditObject, edit: int, own: Sequence[EncodedPrompt] = ()) -> EditObject:
    """Computes an edit by a rule, `update` or `erase`, anew on the weights that the model has now; changes nothing.

    The neurons, tokens, factors, rule and weights are those of the recipe; the new one notes `rebased_from`. The
    directions of rule `gradient` are taken anew.

    Args:
        network: the model, in the dtype in which it is stored.
        planned: the edit's object.
        edit: the edit's number.
        own: the fact's prompts, for an update by rule `gradient`.

    Raises:
        EditError: if the recipe can't be replayed, or nothing would change.
    """
    require_replayable(edit, planned.kind, planned.recipe)
    rule: recipes.SlotRule = recipes.erase_rule
    neurons = recipe_neurons(planned.recipe)
    try:
        if planned.kind == "update":
            rule = with_directions(recipe_update_rule(planned.recipe), planned.recipe, network, neurons, own).on(
                network
            )
        return recipes.plan(
            network,
            neurons,
            rule,
            fingerprint=planned.fingerprint,
            kind=planned.kind,
            recipe=replayed_recipe(planned.recipe, edit),
        )
    except EditError as error:
        raise EditError(f"edit {edit} can't be replayed: {error}") from error


def with_directions(
    rule: recipes.UpdateRule,
    recipe: Mapping[str, object],
    network: Network,
    neurons: Sequence[Neuron],
    own: Sequence[EncodedPrompt],
) -> recipes.UpdateRule:
    """The rule with the directions that the model's present weights give, if it is one that has any."""
    return along_gradient(network, rule, neurons, own, turns_of(recipe)) if rule.name == "gradient" else rule


def turns_of(recipe: Mapping[str, object]) -> list[float]:
    """The λ₂ at which the directions of an update along the gradient were turned.

    Raises:
        TypeError: if they are not finite numbers.
    """
    found = recipe.get("turned_at", [])
    if not isinstance(found, list) or not all(isinstance(one, (int, float)) and math.isfinite(one) for one in found):
        raise TypeError(f"turned_at {found!r}")
    return [float(one) for one in found]


def recipe_slots(network: Network, planned: EditObject) -> Values:
    """Copies the value slots of a recipe's neurons, changed by the edit or not.

    Where layers share a parameter, a slot is named by the lowest of them.
    """
    found: Values = {}
    for neuron in recipe_neurons(planned.recipe):
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


def recipe_neurons(recipe: Mapping[str, object]) -> list[Neuron]:
    """The neurons that a recipe names.

    Raises:
        TypeError: if it names none.
        KeyError: if it has no list of them.
        UsageError: if one is not a neuron's name.
    """
    named = recipe["neurons"]
    if not isinstance(named, list) or not named:
        raise TypeError(f"neurons {named!r}")
    return [Neuron.parse(str(name)) for name in named]


def recipe_settings(recipe: Mapping[str, object]) -> OptimizeSettings:
    """The settings of the gradient steps in the recipe of an optimised edit.

    Raises:
        TypeError: if one is not a number.
        KeyError: if one is missing.
        UsageError: if one is out of its range.
    """
    full = {"at_once": _AT_ONCE_BEFORE, **recipe}
    values = {field.name: _number(full, field.name, (int, float)) for field in fields(OptimizeSettings)}
    return OptimizeSettings(**values)  # type: ignore[arg-type]


def recipe_update_rule(
    recipe: Mapping[str, object], weights: Mapping[Neuron, float] | None = None
) -> recipes.UpdateRule:
    """The rule of the recipe of an update; one of before there was a choice is the paper's.

    Rule `gradient` comes without directions: see `with_directions`.

    Args:
        recipe: the recipe.
        weights: of other neurons than the recipe's, to use in place of its own.

    Raises:
        TypeError: if a token, a factor, the rule or a weight is not what it should be.
        KeyError: if something is missing.
        UsageError: if a weight is not a neuron's.
    """
    old, new = (int(_number(recipe, name, int)) for name in ("old_token", "new_token"))
    lambda_old, lambda_new = (_number(recipe, name, (int, float)) for name in ("lambda_old", "lambda_new"))
    name = recipe.get("rule", "paper")
    if name not in recipes.RULES:
        raise TypeError(f"rule {name!r}")
    if name == "paper":
        return recipes.UpdateRule(old, new, lambda_old, lambda_new)
    if weights is None:
        weights = _signs(recipe["signs"]) if name == "output" else _weights(recipe["weights"])
    return recipes.UpdateRule(old, new, lambda_old, lambda_new, str(name), weights)


def replayed_recipe(recipe: Mapping[str, object], edit: int) -> dict[str, object]:
    """The recipe of an edit that is computed anew from another one's; what was measured of that is not said of it."""
    return {**{name: value for name, value in recipe.items() if name != "report"}, "rebased_from": edit}


def _signs(value: object) -> dict[Neuron, float]:
    found = _weights(value)
    if any(sign not in (1, -1) for sign in found.values()):
        raise TypeError(f"signs {value!r}")
    return found


def _weights(value: object) -> dict[Neuron, float]:
    if not isinstance(value, Mapping):
        raise TypeError(f"weights {value!r}")
    found = {Neuron.parse(str(name)): _number(value, name, (int, float)) for name in value}
    if not all(math.isfinite(weight) for weight in found.values()):
        raise TypeError(f"weights {value!r}")
    return found


def _number(recipe: Mapping[str, object], name: str, kind: type | tuple[type, ...]) -> float:
    value = recipe[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} {value!r}")
    return value  # type: ignore[return-value]
