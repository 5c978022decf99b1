"""Knowledge attribution by integrated gradients (Dai et al. 2022, equations 2 and 3), batch by batch.

P(α) is the answer's probability when, at the answer position, a layer's whole FFN activation vector w̄ is replaced
by α·w̄. The score of neuron i is

    Attr(l, i) = w̄_i · ∫₀¹ ∂P/∂w_i (α·w̄) dα ,        with Σ_i Attr(l, i) = P(1) − P(0) for every layer.

The neurons reach the rest of the network only through the down projection W, so the gradient is taken with respect
to its output row o (size d) and projected once: Attr = w̄ ⊙ (Wᵀ Σ_k ω_k ∂P/∂o(α_k)), with o(α) = b + α·W·w̄.

Which α are evaluated, and what each weighs, is decided by `bisection`, from P and P′(α) = (W·w̄)·∂P/∂o there, or by a
fixed rule. Nodes of all layers and prompts are run together, in parts that fit the memory.

All of it is computed from the log odds x of the answer: ∂P/∂o = P·(1 − P)·∂x/∂o, and differences of P from
differences of x. A model that is sure of its answer (P within 1e-5 of 1, say) would otherwise leave only rounding
errors of P in single precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from .bisection import RELATIVE_FLOOR, SMALLEST, Bisection
from .continuation import Continuation
from .log_odds import probability_change, probability_slope
from .method import PromptScores
from .quadrature import Quadrature, QuadratureRule


def integrated_gradients(
    continuation: Continuation,
    selected: torch.Tensor,
    quadrature: Quadrature,
    most_rows: int,
    unit: float | None = None,
) -> PromptScores:
    """Attributes every layer of the selected prompts of a batch.

    Args:
        continuation: the batch's base pass.
        selected: indices into the batch, [S].
        quadrature: bisection, or the rule to use.
        most_rows: the number of (prompt, node) pairs to run at once, at least 1.
        unit: the unit of rounding computed in; None for that of the parameters' dtype.

    Returns:
        Scores [S, L, n]; completeness errors, |Σ_i Attr − (P(1) − P(0))| relative to max(|P(1) − P(0)|, 0.1 · the
        largest |P(1) − P(0)| among the layers), [S, L]; gradient evaluations, α = 1 counted once, [S].
    """
    nodes = _Nodes.of(continuation, selected, most_rows)
    if not len(selected):
        scores = nodes.scores(nodes.integral_of_nothing())
        changes, evaluations = nodes.at_one[:0], torch.zeros_like(selected)
    elif quadrature.rule is not None:
        scores, changes, evaluations = _by_rule(nodes, quadrature.rule)
    else:
        if unit is None:
            unit = torch.finfo(continuation.network.word_embeddings.dtype).eps / 2
        scores, changes, evaluations = _by_bisection(nodes, quadrature, unit)
    changes = changes.view(len(continuation.network.layers), -1)  # [L, S]
    sizes = changes.abs()
    scale = torch.maximum(sizes, RELATIVE_FLOOR * sizes.amax(dim=0) if len(selected) else sizes).clamp_min(SMALLEST)
    errors = (scores.sum(-1) - changes.T).abs() / scale.T
    return PromptScores(scores, errors, evaluations + int(quadrature.shared))


def _by_rule(nodes: _Nodes, rule: QuadratureRule) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Scores [S, L, n], P(1) − P(0) [L·S], and evaluations [S], by one rule for all."""
    count = nodes.count
    integral = nodes.integral_of_nothing()
    if rule.shared:
        integral += rule.weights[-1] * nodes.base_gradients()
    weights = dict(zip(rule.nodes, rule.weights, strict=True))
    every = np.arange(count).repeat(len(rule.new_nodes))
    alpha = np.tile(np.asarray(rule.new_nodes), count)
    at_zero = torch.empty_like(nodes.at_one)
    for place, odds, gradients in nodes.evaluate(every, alpha):
        owners = torch.from_numpy(every[place]).to(integral.device)
        weight = integral.new_tensor([weights[node] for node in alpha[place].tolist()])
        integral.index_add_(0, owners, weight.unsqueeze(-1) * gradients.to(integral.dtype))
        zero = torch.from_numpy(alpha[place] == 0.0).to(integral.device)
        at_zero[owners[zero]] = odds[zero]
    if rule.nodes[0] != 0.0:  # a rule that begins at zero has P(0) among its nodes
        at_zero = nodes.odds_at_zero()
    evaluations = torch.full_like(nodes.selected, len(rule.new_nodes) * (count // len(nodes.selected)))
    return nodes.scores(integral), probability_change(nodes.at_one, at_zero), evaluations


def _by_bisection(
    nodes: _Nodes, quadrature: Quadrature, unit: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same, by bisection."""
    assert quadrature.tolerance is not None
    assert quadrature.most_evaluations is not None
    base = nodes.base_gradients()
    shape = (-1, len(nodes.selected))
    bisection = Bisection(
        nodes.at_one.view(shape).cpu().double().numpy(),
        (base * nodes.directions()).sum(-1).view(shape).cpu().double().numpy(),
        quadrature.tolerance,
        quadrature.most_evaluations,
        unit,
    )
    kept = [base]
    while True:
        while len(bisection.ask()[0]):
            odds, slopes, gradients = nodes.evaluate_all(*bisection.ask())
            kept.append(gradients)
            bisection.tell(odds, slopes)
        kept = [torch.cat(kept)]
        integral = nodes.integral_of_nothing()
        owners = torch.from_numpy(bisection.owner).to(base.device)
        weights = torch.from_numpy(bisection.weights()).to(base.device, base.dtype)
        integral.index_add_(0, owners, weights.unsqueeze(-1) * kept[0])
        scores = nodes.scores(integral)
        bisection.bound(scores.abs().amax((1, 2)).cpu().double().numpy())
        if not len(bisection.ask()[0]):
            break
    changes = torch.from_numpy(bisection.changes).to(base.device, base.dtype)
    evaluations = torch.from_numpy(bisection.evaluations).to(base.device).view(shape).sum(0)
    return scores, changes, evaluations


@dataclass(frozen=True)
class _Nodes:
    """Evaluates the integrands of all layers of S prompts; integral l·S + s is layer l's of prompt s.

    Attributes:
        continuation: the batch's base pass.
        selected: indices into the batch, [S].
        most_rows: nodes to run at once.
        at_one: log odds of the unmodified network for each integral, [L·S].
        bias: what each layer's FFN writes at α = 0, [L, 1, d]; [L, S, d] where that depends on the prompt.
        written: W·w̄ of each integral, [L·S, d].

    All of it but the rows that the network is given is in the precision of the log odds.
    """

    continuation: Continuation
    selected: torch.Tensor
    most_rows: int
    at_one: torch.Tensor
    bias: torch.Tensor
    written: torch.Tensor

    @classmethod
    def of(cls, continuation: Continuation, selected: torch.Tensor, most_rows: int) -> _Nodes:
        """The integrals of some prompts of a batch."""
        base, layers, dtype = continuation.base, continuation.network.layers, continuation.base.odds.dtype
        silent = base.rows.silent
        bias = torch.stack([one.unsqueeze(0) if one.ndim == 1 else one[selected] for one in silent]).to(dtype)
        outputs = torch.stack([output[selected] for output in base.outputs])
        written = (outputs.to(dtype) - bias).flatten(0, 1)
        return cls(continuation, selected, most_rows, base.odds[selected].repeat(len(layers)), bias, written)

    @property
    def count(self) -> int:
        """How many integrals there are, L·S."""
        return len(self.continuation.network.layers) * len(self.selected)

    def directions(self, owner: np.ndarray | None = None) -> torch.Tensor:
        """W·w̄ of integrals, [·, d]."""
        return self.written if owner is None else self.written[torch.from_numpy(owner).to(self.at_one.device)]

    def base_gradients(self) -> torch.Tensor:
        """∂P/∂o at α = 1 of every integral, [L·S, d]."""
        return torch.cat([gradient[self.selected] for gradient in self.continuation.base.gradients])

    def integral_of_nothing(self) -> torch.Tensor:
        """Zeros for every integral, [L·S, d]."""
        return self.at_one.new_zeros(self.count, self.bias.shape[-1])

    def scores(self, integral: torch.Tensor) -> torch.Tensor:
        """w̄ ⊙ (Wᵀ · integral) for integrals [L·S, d]: [S, L, n]."""
        base = self.continuation.base
        by_layer = []
        for number, layer in enumerate(self.continuation.network.layers):
            rows = integral[number * len(self.selected) : (number + 1) * len(self.selected)]
            self.continuation.network.bring_layer(number, slots_only=True)
            by_layer.append(base.activations[number][self.selected].to(rows.dtype) * layer.block.on_slots(rows))
        return torch.stack(by_layer, dim=1)

    @torch.no_grad()
    def odds_at_zero(self) -> torch.Tensor:
        """Log odds at α = 0 of every integral, [L·S], without gradients."""
        parts = np.array_split(np.arange(self.count), -(-self.count // self.most_rows))
        return torch.cat([self._odds(part, self._rows(part, np.zeros(len(part)))) for part in parts])

    def evaluate(self, owner: np.ndarray, alpha: np.ndarray) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
        """Evaluates nodes in parts of at most `most_rows`: places among them, log odds [R], ∂P/∂o [R, d] as precise."""
        order = np.argsort(owner, kind="stable")  # layers never fall
        for start in range(0, len(order), self.most_rows):
            place = order[start : start + self.most_rows]
            with torch.enable_grad():
                rows = self._rows(owner[place], alpha[place]).requires_grad_()
                odds = self._odds(owner[place], rows)
                (gradient,) = torch.autograd.grad(odds, rows, torch.ones_like(odds))
            # P·(1 − P) may be tiny; half precision would lose it on the way down.
            yield place, odds.detach(), probability_slope(odds).unsqueeze(-1) * gradient

    def evaluate_all(self, owner: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
        """Log odds [N], P′ [N] and ∂P/∂o [N, d] of nodes, in their order."""
        odds, slopes = np.empty(len(owner)), np.empty(len(owner))
        gradients = self.at_one.new_empty(len(owner), self.bias.shape[-1])
        for place, some_odds, some_gradients in self.evaluate(owner, alpha):
            gradients[torch.from_numpy(place).to(gradients.device)] = some_gradients
            odds[place] = some_odds.cpu().double().numpy()
            slopes[place] = (some_gradients * self.directions(owner[place])).sum(-1).cpu().double().numpy()
        return odds, slopes, gradients

    def _rows(self, owner: np.ndarray, alpha: np.ndarray) -> torch.Tensor:
        """o(α) of some nodes: [R, d]."""
        which = torch.from_numpy(owner).to(self.bias.device)
        factor = torch.from_numpy(alpha).to(self.bias.device, self.bias.dtype).unsqueeze(-1)
        layer, prompt = which // len(self.selected), which % len(self.selected)
        rows = self.bias[layer, prompt % self.bias.shape[1]] + factor * self.written[which]
        return rows.to(self.continuation.network.word_embeddings.dtype)

    def _odds(self, owner: np.ndarray, rows: torch.Tensor) -> torch.Tensor:
        layers = (owner // len(self.selected)).tolist()
        prompts = self.selected[torch.from_numpy(owner % len(self.selected)).to(self.selected.device)]
        return self.continuation.log_odds(layers, prompts, rows)
