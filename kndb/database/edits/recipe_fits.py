"""Whether a model has what a recipe names: a recipe may be from a file, or from a store that something else changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...editing.planning.recipes import slots_by_layer
from ...errors import EditError
from ...models.network import Network
from ...records.group_recipes import GroupRecipe
from ...records.many_recipes import ManyRecipe
from ...records.models import Neuron
from ...records.recipes import EraseRecipe, OptimizeRecipe, Recipe, UpdateRecipe
from ...records.together import TogetherRecipe

Computed = UpdateRecipe | OptimizeRecipe | EraseRecipe


def require_fit(edit: int, recipe: Recipe, network: Network) -> None:
    """Checks a stored edit's recipe before anything is computed by it.

    Raises:
        EditError: if the model lacks one of the recipe's neurons or tokens, or a weight is missing.
    """
    flaw = misfit(recipe, network)
    if flaw is not None:
        raise EditError(f"the recipe of edit {edit} does not fit its model: it {flaw}")


def misfit(recipe: Recipe, network: Network) -> str | None:
    """What of a recipe a model does not have, such as `names L9.N0, which the model does not have`."""
    if isinstance(recipe, TogetherRecipe):
        return _misfit_together(recipe, network)
    if isinstance(recipe, ManyRecipe):
        return _misfit_many(recipe, network)
    if not isinstance(recipe, (UpdateRecipe, OptimizeRecipe, EraseRecipe)):
        return None
    for neuron in every_neuron(recipe):
        if neuron.layer >= len(network.layers) or neuron.index >= network.neurons:
            return f"names {neuron}, which the model does not have"
    if isinstance(recipe, EraseRecipe):
        return None
    vocabulary = network.word_embeddings.shape[0]
    for what, token in (("old", recipe.old_token), ("new", recipe.new_token)):
        if not 0 <= token < vocabulary:
            return f"says that its {what} answer is token {token}, and the model has tokens 0 to {vocabulary - 1}"
    return _missing_weight(recipe, network) if isinstance(recipe, UpdateRecipe) else None


def _missing_weight(recipe: UpdateRecipe, network: Network) -> str | None:
    weights = {"gradient": recipe.weights, "output": recipe.signs}.get(recipe.rule_name)
    if weights is None:
        return None
    for layer, indices in slots_by_layer(network, recipe.neurons).items():
        for index in sorted(indices):
            if Neuron(layer, index) not in weights:
                return f"has no weight of {Neuron(layer, index)}"
    return None


def _misfit_together(recipe: TogetherRecipe, network: Network) -> str | None:
    for layer in recipe.layers:
        if not 0 <= layer < len(network.layers):
            return f"names layer {layer}, which the model does not have"
    for neuron in recipe.neurons:
        if neuron.layer >= len(network.layers) or neuron.index >= network.neurons:
            return f"names {neuron}, which the model does not have"
    vocabulary = network.word_embeddings.shape[0]
    for fact in recipe.facts:
        for token in fact.tokens:
            if not 0 <= token < vocabulary:
                return (
                    f"says that the new answer of fact {fact.id} has token {token}, and the model has tokens 0 to "
                    f"{vocabulary - 1}"
                )
    return None


def _misfit_many(recipe: ManyRecipe, network: Network) -> str | None:
    if not recipe.layers:
        return "does not say which layers change"
    for layer in recipe.layers:
        if layer >= len(network.layers):
            return f"names layer {layer}, which the model does not have"
    if recipe.covariances is not None and not {one.layer for one in recipe.covariances} <= set(recipe.layers):
        return "names covariances of other layers than those that change"
    return None


def changed_neurons(recipe: Computed | GroupRecipe, network: Network) -> Sequence[Neuron]:
    """The neurons whose value slots a recipe may change: those that it names, or all of the layers that it names."""
    if isinstance(recipe, GroupRecipe) and recipe.layers:
        return [Neuron(layer, index) for layer in recipe.layers for index in range(network.neurons)]
    return recipe.neurons


def every_neuron(recipe: Computed) -> Iterator[Neuron]:
    """All neurons that a recipe names, those that it leaves out included."""
    for name in ("neurons", "neurons_left_out", "neurons_far_below", "negative_neurons", "weights", "signs"):
        yield from getattr(recipe, name, None) or ()
