"""Looking at edits: their records, their history, and what their objects hold."""

from __future__ import annotations

import math

from ...editing.objects import object_format
from ...editing.objects.captured import CapturedTensor, captured_tensors
from ...editing.objects.object_format import StoredEdit
from ...editing.objects.slot_bytes import numbers
from ...records.display import Rows
from ...records.edits import Edit, EditChange, SlotChange, SlotLength
from ...records.models import Neuron
from ...records.versions import HistoryEntry
from ...store import models as store_models
from ...store.edits import edit as store_edits
from ...store.engine import Store


def get(store: Store, edit: int) -> Edit:
    """One edit; see `EditCommands.get`."""
    with store.reading() as connection:
        return store_edits.edit(connection, edit)


def every(store: Store, model: str | None) -> Rows[Edit]:
    """All edits, or those of one model."""
    with store.reading() as connection:
        number = None if model is None else store_models.model(connection, model).id
        return Rows(store_edits.edits(connection, number), Edit)


def slots(store: Store, edit: int) -> Rows[SlotChange]:
    """The value slots that an edit changes."""
    with store.reading() as connection:
        return Rows(store_edits.edit_slots(connection, edit), SlotChange)


def log(store: Store, model: str | None) -> Rows[HistoryEntry]:
    """Every apply, revert and restore, the oldest first."""
    with store.reading() as connection:
        number = None if model is None else store_models.model(connection, model).id
        return Rows(store_edits.history(connection, number), HistoryEntry)


def slot_lengths(store: Store, edit: int) -> dict[Neuron, tuple[float, float]]:
    """The length of each value slot before and after an edit; see `EditCommands.slot_lengths`."""
    return {
        Neuron.parse(one.neuron): (one.length_before, one.length_after)
        for one in change(store, edit).slots
        if one.length_before is not None and one.length_after is not None
    }


def change(store: Store, edit: int) -> EditChange:
    """What an edit's object changes; see `EditCommands.change`."""
    content = stored(store, get(store, edit))
    slots = [
        SlotLength(
            str(Neuron(slots.layer, one.place.neuron)),
            math.hypot(*numbers(slots.dtype, one.old)),
            math.hypot(*numbers(slots.dtype, one.new)),
        )
        for slots in content.parameters
        for one in slots.edits()
    ]
    for part in content.tensors:
        if part.slots is not None:
            layer = part.slots.layer
            slots += [SlotLength(str(Neuron(layer, index)), None, None) for index in part.slots.indices]
    return EditChange.of(slots, [part.parameter for part in content.tensors if part.slots is None])


def tensors(store: Store, edit: int) -> list[CapturedTensor]:
    """How an edit's object keeps the change of each parameter; see `EditCommands.tensors`."""
    return list(captured_tensors(stored(store, get(store, edit))))


def stored(store: Store, record: Edit) -> StoredEdit:
    """The content of an edit's object, in bytes.

    Raises:
        DiffFileError: if it is damaged.
    """
    return object_format.read(store.objects, record.object_path, record.object_hash)
