"""What value slots and parameters hold after edits that are kept as low-rank factors: by applying them in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ..editing import diff_file
from ..editing.slot_bytes import WHOLE, SlotEdit, SlotPlace
from ..editing.slots import apply_object, raw, read_slots
from ..models.precision import DTYPE_NAMES
from ..records import Edit, Model
from ..versions import NO_LAYER
from .models import ModelCommands


def materialised_edits(
    models: ModelCommands, objects: Path, record: Model, edits: Sequence[Edit]
) -> list[list[SlotEdit]]:
    """What each of the edits changes, in bytes, when they are applied to the checkpoint in this order.

    Args:
        models: loads the checkpoint.
        objects: the folder of objects.
        record: the model.
        edits: from the base version on.

    Raises:
        EditError: if an edit can't be applied.
        DiffFileError: if an object is damaged.
    """
    version = models.load(record.name, "base")
    parameters: dict[str, torch.Tensor] = dict(version.model.named_parameters())
    found: list[list[SlotEdit]] = []
    for edit in edits:
        content = diff_file.read(objects, edit.object_path, edit.object_hash)
        places = list(_places(content))
        before = [_bytes(parameters, place) for place in places]
        apply_object(parameters, content)
        after = [_bytes(parameters, place) for place in places]
        found.append([SlotEdit(*one) for one in zip(places, before, after, strict=True)])
    return found


def _places(content: diff_file.EditObject) -> list[SlotPlace]:
    places = [
        SlotPlace(
            diff.parameter,
            content.layers[diff.parameter],
            index,
            diff.layout,
            DTYPE_NAMES[diff.old.dtype],
            content.shapes[diff.parameter],
        )
        for diff in content.parameters
        for index in diff.indices.tolist()
    ]
    for part in content.tensors:
        dtype = part.dtype
        if part.slots is None:
            places.append(SlotPlace(part.parameter, NO_LAYER, NO_LAYER, WHOLE, dtype, part.shape))
            continue
        slots = part.slots
        places += [
            SlotPlace(part.parameter, slots.layer, index, slots.layout, dtype, part.shape)
            for index in slots.indices
        ]
    return places


def _bytes(parameters: dict[str, torch.Tensor], place: SlotPlace) -> bytes:
    tensor = parameters[place.parameter]
    if place.layout == WHOLE:
        return raw(tensor)
    return raw(read_slots(tensor, "row" if place.layout == "row" else "column", torch.tensor([place.neuron])))
