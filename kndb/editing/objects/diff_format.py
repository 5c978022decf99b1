"""Edit objects with their values as tensors. `object_format` says what their bytes mean, and checks them.

Invariants: `encode(decode(b)) == b`; `encode` gives nothing that `decode` would refuse. This module touches no files;
`diff_file` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ...errors import EditError
from ...models.dtypes import DTYPE_NAMES
from ...records.recipes import Recipe
from . import diff_tensors
from .diff_tensors import Table, TensorDiff
from .object_bytes import FlawError, refusing
from .object_format import StoredEdit, StoredSlots, assemble, entry_of, parse
from .object_metadata import Layout, Shape

DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}
"""The dtypes of parameters by their names in safetensors."""


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
        recipe: everything needed to compute the edit again, and what kind of edit it is.
        parameters: the touched parameters.
        layers: each parameter's layer.
        shapes: each of these parameters' full shape.
        tensors: changes that are not kept as plain value slots, of other parameters.
    """

    fingerprint: str
    recipe: Recipe
    parameters: tuple[ParameterDiff, ...]
    layers: Mapping[str, int]
    shapes: Mapping[str, Shape]
    tensors: tuple[TensorDiff, ...] = ()

    @property
    def kind(self) -> str:
        """The kind of edit."""
        return self.recipe.kind

    @property
    def touched(self) -> tuple[str, ...]:
        """The names of all parameters that it changes, however it is kept."""
        return (*self.shapes, *(part.parameter for part in self.tensors))


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
        parse(content)
    except FlawError as flaw:
        raise EditError(f"the edit can't be stored: {flaw}") from None
    return content


def _serialize(edit: EditObject) -> bytes:
    names = {diff.parameter for diff in edit.parameters}
    if names != set(edit.layers) or names != set(edit.shapes):
        raise FlawError(
            f"layers of {sorted(edit.layers)} and shapes of {sorted(edit.shapes)}",
            f"those of the touched parameters {sorted(names)}",
        )
    entries = [
        entry_of(
            diff.parameter,
            diff.layout,
            edit.layers[diff.parameter],
            edit.shapes[diff.parameter],
            _dtype_name(diff.old),
        )
        for diff in edit.parameters
    ]
    return assemble(
        _tensors(edit),
        fingerprint=edit.fingerprint,
        recipe=edit.recipe,
        parameters=entries,
        parts=edit.tensors,
    )


def _tensors(edit: EditObject) -> Table:
    """Gives dtype, shape and bytes of each tensor."""
    entries: Table = {}
    for diff in edit.parameters:
        if diff.indices.dtype != torch.int64:
            raise FlawError(f"slot indices of {diff.parameter} as {diff.indices.dtype}", "int64")
        entries[f"{diff.parameter}.indices"] = ("I64", list(diff.indices.shape), _raw(diff.indices))
        for part, values in (("old", diff.old), ("new", diff.new)):
            entries[f"{diff.parameter}.{part}"] = (_dtype_name(values), list(values.shape), _raw(values))
    for change in edit.tensors:
        entries |= diff_tensors.table(change)
    return entries


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
        return _with_tensors(parse(content))


def _with_tensors(edit: StoredEdit) -> EditObject:
    return EditObject(
        fingerprint=edit.fingerprint,
        recipe=edit.recipe,
        parameters=tuple(_parameter_diff(slots) for slots in edit.parameters),
        layers={slots.parameter: slots.layer for slots in edit.parameters},
        shapes={slots.parameter: slots.shape for slots in edit.parameters},
        tensors=edit.tensors,
    )


def _parameter_diff(slots: StoredSlots) -> ParameterDiff:
    count = len(slots.indices)
    old, new = (tensor_of(slots.dtype, content).view(count, -1) for content in (slots.old, slots.new))
    return ParameterDiff(slots.parameter, slots.layout, torch.tensor(slots.indices, dtype=torch.int64), old, new)


def tensor_of(dtype: str, content: bytes) -> torch.Tensor:
    """Bytes as a tensor [n] of a dtype that is named as safetensors does."""
    return torch.frombuffer(bytearray(content), dtype=DTYPES[dtype])
