"""MEMIT (Meng et al. 2023): many keys get their outputs in the sense of least squares, against what other keys give.

    Δ = argmin ‖Δ K − R‖² + λ·tr(Δ C Δᵀ) = R Kᵀ (λ C + K Kᵀ)⁻¹ ,

K having a column for each key, R one for what its output lacks.
"""

from __future__ import annotations

import torch

from ...errors import EditError
from .solving import solved


def solve(keys: torch.Tensor, covariance: torch.Tensor, preserve: float) -> torch.Tensor:
    """The map from residuals to the change: Δ = R·M.

    Args:
        keys: K, [n, U].
        covariance: C, [n, n], positive definite.
        preserve: λ in parts of the mean of kᵀC⁻¹k over the keys; so a key that has nothing in common with others gets
            about 1 ÷ (1 + this) of what it lacks.

    Returns:
        M, [U, n].

    Raises:
        EditError: if the covariance is singular, or every key zero.
    """
    weighted = weight(keys, covariance, preserve) * covariance
    return solved(weighted + keys @ keys.T, keys, "the covariance with the edited keys").T


def weight(keys: torch.Tensor, covariance: torch.Tensor, preserve: float) -> float:
    """λ.

    Raises:
        EditError: if the covariance is singular, or every key zero.
    """
    along = (keys * solved(covariance, keys, "the covariance")).sum(0)
    if not bool(along.mean() > 0):
        raise EditError("the facts' keys are zero in this layer; choose another one")
    return preserve * float(along.mean())
