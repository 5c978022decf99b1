"""AlphaEdit (Fang et al. 2025): as MEMIT, but in the null space of other keys alone, so that their outputs stay.

With P = U Uᵀ over the eigenvectors of C whose eigenvalues are next to nothing, and K_p the keys of earlier edits,

    Δ = R Kᵀ P (K_p K_pᵀ P + K Kᵀ P + λ I)⁻¹ = R KᵀU (Uᵀ(K_p K_pᵀ + K Kᵀ)U + λ I)⁻¹ Uᵀ ,

so Δ P = Δ, and Δ k = 0 for every k that has no part along U. A small feed-forward block may have no such directions:
the rank of P has to be looked at first.
"""

from __future__ import annotations

import torch

from ...advice import option
from ...errors import EditError


def null_space(covariance: torch.Tensor, threshold: float) -> torch.Tensor:
    """Eigenvectors of C whose eigenvalues are under a part of its median diagonal entry: U, [n, rank].

    Args:
        covariance: C, [n, n], without a ridge.
        threshold: which part.
    """
    values, vectors = torch.linalg.eigh(covariance)
    found: torch.Tensor = vectors[:, values < threshold * covariance.diagonal().median()]
    return found


def solve(keys: torch.Tensor, basis: torch.Tensor, earlier: torch.Tensor | None, damping: float) -> torch.Tensor:
    """The map from residuals to the change: Δ = R·M.

    Args:
        keys: K, [n, U].
        basis: U, [n, rank].
        earlier: K_p, the keys of earlier edits, [n, E]; None for none.
        damping: λ in parts of the mean squared length of what the keys have in the null space.

    Returns:
        M, [U, n].

    Raises:
        EditError: if the basis has no direction.
    """
    if not basis.shape[1]:
        raise EditError(
            "the covariance has no eigenvalue under the threshold: there is no null space to change; set a higher "
            f"{option('threshold')}, or use memit"
        )
    inside = basis.T @ keys
    system = inside @ inside.T + damping * inside.square().sum(0).mean() * torch.eye(len(inside), dtype=keys.dtype)
    if earlier is not None:
        before = basis.T @ earlier
        system = system + before @ before.T
    found: torch.Tensor = torch.linalg.solve(system, inside).T @ basis.T
    return found
