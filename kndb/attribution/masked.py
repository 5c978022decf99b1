"""Continuations of masked models: every position is run in the layers above, the answer's row alone in the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from ..models.attention import Positions
from ..models.layer import Layer
from ..models.network import Network
from .continuation import AnswerRows, BasePass, Continuation, PromptBatch, Start, differentiated, zero_rows
from .stages import Step, through_layer


@dataclass(frozen=True)
class MaskedMemory:
    """What a base pass keeps of every position.

    Attributes:
        positions: what the positions bring to attention.
        states: each layer's output, [B, T, d].
        projected: each layer's queries, keys and values, [B, h, T, s].
    """

    positions: Positions
    states: list[torch.Tensor] = field(default_factory=list)
    projected: list[tuple[torch.Tensor, ...]] = field(default_factory=list)


class MaskedContinuation(Continuation):
    """For encoders: every position is run in the layers above, the answer's row alone in the last."""

    def __init__(self, network: Network, batch: PromptBatch, base: BasePass, memory: MaskedMemory) -> None:
        super().__init__(network, batch, base)
        self._memory = memory

    @classmethod
    def compute(cls, network: Network, batch: PromptBatch) -> MaskedContinuation:
        """Runs the base pass, forward and backward."""
        leaves = zero_rows(network, len(batch))
        with torch.enable_grad():
            rows, last, memory = _forward(network, batch, leaves)
        return cls(network, *differentiated(network, batch, rows, last, leaves), memory)

    def climb(self, starts: Sequence[Start]) -> torch.Tensor:
        """See `Continuation.climb`."""
        selected = torch.cat([start.selected for start in starts])
        position = self.batch.position[selected]
        by_layer = {start.layer: start for start in starts}
        hidden: torch.Tensor | None = None  # [R, T, d] of the rows that are under way; [R, d] above the last layer
        for number in range(starts[0].layer + 1, self.last + 1):
            entering = by_layer.get(number - 1)
            through = self._through_last if number == self.last else self._through
            if hidden is not None:
                hidden = through(number, hidden, position[: len(hidden)])
            if entering is not None:
                entered = self._entered(entering)
                hidden = entered if hidden is None else torch.cat([hidden, entered])
        answers = [] if hidden is None else [hidden]
        if self.last in by_layer:
            answers.append(by_layer[self.last].rows)
        return torch.cat(answers)

    def _through(self, number: int, hidden: torch.Tensor, position: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """A layer's output [R, T, d] for its inputs [R, T, d]."""
        layer = self.network.layers[number]

        def step(_some: slice, hidden: torch.Tensor) -> torch.Tensor:
            return self._complete_layer(layer, hidden, *layer.project(hidden, self._memory.positions.turn))

        return through_layer(self.network, number, step, hidden, part=self.part)

    def _through_last(self, number: int, hidden: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """The last layer's output at the answer position [R, d] for its inputs [R, T, d]."""

        def step(some: slice, hidden: torch.Tensor) -> torch.Tensor:
            return self._last_layer(hidden, position[some])

        return through_layer(self.network, number, step, hidden, part=self.part)

    def _entered(self, start: Start) -> torch.Tensor:
        """What the next layer gives for rows of this one: [R, T, d], and [R, d] above the last layer."""
        above = start.layer + 1
        enter = self._enter_last if above == self.last else self._enter

        def step(some: slice, rows: torch.Tensor) -> torch.Tensor:
            return enter(Start(start.layer, start.selected[some], rows))

        return through_layer(self.network, above, step, start.rows, part=self.part)

    def _enter(self, start: Start) -> torch.Tensor:
        """The next layer's output [R, T, d]: of its input, only the answer's row is not the base pass's."""
        position = self.batch.position[start.selected]
        above = start.layer + 1
        query, key, value = self._entering_projections(start, position)
        query = _with_row(self._memory.projected[above][0][start.selected], query, position)
        every = torch.arange(len(start.rows), device=start.rows.device)
        hidden = self._memory.states[start.layer][start.selected].index_put((every, position), start.rows)
        return self._complete_layer(self.network.layers[above], hidden, query, key, value)

    def _enter_last(self, start: Start) -> torch.Tensor:
        """The last layer's output at the answer position [R, d], for rows of the layer below it."""
        position = self.batch.position[start.selected]
        return self._complete_row(start.rows, *self._entering_projections(start, position), position)

    def _entering_projections(
        self, start: Start, position: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The next layer's queries of the rows, [R, h, 1, s], and keys and values of all positions."""
        above = start.layer + 1
        turn = self._memory.positions.turn_of(position)
        query, key, value = self.network.layers[above].project(start.rows.unsqueeze(1), turn)
        _, base_key, base_value = self._memory.projected[above]
        key = _with_row(base_key[start.selected], key, position)
        return query, key, _with_row(base_value[start.selected], value, position)

    def _complete_layer(
        self, layer: Layer, hidden: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        attended = layer.attention.attend(query, key, value, bias=self._memory.positions.bias)
        return layer.complete(hidden, layer.residual(hidden, attended))

    def _last_layer(self, hidden: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        layer = self.network.layers[self.last]
        every = torch.arange(len(hidden), device=hidden.device)
        source = layer.attention_source(hidden)
        if layer.attention.separate:
            key, value = layer.attention.key_value(source, self._memory.positions.turn)
            query = layer.attention.query(
                source[every, position].unsqueeze(1), self._memory.positions.turn_of(position)
            )
        else:
            query, key, value = layer.attention.query_key_value(source, self._memory.positions.turn)
            query = query[every, :, position].unsqueeze(2)  # [R, h, 1, s]
        return self._complete_row(hidden[every, position], query, key, value, position)

    def _complete_row(
        self, rows: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, position: torch.Tensor
    ) -> torch.Tensor:
        """The last layer's output at the answer position: input rows [R, d] and queries [R, h, 1, s]."""
        layer = self.network.layers[self.last]
        attended = layer.attention.attend(query, key, value, bias=self._memory.positions.bias_of(position))[:, 0]
        return layer.complete(rows, layer.residual(rows, attended))


def _forward(
    network: Network, batch: PromptBatch, leaves: Sequence[torch.Tensor]
) -> tuple[AnswerRows, torch.Tensor, MaskedMemory]:
    """Runs the unmodified network, adding a leaf to each layer's output row.

    Returns:
        The rows at the answer position, the last layer's output rows [B, d] within the graph, and what is kept.
    """
    positions = network.positions(batch.ids.shape[1])
    rows, memory = AnswerRows(), MaskedMemory(positions)
    hidden = network.embed(batch.ids)
    for number in range(len(network.layers)):
        step = _base_step(network, number, batch, memory, rows)
        hidden = through_layer(network, number, step, hidden, leaves[number])
    return rows, hidden[:, 0], memory


def _base_step(network: Network, number: int, batch: PromptBatch, memory: MaskedMemory, rows: AnswerRows) -> Step:
    """A layer on all prompts [B, T, d], with a leaf for its output row; noted the first time.

    Of the last layer, only the answer's rows are computed, [B, 1, d]: nothing reads the others.
    """
    layer, positions = network.layers[number], memory.positions

    def step(_every: slice, hidden: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
        every, position = torch.arange(len(batch), device=batch.ids.device), batch.position
        first, bias = len(rows.outputs) == number, positions.bias
        query, key, value = layer.project(hidden, positions.turn)
        if first:
            memory.projected.append((query.detach(), key.detach(), value.detach()))
        if number == len(network.layers) - 1:
            hidden, query = hidden[every, position].unsqueeze(1), query[every, :, position].unsqueeze(2)
            bias, position = positions.bias_of(position), torch.zeros_like(position)
        residual = layer.residual(hidden, layer.attention.attend(query, key, value, bias=bias))
        activation = layer.neurons(hidden, residual)
        output = layer.written(activation)
        if first:
            rows.add(residual[every, position], activation[every, position], output[every, position], layer.bias)
        output = output.index_put((every, position), leaf, accumulate=True)
        finished = layer.finish(residual, output)
        if first:
            memory.states.append(finished.detach())
        return finished

    return step


def _with_row(base: torch.Tensor, row: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Vectors [N, h, T, s] with those at one position per sequence replaced by [N, h, 1, s]."""
    index = position.view(-1, 1, 1, 1).expand(-1, base.shape[1], 1, base.shape[3])
    return base.scatter(2, index, row)
