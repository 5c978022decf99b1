"""The parts of an edit object that are not plain value slots: whole parameters, and changes kept as low-rank factors.

A part is a **region** of a parameter: all of it, or some value slots of a down projection, slot-major [k, d]. Its
encoding says how the change is kept:

    whole     `<parameter>.old` and `<parameter>.new`, of the parameter's shape; never of slots
    factors   `<parameter>.left`, `.right`, and for both ways `.forward_mask`, `.forward_steps`, `.forward_at`,
              `.forward_values`, `.backward_mask`, … (see `factors`); of slots also `.indices`, and `.old_hashes` and
              `.new_hashes`, the sha256 of each slot, uint8 [k, 32]

The header's metadata has an entry for each: {"name", "encoding", "layout", "layer", "shape", "dtype", "old_sha256",
"new_sha256"}; layout is row, column or whole, layer is −1 for whole. The hashes are of the region's bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..models.precision import DTYPE_NAMES
from ..versions import NO_LAYER
from .factors import Corrections, Factors, mask_fits
from .object_bytes import FlawError

WHOLE = "whole"

_DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}
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
        indices: the slots, int64 [k], rising.
        old_hashes: sha256 of each before the edit, in hex; `new_hashes`: after it.
    """

    layout: str
    layer: int
    indices: torch.Tensor
    old_hashes: tuple[str, ...]
    new_hashes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TensorDiff:
    """A change of a region of a parameter.

    Attributes:
        parameter: the parameter's name in the model.
        shape: the parameter's full shape.
        dtype: its dtype.
        slots: which value slots the region is; None for the whole parameter.
        old_sha256: of the region before the edit (see `region_hash`); `new_sha256`: after it.
        old: the region before the edit, and `new` after it; None where there are factors.
        factors: the change, if it is kept so.
    """

    parameter: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    slots: ChangedSlots | None
    old_sha256: str
    new_sha256: str
    old: torch.Tensor | None = None
    new: torch.Tensor | None = None
    factors: Factors | None = None

    @property
    def encoding(self) -> str:
        """`whole` or `factors`."""
        return WHOLE if self.factors is None else "factors"


def region_hash(values: torch.Tensor) -> str:
    """The sha256, in hex, of a region's dtype, shape and bytes."""
    named = f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)} ".encode("ascii")
    return hashlib.sha256(named + raw(values)).hexdigest()


def raw_view(values: torch.Tensor) -> torch.Tensor:
    """A tensor's bytes, as uint8 [n] on the CPU; a copy only where they do not lie in one piece there."""
    return values.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def raw(values: torch.Tensor) -> bytes:
    """A tensor's bytes."""
    return raw_view(values).numpy().tobytes()


# --- to bytes -------------------------------------------------------------------------------------


def description(diff: TensorDiff) -> dict[str, object]:
    """The entry of the metadata."""
    return {
        "name": diff.parameter,
        "encoding": diff.encoding,
        "layout": WHOLE if diff.slots is None else diff.slots.layout,
        "layer": NO_LAYER if diff.slots is None else diff.slots.layer,
        "shape": list(diff.shape),
        "dtype": DTYPE_NAMES[diff.dtype],
        "old_sha256": diff.old_sha256,
        "new_sha256": diff.new_sha256,
    }


def table(diff: TensorDiff) -> dict[str, tuple[str, list[int], bytes]]:
    """Dtype, shape and bytes of each tensor of a change."""
    parts: dict[str, torch.Tensor] = {}
    if diff.factors is not None:
        parts = dict(diff.factors.parts())
    elif diff.old is not None and diff.new is not None:
        parts = {"old": diff.old, "new": diff.new}
    if diff.slots is not None:
        parts["indices"] = diff.slots.indices
        for name, hashes in (("old_hashes", diff.slots.old_hashes), ("new_hashes", diff.slots.new_hashes)):
            digits = b"".join(bytes.fromhex(one) for one in hashes)
            parts[name] = torch.frombuffer(bytearray(digits), dtype=torch.uint8).view(-1, 32)
    names = {**DTYPE_NAMES, torch.int64: "I64", torch.int8: "I8", torch.uint8: "U8"}
    return {
        f"{diff.parameter}.{part}": (names[tensor.dtype], list(tensor.shape), raw(tensor))
        for part, tensor in parts.items()
    }


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
        or layout not in (WHOLE, "row", "column")
        or (encoding, layout)
        in (
            (WHOLE, "row"),
            (WHOLE, "column"),
        )
    ):
        raise FlawError(f"encoding {encoding!r} with layout {layout!r} of {name}", "whole, or factors")
    if type(layer) is not int or (layer < 0 if layout != WHOLE else layer != NO_LAYER) or layer >= 2**31:
        raise FlawError(f"layer {layer!r} of {name}", "a number from 0, or −1 for a whole parameter")
    sizes = isinstance(shape, list) and all(type(size) is int and 0 < size < 2**31 for size in shape)
    if not sizes or (encoding == "factors" and len(shape) != 2):
        raise FlawError(f"shape {shape!r} of {name}", "sizes of at least 1; two for factors")
    if encoding == "factors" and entry["dtype"] == "F64":
        raise FlawError(f"factors of {name} in F64", "a narrower dtype")
    if entry["dtype"] not in _DTYPES:
        raise FlawError(f"dtype {entry['dtype']!r} of {name}", f"one of {', '.join(_DTYPES)}")
    for key in ("old_sha256", "new_sha256"):
        if not isinstance(entry[key], str) or not _HASH.fullmatch(entry[key]):
            raise FlawError(f"{entry[key]!r} as {key} of {name}", "a sha256 in hex")
    if entry["old_sha256"] == entry["new_sha256"]:
        raise FlawError(f"the same bytes of {name} before and after the edit", "a parameter that changes")
    parts = {"old", "new"} if encoding == WHOLE else set(_FACTOR_PARTS)
    if layout != WHOLE:
        parts |= {"indices", "old_hashes", "new_hashes"}
    return {f"{name}.{part}" for part in parts}


def tensor_diff(entry: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> TensorDiff:
    """A change from its entry, which `part_names` has checked, and the file's tensors.

    Raises:
        FlawError: if a tensor is not what it should be.
    """
    name, dtype, shape = entry["name"], _DTYPES[entry["dtype"]], tuple(entry["shape"])
    slots = None if entry["layout"] == WHOLE else _slots(entry, tensors)
    region = shape if slots is None else (len(slots.indices), shape[1] if slots.layout == "row" else shape[0])
    common = (name, shape, dtype, slots, entry["old_sha256"], entry["new_sha256"])
    if entry["encoding"] == WHOLE:
        old, new = (_checked(tensors, f"{name}.{part}", dtype, list(region)) for part in ("old", "new"))
        for part, values, expected in (("old", old, entry["old_sha256"]), ("new", new, entry["new_sha256"])):
            if not bool(torch.isfinite(values).all()):
                raise FlawError(f"NaN or infinity in {name}.{part}", "finite values only")
            if region_hash(values) != expected:
                raise FlawError(f"other bytes in {name}.{part} than its hash says", expected)
        return TensorDiff(*common, old=old, new=new)
    rows, columns = region
    left = _checked(tensors, f"{name}.left", torch.float64, [rows, None])
    right = _checked(tensors, f"{name}.right", torch.float64, [left.shape[1], columns])
    forward, backward = (_corrections(tensors, f"{name}.{way}", dtype, rows * columns) for way in _WAYS)
    if not all(bool(torch.isfinite(part).all()) for part in (left, right, forward.values, backward.values)):
        raise FlawError(f"NaN or infinity in the factors of {name}", "finite values only")
    factors = Factors(left, right, forward, backward)
    return TensorDiff(*common, factors=factors)


def _slots(entry: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> ChangedSlots:
    name, layout, shape = entry["name"], entry["layout"], entry["shape"]
    if len(shape) != 2:
        raise FlawError(f"shape {shape!r} of {name}", "two sizes for value slots")
    indices = _checked(tensors, f"{name}.indices", torch.int64, [None])
    _require_rising(indices, f"slot indices of {name}", shape[0] if layout == "row" else shape[1])
    count = len(indices)
    if not count:
        raise FlawError(f"no slot of {name}", "at least one value slot")
    hashes = [
        tuple(bytes(row.tolist()).hex() for row in _checked(tensors, f"{name}.{part}", torch.uint8, [count, 32]))
        for part in ("old_hashes", "new_hashes")
    ]
    if any(old == new for old, new in zip(*hashes, strict=True)):
        raise FlawError(f"a slot of {name} with the same bytes before and after", "slots that change")
    return ChangedSlots(layout, entry["layer"], indices, hashes[0], hashes[1])


def _corrections(tensors: Mapping[str, torch.Tensor], start: str, dtype: torch.dtype, size: int) -> Corrections:
    at = _checked(tensors, f"{start}_at", torch.int64, [None])
    _require_rising(at, f"places in {start}_at", size)
    found = Corrections(
        _checked(tensors, f"{start}_mask", torch.uint8, [None]),
        _checked(tensors, f"{start}_steps", torch.int8, [None]),
        at,
        _checked(tensors, f"{start}_values", dtype, [len(at)]),
    )
    if not mask_fits(found, size):
        raise FlawError(f"a mask {start}_mask of other elements", "a bit for each element, as many set as steps")
    return found


def _require_rising(numbers: torch.Tensor, what: str, size: int) -> None:
    if len(numbers) and not bool((numbers[1:] > numbers[:-1]).all()):
        raise FlawError(f"{what} out of order or twice", "numbers that rise strictly")
    if len(numbers) and (int(numbers[0]) < 0 or int(numbers[-1]) >= size):
        raise FlawError(f"{what} from {int(numbers[0])} to {int(numbers[-1])}", f"0 to {size - 1}")


def _checked(
    tensors: Mapping[str, torch.Tensor], name: str, dtype: torch.dtype, shape: list[int | None]
) -> torch.Tensor:
    tensor = tensors[name]
    fits = len(tensor.shape) == len(shape) and all(
        expected in (None, size) for size, expected in zip(tensor.shape, shape, strict=True)
    )
    if tensor.dtype != dtype or not fits:
        raise FlawError(f"{name} as {tensor.dtype} {list(tensor.shape)}", f"{dtype} {shape}")
    return tensor
