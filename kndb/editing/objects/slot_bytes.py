"""Value slots as plain bytes: what edit objects hold of them, and where they lie in a checkpoint's files.

A slot is one run of bytes or many short ones at equal distances, as `models.layout` has it.
Imports no torch: a command that only moves bytes starts at once.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

from ...errors import ModelError
from ...models.expert_files import stored_parts
from ...models.layout import SlotLayout
from ...models.weights import ITEM_SIZES, TensorPlace, stored_name
from ...records.models import Neuron
from ...versions import NO_LAYER, Slot
from .object_bytes import FlawError, header_length, json_object, parse_json, refusing

WHOLE = "whole"
TORCH_NAMES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
"""The dtypes' names in the text that is hashed with a slot's bytes."""
_NOT_FINITE = {"F16": (0x7C, 0x00), "BF16": (0x7F, 0x80), "F32": (0x7F, 0x80), "F64": (0x7F, 0xF0)}
"""The bits of the exponent in a value's highest byte and in the one below: all set in NaN and infinity alone."""


def slot_sha256(dtype: str, content: bytes) -> str:
    """The sha256, in hex, of a value slot's bytes and their dtype, by which versions name what it holds."""
    return hashlib.sha256(TORCH_NAMES[dtype].encode("ascii") + content).hexdigest()


def region_sha256(dtype: str, shape: Sequence[int], content: bytes | memoryview) -> str:
    """The sha256, in hex, of a region's dtype, shape and bytes: of a whole parameter, or of several slots."""
    digest = hashlib.sha256(f"{TORCH_NAMES[dtype]} {list(shape)} ".encode("ascii"))
    digest.update(content)
    return digest.hexdigest()


def is_finite(dtype: str, content: bytes) -> bool:
    """Whether there is neither NaN nor infinity among values, which are little-endian as safetensors has them."""
    width = ITEM_SIZES[dtype]
    high, low = _NOT_FINITE[dtype]
    highest = content[width - 1 :: width]
    suspect = bytes(byte for byte in range(256) if byte & high == high)
    if len(highest.translate(None, suspect)) == len(highest):  # As with any ordinary weights.
        return True
    below = content[width - 2 :: width]
    return not any(one & high == high and other & low == low for one, other in zip(highest, below, strict=True))


def numbers(dtype: str, content: bytes) -> array[float]:
    """The values that bytes stand for, each exactly."""
    if dtype == "BF16":
        wide = bytearray(2 * len(content))
        wide[2::4], wide[3::4] = content[::2], content[1::2]
        dtype, content = "F32", bytes(wide)
    if dtype == "F16":
        return array("d", struct.unpack(f"<{len(content) // 2}e", content))
    found = array("f" if dtype == "F32" else "d", content)
    if sys.byteorder == "big":
        found.byteswap()
    return found


@dataclass(frozen=True)
class SlotPlace:
    """A value slot of a model, and what has to be known to find its bytes.

    Attributes:
        parameter: the parameter's name in the model.
        layer: its layer.
        neuron: the slot's number.
        layout: `row`, `column`, or `whole` for a parameter as a whole.
        dtype: the parameter's, as safetensors writes it, such as `F32`.
        shape: the parameter's sizes.
    """

    parameter: str
    layer: int
    neuron: int
    layout: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def slot(self) -> Slot:
        """The slot as versions name it."""
        return (self.parameter, self.layer, self.neuron)

    @property
    def name(self) -> str:
        """How messages call it: its neuron, or the parameter that it is as a whole."""
        return self.parameter if self.layer == NO_LAYER else str(Neuron(self.layer, self.neuron))

    def sha256(self, content: bytes) -> str:
        """The hash of the slot's bytes by which versions are named; see `slot_sha256` and `region_sha256`."""
        if self.layout == WHOLE:
            return region_sha256(self.dtype, self.shape, content)
        return slot_sha256(self.dtype, content)


@dataclass(frozen=True)
class SlotEdit:
    """A slot that an edit changes: its bytes before and after."""

    place: SlotPlace
    old: bytes
    new: bytes


@dataclass(frozen=True)
class SlotSwitch:
    """A slot on the way from one version to another: its bytes in either."""

    place: SlotPlace
    before: bytes
    after: bytes


@dataclass(frozen=True)
class Strides:
    """Where a slot's bytes lie in a file: `count` pieces of `width` bytes, the first at `offset`, `stride` apart."""

    file: str
    offset: int
    stride: int
    count: int
    width: int

    @property
    def size(self) -> int:
        """The slot's bytes."""
        return self.count * self.width

    @property
    def offsets(self) -> range:
        """Each piece's offset in the file."""
        return range(self.offset, self.offset + self.count * self.stride, self.stride)


class NeedsWeightsError(Exception):
    """An object keeps a change as low-rank factors: what its slots hold is known only with the weights before it."""


def read_edit(content: bytes, name: str) -> list[SlotEdit]:
    """The slots that an edit object changes, and the parameters that it changes as a whole.

    Args:
        content: the object's bytes, their hash compared: `diff_file.write` made them, so values need no other check.
        name: how messages call the file.

    Raises:
        DiffFileError: if the bytes are no edit object's.
        NeedsWeightsError: if the object has factors.
    """
    with refusing(name):
        try:
            return list(_slot_edits(content))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise FlawError(f"that its parts don't fit ({error!r})", "an edit object") from None


def _slot_edits(content: bytes) -> Iterator[SlotEdit]:
    start = header_length(content[:8], len(content)) + 8
    header: Any = json_object(content[8:start].decode("utf-8"), "the header")
    entries: Any = parse_json(header["__metadata__"]["parameters"], "the list of parameters")

    def tensor(name: str) -> bytes:
        first, end = header[name]["data_offsets"]
        return content[start + first : start + end]

    for entry in entries:
        name, dtype, shape = entry["name"], entry["dtype"], tuple(entry["shape"])
        size = SlotLayout(entry["layout"]).width(shape) * ITEM_SIZES[dtype]
        indices, old, new = (tensor(f"{name}.{part}") for part in ("indices", "old", "new"))
        if not len(old) == len(new) == len(indices) // 8 * size:
            raise FlawError(f"{len(indices)}, {len(old)} and {len(new)} bytes for {name}", f"slots of {size} bytes")
        for number in range(len(indices) // 8):
            neuron = int.from_bytes(indices[number * 8 : number * 8 + 8], "little")
            place = SlotPlace(name, entry["layer"], neuron, entry["layout"], dtype, shape)
            part = slice(number * size, (number + 1) * size)
            yield SlotEdit(place, old[part], new[part])
    tensors: Any = parse_json(header["__metadata__"].get("tensors", "[]"), "the list of tensors")
    for entry in tensors:
        if entry["encoding"] != WHOLE:
            raise NeedsWeightsError
        place = SlotPlace(entry["name"], NO_LAYER, NO_LAYER, WHOLE, entry["dtype"], tuple(entry["shape"]))
        yield SlotEdit(place, tensor(f"{entry['name']}.old"), tensor(f"{entry['name']}.new"))


def switches(before: Iterable[Sequence[SlotEdit]], after: Iterable[Sequence[SlotEdit]]) -> list[SlotSwitch]:
    """What the slots that either list of edits touches hold in the two versions.

    Args:
        before: the edits that lead from a common version (such as the base) to the one version, in order.
        after: those that lead from there to the other.
    """
    common: dict[SlotPlace, bytes] = {}
    holds: tuple[dict[SlotPlace, bytes], dict[SlotPlace, bytes]] = ({}, {})
    for values, edits in zip(holds, (before, after), strict=True):
        for edit in edits:
            for change in edit:
                common.setdefault(change.place, change.old)
                values[change.place] = change.new
    return [
        SlotSwitch(place, holds[0].get(place, content), holds[1].get(place, content))
        for place, content in common.items()
    ]


def locate(place: SlotPlace, tensors: Mapping[str, TensorPlace]) -> Strides:
    """Where a slot's bytes lie in a checkpoint's files.

    Args:
        place: the slot.
        tensors: what `weights.tensor_places` found in the checkpoint.

    Raises:
        ModelError: if the parameter is not there, or has another dtype or shape.
    """
    name = stored_name(place.parameter, tensors)
    if name is None and (parts := stored_parts(place.parameter, tensors)):
        return _locate_expert(place, tensors, parts)
    if name is None:
        raise ModelError(
            f"the checkpoint's safetensors files have no tensor for {place.parameter}, which an edit changes. Save the "
            "checkpoint with save_pretrained first"
        )
    tensor = tensors[name]
    if (tensor.dtype, tensor.shape) != (place.dtype, place.shape):
        raise ModelError(
            f"{name} in {tensor.file} is {tensor.dtype} {list(tensor.shape)}, and the "
            f"edit was planned on {place.dtype} {list(place.shape)}"
        )
    item = ITEM_SIZES[place.dtype]
    if place.layout == WHOLE:
        size = math.prod(place.shape) * item
        return Strides(tensor.file, tensor.start, size, 1, size)
    layout = SlotLayout(place.layout)
    if not 0 <= place.neuron < layout.slots(place.shape):
        raise ModelError(f"{name} is {list(place.shape)} and has no {place.layout} {place.neuron}")
    runs = layout.runs(place.shape, place.neuron)
    start = tensor.start + runs.first * item
    return Strides(tensor.file, start, runs.stride * item, runs.count, runs.width * item)


def _locate_expert(place: SlotPlace, tensors: Mapping[str, TensorPlace], parts: tuple[str, ...]) -> Strides:
    """The same where files have a tensor for each expert."""
    if place.layout == WHOLE or len(place.shape) != 3 or len(parts) != 1:
        raise ModelError(
            f"the checkpoint's files have {place.parameter} as tensors of single experts, and it can't be written as a "
            "whole there. Export the version instead, or save the checkpoint with "
            "save_pretrained(…, save_original_format=False) and register that"
        )
    expert, within = divmod(place.neuron, SlotLayout(place.layout).slots(place.shape[1:]))
    return locate(replace(place, parameter=parts[0].format(expert), neuron=within, shape=place.shape[1:]), tensors)


def gathered(descriptor: int, strides: Strides) -> bytes:
    """Reads a slot's bytes from a file; fewer than there should be if it ends before them."""
    # Not through a map: a file that became shorter would then be a signal, where here it is an error.
    return b"".join(map(os.pread, repeat(descriptor), repeat(strides.width), strides.offsets))
