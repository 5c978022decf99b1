"""The bytes of an edit object: a safetensors file that holds an edit's old and new values and its recipe.

For each touched parameter there are three tensors: `<parameter>.indices` (int64, sorted, unique) says which
value slots change, `<parameter>.old` and `<parameter>.new` [k, d] hold their values in the parameter's dtype.
The `__metadata__` header says the rest; its entries are text:

    format          always "kndb-edit"
    format_version  "1"; "2" for an object with tensors
    fingerprint     of the checkpoint that the edit is for
    kind            kind of edit
    recipe          JSON: everything needed to compute the edit again
    parameters      JSON list, sorted by name: {"name", "layout", "layer", "shape", "dtype"}
    tensors         only in version 2: JSON list, sorted by name, of the parts that are not plain value slots (see
                    `diff_tensors`)

Invariants: one content has one sequence of bytes (what `parse` reads, `assemble` gives back, checked on every
read); nothing is pickled. Imports no torch, so that a command that only compares and moves bytes starts at once;
`diff_format` gives the same as tensors.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard

import safetensors

from ...errors import FingerprintError
from ...models.layout import LayoutWord, SlotLayout
from ...models.weights import ITEM_SIZES
from ...records.edits import SlotChange
from . import diff_tensors
from .diff_tensors import LAYOUTS, Table, TensorDiff
from .object_bytes import FlawError, header_length, json_object, parse_json, read_content, refusing
from .slot_bytes import SlotEdit, SlotPlace, is_finite, slot_sha256

FORMAT = "kndb-edit"
FORMAT_VERSION, WITH_TENSORS = "1", "2"
Layout = LayoutWord
Shape = tuple[int, int]

_ITEM_SIZES = {"U8": 1, "I8": 1, "I64": 8, **ITEM_SIZES}
_METADATA_KEYS = {"format", "format_version", "fingerprint", "kind", "recipe", "parameters"}
_PARAMETER_KEYS = {"name", "layout", "layer", "shape", "dtype"}


@dataclass(frozen=True, eq=False)
class StoredSlots:
    """The value slots of one parameter that an edit changes, in bytes.

    Attributes:
        parameter: the parameter's name in the model.
        layout: whether slot i is `parameter[i, :]` (row) or `parameter[:, i]` (column).
        layer: the parameter's layer.
        shape: the parameter's full shape.
        dtype: its dtype, as safetensors writes it.
        indices: the slots, k of them, rising.
        old: the bytes of their values before the edit, [k, d] in both layouts.
        new: those after it.
    """

    parameter: str
    layout: Layout
    layer: int
    shape: Shape
    dtype: str
    indices: tuple[int, ...]
    old: bytes
    new: bytes

    def edits(self) -> Iterator[SlotEdit]:
        """Each slot with its bytes before and after."""
        size = SlotLayout(self.layout).width(self.shape) * ITEM_SIZES[self.dtype]
        for number, index in enumerate(self.indices):
            place = SlotPlace(self.parameter, self.layer, index, self.layout, self.dtype, self.shape)
            part = slice(number * size, (number + 1) * size)
            yield SlotEdit(place, self.old[part], self.new[part])


@dataclass(frozen=True, eq=False)
class StoredEdit:
    """All that an edit object's file holds, in bytes.

    Attributes:
        fingerprint: of the checkpoint that the edit is for.
        kind: kind of edit.
        recipe: everything needed to compute the edit again.
        parameters: the value slots that it changes.
        tensors: changes that are not kept as plain value slots, of other parameters.
    """

    fingerprint: str
    kind: str
    recipe: Mapping[str, object]
    parameters: tuple[StoredSlots, ...]
    tensors: tuple[TensorDiff, ...] = ()

    def changes(self) -> list[SlotChange]:
        """Lists what the edit changes, with the hashes of its bytes: value slots, and parameters as a whole.

        A whole parameter has `NO_LAYER` for its layer and its neuron.
        """
        found = []
        for slots in self.parameters:
            for one in slots.edits():
                old, new = (slot_sha256(slots.dtype, content) for content in (one.old, one.new))
                found.append(SlotChange(slots.parameter, slots.layer, one.place.neuron, old, new))
        return found + diff_tensors.changes(self.tensors)


def read(folder: Path, relative_path: str, expected_sha256: str) -> StoredEdit:
    """Reads an edit object and makes every check on it, as `diff_file.read` does.

    Args:
        folder: the store's folder of objects.
        relative_path: the file in it.
        expected_sha256: the hash that names the object, in hex.

    Raises:
        DiffFileError: if the file is missing, lies outside the folder, or is not what was written.
    """
    content = read_content(folder, relative_path, expected_sha256)
    with refusing(str(folder / relative_path)):
        return parse(content)


def check_fingerprint(found: str, fingerprint: str) -> None:
    """Refuses an edit that was planned for another checkpoint.

    Args:
        found: what the edit's object says.
        fingerprint: of the checkpoint.

    Raises:
        FingerprintError: if they differ.
    """
    if found != fingerprint:
        raise FingerprintError(
            f"the edit is for the checkpoint with fingerprint {found}; found {fingerprint}. "
            "Run `kndb model list` to find its model"
        )


# --- to bytes -------------------------------------------------------------------------------------


def assemble(
    tensors: Table,
    *,
    fingerprint: str,
    kind: str,
    recipe: Mapping[str, object],
    parameters: Sequence[Mapping[str, object]],
    parts: Sequence[TensorDiff],
) -> bytes:
    """The file's bytes; the same content always gives the same ones.

    Args:
        tensors: dtype, shape and bytes of each tensor, by name.
        fingerprint: of the checkpoint.
        kind: kind of edit.
        recipe: JSON values.
        parameters: the metadata's entries of the parameters.
        parts: those that are not plain value slots.

    Raises:
        FlawError: if the recipe is not JSON.
    """
    described = {
        "format": FORMAT,
        "format_version": WITH_TENSORS if parts else FORMAT_VERSION,
        "fingerprint": fingerprint,
        "kind": kind,
        "recipe": _canonical_json(recipe),
        "parameters": _canonical_json(sorted(parameters, key=lambda entry: str(entry["name"]))),
    }
    if parts:
        ordered = sorted(parts, key=lambda part: part.parameter)
        described["tensors"] = _canonical_json([diff_tensors.description(part) for part in ordered])
    header: dict[str, object] = {"__metadata__": described}
    position = 0
    # In the payload the widest dtype comes first, then the order is that of the names.
    in_order = dict(sorted(tensors.items(), key=lambda item: (-_ITEM_SIZES[item[1][0]], item[0])))
    for name, (dtype, shape, raw) in in_order.items():
        end = position + len(raw)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    text = _canonical_json(header).encode("ascii")
    # Readers that map the file want the payload to start at a multiple of eight bytes.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(raw for _, _, raw in in_order.values())


def entry_of(name: str, layout: str, layer: int, shape: Sequence[int], dtype: str) -> dict[str, object]:
    """A parameter's entry in the metadata."""
    return {"name": name, "layout": layout, "layer": layer, "shape": list(shape), "dtype": dtype}


def _canonical_json(value: object) -> str:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FlawError(f"a value that JSON can't hold ({error})", "JSON values only") from None


def _assembled(edit: StoredEdit) -> bytes:
    tensors: Table = {}
    for slots in edit.parameters:
        count = len(slots.indices)
        shape = [count, SlotLayout(slots.layout).width(slots.shape)]
        tensors[f"{slots.parameter}.indices"] = ("I64", [count], struct.pack(f"<{count}q", *slots.indices))
        tensors[f"{slots.parameter}.old"] = (slots.dtype, shape, slots.old)
        tensors[f"{slots.parameter}.new"] = (slots.dtype, shape, slots.new)
    for part in edit.tensors:
        tensors |= diff_tensors.table(part)
    return assemble(
        tensors,
        fingerprint=edit.fingerprint,
        kind=edit.kind,
        recipe=edit.recipe,
        parameters=[entry_of(one.parameter, one.layout, one.layer, one.shape, one.dtype) for one in edit.parameters],
        parts=edit.tensors,
    )


# --- from bytes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Description:
    """An entry of the metadata's list of parameters."""

    name: str
    layout: Layout
    layer: int
    shape: Shape
    dtype: str

    @property
    def slots(self) -> int:
        return SlotLayout(self.layout).slots(self.shape)

    @property
    def slot_size(self) -> int:
        return SlotLayout(self.layout).width(self.shape)


@dataclass(frozen=True)
class _Metadata:
    fingerprint: str
    kind: str
    recipe: Mapping[str, object]
    parameters: tuple[_Description, ...]
    tensors: tuple[Mapping[str, object], ...]


def parse(content: bytes) -> StoredEdit:
    """Reads an edit object from its bytes and makes every check except that of the hash.

    Raises:
        FlawError: if anything is not as it should be; see `object_bytes.refusing`.
    """
    header = _header(content)
    metadata = _read_metadata(header.pop("__metadata__", None))
    _check_tensor_list(header, metadata)
    tensors = _load(content)
    edit = StoredEdit(
        fingerprint=metadata.fingerprint,
        kind=metadata.kind,
        recipe=metadata.recipe,
        parameters=tuple(_stored_slots(entry, tensors) for entry in metadata.parameters),
        tensors=tuple(diff_tensors.tensor_diff(entry, tensors) for entry in metadata.tensors),
    )
    if not edit.tensors and all(slots.old == slots.new for slots in edit.parameters):
        raise FlawError("the same bytes before and after the edit", "at least one value slot that changes")
    if _assembled(edit) != content:
        raise FlawError("its content written in another form", "the one canonical form")
    return edit


def _header(content: bytes) -> dict[str, object]:
    length = header_length(content[:8], len(content))
    try:
        text = content[8 : 8 + length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise FlawError(f"a header that is not UTF-8 text ({error.reason})", "a JSON object") from None
    return json_object(text, "the header")


def _read_metadata(metadata: object) -> _Metadata:
    if not isinstance(metadata, dict):
        raise FlawError("no __metadata__ in the header", "an edit object's metadata")
    _check_keys(metadata, {"format", "format_version"}, "the metadata", exactly=False)
    version = metadata["format_version"]
    if metadata["format"] != FORMAT or version not in (FORMAT_VERSION, WITH_TENSORS):
        raise FlawError(
            f"format {metadata['format']!r}, version {version!r}",
            f"format {FORMAT!r}, version {FORMAT_VERSION!r} or {WITH_TENSORS!r}; a later kndb may have written it",
        )
    keys = _METADATA_KEYS | ({"tensors"} if version == WITH_TENSORS else set())
    _check_keys(metadata, keys, "the metadata")
    texts = {key: _text(metadata[key], f"{key} of the metadata") for key in keys}
    tensors = _tensor_entries(parse_json(texts["tensors"], "the list of tensors")) if version == WITH_TENSORS else ()
    return _Metadata(
        fingerprint=texts["fingerprint"],
        kind=texts["kind"],
        recipe=json_object(texts["recipe"], "the recipe"),
        parameters=_descriptions(parse_json(texts["parameters"], "the list of parameters"), few=bool(tensors)),
        tensors=tensors,
    )


def _check_keys(mapping: Mapping[str, object], keys: set[str], what: str, *, exactly: bool = True) -> None:
    missing, extra = sorted(keys - set(mapping)), sorted(set(mapping) - keys)
    if missing or (exactly and extra):
        raise FlawError(f"{sorted(mapping)} in {what}", f"{sorted(keys)}")


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise FlawError(f"{value!r} as {what}", "text that is not empty")
    return value


def _tensor_entries(entries: object) -> tuple[Mapping[str, object], ...]:
    if not isinstance(entries, list) or not entries:
        raise FlawError(f"{entries!r} as the list of tensors", "at least one")
    names: list[str] = []
    for entry in entries:
        diff_tensors.part_names(entry)
        names.append(entry["name"])
    if names != sorted(set(names)):
        raise FlawError(f"tensors in the order {names}", "each once, sorted by name")
    return tuple(entries)


def _descriptions(entries: object, *, few: bool) -> tuple[_Description, ...]:
    if not isinstance(entries, list) or not (entries or few):
        raise FlawError(f"{entries!r} as the list of parameters", "at least one touched parameter")
    descriptions = tuple(_description(entry) for entry in entries)
    names = [entry.name for entry in descriptions]
    if names != sorted(set(names)):
        raise FlawError(f"parameters in the order {names}", "each once, sorted by name")
    return descriptions


def _description(entry: object) -> _Description:
    if not isinstance(entry, dict):
        raise FlawError(f"{entry!r} in the list of parameters", "a JSON object")
    _check_keys(entry, _PARAMETER_KEYS, "the list of parameters")
    name = _text(entry["name"], "a parameter's name")
    layout, layer, shape, dtype = (entry[key] for key in ("layout", "layer", "shape", "dtype"))
    if layout not in LAYOUTS:
        raise FlawError(f"layout {layout!r} of {name}", "row or column")
    if not _is_count(layer):
        raise FlawError(f"layer {layer!r} of {name}", "a number from 0")
    if not (isinstance(shape, list) and len(shape) == 2 and all(_is_count(size) and size for size in shape)):
        raise FlawError(f"shape {shape!r} of {name}", "two sizes, each at least 1")
    if dtype not in list(ITEM_SIZES):
        raise FlawError(f"dtype {dtype!r} of {name}", f"one of {', '.join(ITEM_SIZES)}")
    return _Description(name, SlotLayout(layout).word, layer, (shape[0], shape[1]), str(dtype))


def _is_count(value: object) -> TypeGuard[int]:
    # True and False are integers to Python, not to JSON.
    return type(value) is int and 0 <= value < 2**31


def _check_tensor_list(header: Mapping[str, object], metadata: _Metadata) -> None:
    """Compares names, dtypes and shapes in the header with the metadata, before any tensor is built."""
    expected = {f"{entry.name}.{part}" for entry in metadata.parameters for part in ("indices", "old", "new")}
    plain = {entry.name for entry in metadata.parameters}
    for other in metadata.tensors:
        if other["name"] in plain:
            raise FlawError(f"parameter {other['name']} as value slots and as a tensor", "each parameter once")
        expected |= diff_tensors.part_names(other)
    _check_keys(header, expected, "the list of tensors")
    for entry in metadata.parameters:
        count = _check_indices_entry(entry, header[f"{entry.name}.indices"])
        for part in ("old", "new"):
            _check_tensor_entry(f"{entry.name}.{part}", header, entry.dtype, [count, entry.slot_size])


def _check_indices_entry(entry: _Description, tensor: object) -> int:
    shape = tensor.get("shape") if isinstance(tensor, dict) else None
    if not (isinstance(shape, list) and len(shape) == 1 and _is_count(shape[0]) and 0 < shape[0] <= entry.slots):
        raise FlawError(f"shape {shape!r} of {entry.name}.indices", f"[k] with k from 1 to {entry.slots}")
    _check_tensor_entry(f"{entry.name}.indices", {f"{entry.name}.indices": tensor}, "I64", shape)
    return shape[0]


def _check_tensor_entry(name: str, header: Mapping[str, object], dtype: str, shape: list[int]) -> None:
    tensor = header[name]
    if not isinstance(tensor, dict):
        raise FlawError(f"{tensor!r} as the description of {name}", "dtype, shape and data_offsets")
    _check_keys(tensor, {"dtype", "shape", "data_offsets"}, f"the description of {name}")
    if tensor["dtype"] != dtype or tensor["shape"] != shape:
        raise FlawError(f"{name} as {tensor['dtype']} {tensor['shape']}", f"{dtype} {shape}")


def _load(content: bytes) -> Table:
    try:
        found: list[tuple[str, dict[str, Any]]] = safetensors.deserialize(content)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise FlawError(f"bytes that safetensors refuses ({error})", "a safetensors file") from None
    return {name: (str(one["dtype"]), list(one["shape"]), bytes(one["data"])) for name, one in found}


def _stored_slots(entry: _Description, tensors: Table) -> StoredSlots:
    raw, old, new = (tensors[f"{entry.name}.{part}"][2] for part in ("indices", "old", "new"))
    indices = struct.unpack(f"<{len(raw) // 8}q", raw)
    if any(later <= earlier for earlier, later in pairwise(indices)):
        raise FlawError(f"slot indices of {entry.name} out of order or twice", "indices that rise strictly")
    if indices[0] < 0 or indices[-1] >= entry.slots:
        raise FlawError(f"slot indices of {entry.name} from {indices[0]} to {indices[-1]}", f"0 to {entry.slots - 1}")
    for part, values in (("old", old), ("new", new)):
        if not is_finite(entry.dtype, values):
            raise FlawError(f"NaN or infinity in {entry.name}.{part}", "finite values only")
    return StoredSlots(entry.name, entry.layout, entry.layer, entry.shape, entry.dtype, indices, old, new)
