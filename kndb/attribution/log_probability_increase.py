"""How much each neuron alone raises the answer's log-probability, read by the head (Yu and Ananiadou 2024).

With h the residual stream that layer l's FFN output is added to, at the answer position, and v_i the value slot of
neuron i, the score is log p(y | h + w̄_i·v_i) − log p(y | h), where p(y | x) is the model's head on x (through the
layer's own norm first where that stands after the sum). No layer above is run and nothing is differentiated; but the
head runs once for each neuron.
"""

from __future__ import annotations

import torch

from ..models.network import Network
from .continuation import Continuation
from .method import PromptScores, ScoringOptions

ROWS_AT_ONCE = 16
"""Heads' rows to run at once, for each row of `most_rows`: they need no gradient and only one layer."""


@torch.no_grad()
def log_probability_increase(
    continuation: Continuation, selected: torch.Tensor, options: ScoringOptions
) -> PromptScores:
    """Log-probability increases of every neuron: [S, L, n]."""
    network = continuation.network
    with network.whole_head():
        scores = [
            _layer_scores(continuation, number, selected, max(1, ROWS_AT_ONCE * options.most_rows))
            for number in range(len(network.layers))
        ]
    return PromptScores(torch.stack(scores, dim=1), None, torch.zeros_like(selected))


def _layer_scores(continuation: Continuation, number: int, selected: torch.Tensor, most_rows: int) -> torch.Tensor:
    base, network = continuation.base, continuation.network
    layer = network.layers[number]
    network.bring_layer(number, slots_only=True)
    slots = layer.slots
    scores = []
    for index in selected.tolist():
        residual, whole = base.residuals[number][index], base.outputs[number][index]
        answer = int(continuation.batch.answer[index])
        without = layer.finish_with_part(residual, whole, torch.zeros_like(whole))
        before = _log_probability(network, without.unsqueeze(0), answer)
        activations = base.activations[number][index]
        increases = before.new_zeros(network.neurons)  # Neurons at zero write nothing: those of other experts, say.
        for neurons in torch.split(activations.nonzero().flatten(), most_rows):
            written = activations[neurons].unsqueeze(-1) * slots[neurons]
            after = _log_probability(network, layer.finish_with_part(residual, whole, written), answer)
            increases[neurons] = after - before
        scores.append(increases)
    return torch.stack(scores) if scores else base.odds.new_zeros(0, network.neurons)


def _log_probability(network: Network, rows: torch.Tensor, answer: int) -> torch.Tensor:
    """The answer's log-probability by the head on rows [R, d]: [R]."""
    logits = network.logits(rows)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide[:, answer] - wide.logsumexp(-1)
