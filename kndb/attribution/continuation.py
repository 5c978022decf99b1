"""The part of a network that lies above a perturbed FFN output, for masked and for causal models.

Shapes: B prompts of the same number T of tokens, S ≤ B of them selected, R rows of any of them and of any layers,
d hidden size, n FFN neurons, V vocabulary, h heads of size s. A *row* is the answer position's vector.

Only the answer position is perturbed, so the layers below stay as they were and are never run again (the
triangle). In a masked model every position of the layers above sees the change; but in the first of them, only the
answer row's own query, key and value differ from the base pass, and in the last only the answer's row is needed. In a
causal model nothing before the last position sees it: with the prefix's keys and values from the base pass, each node
costs a single token. A decoder with an encoder works alike: the encoder's output is that of the base pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import torch
from torch import nn

from ..models.adapter import Blank
from ..models.layer import Layer
from ..models.network import Network


@dataclass(frozen=True)
class PromptBatch:
    """Prompts of one length, ready for the network.

    Attributes:
        ids: token ids [B, T].
        position: the answer position of each, [B].
        answer: the answer's token id of each, [B].
        source: token ids for the encoder, [B, E]; E = 0 for models without one.
    """

    ids: torch.Tensor
    position: torch.Tensor
    answer: torch.Tensor
    source: torch.Tensor

    def __len__(self) -> int:
        return int(self.ids.shape[0])


@dataclass
class BasePass:
    """The unmodified network on a batch.

    Attributes:
        activations: w̄ of each layer, [B, n].
        outputs: the FFN's output row of each layer, [B, d].
        residuals: what that output is added to, [B, d].
        gradients: ∂P/∂(output row) at α = 1 of each layer, [B, d].
        odds: the logarithm of P(1) / (1 − P(1)), [B].
        predicted: the most probable token, [B], and its probability, [B].
    """

    activations: list[torch.Tensor] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)
    residuals: list[torch.Tensor] = field(default_factory=list)
    gradients: list[torch.Tensor] = field(default_factory=list)
    odds: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    predicted: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    predicted_probability: torch.Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True)
class _Start:
    """Output rows [R, d] of one layer, of the prompts `selected` [R], that go on through the layers above."""

    layer: int
    selected: torch.Tensor
    rows: torch.Tensor


class Continuation(ABC):
    """One batch's base pass, and answers for other FFN output rows in any one layer."""

    def __init__(self, network: Network, batch: PromptBatch) -> None:
        self.network = network
        self.batch = batch
        self.base = BasePass()
        self._run_base()

    @property
    def last(self) -> int:
        """The number of the last layer."""
        return len(self.network.layers) - 1

    @abstractmethod
    def _base_rows(self, leaves: list[torch.Tensor]) -> torch.Tensor:
        """Runs the unmodified network, adding a leaf to each layer's output row; fills the base's rows.

        Returns:
            The last layer's output rows, [B, d].
        """

    @abstractmethod
    def _climb(self, starts: Sequence[_Start]) -> torch.Tensor:
        """Takes output rows of several layers through all layers above, each from its own on.

        Args:
            starts: by layer, rising; there is at least one.

        Returns:
            The last layer's output rows, [R, d], in the order of the starts.
        """

    def log_odds(self, layers: Sequence[int], selected: torch.Tensor, ffn_outputs: torch.Tensor) -> torch.Tensor:
        """log(P / (1 − P)) of the answer where one layer's FFN output row is replaced.

        All rows go up together: those of a layer join the ones that come from below.

        Args:
            layers: the layer whose FFN output each row replaces, R numbers that never fall.
            selected: whose prompt of the batch each row is, [R].
            ffn_outputs: the rows to put there, [R, d].

        Returns:
            [R].
        """
        starts, first = [], 0
        for layer, group in groupby(layers):
            rows = slice(first, first + len(list(group)))
            residual = self.base.residuals[layer][selected[rows]]
            output = self.network.layers[layer].finish(residual, ffn_outputs[rows])
            starts.append(_Start(layer, selected[rows], output))
            first = rows.stop
        return answer_log_odds(self.network.logits(self._climb(starts)), self.batch.answer[selected])

    def _run_base(self) -> None:
        width = self.network.hidden_size
        like = self.network.word_embeddings
        leaves = [
            torch.zeros(len(self.batch), width, device=like.device, dtype=like.dtype, requires_grad=True)
            for _ in self.network.layers
        ]
        with torch.enable_grad():
            logits = self.network.logits(self._base_rows(leaves))
            self._choose_open_answers(logits)
            odds = answer_log_odds(logits, self.batch.answer)
            self.base.gradients = list(torch.autograd.grad(odds, leaves, probability_slope(odds)))
        distribution = logits.detach().float().softmax(-1)
        self.base.odds = odds.detach()
        self.base.predicted_probability, self.base.predicted = distribution.max(-1)

    def _choose_open_answers(self, logits: torch.Tensor) -> None:
        """Puts the most probable token where the answer is left to the model (−1)."""
        answer = self.batch.answer
        if bool((answer < 0).any()):
            self.batch = replace(self.batch, answer=torch.where(answer < 0, logits.argmax(-1), answer))

    def _record(self, residual: torch.Tensor, activation: torch.Tensor, output: torch.Tensor) -> None:
        self.base.residuals.append(residual.detach())
        self.base.activations.append(activation.detach())
        self.base.outputs.append(output.detach())


def answer_log_odds(logits: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """log(P / (1 − P)) of the answer token: its logit against the log-sum-exp of all others.

    Unlike P itself, it loses no digits where P is close to 1. It can be differentiated once.

    Args:
        logits: [R, V].
        answer: token ids, [R].

    Returns:
        [R].
    """
    odds: torch.Tensor = _LogOdds.apply(logits, answer)  # type: ignore[no-untyped-call]
    return odds


class _LogOdds(torch.autograd.Function):
    """`answer_log_odds` with its gradient written out: ∂x/∂z is 1 for the answer's logit z, −softmax for the others.

    The vocabulary is the widest dimension of all; what automatic differentiation would keep and read of it costs a
    causal model more time than its layers do.
    """

    @staticmethod
    def forward(context: Any, logits: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
        """See `answer_log_odds`."""
        wide = logits if logits.dtype == torch.float64 else logits.float()
        index = answer.unsqueeze(-1)
        chosen = wide.gather(-1, index)
        others = wide.scatter(-1, index, -torch.inf)
        largest = others.amax(-1, keepdim=True)
        others = others.sub_(largest).exp_()
        total = others.sum(-1, keepdim=True)
        context.dtype = logits.dtype
        context.save_for_backward(others, total, index)
        return (chosen - largest - total.log()).squeeze(-1)

    @staticmethod
    def backward(context: Any, *slopes: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Gradient of the logits."""
        others, total, index = context.saved_tensors
        slope = slopes[0].unsqueeze(-1)
        gradient = others.mul_(-slope / total).scatter_(-1, index, slope)
        return gradient.to(context.dtype), None


def probability_slope(odds: torch.Tensor) -> torch.Tensor:
    """dP/d(log odds) = P·(1 − P), with both factors to full precision. Outside the graph."""
    return odds.detach().sigmoid() * (-odds.detach()).sigmoid()


def probability_change(odds: torch.Tensor, odds_before: torch.Tensor) -> torch.Tensor:
    """P − P_before from log odds, without the cancellation that two probabilities close to 1 would suffer."""
    low, high = torch.minimum(odds, odds_before), torch.maximum(odds, odds_before)
    size = -high.sigmoid() * (-low).sigmoid() * torch.expm1(low - high)
    return torch.where(odds >= odds_before, size, -size)


class MaskedContinuation(Continuation):
    """For encoders: every position is run in the layers above, the answer's row alone in the last."""

    def _base_rows(self, leaves: list[torch.Tensor]) -> torch.Tensor:
        every = torch.arange(len(self.batch), device=self.batch.ids.device)
        position = self.batch.position
        self._places = self.network.places(self.batch.ids.shape[1])
        self._states: list[torch.Tensor] = []
        self._projected: list[tuple[torch.Tensor, ...]] = []
        hidden = self.network.embed(self.batch.ids)
        for number, layer in enumerate(self.network.layers):
            query, key, value = layer.project(hidden, self._places.turn)
            self._projected.append((query.detach(), key.detach(), value.detach()))
            bias = self._places.bias
            if number == self.last:  # of which the answer's row alone is read
                hidden, query = hidden[every, position].unsqueeze(1), query[every, :, position].unsqueeze(2)
                bias, position = self._places.bias_of(position), torch.zeros_like(position)
            residual = layer.residual(hidden, layer.attention.attend(query, key, value, bias=bias))
            activation = layer.neurons(hidden, residual)
            output = layer.down(activation)
            self._record(residual[every, position], activation[every, position], output[every, position])
            output = output.index_put((every, position), leaves[number], accumulate=True)
            hidden = layer.finish(residual, output)
            self._states.append(hidden.detach())
        return hidden[every, position]

    def _climb(self, starts: Sequence[_Start]) -> torch.Tensor:
        selected = torch.cat([start.selected for start in starts])
        position = self.batch.position[selected]
        by_layer = {start.layer: start for start in starts}
        hidden: torch.Tensor | None = None  # [R, T, d] of the rows that are under way
        answers: list[torch.Tensor] = []
        for number in range(starts[0].layer + 1, self.last + 1):
            entering = by_layer.get(number - 1)
            if number == self.last:
                if hidden is not None:
                    answers.append(self._last_layer(hidden, position[: len(hidden)]))
                if entering is not None:
                    answers.append(self._enter_last(entering))
                continue
            if hidden is not None:
                above = self.network.layers[number]
                hidden = self._complete_layer(above, hidden, *above.project(hidden, self._places.turn))
            if entering is not None:
                entered = self._enter(entering)
                hidden = entered if hidden is None else torch.cat([hidden, entered])
        if self.last in by_layer:
            answers.append(by_layer[self.last].rows)
        return torch.cat(answers)

    def _enter(self, start: _Start) -> torch.Tensor:
        """The next layer's output [R, T, d]: of its input, only the answer's row is not the base pass's."""
        position = self.batch.position[start.selected]
        above = start.layer + 1
        query, key, value = self._entering_projections(start, position)
        query = _with_row(self._projected[above][0][start.selected], query, position)
        every = torch.arange(len(start.rows), device=start.rows.device)
        hidden = self._states[start.layer][start.selected].index_put((every, position), start.rows)
        return self._complete_layer(self.network.layers[above], hidden, query, key, value)

    def _enter_last(self, start: _Start) -> torch.Tensor:
        """The last layer's output at the answer position [R, d], for rows of the layer below it."""
        position = self.batch.position[start.selected]
        return self._complete_row(start.rows, *self._entering_projections(start, position), position)

    def _entering_projections(
        self, start: _Start, position: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The next layer's queries of the rows, [R, h, 1, s], and keys and values of all positions."""
        above = start.layer + 1
        turn = self._places.turn_of(position)
        query, key, value = self.network.layers[above].project(start.rows.unsqueeze(1), turn)
        _, base_key, base_value = self._projected[above]
        key = _with_row(base_key[start.selected], key, position)
        return query, key, _with_row(base_value[start.selected], value, position)

    def _complete_layer(
        self, layer: Layer, hidden: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        attended = layer.attention.attend(query, key, value, bias=self._places.bias)
        return layer.complete(hidden, layer.residual(hidden, attended))

    def _last_layer(self, hidden: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        layer = self.network.layers[self.last]
        every = torch.arange(len(hidden), device=hidden.device)
        source = layer.attention_source(hidden)
        if layer.attention.separate:
            key, value = layer.attention.key_value(source, self._places.turn)
            query = layer.attention.query(source[every, position].unsqueeze(1), self._places.turn_of(position))
        else:
            query, key, value = layer.attention.query_key_value(source, self._places.turn)
            query = query[every, :, position].unsqueeze(2)  # [R, h, 1, s]
        return self._complete_row(hidden[every, position], query, key, value, position)

    def _complete_row(
        self, rows: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, position: torch.Tensor
    ) -> torch.Tensor:
        """The last layer's output at the answer position: input rows [R, d] and queries [R, h, 1, s]."""
        layer = self.network.layers[self.last]
        attended = layer.attention.attend(query, key, value, bias=self._places.bias_of(position))[:, 0]
        return layer.complete(rows, layer.residual(rows, attended))


def _with_row(base: torch.Tensor, row: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Vectors [N, h, T, s] with those at one position per sequence replaced by [N, h, 1, s]."""
    index = position.view(-1, 1, 1, 1).expand(-1, base.shape[1], 1, base.shape[3])
    return base.scatter(2, index, row)


class CausalContinuation(Continuation):
    """For decoders: each node is a single token after the base pass's prefix."""

    def _base_rows(self, leaves: list[torch.Tensor]) -> torch.Tensor:
        tokens = self.batch.ids.shape[1]
        places = self.network.places(tokens)
        self._prefix: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._memory: list[tuple[torch.Tensor, torch.Tensor] | None] = []
        self._turn = places.turn_slice(tokens - 1, tokens)
        self._row_bias = None if places.bias is None else places.bias[:, -1]
        prefix_turn = places.turn_slice(0, tokens - 1)
        prefix_bias = None if places.bias is None else places.bias[:, :-1, :-1]
        encoded = self.network.encode(self.batch.source)
        embedded = self.network.embed(self.batch.ids)
        before, row = embedded[:, :-1], embedded[:, -1:]
        for number, layer in enumerate(self.network.layers):
            query, key, value = layer.project(before, prefix_turn)
            self._prefix.append((key.detach(), value.detach()))
            self._memory.append(None if encoded is None or layer.cross is None else layer.cross.key_value(encoded))
            if tokens > 1 and number < self.last:  # nothing reads what the last layer makes of the prefix
                attended = layer.attention.attend(query, key, value, bias=prefix_bias, causal=True)
                before = layer.complete(before, layer.residual(before, attended, self._memory[number]))
            residual = self._row_residual(number, row)
            activation = layer.neurons(row, residual)
            output = layer.down(activation)
            self._record(residual[:, 0], activation[:, 0], output[:, 0])
            row = layer.finish(residual, output + leaves[number].unsqueeze(1))
        return row[:, 0]

    def _climb(self, starts: Sequence[_Start]) -> torch.Tensor:
        selected = torch.cat([start.selected for start in starts])
        by_layer = {start.layer: start for start in starts}
        rows = starts[0].rows.unsqueeze(1)  # [R, 1, d] of the rows that are under way
        for number in range(starts[0].layer + 1, self.last + 1):
            rows = self.network.layers[number].complete(rows, self._row_residual(number, rows, selected[: len(rows)]))
            if number in by_layer:
                rows = torch.cat([rows, by_layer[number].rows.unsqueeze(1)])
        return rows[:, 0]

    def _row_residual(self, number: int, rows: torch.Tensor, selected: torch.Tensor | None = None) -> torch.Tensor:
        """A layer's residual for rows [R, 1, d] at the answer position of some prompts (None: of all, in turn)."""
        layer, prefix, memory = self.network.layers[number], self._prefix[number], self._memory[number]
        if selected is not None:
            prefix = prefix[0][selected], prefix[1][selected]
            memory = None if memory is None else (memory[0][selected], memory[1][selected])
        query, key, value = layer.project(rows, self._turn)
        attended = layer.attention.attend_after_prefix(query, key, value, *prefix, self._row_bias)
        return layer.residual(rows, attended, memory)


def continue_from(network: Network, batch: PromptBatch) -> Continuation:
    """The continuation that fits the network's kind of blank."""
    masked = network.adapter.blank is Blank.MASK
    return MaskedContinuation(network, batch) if masked else CausalContinuation(network, batch)


def freeze(model: nn.Module) -> None:
    """Switches the model to evaluation and every parameter's gradient off: only activations are differentiated."""
    model.eval()
    model.requires_grad_(False)
