"""Knowledge attribution by integrated gradients (Dai et al. 2022, equations 2 and 3), batch by batch.

P(α) is the answer's probability when, at the answer position, a layer's whole FFN activation vector w̄ is replaced
by α·w̄. The score of neuron i is

    Attr(l, i) = w̄_i · ∫₀¹ ∂P/∂w_i (α·w̄) dα ,        with Σ_i Attr(l, i) = P(1) − P(0) for every layer.

The neurons reach the rest of the network only through the down projection W, so the gradient is taken with respect
to its output row o (size d) and projected once: Attr = w̄ ⊙ (Wᵀ Σ_k ω_k ∂P/∂o(α_k)), with o(α) = b + α·W·w̄.

How far each integral may be off is estimated from values already at hand: the rule's interpolating polynomial of
P′(α) = (W·w̄)·∂P/∂o is integrated between neighbouring nodes and compared with the differences of P there. Where
that, or the completeness error itself, exceeds the tolerance, the prompt and layer go to the next finer rule.

All of it is computed from the log odds x of the answer: ∂P/∂o = P·(1 − P)·∂x/∂o, and differences of P from
differences of x. A model that is sure of its answer (P within 1e-5 of 1, say) would otherwise leave only rounding
errors of P in single precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import AttributionError
from ..models.network import Network
from .continuation import Continuation, PromptBatch, continue_from, probability_change, probability_slope
from .quadrature import Quadrature, Rule

RELATIVE_FLOOR = 0.1
"""A layer's error is relative to its |P(1) − P(0)|, but at least to this share of the largest among all layers."""

SMALLEST = 1e-30
"""Keeps an error relative to nothing at all from being infinite."""


@dataclass(frozen=True)
class BatchAttribution:
    """Scores and trust of one batch: B prompts, L layers, n neurons.

    Attributes:
        selected: indices into the batch that were attributed, [S].
        scores: Attr of the selected prompts, [S, L, n].
        completeness_error: |Σ_i Attr − (P(1) − P(0))| relative to
            max(|P(1) − P(0)|, 0.1 · the largest |P(1) − P(0)| among the layers), [S, L].
        evaluations: gradient evaluations spent on each selected prompt, α = 1 counted once, [S].
        probability: P(1) of every prompt of the batch, [B]; likewise the most probable token and its probability.
    """

    selected: torch.Tensor
    scores: torch.Tensor
    completeness_error: torch.Tensor
    evaluations: torch.Tensor
    probability: torch.Tensor
    predicted: torch.Tensor
    predicted_probability: torch.Tensor


def attribute_batch(
    network: Network,
    batch: PromptBatch,
    quadrature: Quadrature,
    *,
    most_rows: int,
    known_only: bool = False,
) -> BatchAttribution:
    """Attributes every layer of every prompt of a batch.

    Args:
        network: the model, its parameters frozen.
        batch: prompts of one length.
        quadrature: the rules to use.
        most_rows: the number of (prompt, node) pairs to run at once, at least 1.
        known_only: leave out the prompts whose most probable token is not the answer.

    Raises:
        AttributionError: if the model gives a probability that is not a number.
    """
    continuation = continue_from(network, batch)
    base = continuation.base
    if not bool(torch.isfinite(base.odds).all()):
        raise AttributionError("the model gives probabilities that are not numbers; its weights hold NaN or infinity")
    known = base.predicted == batch.answer
    selected = known.nonzero()[:, 0] if known_only else torch.arange(len(batch), device=batch.ids.device)
    layers = [_LayerIntegral(continuation, layer, selected, most_rows) for layer in range(len(network.layers))]
    changes = torch.stack([layer.change.abs() for layer in layers], dim=1)  # [S, L]
    floor = RELATIVE_FLOOR * changes.amax(dim=1) if len(selected) else changes[:, 0]
    per_layer = [layer.integrate(quadrature, floor) for layer in layers]
    evaluations = sum((result.evaluations for result in per_layer), torch.zeros_like(selected))
    return BatchAttribution(
        selected=selected,
        scores=torch.stack([result.scores for result in per_layer], dim=1),
        completeness_error=torch.stack([result.completeness_error for result in per_layer], dim=1),
        evaluations=evaluations + int(any(rule.shared for rule in quadrature.rules)),
        probability=base.odds.sigmoid(),
        predicted=base.predicted,
        predicted_probability=base.predicted_probability,
    )


@dataclass
class _LayerResult:
    scores: torch.Tensor  # [S, n]
    completeness_error: torch.Tensor  # [S]
    evaluations: torch.Tensor  # [S]


class _LayerIntegral:
    """The integrals of one layer for the selected prompts of a batch.

    Attributes:
        change: P(1) − P(0), [S].
    """

    def __init__(self, continuation: Continuation, layer: int, selected: torch.Tensor, most_rows: int) -> None:
        self._continuation = continuation
        self._layer = layer
        self._selected = selected
        self._most_rows = most_rows
        base, module = continuation.base, continuation.network.layers[layer]
        self._bias = module.bias
        self._matrix = module.down_matrix
        self._activation = base.activations[layer]
        self._direction = base.outputs[layer] - self._bias  # W·w̄, [B, d]
        self._at_one = base.odds
        self._at_zero = self._log_odds_at_zero()
        self.change = probability_change(self._at_one[selected], self._at_zero)

    def integrate(self, quadrature: Quadrature, floor: torch.Tensor) -> _LayerResult:
        """Climbs the quadrature's rules until every estimate is under its tolerance.

        Args:
            quadrature: the rules.
            floor: the least change of probability that errors are relative to, [S].
        """
        count, neurons = len(self._selected), self._activation.shape[1]
        result = _LayerResult(
            scores=self._activation.new_zeros(count, neurons),
            completeness_error=self._at_one.new_zeros(count),
            evaluations=torch.zeros_like(self._selected),
        )
        pending = torch.arange(count, device=self._selected.device)
        for rule in quadrature.rules:
            if not len(pending):
                break
            prompts = self._selected[pending]
            odds, gradients = self._evaluate(prompts, rule)
            scores = self._scores(prompts, gradients, rule)
            change = self.change[pending]
            scale = torch.maximum(change.abs(), floor[pending]).clamp_min(SMALLEST)
            completeness = (scores.sum(-1) - change).abs() / scale
            result.scores[pending] = scores
            result.completeness_error[pending] = completeness.to(result.completeness_error.dtype)
            result.evaluations[pending] += len(rule.new_nodes)
            if quadrature.tolerance is None:
                break
            estimate = self._segment_error(prompts, rule, odds, gradients, self._at_zero[pending]) / scale
            pending = pending[torch.maximum(estimate, completeness) > quadrature.tolerance]
        return result

    def _rows(self, prompts: torch.Tensor, nodes: Sequence[float]) -> torch.Tensor:
        """o(α) for each prompt and node: [S, K, d]."""
        alpha = self._direction.new_tensor(nodes).view(1, -1, 1)
        return self._bias + alpha * self._direction[prompts].unsqueeze(1)

    @torch.no_grad()
    def _log_odds_at_zero(self) -> torch.Tensor:
        parts = [
            self._continuation.log_odds(self._layer, part, self._rows(part, (0.0,)))[:, 0]
            for part in torch.split(self._selected, self._most_rows)
        ]
        return torch.cat(parts) if parts else self._at_one.new_zeros(0)

    def _evaluate(self, prompts: torch.Tensor, rule: Rule) -> tuple[torch.Tensor, torch.Tensor]:
        """Log odds and ∂P/∂o at every node of a rule: [S, K] and [S, K, d]; the shared node is the base's."""
        odds, gradients = self._evaluate_nodes(prompts, rule.new_nodes)
        if rule.shared:
            shared = self._continuation.base.gradients[self._layer][prompts].unsqueeze(1)
            odds = torch.cat([odds, self._at_one[prompts].unsqueeze(1)], dim=1)
            gradients = torch.cat([gradients, shared], dim=1)
        return odds, gradients

    def _evaluate_nodes(self, prompts: torch.Tensor, nodes: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        """Evaluates nodes in parts of at most `most_rows` (prompt, node) pairs."""
        at_once = max(1, self._most_rows // max(1, len(prompts)))
        by_node = []
        for start in range(0, len(nodes), at_once):
            some = nodes[start : start + at_once]
            by_prompt = [
                self._gradient(part, some) for part in torch.split(prompts, max(1, self._most_rows // len(some)))
            ]
            by_node.append(tuple(torch.cat(values) for values in zip(*by_prompt, strict=True)))
        if not by_node:
            empty = self._direction[prompts].unsqueeze(1)[:, :0]
            return empty.sum(-1), empty
        return torch.cat([part[0] for part in by_node], dim=1), torch.cat([part[1] for part in by_node], dim=1)

    def _gradient(self, prompts: torch.Tensor, nodes: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            rows = self._rows(prompts, nodes).requires_grad_()
            odds = self._continuation.log_odds(self._layer, prompts, rows)
            (gradient,) = torch.autograd.grad(odds, rows, probability_slope(odds))
        return odds.detach(), gradient

    def _scores(self, prompts: torch.Tensor, gradients: torch.Tensor, rule: Rule) -> torch.Tensor:
        weights = gradients.new_tensor(rule.weights)
        integral = torch.einsum("k,skd->sd", weights, gradients)
        return self._activation[prompts] * (integral @ self._matrix)

    def _segment_error(
        self,
        prompts: torch.Tensor,
        rule: Rule,
        odds: torch.Tensor,
        gradients: torch.Tensor,
        at_zero: torch.Tensor,
    ) -> torch.Tensor:
        """Σ over segments of |∫ interpolated P′ − difference of P|, [S]."""
        slopes = torch.einsum("sd,skd->sk", self._direction[prompts], gradients)
        matrix = slopes.new_tensor(rule.segment_matrix())
        at_one = self._at_one[prompts]
        inner = odds[:, :-1] if rule.shared else odds
        path = torch.cat([at_zero.unsqueeze(1), inner, at_one.unsqueeze(1)], dim=1)
        changes = probability_change(path[:, 1:], path[:, :-1])
        return (slopes @ matrix.T - changes).abs().sum(-1)
