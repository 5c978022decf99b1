"""What a method of attribution is: a function from a batch's base pass to scores, and what to say of it.

Imports no torch: refining and listing ask what there is to say, and compute nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .quadrature import Quadrature

if TYPE_CHECKING:
    import torch

    from .continuation import Continuation


@dataclass(frozen=True)
class PromptScores:
    """What a method gives for S prompts, L layers, n neurons.

    Attributes:
        scores: [S, L, n], in float32 or wider.
        completeness_error: [S, L]; None where the scores need not sum to anything.
        evaluations: gradient evaluations spent on each prompt, [S].
    """

    scores: torch.Tensor
    completeness_error: torch.Tensor | None
    evaluations: torch.Tensor


@dataclass(frozen=True)
class ScoringOptions:
    """What methods may need beside the base pass.

    Attributes:
        quadrature: the integration rules.
        most_rows: rows to run at once, at least 1.
        seed: of everything drawn at random.
        facts: the fact of each selected prompt, [S].
        unit: the unit of rounding computed in; None for that of the parameters' dtype.
    """

    quadrature: Quadrature
    most_rows: int
    seed: int
    facts: Sequence[int]
    unit: float | None = None


ScoreFunction: TypeAlias = "Callable[[Continuation, torch.Tensor, ScoringOptions], PromptScores]"


@dataclass(frozen=True)
class AttributionMethod:
    """A kind of score.

    Attributes:
        name: what `--method` takes.
        compute: (base pass, indices of the selected prompts [S], options) to scores.
        cost: what it costs per prompt, in words.
        source: where it comes from.
        threshold: the share of a prompt's largest score that coarse sets ask for by default.
        integrates: whether it uses the quadrature.
        draws: whether it uses the seed.
    """

    name: str
    compute: ScoreFunction
    cost: str
    source: str
    threshold: float = 0.2
    integrates: bool = False
    draws: bool = False
