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

Invariants: one content has one sequence of bytes (`encode(decode(b)) == b`, checked on every decode); nothing
is pickled; `encode` gives nothing that `decode` would refuse. This module touches no files; `diff_file` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeGuard

import safetensors
import safetensors.torch
import torch

from ..errors import EditError
from ..models.precision import DTYPE_NAMES
from . import diff_tensors
from .diff_tensors import TensorDiff
from .object_bytes import FlawError, header_length, json_object, parse_json, refusing

FORMAT = "kndb-edit"
FORMAT_VERSION, WITH_TENSORS = "1", "2"
Layout = Literal["row", "column"]
Shape = tuple[int, int]

_ITEM_SIZES = {"U8": 1, "I8": 1, "F16": 2, "BF16": 2, "F32": 4, "F64": 8, "I64": 8}
_METADATA_KEYS = {"format", "format_version", "fingerprint", "kind", "recipe", "parameters"}
_PARAMETER_KEYS = {"name", "layout", "layer", "shape", "dtype"}


@dataclass(frozen=True, eq=False)
class ParameterDiff:
    """The value slots of one parameter that an edit changes.

    Attributes:
        parameter: the parameter's name in the model.
        layout: whether slot i is `parameter[i, :]` (row) or `parameter[:, i]` (column).
        indices: the slots, int64, sorted, unique.
        old: their values before the edit, [k, d] in both layouts, in the parameter's dtype.
        new: their values after it, [k, d].
    """

    parameter: str
    layout: Layout
    indices: torch.Tensor
    old: torch.Tensor
    new: torch.Tensor


@dataclass(frozen=True, eq=False)
class EditObject:
    """All that an edit object's file holds.

    Attributes:
        fingerprint: of the checkpoint that the edit is for.
        kind: kind of edit.
        recipe: everything needed to compute the edit again; JSON values only.
        parameters: the touched parameters.
        layers: each parameter's layer.
        shapes: each parameter's full shape.
        tensors: changes that are not kept as plain value slots, of other parameters.
    """

    fingerprint: str
    kind: str
    recipe: Mapping[str, object]
    parameters: tuple[ParameterDiff, ...]
    layers: Mapping[str, int]
    shapes: Mapping[str, Shape]
    tensors: tuple[TensorDiff, ...] = ()


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
        return self.shape[0] if self.layout == "row" else self.shape[1]

    @property
    def slot_size(self) -> int:
        return self.shape[1] if self.layout == "row" else self.shape[0]


@dataclass(frozen=True)
class _Metadata:
    fingerprint: str
    kind: str
    recipe: Mapping[str, object]
    parameters: tuple[_Description, ...]
    tensors: tuple[Mapping[str, object], ...]


def slot_bytes(values: torch.Tensor) -> torch.Tensor:
    """Gives the raw bytes of values [k, d], as uint8 [k, d · item size] on the CPU."""
    return values.detach().cpu().contiguous().view(torch.uint8)


# --- to bytes -------------------------------------------------------------------------------------


def encode(edit: EditObject) -> bytes:
    """Turns an edit into the bytes of its file; the same content always gives the same bytes.

    Raises:
        EditError: if the edit is not one that could be read back.
    """
    try:
        content = _serialize(edit)
        _decode(content)
    except FlawError as flaw:
        raise EditError(f"the edit can't be stored: {flaw}") from None
    return content


def _serialize(edit: EditObject) -> bytes:
    tensors = _tensors(edit)
    header: dict[str, object] = {"__metadata__": _metadata(edit)}
    position = 0
    for name, (dtype, shape, raw) in tensors.items():
        end = position + len(raw)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    text = _canonical_json(header).encode("ascii")
    # Readers that map the file want the payload to start at a multiple of eight bytes.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(raw for _, _, raw in tensors.values())


def _tensors(edit: EditObject) -> dict[str, tuple[str, list[int], bytes]]:
    """Gives dtype, shape and bytes of each tensor in the payload's order: widest dtype first, by name."""
    entries: dict[str, tuple[str, list[int], bytes]] = {}
    for diff in edit.parameters:
        if diff.indices.dtype != torch.int64:
            raise FlawError(f"slot indices of {diff.parameter} as {diff.indices.dtype}", "int64")
        entries[f"{diff.parameter}.indices"] = ("I64", list(diff.indices.shape), _raw(diff.indices))
        for part, values in (("old", diff.old), ("new", diff.new)):
            entries[f"{diff.parameter}.{part}"] = (_dtype_name(values), list(values.shape), _raw(values))
    for change in edit.tensors:
        entries |= diff_tensors.table(change)
    return dict(sorted(entries.items(), key=lambda item: (-_ITEM_SIZES[item[1][0]], item[0])))


def _raw(values: torch.Tensor) -> bytes:
    if values.ndim == 0 or values.numel() == 0:
        raise FlawError(f"a tensor of shape {tuple(values.shape)}", "at least one value slot")
    return slot_bytes(values).numpy().tobytes()


def _dtype_name(values: torch.Tensor) -> str:
    try:
        return DTYPE_NAMES[values.dtype]
    except KeyError:
        known = ", ".join(DTYPE_NAMES.values())
        raise FlawError(f"values of {values.dtype}", f"one of {known}") from None


def _metadata(edit: EditObject) -> dict[str, str]:
    names = {diff.parameter for diff in edit.parameters}
    if names != set(edit.layers) or names != set(edit.shapes):
        raise FlawError(
            f"layers of {sorted(edit.layers)} and shapes of {sorted(edit.shapes)}",
            f"those of the touched parameters {sorted(names)}",
        )
    described = {
        "format": FORMAT,
        "format_version": WITH_TENSORS if edit.tensors else FORMAT_VERSION,
        "fingerprint": edit.fingerprint,
        "kind": edit.kind,
        "recipe": _canonical_json(edit.recipe),
        "parameters": _canonical_json(
            [
                {
                    "name": diff.parameter,
                    "layout": diff.layout,
                    "layer": edit.layers[diff.parameter],
                    "shape": list(edit.shapes[diff.parameter]),
                    "dtype": _dtype_name(diff.old),
                }
                for diff in sorted(edit.parameters, key=lambda diff: diff.parameter)
            ]
        ),
    }
    if edit.tensors:
        parts = sorted(edit.tensors, key=lambda part: part.parameter)
        described["tensors"] = _canonical_json([diff_tensors.description(part) for part in parts])
    return described


def _canonical_json(value: object) -> str:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FlawError(f"a value that JSON can't hold ({error})", "JSON values only") from None


# --- from bytes -----------------------------------------------------------------------------------


def decode(content: bytes, name: str) -> EditObject:
    """Reads an edit object from its bytes and makes every check except that of the hash.

    Args:
        content: the file's bytes.
        name: how messages call the file.

    Raises:
        DiffFileError: if anything is not as it should be.
    """
    with refusing(name):
        return _decode(content)


def _decode(content: bytes) -> EditObject:
    header = _header(content)
    metadata = _read_metadata(header.pop("__metadata__", None))
    _check_tensor_list(header, metadata)
    tensors = _load(content)
    edit = EditObject(
        fingerprint=metadata.fingerprint,
        kind=metadata.kind,
        recipe=metadata.recipe,
        parameters=tuple(_parameter_diff(entry, tensors) for entry in metadata.parameters),
        layers={entry.name: entry.layer for entry in metadata.parameters},
        shapes={entry.name: entry.shape for entry in metadata.parameters},
        tensors=tuple(diff_tensors.tensor_diff(entry, tensors) for entry in metadata.tensors),
    )
    if not edit.tensors and all(torch.equal(slot_bytes(diff.old), slot_bytes(diff.new)) for diff in edit.parameters):
        raise FlawError("the same bytes before and after the edit", "at least one value slot that changes")
    if _serialize(edit) != content:
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
    if layout != "row" and layout != "column":
        raise FlawError(f"layout {layout!r} of {name}", "row or column")
    if not _is_count(layer):
        raise FlawError(f"layer {layer!r} of {name}", "a number from 0")
    if not (isinstance(shape, list) and len(shape) == 2 and all(_is_count(size) and size for size in shape)):
        raise FlawError(f"shape {shape!r} of {name}", "two sizes, each at least 1")
    if dtype not in DTYPE_NAMES.values():
        raise FlawError(f"dtype {dtype!r} of {name}", f"one of {', '.join(DTYPE_NAMES.values())}")
    return _Description(name, "row" if layout == "row" else "column", layer, (shape[0], shape[1]), str(dtype))


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


def _load(content: bytes) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise FlawError(f"bytes that safetensors refuses ({error})", "a safetensors file") from None


def _parameter_diff(entry: _Description, tensors: Mapping[str, torch.Tensor]) -> ParameterDiff:
    indices, old, new = (tensors[f"{entry.name}.{part}"] for part in ("indices", "old", "new"))
    if not bool((indices[1:] > indices[:-1]).all()):
        raise FlawError(f"slot indices of {entry.name} out of order or twice", "indices that rise strictly")
    if int(indices[0]) < 0 or int(indices[-1]) >= entry.slots:
        raise FlawError(
            f"slot indices of {entry.name} from {int(indices[0])} to {int(indices[-1])}",
            f"0 to {entry.slots - 1}",
        )
    for part, values in (("old", old), ("new", new)):
        if not bool(torch.isfinite(values).all()):
            raise FlawError(f"NaN or infinity in {entry.name}.{part}", "finite values only")
    return ParameterDiff(entry.name, entry.layout, indices, old, new)
