"""The control of an edit: as many random other neurons of the same layers, changed by the same rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...editing.objects.diff_file import EditObject
from ...editing.planning import recipes
from ...editing.planning.gradient_rule import turned
from ...editing.planning.replay import update_rule
from ...errors import EditError
from ...records.edits import Edit
from ...records.facts import Prompt
from ...records.models import Neuron
from ...records.recipes import EraseRecipe, OptimizeRecipe, UpdateRecipe
from ...records.together import TogetherRecipe
from ..models import ModelVersion
from .kept_prompts import encode_open, kept_of, own_prompts
from .optimize import optimized_anew
from .together import planned_anew
from .update_rules import activation_signs, by_gradient


def control_edit(
    edit: Edit, version: ModelVersion, planned: EditObject, seed: int, computed_on: Sequence[Prompt]
) -> EditObject:
    """The same edit of as many random other neurons of the same layers.

    Args:
        edit: an edit of a fact or a relation.
        version: the model version, whose weights may have other edits.
        planned: the edit's object.
        seed: of the draw.
        computed_on: the prompts of `prompts_in_recipe`.

    Raises:
        EditError: if nothing would change, or the edit's recipe could not be read.
    """
    network, recipe = version.network, edit.recipe
    drawn = recipes.random_neurons(network, neurons_of(planned), seed)
    if isinstance(recipe, TogetherRecipe) and recipe.neurons:
        return planned_anew(edit, replace(recipe, neurons=tuple(drawn)), version, computed_on)
    if isinstance(recipe, OptimizeRecipe):
        return optimized_anew(edit, replace(recipe, neurons=tuple(drawn)), version, computed_on)
    if isinstance(recipe, UpdateRecipe):
        rule = _update_of(edit, recipe, version, drawn, computed_on).on(network)
    elif isinstance(recipe, EraseRecipe):
        rule = recipes.erase_rule
    else:
        raise EditError(f"edit {edit.id} of kind {edit.kind!r} has no control: what made it is not known")
    return recipes.plan(network, drawn, rule, fingerprint=planned.fingerprint, recipe=recipes.TRIED)


def _update_of(
    edit: Edit, recipe: UpdateRecipe, version: ModelVersion, neurons: Sequence[Neuron], computed_on: Sequence[Prompt]
) -> recipes.UpdateRule:
    """The rule of an update for other neurons, each with its own sign or weight: else half would be undone."""
    network, own = version.network, encode_open(version, own_prompts(edit, computed_on))
    if recipe.rule == "gradient":
        others = encode_open(version, kept_of(edit, computed_on))
        rule = by_gradient(network, update_rule(recipe, {}), neurons, own, others)
        for factor in recipe.turned_at or ():
            rule = turned(network, rule, neurons, own, factor)
        return rule
    return update_rule(recipe, activation_signs(network, own, neurons) if recipe.rule == "output" else None)


def neurons_of(planned: EditObject) -> list[Neuron]:
    """The neurons whose value slots an edit changes."""
    return sorted(
        Neuron(planned.layers[diff.parameter], index) for diff in planned.parameters for index in diff.indices.tolist()
    )
