"""Value slots in a model's parameters: reading, hashing and writing them, applying an edit object to them.

A value slot is a row or a column of a parameter [rows, columns]; which one, the layout says (`models.layout`). Copies
of slots are always slot-major, [k, d]. Bytes are compared, not numbers: 0.0 differs from -0.0, and NaN equals itself.

Invariant: an edit object is applied as a whole or not at all; all checks come before the first write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from ...advice import call
from ...errors import ConflictError, EditError
from ...models.dtypes import DTYPE_NAMES
from ...models.layout import SlotLayout
from ...records.edits import SlotChange
from ...records.models import Neuron
from . import diff_tensors, object_format
from .diff_file import EditObject, ParameterDiff, slot_bytes
from .diff_format import DTYPES, tensor_of
from .diff_tensors import TensorDiff
from .factor_fits import applied
from .slot_bytes import region_sha256

_NAMED_IN_MESSAGE = 5


def read_slots(tensor: torch.Tensor, layout: str, indices: torch.Tensor) -> torch.Tensor:
    """Copies slots out of a parameter [rows, columns], as [k, d] on the CPU."""
    return SlotLayout(layout).read(tensor, indices)


def put_slots(tensor: torch.Tensor, layout: str, indices: torch.Tensor, values: torch.Tensor) -> None:
    """Writes values [k, d] into slots of a parameter, in place."""
    SlotLayout(layout).write(tensor, indices, values)


def slot_hashes(values: torch.Tensor) -> list[str]:
    """Gives the sha256 of each row of values [k, d]: of the dtype's name and the row's bytes."""
    dtype = str(values.dtype).removeprefix("torch.").encode("ascii")
    return [hashlib.sha256(dtype + row.numpy().tobytes()).hexdigest() for row in slot_bytes(values)]


def changes(edit: EditObject) -> list[SlotChange]:
    """Lists what an edit changes, with the hashes of its bytes: value slots, and parameters as a whole.

    A whole parameter has `NO_LAYER` for its layer and its neuron.
    """
    found = [
        SlotChange(diff.parameter, edit.layers[diff.parameter], neuron, old, new)
        for diff in edit.parameters
        for neuron, old, new in zip(diff.indices.tolist(), slot_hashes(diff.old), slot_hashes(diff.new), strict=True)
    ]
    return found + diff_tensors.changes(edit.tensors)


def raw_view(values: torch.Tensor) -> torch.Tensor:
    """A tensor's bytes, as uint8 [n] on the CPU; a copy only where they do not lie in one piece there."""
    return values.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def raw(values: torch.Tensor) -> bytes:
    """A tensor's bytes."""
    return raw_view(values).numpy().tobytes()


def region_hash(values: torch.Tensor) -> str:
    """The sha256, in hex, of a region's dtype, shape and bytes; see `slot_bytes.region_sha256`."""
    return region_sha256(DTYPE_NAMES[values.dtype], values.shape, raw_view(values).numpy().data)


def check_fingerprint(edit: EditObject, fingerprint: str) -> None:
    """Refuses an edit that was planned for another checkpoint.

    Raises:
        FingerprintError: if the fingerprints differ.
    """
    object_format.check_fingerprint(edit.fingerprint, fingerprint)


def apply_object(parameters: Mapping[str, torch.Tensor], edit: EditObject, *, reverse: bool = False) -> None:
    """Applies an edit to a model's parameters, in place; or takes it back.

    Args:
        parameters: the model's parameters by name.
        edit: the edit.
        reverse: put the old values where the new ones are.

    Raises:
        EditError: if a parameter is missing or has another dtype or shape, or low-rank factors don't give the bytes
            that they are to give.
        ConflictError: if a slot holds other bytes than the edit expects.
    """
    for diff in edit.parameters:
        _check_parameter(parameters, diff, edit.shapes[diff.parameter])
    for diff in edit.parameters:
        expected = diff.new if reverse else diff.old
        _check_present(parameters[diff.parameter], diff, edit.layers[diff.parameter], expected)
    results = [(part, _region_after(parameters, part, reverse)) for part in edit.tensors]
    for diff in edit.parameters:
        values = diff.old if reverse else diff.new
        put_slots(parameters[diff.parameter], diff.layout, diff.indices, values)
    for part, values in results:
        _put_region(parameters[part.parameter], part, values)


@contextmanager
def edited(parameters: Mapping[str, torch.Tensor], edit: EditObject) -> Iterator[None]:
    """Applies an edit to a model's parameters while the block lasts.

    Raises:
        EditError, ConflictError: as `apply_object`.
    """
    apply_object(parameters, edit)
    try:
        yield
    finally:
        apply_object(parameters, edit, reverse=True)


def read_region(tensor: torch.Tensor, part: TensorDiff) -> torch.Tensor:
    """Copies the region that a change is of out of its parameter: value slots [k, d], or all of it."""
    if part.slots is None:
        return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return read_slots(tensor, part.slots.layout, torch.tensor(part.slots.indices))


def _put_region(tensor: torch.Tensor, part: TensorDiff, values: torch.Tensor) -> None:
    if part.slots is not None:
        put_slots(tensor, part.slots.layout, torch.tensor(part.slots.indices), values)
        return
    with torch.no_grad():
        tensor.copy_(values.to(tensor.device))


def _region_after(parameters: Mapping[str, torch.Tensor], part: TensorDiff, reverse: bool) -> torch.Tensor:
    """What a region is to hold; what it holds is compared first, and a computed result with its hash."""
    _check_parameter(parameters, part, part.shape)
    present = read_region(parameters[part.parameter], part)
    before, after = (part.new_sha256, part.old_sha256) if reverse else (part.old_sha256, part.new_sha256)
    found = region_hash(present)
    if found != before:
        raise ConflictError(
            f"{part.parameter} holds other bytes than the edit expects: its sha256 is {found[:12]}, and the edit "
            f"expects {before[:12]}. To see what is applied: {call('edits.log')}"
        )
    if part.factors is None:
        stored = part.old if reverse else part.new
        assert stored is not None, "a change is kept whole or as factors"
        return tensor_of(part.dtype, stored).view(part.shape)
    result = applied(part.factors, present, reverse=reverse)
    hashes = None if part.slots is None else part.slots.old_hashes if reverse else part.slots.new_hashes
    if region_hash(result) != after or (hashes is not None and tuple(slot_hashes(result)) != hashes):
        raise EditError(
            f"the factors of {part.parameter} give other bytes than sha256 {after[:12]} on this machine; nothing was "
            "changed. Capture the edit here, or on the machine that it comes from with another release of torch"
        )
    return result


def _check_parameter(
    parameters: Mapping[str, torch.Tensor], diff: ParameterDiff | TensorDiff, shape: tuple[int, ...]
) -> None:
    tensor = parameters.get(diff.parameter)
    if tensor is None:
        raise EditError(
            f"the model has no parameter {diff.parameter}, which the edit changes; apply it to the model that it was "
            f"planned on. To see the models: {call('models.all')}"
        )
    dtype = DTYPES[diff.dtype] if isinstance(diff, TensorDiff) else diff.old.dtype
    found, expected = (tensor.dtype, tuple(tensor.shape)), (dtype, shape)
    if found != expected:
        raise EditError(
            f"parameter {diff.parameter} is {found[0]} {list(found[1])}; the edit expects "
            f"{expected[0]} {list(expected[1])}. Load the model in the dtype that it is stored in"
        )


def _check_present(tensor: torch.Tensor, diff: ParameterDiff, layer: int, expected: torch.Tensor) -> None:
    present = read_slots(tensor, diff.layout, diff.indices)
    differs = (slot_bytes(present) != slot_bytes(expected)).any(dim=1)
    if not bool(differs.any()):
        return
    rows = differs.nonzero().flatten().tolist()
    named = [str(Neuron(layer, int(diff.indices[row]))) for row in rows[:_NAMED_IN_MESSAGE]]
    more = ", …" if len(rows) > _NAMED_IN_MESSAGE else ""
    first = rows[0]
    raise ConflictError(
        f"{len(rows)} of {len(diff.indices)} value slots of {diff.parameter} hold other bytes than the edit "
        f"expects: {', '.join(named)}{more}. The sha256 of {named[0]} is {slot_hashes(present)[first][:12]}, and the "
        f"edit expects {slot_hashes(expected)[first][:12]}. To see what is applied: {call('edits.log')}"
    )
