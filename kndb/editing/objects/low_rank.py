"""Changes of value slots as the two thin matrices of a LoRA adapter, and back.

n neurons, d hidden size, r rank. A change of value slots, [n, d] with a row for each neuron, is `left @ right`: left
[n, r], right [r, d]. A change of s slots has rank s at most: left then has s unit columns, and right the changes
themselves, so that the product is exact. An adapter of peft's form has A = leftᵀ [r, n] and B = rightᵀ [d, r], whatever
the layout of the parameter.

A product is computed in float64 and rounded to float32; it is added to the weights in float32 (to weights of float64 in
float64), and the sum rounded to their dtype. Values to which it adds exactly 0 keep their bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .diff_file import slot_bytes

_TRIES = 4
"""How often a change is moved by what is left between the sum and the wanted value."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """A change of value slots of one parameter.

    Attributes:
        left: float32 [n, r].
        right: float32 [r, d].
        lost: the largest value of the change that was left out to keep the rank low; 0 if nothing was.
    """

    left: torch.Tensor
    right: torch.Tensor
    lost: float = 0.0

    @property
    def rank(self) -> int:
        """The rank r."""
        return int(self.left.shape[1])

    def added_to(self, slots: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        """Value slots [n, d] with the change, in their own dtype."""
        return added(slots, (self.left.double() @ self.right.double() * scale).to(_wide(slots)))


@dataclass(frozen=True)
class Closeness:
    """How close value slots come to those that were wanted.

    Attributes:
        slots: slots that were to change.
        slots_equal: of these, those whose bytes are the wanted ones.
        values: numbers in these slots.
        values_equal: of these, those whose bytes are the wanted ones.
        largest_difference: the largest |found − wanted| of a value.
        relative_error: ‖found − wanted‖ ÷ ‖wanted − before‖, over all slots; 0 where nothing but signs of zeros
            changes.
    """

    slots: int
    slots_equal: int
    values: int
    values_equal: int
    largest_difference: float
    relative_error: float


def low_rank(
    before: torch.Tensor,
    after: torch.Tensor,
    known: tuple[torch.Tensor, torch.Tensor] | None = None,
    most: int | None = None,
) -> LowRank:
    """The factors of a change.

    Args:
        before: all value slots of a parameter, [n, d].
        after: the same after the change; at least one differs.
        known: factors [n, r] and [r, d] whose product was added, if they are known; taken if r is below the rank that
            the slots allow.
        most: the highest rank; the largest singular values are kept. None keeps all that there is.
    """
    differs = (slot_bytes(before) != slot_bytes(after)).any(dim=1)
    places = differs.nonzero().flatten()
    exact = min(len(places), before.shape[1])
    if most is not None and most < exact and (known is None or most < known[0].shape[1]):
        return _truncated(before, after, most)
    if known is not None and known[0].shape[1] < exact:
        return LowRank(known[0].float(), known[1].float())
    change = _exact_change(before[differs], after[differs])
    thin, right = (torch.eye(len(places)), change) if len(places) == exact else (change, torch.eye(exact))
    return LowRank(_spread(thin, places, len(before)), right)


def closeness(before: torch.Tensor, wanted: torch.Tensor, found: torch.Tensor) -> Closeness:
    """How close slots [n, d] come to those that were wanted."""
    changed = (slot_bytes(before) != slot_bytes(wanted)).any(dim=1)
    equal = (slot_bytes(found) == slot_bytes(wanted)).view(*wanted.shape, wanted.element_size()).all(dim=2)
    off, moved = found.double() - wanted.double(), wanted.double() - before.double()
    length = float(moved.norm())
    return Closeness(
        slots=int(changed.sum()),
        slots_equal=int(equal[changed].all(dim=1).sum()),
        values=equal[changed].numel(),
        values_equal=int(equal[changed].sum()),
        largest_difference=float(off.abs().max()),
        relative_error=float(off.norm()) / length if length else 0.0,
    )


def added(values: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """Values plus a change of their shape, rounded once; where that is 0, the very bytes."""
    total = (values.to(_wide(values)) + change.to(_wide(values))).to(values.dtype)
    return torch.where(change == 0, values, total)


def _wide(values: torch.Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _exact_change(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """What has to be added to values [s, d] in float32, so that the sum, rounded, is `after`."""
    change = (after.double() - before.double()).float()
    for _ in range(_TRIES):
        off = after.double() - added(before, change).double()
        if not bool(off.any()):
            break
        change = (change.double() + off).float()
    return change


def _truncated(before: torch.Tensor, after: torch.Tensor, most: int) -> LowRank:
    change = after.double() - before.double()
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    root = s[:most].sqrt()
    left, right = (u[:, :most] * root).float().contiguous(), (v[:most] * root.unsqueeze(1)).float().contiguous()
    kept = left.double() @ right.double()
    return LowRank(left, right, float((change - kept).abs().max()))


def _spread(rows: torch.Tensor, places: torch.Tensor, count: int) -> torch.Tensor:
    """Rows [s, r] at their places among `count` rows of zeros."""
    found = torch.zeros(count, rows.shape[1])
    found[places] = rows
    return found
