"""A model from its lowest changed value slots up: what the gradient steps of an optimised edit run again and again.

A changed value slot changes what its layer's FFN writes at every position, and nothing below. So for each prompt the
state at the lowest layer with a changed slot is computed once: what the FFN's output is added to, that output, and the
activations of the neurons concerned. A step adds w·Δv there and runs the layers above; in the last one, and in the
head, the answer's row alone.

Positions of all prompts stand in one row without padding: every step of a layer works position by position, but for
attention, which runs on the prompts of one length together. In a causal model, nothing after the answer's position is
run. An encoder is run once, as are the keys and values of its output.

Shapes: P prompts, N their positions together, k changed slots of a layer, d hidden size, n FFN neurons, h heads of
size s, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ...models.network import Network
from ...models.prompting import EncodedPrompt
from .packed_prompts import Group, Memory, PackedPrompts


class UpperLayers(PackedPrompts):
    """Prompts, run up to the lowest layer with a changed value slot; and from there on, with changes.

    Args:
        network: the model; its parameters are read, and need no gradient.
        slots: the indices of the value slots that may change, [k], by the lowest layer that has their parameter.
        prompts: the prompts, at least one.
    """

    def __init__(self, network: Network, slots: Mapping[int, torch.Tensor], prompts: Sequence[EncodedPrompt]) -> None:
        super().__init__(network, prompts)
        self._slots = dict(slots)
        owners = [network.canonical_layer(number) for number in range(len(network.layers))]
        self._owner = [owner if owner in self._slots else None for owner in owners]
        self._first = min(number for number, owner in enumerate(self._owner) if owner is not None)
        self._memory: list[dict[int, Memory]] = [{} for _ in prompts]
        """For each prompt, and each layer that attends to an encoder: keys and values, twice [1, h, E, s]."""
        self._run_base()

    # --- once ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _run_base(self) -> None:
        """Computes what no change reaches."""
        network = self._network
        shortened = self._first == self._last
        total = len(self._ids) if shortened else sum(map(len, self._ids))
        like = network.word_embeddings
        self._residual = torch.empty(total, network.hidden_size, device=like.device, dtype=like.dtype)
        self._output = torch.empty_like(self._residual)
        slots = self._slots[self._first]
        self._neurons = torch.empty(total, len(slots), device=like.device, dtype=like.dtype)
        for numbers in self._chunks():
            self._encode(numbers)
            packing = self._pack(numbers)
            hidden = self._embedded(packing)
            for number in range(self._first):
                inputs, residual = self._up_to_residual(number, hidden, packing)
                hidden = network.layers[number].complete(inputs, residual)
            inputs, residual = self._up_to_residual(self._first, hidden, packing)
            layer = network.layers[self._first]
            neurons, beside = layer.neurons(inputs, residual), layer.beside(inputs, residual)
            places = torch.tensor(packing.order, device=like.device) if shortened else packing.positions
            self._residual[places] = residual[0]
            self._output[places] = layer.written(neurons, beside)[0]
            self._neurons[places] = neurons[0][:, slots]

    def _encode(self, numbers: Sequence[int]) -> None:
        """Runs the encoder, if there is one, and the keys and values of the layers that run again."""
        for group in self._pack(numbers).groups:
            source = torch.tensor([self._sources[number] for number in group.numbers], device=self._network.device)
            encoded = self._network.encode(source)
            for layer, module in enumerate(self._network.layers):
                if encoded is None or module.cross is None:
                    continue
                key, value = module.cross.key_value(encoded)
                for place, number in enumerate(group.numbers):
                    self._memory[number][layer] = key[place : place + 1], value[place : place + 1]

    # --- with changes --------------------------------------------------------------------------------------

    def logits(self, numbers: Sequence[int], changes: Mapping[int, torch.Tensor]) -> torch.Tensor:
        """Logits at the answer positions of some prompts.

        Args:
            numbers: which of the prompts, at least one, each once.
            changes: Δv of the slots, [k, d], by layer as the slots are; gradients reach them.

        Returns:
            [P, V], in the order of the numbers.
        """
        packing = self._pack(numbers)
        network, first = self._network, self._network.layers[self._first]
        device = network.device
        chosen = packing.positions
        if self._first == self._last:
            chosen = torch.tensor(packing.order, device=device)
        output = self._output[chosen] + self._neurons[chosen] @ changes[self._first]
        hidden = first.finish(self._residual[chosen], output).unsqueeze(0)
        for number in range(self._first + 1, self._last + 1):
            layer, owner = network.layers[number], self._owner[number]
            inputs, residual = self._up_to_residual(number, hidden, packing)
            if owner is None:
                hidden = layer.complete(inputs, residual)
                continue
            neurons, beside = layer.neurons(inputs, residual), layer.beside(inputs, residual)
            output = layer.written(neurons, beside) + neurons[..., self._slots[owner]] @ changes[owner]
            hidden = layer.finish(residual, output)
        back = {number: place for place, number in enumerate(packing.order)}
        return network.logits(hidden[0][[back[number] for number in numbers]])

    def _memory_of(self, number: int, group: Group) -> Memory:
        keys, values = zip(*(self._memory[one][number] for one in group.numbers), strict=True)
        return torch.cat(keys), torch.cat(values)
