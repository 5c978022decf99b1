"""Random scores: a control for everything that follows from scores.

Scores are drawn from a Pareto distribution with exponent 1, of which a prompt's coarse set (a fifth of its largest
score) holds five on average, however many neurons there are. All prompts of a fact have the same scores, so that
refinement keeps them: what it gives is facts with a few neurons each that mean nothing.
"""

from __future__ import annotations

import torch

from .continuation import Continuation
from .method import PromptScores, ScoringOptions


def random_scores(continuation: Continuation, selected: torch.Tensor, options: ScoringOptions) -> PromptScores:
    """1/u with u uniform on (0, 1], drawn for each fact by the seed: [S, L, n]."""
    shape = len(continuation.network.layers), continuation.network.neurons
    draws = [1.0 / (1.0 - torch.rand(shape, generator=_generator(options.seed, fact))) for fact in options.facts]
    like = continuation.base.odds
    scores = torch.stack(draws) if draws else torch.zeros(0, *shape)
    return PromptScores(scores.to(like.device, like.dtype), None, torch.zeros_like(selected))


def _generator(seed: int, fact: int) -> torch.Generator:
    """A generator of its own for each seed and fact, on the CPU, so that no device draws otherwise."""
    return torch.Generator().manual_seed((seed * 1_000_003 + fact) % 2**63)
