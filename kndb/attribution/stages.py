"""Steps of a network whose weights may not be where they are computed: each layer is brought once for all rows.

Where all weights are there, a step is computed as it is. Where they are not, `through_layer` brings the layer, runs all
rows through it in parts, and keeps of the graph only what went in; on the way back it brings the layer again and
computes each part again, now with its graph, for the gradient. So the memory is that of one layer's weights, of one
part's activations there, and of the rows that went into each layer; and a layer is read twice for the gradients of any
number of rows, the topmost once.

The head gives one number for each row, so its gradient is computed on the way up and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..models.network import Network
from .log_odds import answer_log_odds

Step = Callable[..., torch.Tensor]
"""(slice of the rows, these rows of each tensor) to the rows that leave the layer."""

HEAD_BYTES = 2**23
"""Of logits held at once where the head is brought."""


def through_layer(network: Network, number: int, step: Step, *tensors: torch.Tensor, part: int = 0) -> torch.Tensor:
    """Runs a step of a layer on rows.

    Args:
        network: the model in pieces.
        number: the layer whose weights the step uses.
        step: a function of rows that can be computed again: what it notes beside its result, it notes once.
        tensors: what it differentiates, R rows each.
        part: rows to compute at once where weights are brought; 0 for all.

    Returns:
        What the step gives for all rows.
    """
    if network.residency is None:
        return step(slice(None), *tensors)
    found: torch.Tensor = _Brought.apply(network, number, step, part, *tensors)  # type: ignore[no-untyped-call]
    return found


def odds_of_rows(network: Network, rows: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """log(P / (1 − P)) of answers [R], from rows of the last layer's output [R, d]."""
    if network.residency is None:
        return answer_log_odds(network.logits(rows), answer)
    found: torch.Tensor = _BroughtHead.apply(network, answer, rows)  # type: ignore[no-untyped-call]
    return found


@dataclass(frozen=True)
class RowAnswers:
    """What a model answers: the token asked about, the most probable one and its probability, each [R]."""

    chosen: torch.Tensor
    predicted: torch.Tensor
    probability: torch.Tensor


def answers_of_rows(network: Network, rows: torch.Tensor, answer: torch.Tensor) -> tuple[torch.Tensor, RowAnswers]:
    """The same with what the model answers; where the answer is left to it (−1), its own is asked about."""
    if network.residency is None:
        logits = network.logits(rows)
        answers = _answers(logits.detach(), answer)
        return answer_log_odds(logits, answers.chosen), answers
    with network.whole_head():
        with torch.no_grad():
            parts = [_answers(network.logits(rows[some]), answer[some]) for some in _head_parts(network, len(rows))]
        answers = RowAnswers(
            torch.cat([one.chosen for one in parts]),
            torch.cat([one.predicted for one in parts]),
            torch.cat([one.probability for one in parts]),
        )
        return odds_of_rows(network, rows, answers.chosen), answers


def _answers(logits: torch.Tensor, answer: torch.Tensor) -> RowAnswers:
    probability, predicted = logits.float().softmax(-1).max(-1)
    return RowAnswers(torch.where(answer < 0, predicted, answer), predicted, probability)


def _head_parts(network: Network, rows: int) -> Iterator[slice]:
    """Rows whose logits are held at once."""
    vocabulary = int(network.word_embeddings.shape[0])
    return _parts(rows, max(1, HEAD_BYTES // (4 * vocabulary)))


def _parts(rows: int, part: int) -> Iterator[slice]:
    size = part or max(1, rows)
    return (slice(start, start + size) for start in range(0, max(1, rows), size))


class _Brought(torch.autograd.Function):
    """See `through_layer`."""

    @staticmethod
    def forward(
        context: Any, network: Network, number: int, step: Step, part: int, *tensors: torch.Tensor
    ) -> torch.Tensor:
        """The step on each part of the rows."""
        context.network, context.number, context.step, context.part = network, number, step, part
        context.save_for_backward(*tensors)
        network.bring_layer(number)
        done = [step(rows, *(one[rows] for one in tensors)) for rows in _parts(len(tensors[0]), part)]
        return done[0] if len(done) == 1 else torch.cat(done)

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The step again on each part, and its gradient."""
        tensors = context.saved_tensors
        wanted = [place for place in range(len(tensors)) if context.needs_input_grad[4 + place]]
        context.network.bring_layer(context.number)
        parts = []
        for rows in _parts(len(tensors[0]), context.part):
            with torch.enable_grad():
                inputs = [one[rows].detach().requires_grad_(place in wanted) for place, one in enumerate(tensors)]
                done = context.step(rows, *inputs)
            parts.append(torch.autograd.grad(done, [inputs[place] for place in wanted], gradients[0][rows]))
        found: list[torch.Tensor | None] = [None] * len(tensors)
        for place, some in zip(wanted, zip(*parts, strict=True), strict=True):
            found[place] = some[0] if len(some) == 1 else torch.cat(some)
        return (None, None, None, None, *found)


class _BroughtHead(torch.autograd.Function):
    """See `odds_of_rows`."""

    @staticmethod
    def forward(context: Any, network: Network, answer: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Log odds, and their gradients."""
        odds, gradients = [], []
        with network.whole_head(), torch.enable_grad():
            for some in _head_parts(network, len(rows)):
                mine = rows[some].detach().requires_grad_()
                found = answer_log_odds(network.logits(mine), answer[some])
                odds.append(found.detach())
                gradients.append(torch.autograd.grad(found.sum(), mine)[0])
        context.save_for_backward(torch.cat(gradients))
        return torch.cat(odds)

    @staticmethod
    def backward(context: Any, *slopes: torch.Tensor) -> tuple[None, None, torch.Tensor]:
        """The gradients that were kept."""
        (gradients,) = context.saved_tensors
        return None, None, (gradients * slopes[0].unsqueeze(-1)).to(gradients.dtype)
