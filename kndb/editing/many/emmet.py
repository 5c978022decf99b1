"""EMMET (Gupta et al. 2024): many keys get exactly their outputs, at the least change of others' outputs.

    Δ = argmin tr(Δ C Δᵀ) with Δ K = R:   Δ = R (Kᵀ C⁻¹ K + ε I)⁻¹ Kᵀ C⁻¹ ,   ε = 0

It needs fewer keys than a key has numbers, and none that the others make up; ε > 0 does without either, and makes it
MEMIT with λ = ε.
"""

from __future__ import annotations

import torch

from ...advice import option
from ...errors import EditError
from .solving import solved


def solve(keys: torch.Tensor, covariance: torch.Tensor, slack: float) -> torch.Tensor:
    """The map from residuals to the change: Δ = R·M.

    Args:
        keys: K, [n, U].
        covariance: C, [n, n], positive definite.
        slack: ε in parts of the mean of kᵀC⁻¹k.

    Returns:
        M, [U, n].

    Raises:
        EditError: if the covariance is singular, or the outputs can't all be given.
    """
    directions = solved(covariance, keys, "the covariance")
    gram = keys.T @ directions
    gram = (gram + gram.T) / 2
    gram += slack * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    factor, failed = torch.linalg.cholesky_ex(gram)
    least = factor.diagonal().min() / factor.diagonal().max() if not failed else torch.zeros(())
    if bool(failed) or not least > 1e-7:
        raise EditError(
            f"{keys.shape[1]} keys of {keys.shape[0]} numbers can't all be given exactly what is wanted: they are not "
            f"independent; set {option('slack', 0.1)}, or use memit"
        )
    return torch.cholesky_solve(directions.T, factor)
