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

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from ...models.adapter import Blank
from ...models.attention import RotaryAngles
from ...models.network import Network
from ...models.prompting import EncodedPrompt

_BASE_TOKENS = 4096
"""Positions that are run at once where no graph is kept."""

Memory = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of an encoder's output, twice [B, h, E, s]."""


@dataclass(frozen=True)
class _Group:
    """Prompts of one length that stand side by side among the positions.

    Attributes:
        start: the first of their positions; `first`: the first of the prompts.
        count: how many prompts; `tokens`: positions of each.
        numbers: which of all prompts.
    """

    start: int
    first: int
    count: int
    tokens: int
    numbers: tuple[int, ...]

    def positions(self, packed: torch.Tensor) -> torch.Tensor:
        """These prompts' part of vectors [1, h, N, s]: [B, h, T, s]."""
        part = packed[0, :, self.start : self.start + self.count * self.tokens]
        return torch.unflatten(part, 1, (self.count, self.tokens)).transpose(0, 1)

    def rows(self, packed: torch.Tensor) -> torch.Tensor:
        """These prompts' part of vectors [1, h, P, s], one of each prompt: [B, h, 1, s]."""
        return packed[0, :, self.first : self.first + self.count].transpose(0, 1).unsqueeze(2)


@dataclass(frozen=True)
class _Packing:
    """Some prompts in one row, those of one length together.

    Attributes:
        order: the prompts' numbers, as they stand in the row.
        groups: those of one length.
        positions: where each of their positions is among those of all prompts, [N].
        answers: where the row has their answers' positions, [P].
        answer_position: the same within each prompt, [P].
        turn: cosines and sines of the positions, if the model turns queries and keys.
    """

    order: tuple[int, ...]
    groups: tuple[_Group, ...]
    positions: torch.Tensor
    answers: torch.Tensor
    answer_position: torch.Tensor
    turn: RotaryAngles | None

    @cached_property
    def turn_of_answers(self) -> RotaryAngles | None:
        """The same of the answers' positions."""
        return None if self.turn is None else (self.turn[0][:, :, self.answers], self.turn[1][:, :, self.answers])


class UpperLayers:
    """Prompts, run up to the lowest layer with a changed value slot; and from there on, with changes.

    Args:
        network: the model; its parameters are read, and need no gradient.
        slots: the indices of the value slots that may change, [k], by the lowest layer that has their parameter.
        prompts: the prompts, at least one.
    """

    def __init__(self, network: Network, slots: Mapping[int, torch.Tensor], prompts: Sequence[EncodedPrompt]) -> None:
        self._network = network
        self._slots = dict(slots)
        self._causal = network.adapter.blank is not Blank.MASK
        self._last = len(network.layers) - 1
        owners = [network.canonical_layer(number) for number in range(len(network.layers))]
        self._owner = [owner if owner in self._slots else None for owner in owners]
        self._first = min(number for number, owner in enumerate(self._owner) if owner is not None)
        self._ids = [prompt.ids[: prompt.position + 1] if self._causal else prompt.ids for prompt in prompts]
        self._answer = [prompt.position for prompt in prompts]
        self._sources = [prompt.source for prompt in prompts]
        lengths = [len(ids) for ids in self._ids]
        self._starts = [sum(lengths[:number]) for number in range(len(lengths))]
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
            ids = torch.tensor([token for number in packing.order for token in self._ids[number]], device=like.device)
            hidden = torch.cat(
                [
                    network.embed(ids[group.start :][: group.count * group.tokens].view(group.count, -1)).flatten(0, 1)
                    for group in packing.groups
                ]
            ).unsqueeze(0)
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

    def _chunks(self) -> Iterator[list[int]]:
        """The prompts' numbers, some at a time, those of like length together."""
        chunk: list[int] = []
        tokens = 0
        for number in sorted(range(len(self._ids)), key=self._shape):
            size = len(self._ids[number]) + len(self._sources[number])
            if chunk and tokens + size > _BASE_TOKENS:
                yield chunk
                chunk, tokens = [], 0
            chunk.append(number)
            tokens += size
        yield chunk

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

    def _up_to_residual(
        self, number: int, hidden: torch.Tensor, packing: _Packing
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A layer's input, and what its FFN output is added to: of every position; in the last layer, the answers'.

        Args:
            number: the layer.
            hidden: its input, [1, N, d].
            packing: what stands where.

        Returns:
            Twice [1, N or P, d].
        """
        layer = self._network.layers[number]
        if number < self._last:
            query, key, value = layer.project(hidden, packing.turn)
            attended = [
                layer.attention.attend(
                    group.positions(query),
                    group.positions(key),
                    group.positions(value),
                    bias=self._network.positions(group.tokens).bias,
                    causal=self._causal,
                )
                for group in packing.groups
            ]
        else:
            source, attention = layer.attention_source(hidden), layer.attention
            if attention.separate:
                key, value = attention.key_value(source, packing.turn)
                query = attention.query(source[:, packing.answers], packing.turn_of_answers)
            else:
                query, key, value = attention.query_key_value(source, packing.turn)
                query = query[:, :, packing.answers]
            hidden = hidden[:, packing.answers]
            attended = []
            for group in packing.groups:
                position = packing.answer_position[group.first : group.first + group.count]
                bias = self._network.positions(group.tokens).bias_of(position)
                attended.append(
                    attention.attend(group.rows(query), group.positions(key), group.positions(value), bias=bias)
                )
        residual = self._residual_of(number, hidden, attended, packing)
        return hidden, residual

    def _residual_of(
        self, number: int, hidden: torch.Tensor, attended: Sequence[torch.Tensor], packing: _Packing
    ) -> torch.Tensor:
        """What the FFN's output is added to, from inputs [1, R, d] and each group's attention [B, R/B, h·s]."""
        layer = self._network.layers[number]
        if layer.cross is None:
            return layer.residual(hidden, torch.cat([part.flatten(0, 1) for part in attended]).unsqueeze(0))
        found, start = [], 0
        for group, part in zip(packing.groups, attended, strict=True):
            stop = start + part.shape[0] * part.shape[1]
            keys, values = zip(*(self._memory[one][number] for one in group.numbers), strict=True)
            rows = hidden[0, start:stop].view(*part.shape[:2], -1)
            found.append(layer.residual(rows, part, (torch.cat(keys), torch.cat(values))).flatten(0, 1))
            start = stop
        return torch.cat(found).unsqueeze(0)

    # --- what stands where ---------------------------------------------------------------------------------

    def _shape(self, number: int) -> tuple[int, int]:
        return len(self._ids[number]), len(self._sources[number])

    def _pack(self, numbers: Sequence[int]) -> _Packing:
        order = sorted(numbers, key=lambda number: (self._shape(number), number))
        groups: list[_Group] = []
        alike: dict[tuple[int, int], list[int]] = {}
        for number in order:
            alike.setdefault(self._shape(number), []).append(number)
        start = first = 0
        answers: list[int] = []
        turns: list[RotaryAngles] = []
        for (tokens, _), members in alike.items():
            groups.append(_Group(start, first, len(members), tokens, tuple(members)))
            answers += [start + place * tokens + self._answer[number] for place, number in enumerate(members)]
            turn = self._network.positions(tokens).turn
            if turn is not None:
                turns += [turn] * len(members)
            start += tokens * len(members)
            first += len(members)
        device = self._network.device
        positions = [self._starts[number] + place for number in order for place in range(len(self._ids[number]))]
        return _Packing(
            tuple(order),
            tuple(groups),
            torch.tensor(positions, device=device),
            torch.tensor(answers, device=device),
            torch.tensor([self._answer[number] for number in order], device=device),
            (torch.cat([turn[0] for turn in turns], 2), torch.cat([turn[1] for turn in turns], 2)) if turns else None,
        )
