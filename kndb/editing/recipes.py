"""The recipes: which values an edit puts into which value slots.

`update` is the paper's rule for a changed fact (Dai et al. 2022, section 5.1, with the official code's factors);
`erase` its rule for a forgotten relation (section 5.2). A recipe is computed in double precision on the values that
the slots have, and rounded once to the parameter's own dtype.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch

from ..errors import EditError
from ..models.adapter import SlotLayout
from ..models.network import Network
from ..records import Neuron
from .diff_file import EditObject, Layout, ParameterDiff, slot_bytes
from .slots import read_slots

Rule = Callable[[torch.Tensor], torch.Tensor]
"""New values of value slots from their old ones, both [k, d] in double precision."""


def update_rule(network: Network, old: int, new: int, lambda_old: float, lambda_new: float) -> Rule:
    """V ← v − λ₁·t + λ₂·t′, with t and t′ the word embeddings of two tokens, each scaled to the length of v.

    Args:
        network: the model whose word embeddings are used.
        old: token of the answer to move away from.
        new: token of the answer to move to.
        lambda_old: λ₁, at least 0.
        lambda_new: λ₂, at least 0.

    Raises:
        EditError: if both tokens are the same, so that nothing would be asked for.
    """
    if old == new:
        raise EditError("the new answer is the one that the model gives already; nothing to change")
    embeddings = network.word_embeddings.detach()
    away, towards = (_unit(embeddings[token].cpu().double()) for token in (old, new))

    def rule(values: torch.Tensor) -> torch.Tensor:
        length = values.norm(dim=1, keepdim=True)
        moved: torch.Tensor = values + length * (lambda_new * towards - lambda_old * away)
        return moved

    return rule


def erase_rule(values: torch.Tensor) -> torch.Tensor:
    """V ← 0."""
    return torch.zeros_like(values)


def plan(
    network: Network,
    neurons: Iterable[Neuron],
    rule: Rule,
    *,
    fingerprint: str,
    kind: str,
    recipe: Mapping[str, object],
) -> EditObject:
    """Computes an edit on the model's present weights, and changes nothing.

    Args:
        network: the model, in the dtype in which it is stored.
        neurons: whose value slots to change.
        rule: the new values.
        fingerprint: of the model's checkpoint.
        kind: name of the recipe.
        recipe: everything needed to compute it again, as JSON values.

    Raises:
        EditError: if there is no neuron, one that the model lacks, or no slot would change.
    """
    by_layer: dict[int, list[int]] = defaultdict(list)
    for neuron in sorted(set(neurons)):
        _require_neuron(network, neuron)
        by_layer[neuron.layer].append(neuron.index)
    changed = {layer: _slots_that_change(network, layer, indices, rule) for layer, indices in by_layer.items()}
    diffs = {layer: diff for layer, diff in changed.items() if diff is not None}
    if not diffs:
        raise EditError("the edit would change no value slot; its neurons are none, or already have these values")
    return EditObject(
        fingerprint=fingerprint,
        kind=kind,
        recipe=dict(recipe),
        parameters=tuple(diffs.values()),
        layers={diff.parameter: layer for layer, diff in diffs.items()},
        shapes={diff.parameter: _shape(network, layer) for layer, diff in diffs.items()},
    )


def random_neurons(network: Network, neurons: Sequence[Neuron], seed: int) -> list[Neuron]:
    """As many other neurons of the same layers, drawn at random: the control of an edit.

    Args:
        network: the model.
        neurons: the edit's neurons, none of which is drawn.
        seed: of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    by_layer: dict[int, set[int]] = defaultdict(set)
    for neuron in neurons:
        by_layer[neuron.layer].add(neuron.index)
    drawn = []
    for layer, taken in sorted(by_layer.items()):
        order = torch.randperm(network.neurons, generator=generator).tolist()
        free = [index for index in order if index not in taken]
        drawn += [Neuron(layer, index) for index in free[: len(taken)]]
    return sorted(drawn)


def _slots_that_change(network: Network, layer: int, indices: list[int], rule: Rule) -> ParameterDiff | None:
    parameter, layout = network.layers[layer].down.weight, _layout(network)
    chosen = torch.tensor(indices, dtype=torch.int64)
    old = read_slots(parameter, layout, chosen)  # type: ignore[arg-type]
    new = rule(old.double()).to(old.dtype)
    if not bool(torch.isfinite(new).all()):
        raise EditError(f"the new values leave the range of {old.dtype}; use smaller factors")
    differs = (slot_bytes(old) != slot_bytes(new)).any(dim=1)
    if not bool(differs.any()):
        return None
    return ParameterDiff(
        network.down_parameter(layer),
        layout,
        chosen[differs],
        old[differs].contiguous(),
        new[differs].contiguous(),
    )


def _layout(network: Network) -> Layout:
    return "row" if network.adapter.ffn.slots is SlotLayout.ROW else "column"


def _shape(network: Network, layer: int) -> tuple[int, int]:
    rows, columns = network.layers[layer].down.weight.shape  # type: ignore[misc]
    return int(rows), int(columns)


def _require_neuron(network: Network, neuron: Neuron) -> None:
    if neuron.layer >= len(network.layers) or neuron.index >= network.neurons:
        raise EditError(
            f"found neuron {neuron}; this model has layers 0 to {len(network.layers) - 1} "
            f"of {network.neurons} neurons each"
        )


def _unit(vector: torch.Tensor) -> torch.Tensor:
    unit: torch.Tensor = vector / vector.norm()
    return unit
