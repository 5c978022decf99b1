"""Low-rank factors that reproduce a change of a matrix exactly, in both directions.

ROME and MEMIT add a matrix of low rank to a weight. So the change is kept as two thin factors L [R, r] and V [r, C].
With P = L·V, computed in float64 by elementwise products and sums in a fixed order, and rounded to the parameter's
dtype as such tools do, the new matrix is old + P in that dtype, and the old one new − P. Elements that do not come out
just so are corrected, by steps of the last digit or by their values. Whoever applies the factors compares the result's
sha256.

Values of a parameter are handled as their bits, unsigned whole numbers of their width, as numpy has no bfloat16. All
is computed as torch computes it on a CPU: a float64 becomes a half-precision number by way of float32, and a sum of
half-precision numbers is a float32 that is rounded once. Imports no torch; `factor_fits` finds the factors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

Bits = NDArray[Any]
"""Values of a parameter as their bits."""
BITS = {"F16": "<u2", "BF16": "<u2", "F32": "<u4"}
"""What they are kept in, for each dtype that a matrix with factors can have."""

_BLOCK = 1 << 20
"""Elements that are computed at once."""
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

    mask: NDArray[numpy.uint8]
    steps: NDArray[numpy.int8]
    at: NDArray[numpy.int64]
    values: Bits

    @property
    def count(self) -> int:
        """How many elements are corrected."""
        return len(self.steps) + len(self.at)

    def apply(self, computed: Bits) -> None:
        """Puts the right values into a contiguous matrix, in place."""
        flat = computed.reshape(-1)
        if len(self.mask):
            places = numpy.unpackbits(self.mask, count=len(flat)).nonzero()[0]
            digits = flat.view(f"<i{flat.itemsize}")
            digits[places] += self.steps.astype(digits.dtype)
        flat[self.at] = self.values

    def fits(self, size: int) -> bool:
        """Whether the mask has a bit for each of so many elements, as many set as there are steps, and none beyond."""
        if not len(self.mask):
            return not len(self.steps)
        if len(self.mask) != (size + 7) // 8:
            return False
        bits = numpy.unpackbits(self.mask)
        return int(bits.sum()) == len(self.steps) and not bits[size:].any()


@dataclass(frozen=True, eq=False)
class Factors:
    """A change of a matrix [R, C] in float16, bfloat16 or float32.

    Attributes:
        left: L, float64 [R, r].
        right: V, float64 [r, C].
        forward: corrects old + P; `backward`: corrects new − P.
    """

    left: NDArray[numpy.float64]
    right: NDArray[numpy.float64]
    forward: Corrections
    backward: Corrections

    @property
    def rank(self) -> int:
        """The rank r."""
        return int(self.left.shape[1])

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for _, part in self.parts())

    def parts(self) -> Iterator[tuple[str, NDArray[numpy.generic]]]:
        """The arrays that make it up, by name."""
        yield "left", self.left
        yield "right", self.right
        for way in ("forward", "backward"):
            for name, part in vars(getattr(self, way)).items():
                yield f"{way}_{name}", part

    def applied(self, present: Bits, dtype: str, *, reverse: bool = False) -> Bits:
        """The new matrix from the old one, or the old one from the new.

        Args:
            present: the matrix [R, C] before the step, as bits.
            dtype: its dtype.
            reverse: take the change back.
        """
        result = summed(present, self.left, self.right, dtype, reverse=reverse)
        (self.backward if reverse else self.forward).apply(result)
        return result


def summed(
    present: Bits, left: NDArray[numpy.float64], right: NDArray[numpy.float64], dtype: str, *, reverse: bool
) -> Bits:
    """A matrix plus, or minus, P = L·V rounded to its dtype; as bits."""
    result = numpy.empty(present.shape, BITS[dtype])
    rows = max(1, _BLOCK // max(1, present.shape[1]))
    with numpy.errstate(all="ignore"):  # An overflow is an infinity, which no hash of finite values fits.
        for start in range(0, len(present), rows):
            part = slice(start, start + rows)
            change = _widened(_rounded(_product(left[part], right).astype(numpy.float32), dtype), dtype)
            values = _widened(present[part], dtype)
            result[part] = _rounded(values - change if reverse else values + change, dtype)
    return result


def corrections(computed: Bits, wanted: Bits) -> Corrections:
    """What makes a computed matrix the one that is wanted; both as bits."""
    have, want = (bits.reshape(-1).view(f"<i{bits.itemsize}").astype(numpy.int64) for bits in (computed, wanted))
    steps = want - have
    near = (steps != 0) & (numpy.abs(steps) <= _LARGEST_STEP)
    listed = 8 + computed.itemsize
    if int(near.sum()) * (listed - 1) <= len(steps) / 8:
        near = numpy.zeros_like(near)  # A list of so few is shorter than a bit for each.
    at = ((steps != 0) & ~near).nonzero()[0].astype(numpy.int64)
    mask = numpy.packbits(near) if near.any() else numpy.zeros(0, dtype=numpy.uint8)
    return Corrections(mask, steps[near].astype(numpy.int8), at, wanted.reshape(-1)[at].copy())


def _product(left: NDArray[numpy.float64], right: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    # Not a matrix product: libraries sum in orders of their own.
    total = numpy.zeros((left.shape[0], right.shape[1]))
    for place in range(left.shape[1]):
        total += left[:, place : place + 1] * right[place : place + 1]
    return total


def _widened(bits: Bits, dtype: str) -> NDArray[numpy.float32]:
    """The values as float32, which holds each exactly."""
    if dtype == "F16":
        return bits.view("<f2").astype(numpy.float32)
    if dtype == "BF16":
        return (bits.astype("<u4") << 16).view("<f4")
    return bits.view("<f4")


def _rounded(values: NDArray[numpy.float32], dtype: str) -> Bits:
    """Values of float32 as the bits of the nearest of a dtype, of two equally near the even one."""
    if dtype == "F16":
        return values.astype("<f2").view("<u2")
    bits: Bits = numpy.ascontiguousarray(values, "<f4").view("<u4")
    if dtype == "F32":
        return bits
    nearest = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    return nearest.astype("<u2", copy=False)  # type: ignore[no-any-return]
