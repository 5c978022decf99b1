"""The activation itself as a score: the baseline of Dai et al. 2022, section 4.2."""

from __future__ import annotations

import torch

from .continuation import Continuation
from .method import PromptScores, ScoringOptions


def activation(continuation: Continuation, selected: torch.Tensor, options: ScoringOptions) -> PromptScores:  # noqa: ARG001
    """w̄_i of every neuron at the answer position: [S, L, n]."""
    scores = torch.stack([layer[selected] for layer in continuation.base.activations], dim=1)
    return PromptScores(scores.to(continuation.base.odds.dtype), None, torch.zeros_like(selected))
