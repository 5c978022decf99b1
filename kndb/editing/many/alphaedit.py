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
from .solving import solved, typical_entry


def null_space(covariance: torch.Tensor, threshold: float) -> torch.Tensor:
    """Eigenvectors of C whose eigenvalues are under a part of its typical diagonal entry: U, [n, rank].

    An eigenvalue that is only rounding counts as nothing, however low the threshold.

    Args:
        covariance: C, [n, n], without a ridge.
        threshold: which part.
    """
    values, vectors = torch.linalg.eigh(covariance)
    rounding = len(values) * torch.finfo(values.dtype).eps * values[-1]
    found: torch.Tensor = vectors[:, values < torch.maximum(threshold * typical_entry(covariance), rounding)]
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
        EditError: if the basis has no direction, the keys have nothing in it, or the system is next to singular.
    """
    if not basis.shape[1]:
        raise EditError(
            "the covariance has no eigenvalue under the threshold: there is no null space to change; set a higher "
            f"{option('threshold')}, or use memit"
        )
    inside = basis.T @ keys
    if not bool(inside.any()):
        raise EditError(
            "no key has anything in the null space, so nothing there changes what it gives; set a higher threshold, or "
            "use memit"
        )
    system = inside @ inside.T + damping * inside.square().sum(0).mean() * torch.eye(len(inside), dtype=keys.dtype)
    if earlier is not None:
        before = basis.T @ earlier
        system = system + before @ before.T
    return solved(system, inside, "the system of the edited keys").T @ basis.T
