"""What a model does when some of its neurons' activations are scaled, and what these activations are.

Each row of a batch has neurons of its own. At the row's answer position, in all layers at once, the entries of the
vectors that enter the down projections are multiplied (or read), by hooks on these projections, in the model's own
forward pass. So a neuron's change reaches the layers above it, the other neurons scaled there included.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import nn

from ..errors import AttributionError, ModelError, UsageError
from ..models.answers import answer_logits
from ..models.feed_forward import ExpertBlock, FeedForwardBlock
from ..models.network import Network
from ..models.prompting import EncodedPrompt
from ..records.models import Neuron

ChosenEntries = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Some neurons of one layer, as three lists of equal length: row of the batch, position in the row, neuron."""
NeuronAction = Callable[[torch.Tensor, ChosenEntries], torch.Tensor | None]
"""Is given a layer's neurons [B, T, n] and those chosen there; may give the neurons to go on with."""


@dataclass(frozen=True)
class NeuronQuestion:
    """A prompt, and the neurons that are scaled or read while it is asked; none leaves the model as it is."""

    prompt: EncodedPrompt
    neurons: tuple[Neuron, ...] = ()


@dataclass(frozen=True)
class ModelAnswers:
    """What a model says to a list of questions, each entry for one.

    Attributes:
        probability: of the prompt's own answer, 0 to 1.
        predicted: the most probable token.
    """

    probability: tuple[float, ...]
    predicted: tuple[int, ...]


@contextmanager
def scaled(network: Network, questions: Sequence[NeuronQuestion], factor: float) -> Iterator[None]:
    """While open, one forward pass on the questions' prompts has each question's neurons scaled.

    Args:
        network: the model; its parameters are not touched.
        questions: the rows of the batch, in order.
        factor: what the activations at the row's answer position are multiplied by.

    Raises:
        UsageError: if the model lacks one of the neurons.
        ModelError: if the pass used a down projection more or fewer times than the model has layers with it.
    """

    def scale(neurons: torch.Tensor, chosen: ChosenEntries) -> torch.Tensor:
        changed = neurons.clone()
        changed[chosen] *= factor
        return changed

    with _hooked(network, _by_layer(network, questions), len(questions), scale):
        yield


@torch.no_grad()
def ask(
    network: Network, questions: Sequence[NeuronQuestion], factor: float = 1.0, batch_size: int = 256
) -> ModelAnswers:
    """Asks questions, each with its neurons scaled.

    Args:
        network: the model.
        questions: prompts of any lengths with their answers.
        factor: what the activations of a question's neurons are multiplied by.
        batch_size: questions in one forward pass.

    Raises:
        UsageError: if the model lacks one of the neurons.
        AttributionError: if a probability is not a number.
    """
    probability = torch.empty(len(questions), dtype=torch.float64)
    predicted = torch.empty(len(questions), dtype=torch.int64)
    for indices in _batches([question.prompt for question in questions], batch_size):
        batch = [questions[index] for index in indices]
        with scaled(network, batch, factor):
            logits = answer_logits(network, [question.prompt for question in batch])
        logits = logits if logits.dtype == torch.float64 else logits.float()
        answers = torch.tensor([question.prompt.answer for question in batch], device=logits.device)
        of_answer = logits.gather(1, answers.unsqueeze(1))[:, 0] - logits.logsumexp(-1)
        probability[indices] = of_answer.exp().double().cpu()
        predicted[indices] = logits.argmax(-1).cpu()
    if not bool(probability.isfinite().all()):
        raise AttributionError(
            f"the model's probabilities are not numbers where activations are multiplied by {factor:g}; nothing was "
            "stored. Its weights hold NaN or infinity, or the factor is too large for the dtype computed in"
        )
    return ModelAnswers(tuple(probability.tolist()), tuple(predicted.tolist()))


@torch.no_grad()
def mean_activations(network: Network, questions: Sequence[NeuronQuestion], batch_size: int = 256) -> list[float]:
    """The mean activation of each question's neurons (at least one) at its answer position, in the unmodified model.

    Args:
        network: the model.
        questions: prompts of any lengths; their answers don't matter.
        batch_size: questions in one forward pass.

    Raises:
        UsageError: if the model lacks one of the neurons.
    """
    means = torch.empty(len(questions), dtype=torch.float64)
    for indices in _batches([question.prompt for question in questions], batch_size):
        batch = [questions[index] for index in indices]
        sums = torch.zeros(len(batch), device=network.device)
        with _hooked(network, _by_layer(network, batch), len(batch), partial(_add, sums)):
            answer_logits(network, [question.prompt for question in batch])
        means[indices] = sums.double().cpu() / torch.tensor([len(set(question.neurons)) for question in batch])
    return means.tolist()


@torch.no_grad()
def answer_activations(
    network: Network, prompts: Sequence[EncodedPrompt], neurons: Sequence[Neuron], batch_size: int = 256
) -> torch.Tensor:
    """Each neuron's activation at each prompt's answer position, in the unmodified model.

    Args:
        network: the model.
        prompts: P prompts of any lengths; their answers don't matter.
        neurons: N different neurons.
        batch_size: prompts in one forward pass.

    Returns:
        [P, N] in double precision, on the CPU.

    Raises:
        UsageError: if the model lacks one of the neurons.
    """
    found = torch.empty(len(prompts), len(neurons), dtype=torch.float64)
    in_order = sorted(range(len(neurons)), key=lambda place: neurons[place])
    _require_there(network, neurons)
    places: dict[int, list[int]] = {}
    for place in in_order:
        places.setdefault(neurons[place].layer, []).append(neurons[place].index)
    for indices in _batches(prompts, batch_size):
        batch = [prompts[index] for index in indices]
        chosen = _in_every_row(network, batch, places)
        layers: list[torch.Tensor] = []
        with _hooked(network, chosen, len(batch), partial(_keep, layers, len(batch))):
            answer_logits(network, batch)
        values = torch.cat(layers, dim=1) if layers else found.new_empty(len(batch), 0)
        found[torch.tensor(indices).unsqueeze(1), torch.tensor(in_order)] = values
    return found


def random_neurons(neurons: Sequence[Neuron], per_layer: int, chance: random.Random) -> tuple[Neuron, ...]:
    """As many other neurons of the same layers, drawn at random; fewer where a layer has no more others.

    Args:
        neurons: none of these is drawn.
        per_layer: neurons that a layer has.
        chance: where the draw comes from.
    """
    taken: dict[int, set[int]] = {}
    for neuron in neurons:
        taken.setdefault(neuron.layer, set()).add(neuron.index)
    drawn = []
    for layer, indices in sorted(taken.items()):
        free = [index for index in range(per_layer) if index not in indices]
        drawn += [Neuron(layer, index) for index in chance.sample(free, min(len(indices), len(free)))]
    return tuple(sorted(drawn))


def _add(sums: torch.Tensor, neurons: torch.Tensor, chosen: ChosenEntries) -> None:
    sums.index_add_(0, chosen[0], neurons[chosen].float())


def _keep(layers: list[torch.Tensor], rows: int, neurons: torch.Tensor, chosen: ChosenEntries) -> None:
    """Keeps the chosen ones, [rows, those of the layer]: each row chose the same, layers come in order."""
    layers.append(neurons[chosen].reshape(rows, -1).double().cpu())


def _batches(prompts: Sequence[EncodedPrompt], size: int) -> Iterator[list[int]]:
    """The prompts' indices in batches of like length, so that little is padded."""
    lengths = [len(prompt.ids) + len(prompt.source) for prompt in prompts]
    order = sorted(range(len(prompts)), key=lengths.__getitem__)
    for start in range(0, len(order), size):
        yield order[start : start + size]


@contextmanager
def _hooked(network: Network, chosen: Mapping[int, ChosenEntries], rows: int, action: NeuronAction) -> Iterator[None]:
    """Calls an action at each layer that has chosen neurons, for one forward pass of so many rows."""
    with ExitStack() as stack:
        turns = [
            stack.enter_context(_hook(network.layers[layers[0]].block, layers, chosen, rows, action))
            for layers in _sharing(network)
            if any(layer in chosen for layer in layers)
        ]
        yield
        # Were a module called in pieces, or not at all, the numbers would be wrong without a word.
        if any(next(turn, None) is not None for turn in turns):
            raise ModelError("the model skipped a layer's down projection; kndb needs one call for each layer")


@contextmanager
def _hook(
    block: FeedForwardBlock,
    layers: Sequence[int],
    chosen: Mapping[int, ChosenEntries],
    rows: int,
    action: NeuronAction,
) -> Iterator[Iterator[int]]:
    """Hooks what writes neurons' value slots; layers that share it are told apart by the order of its calls."""
    turns = iter(layers)

    def turn() -> int:
        layer = next(turns, None)
        if layer is None:
            raise ModelError(
                "the model used a down projection more often than it has layers; kndb needs one call for each layer"
            )
        return layer

    def before(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        layer = turn()
        if layer not in chosen:
            return None
        neurons = inputs[0].reshape(rows, -1, inputs[0].shape[-1])  # Some families flatten rows and positions.
        changed = action(neurons, chosen[layer])
        return None if changed is None else (changed.reshape(inputs[0].shape), *inputs[1:])

    def after(_module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
        """Of experts, no vector of all neurons enters a module: a change is added to what they write."""
        assert isinstance(block, ExpertBlock)
        layer = turn()
        if layer not in chosen:
            return None
        row, position, index = chosen[layer]
        at = torch.arange(rows, device=output.device) * (len(output) // rows)
        at[row] += position  # Of a row's neurons, which are all of one position, the last counts.
        states, experts, weights = (part[at] for part in inputs)
        neurons = block.neurons_of(states, experts, weights).unsqueeze(1)
        changed = action(neurons, (row, torch.zeros_like(position), index))
        if changed is None:
            return None
        return output.index_add(0, at, block.written((changed - neurons)[:, 0]))

    if isinstance(block, ExpertBlock):
        handle = block.down.register_forward_hook(after)
    else:
        handle = block.down.register_forward_pre_hook(before)
    try:
        yield turns
    finally:
        handle.remove()


def _sharing(network: Network) -> list[list[int]]:
    """The layers that share a down projection, in order."""
    layers: dict[int, list[int]] = {}
    for number, layer in enumerate(network.layers):
        layers.setdefault(id(layer.down), []).append(number)
    return list(layers.values())


def _by_layer(network: Network, questions: Sequence[NeuronQuestion]) -> dict[int, ChosenEntries]:
    """The questions' neurons, by layer; a neuron that a question names twice counts once."""
    places: dict[int, list[tuple[int, int, int]]] = {}
    for row, question in enumerate(questions):
        for neuron in dict.fromkeys(question.neurons):
            places.setdefault(neuron.layer, []).append((row, question.prompt.position, neuron.index))
    _require_there(network, chain.from_iterable(question.neurons for question in questions))
    columns = {layer: torch.tensor(found, device=network.device).unbind(1) for layer, found in places.items()}
    return {layer: (rows, positions, indices) for layer, (rows, positions, indices) in columns.items()}


def _in_every_row(
    network: Network, prompts: Sequence[EncodedPrompt], places: Mapping[int, Sequence[int]]
) -> dict[int, ChosenEntries]:
    """The same neurons, as numbers by layer, at each prompt's answer position: thousands, without a loop over rows."""
    rows = torch.arange(len(prompts), device=network.device)
    positions = torch.tensor([prompt.position for prompt in prompts], device=network.device)
    return {
        layer: (
            rows.repeat_interleave(len(found)),
            positions.repeat_interleave(len(found)),
            torch.tensor(found, device=network.device).repeat(len(prompts)),
        )
        for layer, found in places.items()
    }


def _require_there(network: Network, neurons: Iterable[Neuron]) -> None:
    highest, largest = -1, -1
    for neuron in neurons:
        highest, largest = max(highest, neuron.layer), max(largest, neuron.index)
    if highest >= len(network.layers) or largest >= network.neurons:
        raise UsageError(
            f"the model has {len(network.layers)} layers of {network.neurons} neurons, counted from 0; the neurons "
            f"asked for go up to layer {highest} and index {largest}"
        )
