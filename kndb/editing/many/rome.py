"""ROME (Meng et al. 2022): one key gets the output that is wanted, at the least change of others' outputs.

    Δ = r·(C⁻¹k)ᵀ ÷ (kᵀC⁻¹k) ,   r = z − W k ,

so (W + Δ)k = z, and tr(Δ C Δᵀ) is the least for that.
"""

from __future__ import annotations

import torch

from ...errors import EditError
from .solving import solved


def solve(keys: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """The map from residuals to the change: Δ = R·M.

    Args:
        keys: one key, [n, 1].
        covariance: C, [n, n], positive definite.

    Returns:
        M, [1, n].

    Raises:
        EditError: if there is not one key, it is zero, or the covariance is singular.
    """
    if keys.shape[1] != 1:
        raise EditError(f"ROME changes one fact at once (got {keys.shape[1]} keys); use memit or alphaedit")
    direction = solved(covariance, keys, "the covariance")
    along = (keys.T @ direction).item()
    if not along > 0:
        raise EditError("the fact's key is zero in this layer; choose another one")
    found: torch.Tensor = direction.T / along
    return found
