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

import torch

from ..models.network import Network
from .log_odds import probability_slope
from .stages import answers_of_rows, odds_of_rows


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


@dataclass(frozen=True)
class AnswerRows:
    """What the unmodified network computes at the answer position, layer by layer.

    Attributes:
        activations: w̄ of each layer, [B, n].
        outputs: the FFN's output row of each layer, [B, d].
        residuals: what that output is added to, [B, d].
        silent: what would be the FFN's output if all neurons were at zero, [d] or [B, d].
    """

    activations: list[torch.Tensor] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)
    residuals: list[torch.Tensor] = field(default_factory=list)
    silent: list[torch.Tensor] = field(default_factory=list)

    def add(self, residual: torch.Tensor, activation: torch.Tensor, output: torch.Tensor, silent: torch.Tensor) -> None:
        """Notes the next layer's rows, outside the graph."""
        self.silent.append(silent.detach())
        self.residuals.append(residual.detach())
        self.activations.append(activation.detach())
        self.outputs.append(output.detach())


@dataclass(frozen=True)
class BasePass:
    """The unmodified network on a batch.

    Attributes:
        rows: what it computes at the answer position.
        gradients: ∂P/∂(output row) at α = 1 of each layer, [B, d], in the precision of the log odds.
        odds: the logarithm of P(1) / (1 − P(1)), [B].
        predicted: the most probable token, [B], and its probability, [B].
    """

    rows: AnswerRows
    gradients: tuple[torch.Tensor, ...]
    odds: torch.Tensor
    predicted: torch.Tensor
    predicted_probability: torch.Tensor

    @property
    def activations(self) -> list[torch.Tensor]:
        """w̄ of each layer, [B, n]."""
        return self.rows.activations

    @property
    def outputs(self) -> list[torch.Tensor]:
        """The FFN's output row of each layer, [B, d]."""
        return self.rows.outputs

    @property
    def residuals(self) -> list[torch.Tensor]:
        """What that output is added to, [B, d]."""
        return self.rows.residuals


@dataclass(frozen=True)
class Start:
    """Output rows [R, d] of one layer, of the prompts `selected` [R], that go on through the layers above."""

    layer: int
    selected: torch.Tensor
    rows: torch.Tensor


class Continuation(ABC):
    """Answers of a batch for other FFN output rows in any one layer, from what its base pass left behind.

    Attributes:
        network: the model in pieces.
        batch: the prompts; answers that were left to the model are its own.
        base: the base pass.
        part: rows that a layer computes at once where its weights are brought for all of them; 0 for all.
    """

    def __init__(self, network: Network, batch: PromptBatch, base: BasePass) -> None:
        self.network = network
        self.batch = batch
        self.base = base
        self.part = 0

    @property
    def last(self) -> int:
        """The number of the last layer."""
        return len(self.network.layers) - 1

    @abstractmethod
    def climb(self, starts: Sequence[Start]) -> torch.Tensor:
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
            starts.append(Start(layer, selected[rows], output))
            first = rows.stop
        return odds_of_rows(self.network, self.climb(starts), self.batch.answer[selected])


def zero_rows(network: Network, prompts: int) -> list[torch.Tensor]:
    """A leaf of zeros [B, d] for each layer, to add to its output row: the gradient there is that of the output."""
    like = network.word_embeddings
    shape = (prompts, network.hidden_size)
    return [torch.zeros(shape, device=like.device, dtype=like.dtype, requires_grad=True) for _ in network.layers]


def differentiated(
    network: Network, batch: PromptBatch, rows: AnswerRows, last: torch.Tensor, leaves: Sequence[torch.Tensor]
) -> tuple[PromptBatch, BasePass]:
    """The base pass from its forward pass, with the gradients of all layers from one backward pass.

    Args:
        network: the model in pieces.
        batch: the prompts.
        rows: what the forward pass gave at the answer position.
        last: the last layer's output rows, [B, d], within the graph.
        leaves: what was added to each layer's output row.

    Returns:
        The batch with the answers that were left to the model, and the base pass.
    """
    with torch.enable_grad():
        odds, answers = answers_of_rows(network, last, batch.answer)
        gradients = torch.autograd.grad(odds, leaves, torch.ones_like(odds))
    slopes = probability_slope(odds).unsqueeze(-1)
    # P·(1 − P) may be tiny; half precision would lose it on the way down.
    wide = tuple(slopes * gradient for gradient in gradients)
    base = BasePass(rows, wide, odds.detach(), answers.predicted, answers.probability)
    return replace(batch, answer=answers.chosen), base
