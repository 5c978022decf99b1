"""Which edits wrote value slots: from the store's hashes, its log, and the edits' objects. No model is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...advice import call
from ...editing.objects import object_format
from ...editing.objects.slot_bytes import numbers
from ...errors import EditError, NotFoundError, UsageError
from ...records.edits import Edit
from ...records.models import Model, Neuron
from ...records.versions import IN_EFFECT, OVERWRITTEN, REVERTED, Blame, HistoryEntry, SlotWrite
from ...store import models as store_models
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.edits.blame import Changes, changes_of_neurons, changes_of_parameters
from ...store.engine import Store
from ...store.versions import StoredSlot, slot_name
from ...versions import NO_LAYER, Slot
from ..models import ModelCommands
from ..testing.history import replayed_actions

_RANGE = re.compile(r"([Ll]\d+\.[Nn]\d+)-(?:[Ll](\d+)\.)?[Nn]?(\d+)")


@dataclass
class _Writing:
    """What an edit wrote, between the step that applied it and the one that took it out."""

    edit: int
    applied: HistoryEntry
    reverted: HistoryEntry | None = None


def blame(store: Store, models: ModelCommands, model: str, slots: Sequence[str], edit: int | None) -> Blame:
    """Which edits wrote slots; see `EditCommands.blame`."""
    if not slots and edit is None:
        raise UsageError("there is no slot to look at; name one such as L2.N418, or an edit")
    record = models.get(model)
    ranges, names = _places(record, slots)
    with store.reading() as connection:
        if edit is not None:
            changed = store_edits.edit_changes(connection, edit)
            _require_own(store_edits.edit(connection, edit), record)
            ranges += [(one.layer, one.neuron, one.neuron) for one in changed if one.layer != NO_LAYER]
            names += [one.parameter for one in changed if one.layer == NO_LAYER]
        changes: Changes = changes_of_neurons(connection, record.id, ranges)
        of_parameters = changes_of_parameters(connection, record.id, names)
        _require_known(names, of_parameters, record)
        changes |= of_parameters
        entries = store_edits.history(connection, record.id)
        applied = store_versions.applied_edits(connection, record.id)
        concerned = dict.fromkeys(number for found in changes.values() for number, _ in found)
        edits = {number: store_edits.edit(connection, number) for number in concerned}
    writings = _writings(entries)
    done = {one.edit for one in writings}
    sizes = {number: _relative_changes(store, edits[number], set(changes)) for number in edits if number in done}
    writes: list[SlotWrite] = []
    for slot, found in changes.items():
        of_edit = dict(found)
        last = next((number for number in reversed(applied) if number in of_edit), None)
        writes += [
            _write(writing, edits[writing.edit], of_edit[writing.edit], last, sizes[writing.edit].get(slot))
            for writing in writings
            if writing.edit in of_edit
        ]
    return Blame(
        model=record.name,
        version=record.version,
        slots=tuple(dict.fromkeys(slot_name(slot) for slot in changes)),
        writes=tuple(writes),
        never_applied=tuple(sorted(set(edits) - done)),
    )


# --- what is asked about --------------------------------------------------------------------------------


def _places(model: Model, texts: Sequence[str]) -> tuple[list[tuple[int, int, int]], list[str]]:
    """Layer, first and last neuron of each slot or range; and names of parameters."""
    ranges: list[tuple[int, int, int]] = []
    names: list[str] = []
    for text in texts:
        found = _RANGE.fullmatch(text.strip())
        first = Neuron.parse(found[1] if found else text) if found or not _is_parameter(text) else None
        if first is None:
            names.append(text.strip())
            continue
        last = Neuron(first.layer, int(found[3])) if found else first
        if found and found[2] is not None and int(found[2]) != first.layer:
            raise UsageError(f"{text!r} spans layers; a range is of one layer, such as {first}-{first.index + 9}")
        if last < first:
            raise UsageError(f"{text!r} ends before it begins; write {last}-{first.index}")
        for neuron in (first, last):
            store_models.require_neuron(model, neuron)
        ranges.append((first.layer, first.index, last.index))
    return ranges, names


def _is_parameter(text: str) -> bool:
    """Whether a text reads like a parameter's name, and not like a neuron's that is mistyped."""
    return re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", text.strip()) is not None and not re.match(r"[Ll]\d", text.strip())


def _require_own(edit: Edit, model: Model) -> None:
    if edit.model != model.name:
        raise EditError(
            f"edit {edit.id} is of model {edit.model!r}, not of {model.name!r}; list that model's edits with: "
            f"{call('edits.all', model=model.name)}"
        )


def _require_known(names: Sequence[str], found: Changes, model: Model) -> None:
    """Refuses a parameter that no edit changes as a whole: it may be no parameter of the model's at all."""
    known = {parameter for parameter, _, _ in found}
    for name in names:
        if name not in known:
            raise NotFoundError(
                f"no edit of model {model.name!r} changes a parameter {name!r} as a whole; value slots are named as "
                "L2.N418"
            )


# --- what happened --------------------------------------------------------------------------------------


def _writings(entries: Sequence[HistoryEntry]) -> list[_Writing]:
    """What the history's steps wrote, in order."""
    found: list[_Writing] = []
    for entry, action in zip(entries, replayed_actions(entries), strict=True):
        if entry.edit is None:
            continue
        if action == "apply":
            found.append(_Writing(entry.edit, entry))
        else:
            last = next((one for one in reversed(found) if one.edit == entry.edit and one.reverted is None), None)
            if last is not None:
                last.reverted = entry
    return found


def _write(writing: _Writing, edit: Edit, change: StoredSlot, last: int | None, size: float | None) -> SlotWrite:
    """What an edit wrote; `last` is the edit whose value the slot holds."""
    reverted = writing.reverted
    status = REVERTED if reverted is not None else IN_EFFECT if edit.id == last else OVERWRITTEN
    return SlotWrite(
        slot=change.name,
        parameter=change.slot[0],
        edit=edit.id,
        kind=edit.kind,
        what=edit.what,
        planned_by=edit.author,
        planned_at=edit.created_at,
        step=writing.applied.id,
        applied_by=writing.applied.author,
        applied_at=writing.applied.created_at,
        status=status,
        reverted_step=None if reverted is None else reverted.id,
        reverted_by=None if reverted is None else reverted.author,
        reverted_at=None if reverted is None else reverted.created_at,
        relative_change=size,
        old_sha256=change.old,
        new_sha256=change.new,
    )


# --- how much it changed ----------------------------------------------------------------------------------


def _relative_changes(store: Store, edit: Edit, wanted: set[Slot]) -> dict[Slot, float]:
    """‖new − old‖ ÷ ‖old‖ of those of the slots whose bytes an edit's object holds."""
    content = object_format.read(store.objects, edit.object_path, edit.object_hash)
    found: dict[Slot, float] = {}
    for slots in content.parameters:
        for one in slots.edits():
            if one.place.slot in wanted:
                found[one.place.slot] = _relative(slots.dtype, one.old, one.new)
    for part in content.tensors:
        slot = (part.parameter, NO_LAYER, NO_LAYER)
        if slot in wanted and part.old is not None and part.new is not None:
            found[slot] = _relative(part.dtype, part.old, part.new)
    return found


def _relative(dtype: str, old: bytes, new: bytes) -> float:
    before, after = numbers(dtype, old), numbers(dtype, new)
    change = math.sqrt(math.fsum((one - other) ** 2 for one, other in zip(after, before, strict=True)))
    length = math.sqrt(math.fsum(one * one for one in before))
    return change / length if length else math.inf if change else 0.0
