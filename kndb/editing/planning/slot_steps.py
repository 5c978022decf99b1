"""Gradient steps on value slots that write to what is asked and little to all else.

A layer's value slots V [k, d] add wᵀV to the residual stream, with w the slots' neurons. A change Δ of them changes
what all prompts read, by wᵀΔ. Of two changes that do the same for the prompts of the gradient, the one along P·G does
less to the others than the one along the gradient G itself, where

    P = (C / mean diag C  +  λ I)⁻¹ ,   C = E[w wᵀ]  over the kept prompts' positions

are the neurons' second moments: neurons, and sums of neurons, that are active everywhere move little, those that tell
prompts apart move much. (ROME and MEMIT solve for Δ with the same matrix; here it shapes each step.) A step is

    M ← 0.9 M + 0.1 G        Δ ← Δ − η · P M̂ / √ŝ        s ← 0.95 s + 0.05 · mean (P M̂)²

with M̂ and ŝ corrected for their beginning as Adam does, and s one number for each layer: Adam's mean of squares for
each number would undo what P does. Then each ‖Δv‖ is shortened to at most c·‖v‖.

Shapes: k slots of a layer, d hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from .resuming import StepsTaken

_MEAN, _SQUARE = 0.9, 0.95


class SlotSteps:
    """Changes of value slots, and the steps that move them.

    Attributes:
        changes: Δv by layer, [k, d]; gradients reach them.
        taken: how many steps were taken.

    Args:
        values: v by layer, [k, d].
        moments: C by layer, [k, k] in double precision; of a layer without, P is the identity.
        ridge: λ, above 0.
        bound: c.
    """

    def __init__(
        self, values: Mapping[int, torch.Tensor], moments: Mapping[int, torch.Tensor], ridge: float, bound: float
    ) -> None:
        self._lengths = {layer: of_layer.norm(dim=1, keepdim=True) for layer, of_layer in values.items()}
        self._bound = bound
        self._shaping = {layer: _shaping(moment, ridge).to(values[layer]) for layer, moment in moments.items()}
        self._means = {layer: torch.zeros_like(of_layer) for layer, of_layer in values.items()}
        self._squares = {layer: of_layer.new_zeros(()) for layer, of_layer in values.items()}
        self.changes = {layer: torch.zeros_like(of_layer).requires_grad_() for layer, of_layer in values.items()}
        self.taken = 0

    @property
    def mean_length(self) -> float:
        """The mean of ‖v‖."""
        return torch.cat(list(self._lengths.values())).mean().item()

    @torch.no_grad()
    def first(self, gradients: Sequence[torch.Tensor]) -> dict[int, torch.Tensor]:
        """The change that the first step makes along gradients, at a rate of 1, [k, d] by layer."""
        found = {}
        for layer, gradient in zip(self.changes, gradients, strict=True):
            along = self._shaped(layer, gradient)
            found[layer] = -along / along.square().mean().sqrt().clamp_min(1e-30)
        return found

    def _shaped(self, layer: int, gradient: torch.Tensor) -> torch.Tensor:
        """P·G."""
        return self._shaping[layer] @ gradient if layer in self._shaping else gradient

    @torch.no_grad()
    def take(self, gradients: Sequence[torch.Tensor], rate: float) -> None:
        """One step along gradients, in the order of the changes; `rate` is η."""
        self.taken += 1
        for (layer, change), gradient in zip(self.changes.items(), gradients, strict=True):
            mean, square = self._means[layer], self._squares[layer]
            mean.mul_(_MEAN).add_(gradient, alpha=1 - _MEAN)
            along = self._shaped(layer, mean / (1 - _MEAN**self.taken))
            square.mul_(_SQUARE).add_((along**2).mean(), alpha=1 - _SQUARE)
            change -= rate * along / (square / (1 - _SQUARE**self.taken)).sqrt().clamp_min(1e-30)
            allowed = self._bound * self._lengths[layer]
            change *= (allowed / change.norm(dim=1, keepdim=True).clamp_min(1e-30)).clamp_max(1)

    def relative_square(self) -> torch.Tensor:
        """The mean of (‖Δv‖ ÷ ‖v‖)² over slots, with a graph."""
        ratios = torch.cat([(change / self._at_least(layer)).square().sum(1) for layer, change in self._each()])
        mean: torch.Tensor = ratios.mean()
        return mean

    @torch.no_grad()
    def largest(self) -> float:
        """The largest ‖Δv‖ ÷ ‖v‖."""
        ratios = [(change.norm(dim=1, keepdim=True) / self._at_least(layer)).max() for layer, change in self._each()]
        return float(torch.stack(ratios).max())

    def _each(self) -> Iterable[tuple[int, torch.Tensor]]:
        return self.changes.items()

    def _at_least(self, layer: int) -> torch.Tensor:
        lengths: torch.Tensor = self._lengths[layer].clamp_min(1e-30)
        return lengths

    # --- resuming ------------------------------------------------------------------------------------------

    def state(self, due: Sequence[int]) -> StepsTaken:
        """Where the steps stand, and when each prompt is due."""
        return StepsTaken(self.taken, self.changes, self._means, self._squares, due)

    @torch.no_grad()
    def resume(self, saved: StepsTaken) -> None:
        """Goes on from where other steps stood."""
        self.taken = saved.taken
        for own, other in (
            (self.changes, saved.changes),
            (self._means, saved.means),
            (self._squares, saved.squares),
        ):
            for layer, tensor in own.items():
                tensor.copy_(other[layer])


def _shaping(moment: torch.Tensor, ridge: float) -> torch.Tensor:
    """P, [k, k] in double precision."""
    mean = moment.diagonal().mean()
    if not bool(mean > 0):
        return torch.eye(len(moment), dtype=moment.dtype)
    identity = torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    factor = torch.linalg.cholesky(moment / mean + ridge * identity)
    return torch.cholesky_inverse(factor)
