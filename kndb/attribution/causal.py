"""Continuations of causal models: each node is a single token after the base pass's prefix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ..models.attention import RotaryAngles
from ..models.layer import Layer
from ..models.network import Network
from .continuation import AnswerRows, BasePass, Continuation, PromptBatch, Start, differentiated, zero_rows
from .stages import Step, through_layer

KeyValue = tuple[torch.Tensor, torch.Tensor]
"""Keys and values of some positions, each [B, h_kv, positions, s]."""


@dataclass(frozen=True)
class CausalMemory:
    """What a base pass keeps of what the answer position attends to.

    Attributes:
        turn: the cosines and sines of the answer position; None without rotary embeddings.
        bias: what is added to its attention scores, [1 or h, T]; None where nothing is.
        prefix: each layer's keys and values of the positions before it.
        encoded: each layer's keys and values of the encoder's output; None where it attends to none.
    """

    turn: RotaryAngles | None
    bias: torch.Tensor | None
    prefix: list[KeyValue] = field(default_factory=list)
    encoded: list[KeyValue | None] = field(default_factory=list)


class CausalContinuation(Continuation):
    """For decoders: each node is a single token after the base pass's prefix."""

    def __init__(self, network: Network, batch: PromptBatch, base: BasePass, memory: CausalMemory) -> None:
        super().__init__(network, batch, base)
        self._memory = memory

    @classmethod
    def compute(cls, network: Network, batch: PromptBatch) -> CausalContinuation:
        """Runs the base pass, forward and backward."""
        leaves = zero_rows(network, len(batch))
        with torch.enable_grad():
            rows, last, memory = _forward(network, batch, leaves)
        return cls(network, *differentiated(network, batch, rows, last, leaves), memory)

    def climb(self, starts: Sequence[Start]) -> torch.Tensor:
        """See `Continuation.climb`."""
        selected = torch.cat([start.selected for start in starts])
        by_layer = {start.layer: start for start in starts}
        rows = starts[0].rows.unsqueeze(1)  # [R, 1, d] of the rows that are under way
        for number in range(starts[0].layer + 1, self.last + 1):
            step = self._step(number, selected[: len(rows)])
            rows = through_layer(self.network, number, step, rows, part=self.part)
            if number in by_layer:
                rows = torch.cat([rows, by_layer[number].rows.unsqueeze(1)])
        return rows[:, 0]

    def _step(self, number: int, selected: torch.Tensor) -> Step:
        """A layer on rows [R, 1, d] at the answer position of prompts [R]."""

        def step(some: slice, rows: torch.Tensor) -> torch.Tensor:
            return self.network.layers[number].complete(rows, self._residual(number, rows, selected[some]))

        return step

    def _residual(self, number: int, rows: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
        """A layer's residual for rows [R, 1, d] at the answer position of some prompts."""
        (key, value), encoded = self._memory.prefix[number], self._memory.encoded[number]
        prefix = key[selected], value[selected]
        if encoded is not None:
            encoded = encoded[0][selected], encoded[1][selected]
        return _row_residual(self.network.layers[number], rows, self._memory, prefix, encoded)


def _forward(
    network: Network, batch: PromptBatch, leaves: Sequence[torch.Tensor]
) -> tuple[AnswerRows, torch.Tensor, CausalMemory]:
    """Runs the unmodified network, adding a leaf to each layer's output row.

    Returns:
        The rows at the answer position, the last layer's output rows [B, d] within the graph, and what is kept.
    """
    tokens, answers = batch.ids.shape[1], AnswerRows()
    positions = network.positions(tokens)
    row_bias = None if positions.bias is None else positions.bias[:, -1]
    memory = CausalMemory(positions.turn_slice(tokens - 1, tokens), row_bias)
    prefix_turn = positions.turn_slice(0, tokens - 1)
    prefix_bias = None if positions.bias is None else positions.bias[:, :-1, :-1]
    source = network.encode(batch.source)
    embedded = network.embed(batch.ids)
    before, row = embedded[:, :-1], embedded[:, -1:]
    for number, layer in enumerate(network.layers):
        network.bring_layer(number)
        query, key, value = layer.project(before, prefix_turn)
        prefix = key.detach(), value.detach()
        encoded = None if source is None or layer.cross is None else layer.cross.key_value(source)
        memory.prefix.append(prefix)
        memory.encoded.append(encoded)
        if tokens > 1 and number < len(network.layers) - 1:  # nothing reads what the last layer makes of the prefix
            attended = layer.attention.attend(query, key, value, bias=prefix_bias, causal=True)
            before = layer.complete(before, layer.residual(before, attended, encoded))
        step = _base_step(network, number, memory, answers)
        row = through_layer(network, number, step, row, leaves[number])
    return answers, row[:, 0], memory


def _base_step(network: Network, number: int, memory: CausalMemory, answers: AnswerRows) -> Step:
    """A layer on the answer position's rows of all prompts, with a leaf for its output row; noted the first time."""
    layer = network.layers[number]

    def step(_every: slice, row: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
        residual = _row_residual(layer, row, memory, memory.prefix[number], memory.encoded[number])
        activation, beside = layer.neurons(row, residual), layer.beside(row, residual)
        output = layer.written(activation, beside)
        if len(answers.outputs) == number:
            silent = layer.bias if beside is None else beside[:, 0]
            answers.add(residual[:, 0], activation[:, 0], output[:, 0], silent)
        return layer.finish(residual, output + leaf.unsqueeze(1))

    return step


def _row_residual(
    layer: Layer, rows: torch.Tensor, memory: CausalMemory, prefix: KeyValue, encoded: KeyValue | None
) -> torch.Tensor:
    """A layer's residual for rows [R, 1, d] at the answer position, each after the prefix of its own prompt."""
    query, key, value = layer.project(rows, memory.turn)
    attended = layer.attention.attend_after_prefix(query, key, value, *prefix, memory.bias)
    return layer.residual(rows, attended, encoded)
