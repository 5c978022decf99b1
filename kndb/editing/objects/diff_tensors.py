"""The parts of an edit object that are not plain value slots: whole parameters, and changes kept as low-rank factors.

A part is a **region** of a parameter: all of it, or some value slots of a down projection, slot-major [k, d]. Its
encoding says how the change is kept:

    whole     `<parameter>.old` and `<parameter>.new`, of the parameter's shape; never of slots
    factors   `<parameter>.left`, `.right`, and for both ways `.forward_mask`, `.forward_steps`, `.forward_at`,
              `.forward_values`, `.backward_mask`, … (see `factors`); of slots also `.indices`, and `.old_hashes` and
              `.new_hashes`, the sha256 of each slot, uint8 [k, 32]

The header's metadata has an entry for each: {"name", "encoding", "layout", "layer", "shape", "dtype", "old_sha256",
"new_sha256"}; layout is row, column or whole, layer is −1 for whole. The hashes are of the region's bytes.

All values are bytes here. Imports no torch, and numpy only where there are factors.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ...models.layout import SlotLayout
from ...models.weights import ITEM_SIZES
from ...records.edits import SlotChange
from ...versions import NO_LAYER
from .object_bytes import FlawError
from .slot_bytes import WHOLE, is_finite, region_sha256

if TYPE_CHECKING:
    from .factors import Corrections, Factors

Table = dict[str, tuple[str, list[int], bytes]]
"""Dtype, shape and bytes of tensors, by name."""

LAYOUTS = tuple(one.word for one in SlotLayout)
_KEYS = {"name", "encoding", "layout", "layer", "shape", "dtype", "old_sha256", "new_sha256"}
_HASH = re.compile(r"[0-9a-f]{64}")
_WAYS, _CORRECTIONS = ("forward", "backward"), ("mask", "steps", "at", "values")
_FACTOR_PARTS = ("left", "right", *(f"{way}_{part}" for way in _WAYS for part in _CORRECTIONS))


@dataclass(frozen=True, eq=False)
class ChangedSlots:
    """Which value slots a region is, and the hashes by which versions know them.

    Attributes:
        layout: `row` or `column`.
        layer: the parameter's layer.
        indices: the slots, k of them, rising.
        old_hashes: sha256 of each before the edit, in hex; `new_hashes`: after it.
    """

    layout: str
    layer: int
    indices: tuple[int, ...]
    old_hashes: tuple[str, ...]
    new_hashes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TensorDiff:
    """A change of a region of a parameter.

    Attributes:
        parameter: the parameter's name in the model.
        shape: the parameter's full shape.
        dtype: its dtype, as safetensors writes it.
        slots: which value slots the region is; None for the whole parameter.
        old_sha256: of the region before the edit (see `region_sha256`); `new_sha256`: after it.
        old: the region's bytes before the edit, and `new` after it; None where there are factors.
        factors: the change, if it is kept so.
    """

    parameter: str
    shape: tuple[int, ...]
    dtype: str
    slots: ChangedSlots | None
    old_sha256: str
    new_sha256: str
    old: bytes | None = None
    new: bytes | None = None
    factors: Factors | None = None

    @property
    def encoding(self) -> str:
        """`whole` or `factors`."""
        return WHOLE if self.factors is None else "factors"

    @property
    def region(self) -> tuple[int, ...]:
        """The region's shape: the parameter's, or [k, d] of value slots."""
        return self.shape if self.slots is None else _region(self.shape, self.slots)


def _region(shape: Sequence[int], slots: ChangedSlots) -> tuple[int, ...]:
    return (len(slots.indices), SlotLayout(slots.layout).width(tuple(shape)))


def changes(parts: Iterable[TensorDiff]) -> list[SlotChange]:
    """Lists what changes: value slots, and parameters as a whole, with `NO_LAYER` for their layer and neuron."""
    found = []
    for part in parts:
        if part.slots is None:
            found.append(SlotChange(part.parameter, NO_LAYER, NO_LAYER, part.old_sha256, part.new_sha256))
            continue
        hashes = zip(part.slots.indices, part.slots.old_hashes, part.slots.new_hashes, strict=True)
        found += [SlotChange(part.parameter, part.slots.layer, neuron, old, new) for neuron, old, new in hashes]
    return found


# --- to bytes -------------------------------------------------------------------------------------


def description(diff: TensorDiff) -> dict[str, object]:
    """The entry of the metadata."""
    return {
        "name": diff.parameter,
        "encoding": diff.encoding,
        "layout": WHOLE if diff.slots is None else diff.slots.layout,
        "layer": NO_LAYER if diff.slots is None else diff.slots.layer,
        "shape": list(diff.shape),
        "dtype": diff.dtype,
        "old_sha256": diff.old_sha256,
        "new_sha256": diff.new_sha256,
    }


def table(diff: TensorDiff) -> Table:
    """Dtype, shape and bytes of each tensor of a change."""
    parts: Table = {}
    if diff.factors is not None:
        names = {"f8": "F64", "i8": "I64", "i1": "I8", "u1": "U8"}
        for name, array in diff.factors.parts():
            # Values have the parameter's dtype, and are kept as their bits.
            dtype = diff.dtype if name.endswith("_values") else names[array.dtype.str[1:]]
            parts[name] = (dtype, list(array.shape), array.tobytes())
    elif diff.old is not None and diff.new is not None:
        parts = {"old": (diff.dtype, list(diff.shape), diff.old), "new": (diff.dtype, list(diff.shape), diff.new)}
    if diff.slots is not None:
        count = len(diff.slots.indices)
        parts["indices"] = ("I64", [count], struct.pack(f"<{count}q", *diff.slots.indices))
        for name, hashes in (("old_hashes", diff.slots.old_hashes), ("new_hashes", diff.slots.new_hashes)):
            parts[name] = ("U8", [count, 32], b"".join(bytes.fromhex(one) for one in hashes))
    return {f"{diff.parameter}.{part}": content for part, content in parts.items()}


# --- from bytes -----------------------------------------------------------------------------------


def part_names(entry: Any) -> set[str]:
    """The names of the tensors that an entry of the metadata stands for; checks the entry.

    Raises:
        FlawError: if it is not one.
    """
    if not isinstance(entry, dict) or set(entry) != _KEYS:
        raise FlawError(f"{str(entry)[:80]!r} in the list of tensors", f"{sorted(_KEYS)}")
    name, encoding, layout, layer, shape = (entry[key] for key in ("name", "encoding", "layout", "layer", "shape"))
    if not isinstance(name, str) or not name:
        raise FlawError(f"{name!r} as a parameter's name", "text that is not empty")
    if (
        encoding not in (WHOLE, "factors")
        or layout not in (WHOLE, *LAYOUTS)
        or (encoding == WHOLE and layout in LAYOUTS)
    ):
        raise FlawError(f"encoding {encoding!r} with layout {layout!r} of {name}", "whole, or factors")
    if type(layer) is not int or (layer < 0 if layout != WHOLE else layer != NO_LAYER) or layer >= 2**31:
        raise FlawError(f"layer {layer!r} of {name}", "a number from 0, or −1 for a whole parameter")
    sizes = isinstance(shape, list) and all(type(size) is int and 0 < size < 2**31 for size in shape)
    if not sizes or (encoding == "factors" and len(shape) not in ((2, 3) if layout != WHOLE else (2,))):
        raise FlawError(f"shape {shape!r} of {name}", "sizes of at least 1; two for factors, or three of experts")
    if encoding == "factors" and entry["dtype"] == "F64":
        raise FlawError(f"factors of {name} in F64", "a narrower dtype")
    if entry["dtype"] not in list(ITEM_SIZES):
        raise FlawError(f"dtype {entry['dtype']!r} of {name}", f"one of {', '.join(ITEM_SIZES)}")
    for key in ("old_sha256", "new_sha256"):
        if not isinstance(entry[key], str) or not _HASH.fullmatch(entry[key]):
            raise FlawError(f"{entry[key]!r} as {key} of {name}", "a sha256 in hex")
    if entry["old_sha256"] == entry["new_sha256"]:
        raise FlawError(f"the same bytes of {name} before and after the edit", "a parameter that changes")
    parts = {"old", "new"} if encoding == WHOLE else set(_FACTOR_PARTS)
    if layout != WHOLE:
        parts |= {"indices", "old_hashes", "new_hashes"}
    return {f"{name}.{part}" for part in parts}


def tensor_diff(entry: Mapping[str, Any], tensors: Table) -> TensorDiff:
    """A change from its entry, which `part_names` has checked, and the file's tensors.

    Raises:
        FlawError: if a tensor is not what it should be.
    """
    name, dtype, shape = entry["name"], entry["dtype"], tuple(entry["shape"])
    slots = None if entry["layout"] == WHOLE else _slots(entry, tensors)
    region = shape if slots is None else _region(shape, slots)
    common = (name, shape, dtype, slots, entry["old_sha256"], entry["new_sha256"])
    if entry["encoding"] == WHOLE:
        old, new = (_checked(tensors, f"{name}.{part}", dtype, list(region))[1] for part in ("old", "new"))
        for part, values, expected in (("old", old, entry["old_sha256"]), ("new", new, entry["new_sha256"])):
            if not is_finite(dtype, values):
                raise FlawError(f"NaN or infinity in {name}.{part}", "finite values only")
            if region_sha256(dtype, region, values) != expected:
                raise FlawError(f"other bytes in {name}.{part} than its hash says", expected)
        return TensorDiff(*common, old=old, new=new)
    return TensorDiff(*common, factors=_factors(name, dtype, region, tensors))


def _factors(name: str, dtype: str, region: Sequence[int], tensors: Table) -> Factors:
    import numpy

    from .factors import Factors

    rows, columns = region
    (_, rank), left = _checked(tensors, f"{name}.left", "F64", [rows, None])
    _, right = _checked(tensors, f"{name}.right", "F64", [rank, columns])
    forward, backward = (_corrections(tensors, f"{name}.{way}", dtype, rows * columns) for way in _WAYS)
    values = (("F64", left), ("F64", right), *((dtype, part.values.tobytes()) for part in (forward, backward)))
    if not all(is_finite(kind, content) for kind, content in values):
        raise FlawError(f"NaN or infinity in the factors of {name}", "finite values only")
    thin = (numpy.frombuffer(left, "<f8").reshape(rows, rank), numpy.frombuffer(right, "<f8").reshape(rank, columns))
    return Factors(*thin, forward, backward)


def _slots(entry: Mapping[str, Any], tensors: Table) -> ChangedSlots:
    name, layout, shape = entry["name"], entry["layout"], entry["shape"]
    if len(shape) not in (2, 3):
        raise FlawError(f"shape {shape!r} of {name}", "two sizes for value slots, or three of experts")
    (count,), raw = _checked(tensors, f"{name}.indices", "I64", [None])
    indices = struct.unpack(f"<{count}q", raw)
    _require_rising(indices, f"slot indices of {name}", SlotLayout(layout).slots(tuple(shape)))
    if not count:
        raise FlawError(f"no slot of {name}", "at least one value slot")
    digits = (_checked(tensors, f"{name}.{part}", "U8", [count, 32])[1] for part in ("old_hashes", "new_hashes"))
    hashes = [tuple(content[at : at + 32].hex() for at in range(0, 32 * count, 32)) for content in digits]
    if any(old == new for old, new in zip(*hashes, strict=True)):
        raise FlawError(f"a slot of {name} with the same bytes before and after", "slots that change")
    return ChangedSlots(layout, entry["layer"], indices, hashes[0], hashes[1])


def _corrections(tensors: Table, start: str, dtype: str, size: int) -> Corrections:
    import numpy

    from .factors import BITS, Corrections

    (count,), places = _checked(tensors, f"{start}_at", "I64", [None])
    at = numpy.frombuffer(places, "<i8")
    _require_rising(at, f"places in {start}_at", size)
    mask, steps = (_checked(tensors, f"{start}_{part}", kind, [None])[1] for part, kind in _BYTES)
    values = _checked(tensors, f"{start}_values", dtype, [count])[1]
    found = Corrections(
        numpy.frombuffer(mask, "u1"), numpy.frombuffer(steps, "i1"), at, numpy.frombuffer(values, BITS[dtype])
    )
    if not found.fits(size):
        raise FlawError(f"a mask {start}_mask of other elements", "a bit for each element, as many set as steps")
    return found


_BYTES = (("mask", "U8"), ("steps", "I8"))


def _require_rising(numbers: Any, what: str, size: int) -> None:
    """Checks a tuple, or an array, of whole numbers."""
    rising = (
        all(later > earlier for earlier, later in pairwise(numbers))
        if isinstance(numbers, tuple)
        else bool((numbers[1:] > numbers[:-1]).all())
    )
    if not rising:
        raise FlawError(f"{what} out of order or twice", "numbers that rise strictly")
    if len(numbers) and (int(numbers[0]) < 0 or int(numbers[-1]) >= size):
        raise FlawError(f"{what} from {int(numbers[0])} to {int(numbers[-1])}", f"0 to {size - 1}")


def _checked(tensors: Table, name: str, dtype: str, shape: list[int | None]) -> tuple[list[int], bytes]:
    """A tensor's shape and bytes."""
    found, sizes, content = tensors[name]
    fits = len(sizes) == len(shape) and all(
        expected in (None, size) for size, expected in zip(sizes, shape, strict=True)
    )
    if found != dtype or not fits:
        raise FlawError(f"{name} as {found} {sizes}", f"{dtype} {shape}")
    return sizes, content
