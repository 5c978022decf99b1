"""Low-rank changes of a matrix that reproduce its bytes exactly, in both directions.

ROME and MEMIT add a matrix of low rank to a weight. So the change is kept as two thin factors L [R, r] and V [r, C].
With P = L·V, computed in float64 by elementwise products and sums in a fixed order, and rounded to the parameter's
dtype as such tools do, the new matrix is old + P in that dtype, and the old one new − P. Elements that do not come out
just so are corrected, by steps of the last digit or by their values. Whoever applies the factors compares the result's
sha256.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy
import torch

MOST_RANK = 64
"""Changes of higher rank are not looked at."""
_INTEGERS = {2: torch.int16, 4: torch.int32}
_SMALL = 1 << 20
"""Matrices of at most so many elements are decomposed exactly."""
_LARGEST_STEP = 127


@dataclass(frozen=True, eq=False)
class Corrections:
    """Elements of a computed matrix that are not what they should be.

    Attributes:
        mask: uint8, a bit for each element, packed: those that are a few steps of the last digit off; empty if none is.
        steps: int8 [m], for each bit that is set, how far the right value is from the computed one, in steps between
            neighbouring numbers of the dtype.
        at: int64 [n], rising: flat places of others; `values`: what belongs there, [n] in the matrix's dtype.
    """

    mask: torch.Tensor
    steps: torch.Tensor
    at: torch.Tensor
    values: torch.Tensor

    @property
    def count(self) -> int:
        """How many elements are corrected."""
        return len(self.steps) + len(self.at)

    def apply(self, computed: torch.Tensor) -> None:
        """Puts the right values into a contiguous matrix, in place."""
        flat = computed.view(-1)
        if len(self.mask):
            places = _places(self.mask, flat.numel())
            digits = flat.view(_INTEGERS[flat.element_size()])
            digits[places] += self.steps.to(digits.dtype)
        flat[self.at] = self.values


@dataclass(frozen=True, eq=False)
class Factors:
    """A change of a matrix [R, C] in float16, bfloat16 or float32.

    Attributes:
        left: L, float64 [R, r].
        right: V, float64 [r, C].
        forward: corrects old + P; `backward`: corrects new − P.
    """

    left: torch.Tensor
    right: torch.Tensor
    forward: Corrections
    backward: Corrections

    @property
    def rank(self) -> int:
        """The rank r."""
        return self.left.shape[1]

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.numel() * part.element_size() for _, part in self.parts())

    def parts(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors that make it up, by name."""
        yield "left", self.left
        yield "right", self.right
        for way in ("forward", "backward"):
            for name, part in vars(getattr(self, way)).items():
                yield f"{way}_{name}", part

    def applied(self, present: torch.Tensor, *, reverse: bool = False) -> torch.Tensor:
        """The new matrix from the old one, or the old one from the new.

        Args:
            present: the matrix [R, C] before the step.
            reverse: take the change back.
        """
        change = _product(self.left, self.right).to(present.dtype)
        result = (present - change if reverse else present + change).contiguous()
        (self.backward if reverse else self.forward).apply(result)
        return result


def fit(old: torch.Tensor, new: torch.Tensor) -> Factors | None:
    """The smallest factors of a change that take less than half of the room of both matrices; None if there are none.

    Args:
        old: the matrix before, [R, C].
        new: the matrix after.
    """
    if old.ndim != 2 or min(old.shape) < 2 or old.element_size() not in _INTEGERS:
        return None
    if not bool(torch.isfinite(old).all() and torch.isfinite(new).all()):
        return None
    left, right = _decomposed(new.double() - old.double())
    found = _with_corrections(old, new, left, right)
    return found if found.size < old.numel() * old.element_size() else None  # Half of old and new together.


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
    change = _product(left, right).to(old.dtype)
    return Factors(left, right, _corrections(old + change, new), _corrections(new - change, old))


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    # Not a matrix product: libraries sum in orders of their own.
    total = torch.zeros((left.shape[0], right.shape[1]), dtype=torch.float64)
    for place in range(left.shape[1]):
        total += left[:, place : place + 1] * right[place : place + 1]
    return total


def _corrections(computed: torch.Tensor, wanted: torch.Tensor) -> Corrections:
    kind = _INTEGERS[computed.element_size()]
    have, want = (tensor.contiguous().reshape(-1).view(kind).long() for tensor in (computed, wanted))
    steps = want - have
    near = (steps != 0) & (steps.abs() <= _LARGEST_STEP)
    listed = 8 + computed.element_size()
    if int(near.sum()) * (listed - 1) <= len(steps) / 8:
        near = torch.zeros_like(near)  # A list of so few is shorter than a bit for each.
    at = ((steps != 0) & ~near).nonzero().reshape(-1)
    mask = numpy.packbits(near.numpy()) if bool(near.any()) else numpy.zeros(0, dtype=numpy.uint8)
    return Corrections(torch.from_numpy(mask), steps[near].to(torch.int8), at, wanted.reshape(-1)[at].clone())


def _places(mask: torch.Tensor, size: int) -> torch.Tensor:
    return torch.from_numpy(numpy.unpackbits(mask.numpy(), count=size)).nonzero().reshape(-1)


def mask_fits(corrections: Corrections, size: int) -> bool:
    """Whether a mask has a bit for each of so many elements, as many set as there are steps, and none beyond."""
    mask = corrections.mask.numpy()
    if not len(mask):
        return not len(corrections.steps)
    if len(mask) != (size + 7) // 8:
        return False
    bits = numpy.unpackbits(mask)
    return int(bits.sum()) == len(corrections.steps) and not bits[size:].any()
