"""Prompts in one row, and the layers of a model on them: what runs many prompts of all lengths without padding.

Positions of all prompts stand in one row: every step of a layer works position by position, but for attention, which
runs on the prompts of one length together. In a causal model, nothing after the answer's position is run; in the last
layer, the answer's row alone.

Shapes: P prompts, N their positions together, d hidden size, n FFN neurons, h heads of size s, E encoder positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

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
class Group:
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
class Packing:
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
    groups: tuple[Group, ...]
    positions: torch.Tensor
    answers: torch.Tensor
    answer_position: torch.Tensor
    turn: RotaryAngles | None

    @cached_property
    def turn_of_answers(self) -> RotaryAngles | None:
        """The same of the answers' positions."""
        return None if self.turn is None else (self.turn[0][:, :, self.answers], self.turn[1][:, :, self.answers])


class PackedPrompts(ABC):
    """Prompts that some layers of a model are run on.

    Args:
        network: the model; its parameters are read, and need no gradient.
        prompts: the prompts, at least one.
    """

    def __init__(self, network: Network, prompts: Sequence[EncodedPrompt]) -> None:
        self._network = network
        self._causal = network.adapter.blank is not Blank.MASK
        self._last = len(network.layers) - 1
        self._ids = [prompt.ids[: prompt.position + 1] if self._causal else prompt.ids for prompt in prompts]
        self._answer = [prompt.position for prompt in prompts]
        self._sources = [prompt.source for prompt in prompts]
        lengths = [len(ids) for ids in self._ids]
        self._starts = list(accumulate(lengths, initial=0))[:-1]

    @abstractmethod
    def _memory_of(self, number: int, group: Group) -> Memory:
        """Keys and values of a group's encoder output for a layer that attends to it, twice [B, h, E, s]."""

    def _embedded(self, packing: Packing) -> torch.Tensor:
        """What enters the first layer, [1, N, d]."""
        device = self._network.device
        ids = torch.tensor([token for number in packing.order for token in self._ids[number]], device=device)
        parts = [
            self._network.embed(ids[group.start :][: group.count * group.tokens].view(group.count, -1)).flatten(0, 1)
            for group in packing.groups
        ]
        return torch.cat(parts).unsqueeze(0)

    def _up_to_residual(self, number: int, hidden: torch.Tensor, packing: Packing) -> tuple[torch.Tensor, torch.Tensor]:
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
        self, number: int, hidden: torch.Tensor, attended: Sequence[torch.Tensor], packing: Packing
    ) -> torch.Tensor:
        """What the FFN's output is added to, from inputs [1, R, d] and each group's attention [B, R/B, h·s]."""
        layer = self._network.layers[number]
        if layer.cross is None:
            return layer.residual(hidden, torch.cat([part.flatten(0, 1) for part in attended]).unsqueeze(0))
        found, start = [], 0
        for group, part in zip(packing.groups, attended, strict=True):
            stop = start + part.shape[0] * part.shape[1]
            rows = hidden[0, start:stop].view(*part.shape[:2], -1)
            found.append(layer.residual(rows, part, self._memory_of(number, group)).flatten(0, 1))
            start = stop
        return torch.cat(found).unsqueeze(0)

    # --- what stands where ---------------------------------------------------------------------------------

    def _shape(self, number: int) -> tuple[int, int]:
        return len(self._ids[number]), len(self._sources[number])

    def _pack(self, numbers: Sequence[int]) -> Packing:
        order = sorted(numbers, key=lambda number: (self._shape(number), number))
        groups: list[Group] = []
        alike: dict[tuple[int, int], list[int]] = {}
        for number in order:
            alike.setdefault(self._shape(number), []).append(number)
        start = first = 0
        answers: list[int] = []
        turns: list[RotaryAngles] = []
        for (tokens, _), members in alike.items():
            groups.append(Group(start, first, len(members), tokens, tuple(members)))
            answers += [start + place * tokens + self._answer[number] for place, number in enumerate(members)]
            turn = self._network.positions(tokens).turn
            if turn is not None:
                turns += [turn] * len(members)
            start += tokens * len(members)
            first += len(members)
        device = self._network.device
        positions = [self._starts[number] + place for number in order for place in range(len(self._ids[number]))]
        return Packing(
            tuple(order),
            tuple(groups),
            torch.tensor(positions, device=device),
            torch.tensor(answers, device=device),
            torch.tensor([self._answer[number] for number in order], device=device),
            (torch.cat([turn[0] for turn in turns], 2), torch.cat([turn[1] for turn in turns], 2)) if turns else None,
        )

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
