"""MEMIT (Meng et al. 2023): many keys get their outputs in the sense of least squares, against what other keys give.

    Δ = argmin ‖Δ K − R‖² + λ·tr(Δ C Δᵀ) = R Kᵀ (λ C + K Kᵀ)⁻¹ ,

K having a column for each key, R one for what its output lacks.
"""

from __future__ import annotations

import torch


def solve(keys: torch.Tensor, covariance: torch.Tensor, preserve: float) -> torch.Tensor:
    """The map from residuals to the change: Δ = R·M.

    Args:
        keys: K, [n, U].
        covariance: C, [n, n], positive definite.
        preserve: λ on C scaled to the keys: the trace of λC is this times the keys' mean squared length.

    Returns:
        M, [U, n].
    """
    weighted = scaled(covariance, keys, preserve)
    found: torch.Tensor = torch.linalg.solve(weighted + keys @ keys.T, keys).T
    return found


def scaled(covariance: torch.Tensor, keys: torch.Tensor, weight: float) -> torch.Tensor:
    """C times what makes its trace a weight times the keys' mean squared length."""
    return covariance * (weight * keys.square().sum(0).mean() / covariance.trace())
