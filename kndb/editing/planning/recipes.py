"""The recipes: which values an edit puts into which value slots.

`update` is the paper's rule for a changed fact (Dai et al. 2022, section 5.1), as published or with other directions
and a weight for each slot; `erase` its rule for a forgotten relation (section 5.2). A recipe is computed in double
precision on the values that the slots have, and rounded once to the parameter's own dtype.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ...advice import option
from ...errors import EditError
from ...models.directions import input_directions, output_directions
from ...models.network import Network
from ...records.edit_settings import RULES
from ...records.models import Neuron
from ...records.recipes import OtherRecipe, Recipe
from ..objects.diff_file import EditObject, ParameterDiff, slot_bytes

SlotRule = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]
"""New values of value slots from their layer, their indices [k] and their old values, [k, d] in double precision."""
TRIED: Recipe = OtherRecipe("tried")
"""Of an edit that is tried in memory and never stored."""


@dataclass(frozen=True)
class UpdateRule:
    """What an update does to value slots, as its recipe says it.

    Attributes:
        old: token of the answer to move away from.
        new: token of the answer to move to.
        lambda_old: λ₁, at least 0.
        lambda_new: λ₂, at least 0.
        name: `gradient`: along the gradient of the new answer's log-probability, each slot with a weight of its own;
            there is no λ₁. `output`: along the tokens' output directions, each slot with the sign of its neuron's
            activation. `paper`: along their input word embeddings, without a sign, as published. For directions see
            `kndb.models.directions`.
        weights: of `gradient` and `output`, for each slot (named by its neuron in the lowest layer that has it); of
            `output`, 1 or −1.
        directions: of `gradient`, for each layer (the lowest with its parameter): [d], of length 1.
    """

    old: int
    new: int
    lambda_old: float
    lambda_new: float
    name: str = "paper"
    weights: Mapping[Neuron, float] = field(default_factory=dict)
    directions: Mapping[int, torch.Tensor] = field(default_factory=dict)

    def on(self, network: Network) -> SlotRule:
        """The rule for a model's value slots: v ← v + s·‖v‖·(λ₂·t′ − λ₁·t), t and t′ of length 1, s the slot's weight.

        Args:
            network: the model, whose embeddings give t and t′, unless the rule has directions.

        Raises:
            EditError: if both tokens are the same, so that nothing would be asked for; if the model's word embeddings
                are not as wide as its value slots (`paper`); or if its head gives a token no direction (`output`).
        """
        if self.old == self.new:
            raise EditError("the new answer is the one that the model gives already; nothing to change")
        if self.name not in RULES:
            raise EditError(f"{option('rule')} must be one of {', '.join(RULES)} (got {self.name})")
        if self.name == "paper":
            _require_wide_embeddings(network)
            of_paper = self._push(input_directions(network, (self.old, self.new)))

        def moved(layer: int, indices: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            weights: torch.Tensor | float = 1.0
            if self.name == "paper":
                push = of_paper
            else:
                every = [self.weights[Neuron(layer, index)] for index in indices.tolist()]
                weights = torch.tensor(every, dtype=torch.float64).unsqueeze(1)
                if self.name == "gradient":
                    push = self.lambda_new * self.directions[layer]
                else:
                    push = self._push(output_directions(network, layer, (self.old, self.new)))
            result: torch.Tensor = values + values.norm(dim=1, keepdim=True) * weights * push
            return result

        return moved

    def _push(self, directions: torch.Tensor) -> torch.Tensor:
        """λ₂·t′ − λ₁·t of the directions of the old and the new token."""
        away, towards = directions
        push: torch.Tensor = self.lambda_new * towards - self.lambda_old * away
        return push


def erase_rule(_layer: int, _indices: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """V ← 0."""
    return torch.zeros_like(values)


def plan(
    network: Network,
    neurons: Iterable[Neuron],
    rule: SlotRule,
    *,
    fingerprint: str,
    recipe: Recipe,
) -> EditObject:
    """Computes an edit on the model's present weights, and changes nothing.

    Where layers share a parameter, their neurons of one index have one value slot: it changes once, for all of these
    layers, and is named by the lowest.

    Args:
        network: the model, in the dtype in which it is stored.
        neurons: whose value slots to change.
        rule: the new values.
        fingerprint: of the model's checkpoint.
        recipe: everything needed to compute it again.

    Raises:
        EditError: if there is no neuron, one that the model lacks, or no slot would change.
    """
    values = {}
    for layer, indices in slots_by_layer(network, neurons).items():
        chosen = torch.tensor(sorted(indices), dtype=torch.int64)
        values[layer] = chosen, rule(layer, chosen, _present(network, layer, chosen).double())
    return plan_values(network, values, fingerprint=fingerprint, recipe=recipe)


def plan_values(
    network: Network,
    values: Mapping[int, tuple[torch.Tensor, torch.Tensor]],
    *,
    fingerprint: str,
    recipe: Recipe,
) -> EditObject:
    """An edit that puts given values into value slots of a model's present weights; changes nothing.

    Args:
        network: the model, in the dtype in which it is stored.
        values: by layer, each the lowest with its parameter: slots' indices [k], rising, and their new values [k, d],
            which are rounded to the parameter's dtype.
        fingerprint: of the model's checkpoint.
        recipe: everything needed to compute it again.

    Raises:
        EditError: if no slot would change, or a value leaves the dtype's range.
    """
    changed = {layer: _slots_that_change(network, layer, *pair) for layer, pair in values.items()}
    diffs = {layer: diff for layer, diff in changed.items() if diff is not None}
    if not diffs:
        raise EditError("the edit would change no value slot: the slots that it may change have these values already")
    return EditObject(
        fingerprint=fingerprint,
        recipe=recipe,
        parameters=tuple(diffs.values()),
        layers={diff.parameter: layer for layer, diff in diffs.items()},
        shapes={diff.parameter: _shape(network, layer) for layer, diff in diffs.items()},
    )


def random_neurons(network: Network, neurons: Sequence[Neuron], seed: int) -> list[Neuron]:
    """As many other neurons of the same layers, drawn at random: the control of an edit.

    What counts are value slots: where layers share a parameter, slots that several of the neurons share are one, and
    each slot drawn is another one, named by the lowest of the layers.

    Args:
        network: the model.
        neurons: the edit's neurons, none of whose value slots is drawn.
        seed: of the draw.

    Raises:
        EditError: if the model lacks one of the neurons.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for layer, taken in slots_by_layer(network, neurons).items():
        order = torch.randperm(network.neurons, generator=generator).tolist()
        free = [index for index in order if index not in taken]
        drawn += [Neuron(layer, index) for index in free[: len(taken)]]
    return sorted(drawn)


def slots_by_layer(network: Network, neurons: Iterable[Neuron]) -> dict[int, set[int]]:
    """The neurons' value slots: indices by the lowest layer that has the parameter, in the layers' order.

    Raises:
        EditError: if the model lacks one of the neurons.
    """
    by_layer: dict[int, set[int]] = defaultdict(set)
    for neuron in sorted(neurons):
        _require_neuron(network, neuron)
        by_layer[network.canonical_layer(neuron.layer)].add(neuron.index)
    return dict(sorted(by_layer.items()))


def _present(network: Network, layer: int, indices: torch.Tensor) -> torch.Tensor:
    return network.layers[layer].value_slots(indices)


def _slots_that_change(
    network: Network, layer: int, indices: torch.Tensor, values: torch.Tensor
) -> ParameterDiff | None:
    old = _present(network, layer, indices)
    new = values.to(old.dtype)
    if not bool(torch.isfinite(new).all()):
        raise EditError(f"the new values leave the range of {old.dtype}; use smaller factors")
    differs = (slot_bytes(old) != slot_bytes(new)).any(dim=1)
    if not bool(differs.any()):
        return None
    return ParameterDiff(
        network.down_parameter(layer),
        network.layers[layer].layout.word,
        indices[differs],
        old[differs].contiguous(),
        new[differs].contiguous(),
    )


def _shape(network: Network, layer: int) -> tuple[int, ...]:
    return network.layers[layer].down_shape


def _require_neuron(network: Network, neuron: Neuron) -> None:
    if neuron.layer >= len(network.layers) or neuron.index >= network.neurons:
        raise EditError(
            f"the model has no neuron {neuron}; it has layers 0 to {len(network.layers) - 1} of {network.neurons} "
            "neurons each"
        )


def _require_wide_embeddings(network: Network) -> None:
    width = network.word_embeddings.shape[1]
    if width != network.hidden_size:
        raise EditError(
            f"{option('rule', 'paper')} adds word embeddings to value slots, but this {network.adapter.family} model's "
            f"embeddings have {width} numbers and its slots {network.hidden_size}; leave {option('rule')} out, as the "
            "other rules' directions have the width of a slot"
        )
