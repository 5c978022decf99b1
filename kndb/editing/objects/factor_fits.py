"""Finding the low-rank factors of a change, and applying factors to tensors. `factors` says what they are."""

from __future__ import annotations

import torch

from ...models.dtypes import DTYPE_NAMES
from .factors import BITS, Bits, Factors, corrections, summed

MOST_RANK = 64
"""Changes of higher rank are not looked at."""
_INTEGERS = {2: torch.int16, 4: torch.int32}
_SMALL = 1 << 20
"""Matrices of at most so many elements are decomposed exactly."""


def fit(old: torch.Tensor, new: torch.Tensor) -> Factors | None:
    """The smallest factors of a change that take less than half of the room of both matrices; None if there are none.

    Args:
        old: the matrix before, [R, C].
        new: the matrix after.
    """
    if old.ndim != 2 or min(old.shape) < 2 or DTYPE_NAMES.get(old.dtype) not in BITS:
        return None
    if not bool(torch.isfinite(old).all() and torch.isfinite(new).all()):
        return None
    left, right = _decomposed(new.double() - old.double())
    found = _with_corrections(old, new, left, right)
    return found if found.size < old.numel() * old.element_size() else None  # Half of old and new together.


def changed(old: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """A matrix plus a product, added and rounded as factors are: what edits of known factors put there.

    Args:
        old: the matrix [R, C]; in float64, which no factors are kept for, plainly added to.
        left: [R, r] in double precision.
        right: [r, C].
    """
    if DTYPE_NAMES[old.dtype] not in BITS:
        return old + left @ right
    thin = left.contiguous().numpy(), right.contiguous().numpy()
    return _tensor(summed(_bits(old), *thin, DTYPE_NAMES[old.dtype], reverse=False), old.dtype)


def known(old: torch.Tensor, new: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> Factors | None:
    """The factors of a change that was computed from them, of any rank; None if both matrices take less room.

    Args:
        old: the matrix before, [R, C].
        new: `changed` of it.
        left: [R, r] in double precision.
        right: [r, C].
    """
    thin = (left.numel() + right.numel()) * left.element_size()
    if DTYPE_NAMES[old.dtype] not in BITS or thin >= 2 * old.numel() * old.element_size():
        return None
    found = _with_corrections(old, new, left.contiguous(), right.contiguous())
    return found if found.size < 2 * old.numel() * old.element_size() else None


def applied(factors: Factors, present: torch.Tensor, *, reverse: bool = False) -> torch.Tensor:
    """The new matrix from the old one, or the old one from the new.

    Args:
        factors: the change.
        present: the matrix [R, C] before the step, on the CPU.
        reverse: take the change back.
    """
    return _tensor(factors.applied(_bits(present), DTYPE_NAMES[present.dtype], reverse=reverse), present.dtype)


def _decomposed(change: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors of the rank after which the singular values drop most: what is left is the rounding of each element."""
    most = min(MOST_RANK, min(change.shape) - 1)
    if change.numel() <= _SMALL:
        u, s, v = torch.linalg.svd(change, full_matrices=False)
        v = v.T
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            u, s, v = torch.svd_lowrank(change, q=min(most + 8, *change.shape), niter=4)
    drops = s[:most].clamp_min(1e-300).log() - s[1 : most + 1].clamp_min(1e-300).log()
    rank = int(drops.argmax()) + 1
    return (u * s)[:, :rank].contiguous(), v.T[:rank].contiguous()


def _with_corrections(old: torch.Tensor, new: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> Factors:
    dtype, before, after = DTYPE_NAMES[old.dtype], _bits(old), _bits(new)
    thin = left.numpy(), right.numpy()
    forward = corrections(summed(before, *thin, dtype, reverse=False), after)
    backward = corrections(summed(after, *thin, dtype, reverse=True), before)
    return Factors(*thin, forward, backward)


def _bits(values: torch.Tensor) -> Bits:
    """A tensor's values as their bits; a view where its values lie in one piece."""
    whole: Bits = values.detach().contiguous().view(_INTEGERS[values.element_size()]).numpy()
    return whole.view(BITS[DTYPE_NAMES[values.dtype]])


def _tensor(bits: Bits, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(bits.view(f"<i{bits.itemsize}")).view(dtype)
