"""The header of an edit object: its metadata, and the list of its tensors. `object_format` says what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

from ...models.layout import LayoutWord, SlotLayout
from ...models.weights import ITEM_SIZES
from . import diff_tensors
from .diff_tensors import LAYOUTS
from .object_bytes import FlawError, json_object, parse_json

FORMAT = "kndb-edit"
FORMAT_VERSION, WITH_TENSORS = "1", "2"
Layout = LayoutWord
Shape = tuple[int, ...]

_METADATA_KEYS = {"format", "format_version", "fingerprint", "kind", "recipe", "parameters"}
_PARAMETER_KEYS = {"name", "layout", "layer", "shape", "dtype"}


@dataclass(frozen=True)
class ParameterEntry:
    """An entry of the metadata's list of parameters."""

    name: str
    layout: Layout
    layer: int
    shape: Shape
    dtype: str

    @property
    def slots(self) -> int:
        """How many value slots the parameter has."""
        return SlotLayout(self.layout).slots(self.shape)

    @property
    def slot_size(self) -> int:
        """How many numbers a slot has."""
        return SlotLayout(self.layout).width(self.shape)


@dataclass(frozen=True)
class Metadata:
    """What the header says beside the tensors' names, dtypes and shapes."""

    fingerprint: str
    kind: str
    recipe: Mapping[str, object]
    parameters: tuple[ParameterEntry, ...]
    tensors: tuple[Mapping[str, object], ...]


def read_metadata(metadata: object) -> Metadata:
    """Reads the metadata and checks all of it.

    Raises:
        FlawError: if anything is not as it should be.
    """
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
    return Metadata(
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


def _descriptions(entries: object, *, few: bool) -> tuple[ParameterEntry, ...]:
    if not isinstance(entries, list) or not (entries or few):
        raise FlawError(f"{entries!r} as the list of parameters", "at least one touched parameter")
    descriptions = tuple(_description(entry) for entry in entries)
    names = [entry.name for entry in descriptions]
    if names != sorted(set(names)):
        raise FlawError(f"parameters in the order {names}", "each once, sorted by name")
    return descriptions


def _description(entry: object) -> ParameterEntry:
    if not isinstance(entry, dict):
        raise FlawError(f"{entry!r} in the list of parameters", "a JSON object")
    _check_keys(entry, _PARAMETER_KEYS, "the list of parameters")
    name = _text(entry["name"], "a parameter's name")
    layout, layer, shape, dtype = (entry[key] for key in ("layout", "layer", "shape", "dtype"))
    if layout not in LAYOUTS:
        raise FlawError(f"layout {layout!r} of {name}", "row or column")
    if not _is_count(layer):
        raise FlawError(f"layer {layer!r} of {name}", "a number from 0")
    if not (isinstance(shape, list) and len(shape) in (2, 3) and all(_is_count(size) and size for size in shape)):
        raise FlawError(f"shape {shape!r} of {name}", "two sizes, or three of experts, each at least 1")
    if dtype not in list(ITEM_SIZES):
        raise FlawError(f"dtype {dtype!r} of {name}", f"one of {', '.join(ITEM_SIZES)}")
    return ParameterEntry(name, SlotLayout(layout).word, layer, tuple(shape), str(dtype))


def _is_count(value: object) -> TypeGuard[int]:
    # True and False are integers to Python, not to JSON.
    return type(value) is int and 0 <= value < 2**31


def check_tensor_list(header: Mapping[str, object], metadata: Metadata) -> None:
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


def _check_indices_entry(entry: ParameterEntry, tensor: object) -> int:
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
