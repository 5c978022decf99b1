"""Equations with covariances, which may be next to singular: what can't be solved is refused, and never guessed."""

from __future__ import annotations

import torch

from ...advice import option
from ...errors import EditError

_MOST_CONDITION = 1e12
"""Above, a solution in double precision has some four right digits at most."""


def typical_entry(covariance: torch.Tensor) -> torch.Tensor:
    """The median of what stands on a covariance's diagonal, neurons that are never active aside; 0 if none is.

    The mean would be that of a few neurons. In a layer with ReLU most may be idle, and the median of all nothing.
    """
    diagonal = covariance.diagonal()
    active = diagonal[diagonal > 0]
    return active.median() if len(active) else diagonal.new_zeros(())


def solved(matrix: torch.Tensor, right: torch.Tensor, what: str) -> torch.Tensor:
    """matrix⁻¹·right, by Cholesky's factor.

    Args:
        matrix: symmetric, positive definite, [n, n].
        right: [n, U].
        what: what the matrix is, for the message.

    Raises:
        EditError: if it is singular, or next to it.
    """
    factor, failed = torch.linalg.cholesky_ex(matrix)
    diagonal = factor.diagonal()
    # The square of the diagonal's quotient is at most the condition.
    if bool(failed) or not bool(diagonal.max() < diagonal.min() * _MOST_CONDITION**0.5):
        raise EditError(
            f"{what} is singular, or next to it, so no change can be solved for: there are directions that none of its "
            f"keys has. Raise {option('ridge')}, or count it on more texts"
        )
    return torch.cholesky_solve(right, factor)
