"""The part of a network that lies above a perturbed FFN output, for masked and for causal models.

Shapes: B prompts of the same number T of tokens, S ≤ B of them selected, K nodes, d hidden size, n FFN neurons,
V vocabulary. A *row* is the answer position's vector.

Only the answer position is perturbed, so the layers below stay as they were and are never run again (the
triangle). In a masked model every position of the layers above sees the change, except in the last layer, where
only the answer's row is needed. In a causal model nothing before the last position sees it: with the prefix's keys
and values from the base pass, each node costs a single token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import nn

from ..models.adapter import Blank
from ..models.network import Layer, Network


@dataclass(frozen=True)
class PromptBatch:
    """Prompts of one length, ready for the network.

    Attributes:
        ids: token ids [B, T].
        position: the answer position of each, [B].
        answer: the answer's token id of each, [B].
    """

    ids: torch.Tensor
    position: torch.Tensor
    answer: torch.Tensor

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
    def _climb(self, layer: int, selected: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Takes output rows [S, K, d] of one layer through all layers above: [S, K, d]."""

    def log_odds(self, layer: int, selected: torch.Tensor, ffn_outputs: torch.Tensor) -> torch.Tensor:
        """log(P / (1 − P)) of the answer where a layer's FFN output row is replaced.

        Args:
            layer: the layer whose FFN output is replaced.
            selected: indices into the batch, [S].
            ffn_outputs: the rows to put there, [S, K, d].

        Returns:
            [S, K].
        """
        residual = self.base.residuals[layer][selected].unsqueeze(1)
        rows = self.network.layers[layer].finish(residual, ffn_outputs)
        if layer < self.last:
            rows = self._climb(layer, selected, rows)
        return answer_log_odds(self.network.logits(rows), self.batch.answer[selected])

    def _run_base(self) -> None:
        width = self.network.hidden_size
        like = self.network.word_embeddings
        leaves = [
            torch.zeros(len(self.batch), width, device=like.device, dtype=like.dtype, requires_grad=True)
            for _ in self.network.layers
        ]
        with torch.enable_grad():
            logits = self.network.logits(self._base_rows(leaves))
            odds = answer_log_odds(logits.unsqueeze(1), self.batch.answer)[:, 0]
            self.base.gradients = list(torch.autograd.grad(odds, leaves, probability_slope(odds)))
        distribution = logits.detach().float().softmax(-1)
        self.base.odds = odds.detach()
        self.base.predicted_probability, self.base.predicted = distribution.max(-1)

    def _record(self, residual: torch.Tensor, activation: torch.Tensor, output: torch.Tensor) -> None:
        self.base.residuals.append(residual.detach())
        self.base.activations.append(activation.detach())
        self.base.outputs.append(output.detach())


def answer_log_odds(logits: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """log(P / (1 − P)) of the answer token: its logit against the log-sum-exp of all others.

    Unlike P itself, it loses no digits where P is close to 1.

    Args:
        logits: [S, K, V].
        answer: token ids, [S].

    Returns:
        [S, K].
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    index = answer.view(-1, 1, 1).expand(-1, wide.shape[1], 1)
    chosen = wide.gather(-1, index).squeeze(-1)
    others = wide.scatter(-1, index, -torch.inf).logsumexp(-1)
    return chosen - others


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
        hidden = self.network.embed(self.batch.ids)
        self._states: list[torch.Tensor] = []
        for number, layer in enumerate(self.network.layers):
            query, key, value = layer.project(hidden, self.network.heads)
            residual = layer.residual(hidden, layer.attend(query, key, value, causal=False))
            activation = layer.neurons(residual)
            output = layer.down(activation)
            self._record(residual[every, position], activation[every, position], output[every, position])
            output = output.index_put((every, position), leaves[number], accumulate=True)
            hidden = layer.finish(residual, output)
            self._states.append(hidden.detach())
        return hidden[every, position]

    def _climb(self, layer: int, selected: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        nodes = rows.shape[1]
        position = self.batch.position[selected].repeat_interleave(nodes)
        copies = torch.arange(len(position), device=rows.device)
        hidden = self._states[layer][selected].repeat_interleave(nodes, dim=0)  # [S·K, T, d]
        hidden = hidden.index_put((copies, position), rows.flatten(0, 1))
        for above in self.network.layers[layer + 1 : self.last]:
            hidden = self._whole_layer(above, hidden)
        answer = self._answer_row(self.network.layers[self.last], hidden, copies, position)
        return answer.view(-1, nodes, answer.shape[-1])  # [S·K, d] to [S, K, d]

    def _whole_layer(self, layer: Layer, hidden: torch.Tensor) -> torch.Tensor:
        query, key, value = layer.project(hidden, self.network.heads)
        residual = layer.residual(hidden, layer.attend(query, key, value, causal=False))
        return layer.finish(residual, layer.down(layer.neurons(residual)))

    def _answer_row(
        self, layer: Layer, hidden: torch.Tensor, copies: torch.Tensor, position: torch.Tensor
    ) -> torch.Tensor:
        query, key, value = layer.project(hidden, self.network.heads)
        row = query[copies, :, position].unsqueeze(2)  # [S·K, h, 1, s]
        attended = layer.attend(row, key, value, causal=False)[:, 0]
        residual = layer.residual(hidden[copies, position], attended)
        return layer.finish(residual, layer.down(layer.neurons(residual)))


class CausalContinuation(Continuation):
    """For decoders: each node is a single token after the base pass's prefix."""

    def _base_rows(self, leaves: list[torch.Tensor]) -> torch.Tensor:
        self._prefix: list[tuple[torch.Tensor, torch.Tensor]] = []
        embedded = self.network.embed(self.batch.ids)
        before, row = embedded[:, :-1], embedded[:, -1:]
        for number, layer in enumerate(self.network.layers):
            query, key, value = layer.project(before, self.network.heads)
            self._prefix.append((key.detach(), value.detach()))
            with torch.no_grad():
                before = self._prefix_layer(layer, before, query, key, value)
            residual = self._row_residual(layer, row, key, value)
            activation = layer.neurons(residual)
            output = layer.down(activation)
            self._record(residual[:, 0], activation[:, 0], output[:, 0])
            row = layer.finish(residual, output + leaves[number].unsqueeze(1))
        return row[:, 0]

    def _climb(self, layer: int, selected: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        for number in range(layer + 1, self.last + 1):
            above = self.network.layers[number]
            key, value = self._prefix[number]
            residual = self._row_residual(above, rows, key[selected], value[selected])
            rows = above.finish(residual, above.down(above.neurons(residual)))
        return rows

    def _prefix_layer(
        self, layer: Layer, hidden: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        residual = layer.residual(hidden, layer.attend(query, key, value, causal=True))
        return layer.finish(residual, layer.down(layer.neurons(residual)))

    def _row_residual(
        self, layer: Layer, rows: torch.Tensor, prefix_key: torch.Tensor, prefix_value: torch.Tensor
    ) -> torch.Tensor:
        query, key, value = layer.project(rows, self.network.heads)
        return layer.residual(rows, layer.attend_after_prefix(query, key, value, prefix_key, prefix_value))


def continue_from(network: Network, batch: PromptBatch) -> Continuation:
    """The continuation that fits the network's kind of blank."""
    kinds: dict[Blank, type[Continuation]] = {Blank.MASK: MaskedContinuation, Blank.CUT: CausalContinuation}
    return kinds[network.adapter.blank](network, batch)


def freeze(model: nn.Module) -> None:
    """Switches the model to evaluation and every parameter's gradient off: only activations are differentiated."""
    model.eval()
    model.requires_grad_(False)
