"""Knowledge attribution by integrated gradients (Dai et al. 2022, equations 2 and 3), batch by batch.

P(α) is the answer's probability when, at the answer position, a layer's whole FFN activation vector w̄ is replaced
by α·w̄. The score of neuron i is

    Attr(l, i) = w̄_i · ∫₀¹ ∂P/∂w_i (α·w̄) dα ,        with Σ_i Attr(l, i) = P(1) − P(0) for every layer.

The neurons reach the rest of the network only through the down projection W, so the gradient is taken with respect
to its output row o (size d) and projected once: Attr = w̄ ⊙ (Wᵀ Σ_k ω_k ∂P/∂o(α_k)), with o(α) = b + α·W·w̄.

How far each integral may be off is estimated from values already at hand (`Rule.tail_matrices`): P at 0, 1 and the
nodes and P′(α) = (W·w̄)·∂P/∂o there fix one polynomial, whose highest Legendre coefficients show what the rule can't
integrate. Its error on the highest is the completeness error itself, |Σ Attr − (P(1) − P(0))|; the others keep that
from vanishing by chance, and tell how fast more nodes would help. Where the estimate exceeds the tolerance, the prompt
and layer go to the finer rule that should do. Rounding sets an end to it: no error is asked for under what the
precision computed in leaves of a difference of probabilities.

All of it is computed from the log odds x of the answer: ∂P/∂o = P·(1 − P)·∂x/∂o, and differences of P from
differences of x. A model that is sure of its answer (P within 1e-5 of 1, say) would otherwise leave only rounding
errors of P in single precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .continuation import Continuation, probability_change, probability_slope
from .method import MethodScores
from .quadrature import Quadrature, Rule

RELATIVE_FLOOR = 0.1
"""A layer's error is relative to its |P(1) − P(0)|, but at least to this share of the largest among all layers."""

SMALLEST = 1e-30
"""Keeps an error relative to nothing at all from being infinite."""

ROUNDING = 16.0
"""Units of rounding that log odds are taken to be off by."""

SETTLED = 9
"""From this many nodes on, a rule whose estimate is no better than that of a coarser one is given up for that one."""

FADING = 0.3
"""How much of the second highest coefficient is taken for the highest, should that one be small by chance."""

SLOWEST, FASTEST = 0.5, 0.01
"""The range of the factor by which one more node is expected to lessen the error."""


def integrated_gradients(
    continuation: Continuation,
    selected: torch.Tensor,
    quadrature: Quadrature,
    most_rows: int,
    unit: float | None = None,
) -> MethodScores:
    """Attributes every layer of the selected prompts of a batch.

    Args:
        continuation: the batch's base pass.
        selected: indices into the batch, [S].
        quadrature: the rules to use.
        most_rows: the number of (prompt, node) pairs to run at once, at least 1.
        unit: the unit of rounding computed in; None for that of the parameters' dtype.

    Returns:
        Scores [S, L, n]; completeness errors, |Σ_i Attr − (P(1) − P(0))| relative to max(|P(1) − P(0)|, 0.1 · the
        largest |P(1) − P(0)| among the layers), [S, L]; gradient evaluations, α = 1 counted once, [S].
    """
    network = continuation.network
    layers = [
        _LayerIntegral(continuation, layer, selected, quadrature, most_rows) for layer in range(len(network.layers))
    ]
    changes = torch.stack([layer.change.abs() for layer in layers], dim=1)  # [S, L]
    floor = RELATIVE_FLOOR * changes.amax(dim=1) if len(selected) else changes[:, 0]
    unit = torch.finfo(network.word_embeddings.dtype).eps / 2 if unit is None else unit
    per_layer = [layer.integrate(floor, unit) for layer in layers]
    evaluations = sum((result.evaluations for result in per_layer), torch.zeros_like(selected))
    return MethodScores(
        scores=torch.stack([result.scores for result in per_layer], dim=1),
        completeness_error=torch.stack([result.completeness_error for result in per_layer], dim=1),
        evaluations=evaluations + int(any(rule.shared for rule in quadrature.rules)),
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

    def __init__(
        self,
        continuation: Continuation,
        layer: int,
        selected: torch.Tensor,
        quadrature: Quadrature,
        most_rows: int,
    ) -> None:
        self._continuation = continuation
        self._layer = layer
        self._selected = selected
        self._quadrature = quadrature
        self._most_rows = most_rows
        base, module = continuation.base, continuation.network.layers[layer]
        self._bias = module.bias
        self._matrix = module.down_matrix
        self._activation = base.activations[layer]
        self._direction = base.outputs[layer] - self._bias  # W·w̄, [B, d]
        self._at_one = base.odds
        # A rule that begins at zero has P(0) among its nodes.
        first = quadrature.rules[0]
        self._kept = self._evaluate(selected, first) if first.nodes[0] == 0.0 else None
        self._at_zero = self._log_odds_at_zero() if self._kept is None else self._kept[0][:, 0]
        self.change = probability_change(self._at_one[selected], self._at_zero)

    def integrate(self, floor: torch.Tensor, unit: float) -> _LayerResult:
        """Climbs the quadrature's rules until every estimate is under its tolerance.

        Args:
            floor: the least change of probability that errors are relative to, [S].
            unit: the unit of rounding computed in.
        """
        count, neurons = len(self._selected), self._activation.shape[1]
        result = _LayerResult(
            scores=self._activation.new_zeros(count, neurons, dtype=self._at_one.dtype),
            completeness_error=torch.zeros_like(self.change),
            evaluations=torch.zeros_like(self._selected),
        )
        scale = torch.maximum(self.change.abs(), floor).clamp_min(SMALLEST)
        tolerance = self._tolerance(scale, unit)
        estimates = torch.full_like(scale, math.inf)
        rung = torch.zeros_like(self._selected)
        for number, rule in enumerate(self._quadrature.rules):
            pending = (rung == number).nonzero()[:, 0]
            if not len(pending):
                continue
            prompts = self._selected[pending]
            kept, self._kept = self._kept, None
            odds, gradients = self._evaluate(prompts, rule) if kept is None else kept
            scores = self._scores(prompts, gradients, rule)
            completeness = (scores.sum(-1) - self.change[pending]).abs() / scale[pending]
            result.evaluations[pending] += len(rule.new_nodes)
            better = torch.ones_like(pending, dtype=torch.bool)
            if tolerance is not None:
                tail = self._tail(prompts, pending, rule, odds, gradients) / scale[pending].unsqueeze(-1)
                estimate = torch.maximum(completeness, torch.maximum(tail[:, 0], FADING * tail[:, 1]))
                following = self._next_rung(number, tail, estimate, tolerance[pending])
                settled = (estimate >= estimates[pending]) & (len(rule.nodes) >= SETTLED)
                better = ~settled
                rung[pending] = torch.where(settled, -1, following)
                estimates[pending] = estimate
            result.scores[pending[better]] = scores[better]
            result.completeness_error[pending[better]] = completeness[better]
        return result

    def _tolerance(self, scale: torch.Tensor, unit: float) -> torch.Tensor | None:
        """The error asked for, relative to `scale`, [S]: the quadrature's, but no less than what rounding leaves."""
        if self._quadrature.tolerance is None:
            return None
        slope = torch.maximum(probability_slope(self._at_one[self._selected]), probability_slope(self._at_zero))
        return (ROUNDING * unit * slope / scale).clamp_min(self._quadrature.tolerance)

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
        wide = gradients.to(self._at_one.dtype)
        integral = torch.einsum("k,skd->sd", wide.new_tensor(rule.weights), wide)
        projected = integral.to(self._matrix.dtype) @ self._matrix
        return self._activation[prompts].to(wide.dtype) * projected.to(wide.dtype)

    def _tail(
        self,
        prompts: torch.Tensor,
        pending: torch.Tensor,
        rule: Rule,
        odds: torch.Tensor,
        gradients: torch.Tensor,
    ) -> torch.Tensor:
        """What the interpolant's highest coefficients would add to the rule's error, highest first: [S, 4]."""
        from_slopes, from_changes, error = rule.tail_matrices()
        wide = gradients.to(odds.dtype)
        slopes = torch.einsum("sd,skd->sk", self._direction[prompts].to(wide.dtype), wide)
        inner = odds[:, [number for number, node in enumerate(rule.nodes) if 0.0 < node < 1.0]]
        path = torch.cat([self._at_zero[pending].unsqueeze(1), inner, self._at_one[prompts].unsqueeze(1)], dim=1)
        changes = probability_change(path[:, 1:], path[:, :-1])
        return error * (slopes @ slopes.new_tensor(from_slopes).T + changes @ slopes.new_tensor(from_changes).T).abs()

    def _next_rung(
        self, number: int, tail: torch.Tensor, estimate: torch.Tensor, tolerance: torch.Tensor
    ) -> torch.Tensor:
        """The rung that should reach the tolerance, [S]; −1 where this one does, or none is left."""
        rules = self._quadrature.rules
        fading = tail[:, :2].amax(1) / tail[:, 2:].amax(1).clamp_min(SMALLEST)
        missing = torch.log(estimate / tolerance) / -torch.log(fading.clamp(FASTEST, SLOWEST))
        wanted = len(rules[number].nodes) + missing.ceil().clamp(1, len(rules[-1].nodes))
        counts = wanted.new_tensor([len(rule.nodes) for rule in rules])
        rung = torch.searchsorted(counts, wanted).clamp(max=len(rules) - 1)
        return torch.where((estimate <= tolerance) | (rung <= number), -1, rung)
