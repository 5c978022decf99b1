"""Gradient times activation: the integrated gradient with a single node, at the unmodified network."""

from __future__ import annotations

import torch

from .continuation import Continuation
from .method import PromptScores, ScoringOptions


def gradient_x_activation(continuation: Continuation, selected: torch.Tensor, options: ScoringOptions) -> PromptScores:  # noqa: ARG001
    """w̄_i · ∂P/∂w_i at α = 1, of all layers from the one backward pass of the base: [S, L, n]."""
    base, scores = continuation.base, []
    for number, layer in enumerate(continuation.network.layers):
        continuation.network.bring_layer(number, slots_only=True)
        scores.append(base.activations[number][selected] * layer.block.on_slots(base.gradients[number][selected]))
    return PromptScores(torch.stack(scores, dim=1), None, torch.ones_like(selected))
