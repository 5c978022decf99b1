"""Versions of a model: what each value slot holds after a list of edits, and the names of versions.

A version is built by applying edits, in order, to the base checkpoint. The store knows a slot's bytes by
their sha256: in the base checkpoint, before and after each edit. Invariants: a row of `version` rebuilds to
its own id; a model's `applied_edit` rows rebuild to `model.version`; every version that was ever current has
a row, and the base version's row has no edits.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, text

from ..advice import Placeholder, call
from ..errors import NotFoundError, StoreDamagedError
from ..records.models import Neuron
from ..versions import NO_LAYER, Slot, version_id
from .tables import AppliedEditRow, ModelRow, SnapshotRow, VersionRow
from .version_lists import is_known, keep_version, listed_edits

BASE = "base"
CURRENT = "current"
PREFIX_LENGTH = 4
"""The least number of characters that stand for a version's whole id."""

SlotState = dict[Slot, tuple[str, str]]
"""For each slot that edits touch: the sha256 of its bytes in the base checkpoint, and of those it holds."""

# CROSS JOIN keeps the order of joins: from the edits or places that were asked for, each row is found by an index.
_SLOTS_OF_EDITS = (
    """
    SELECT slot.edit_id, slot.parameter, slot.layer, slot.neuron, slot.old_sha256, slot.new_sha256, slot.base_sha256
    FROM kndb_numbers(:edits) AS asked
    CROSS JOIN edit ON edit.id = asked.value AND edit.model_id = :model
    CROSS JOIN edit_neuron AS slot ON slot.edit_id = edit.id
    ORDER BY slot.edit_id, slot.layer, slot.neuron
    """,
    f"""
    SELECT slot.edit_id, slot.parameter, {NO_LAYER}, {NO_LAYER}, slot.old_sha256, slot.new_sha256, slot.base_sha256
    FROM kndb_numbers(:edits) AS asked
    CROSS JOIN edit ON edit.id = asked.value AND edit.model_id = :model
    CROSS JOIN edit_tensor AS slot ON slot.edit_id = edit.id
    ORDER BY slot.edit_id, slot.parameter
    """,  # noqa: S608 - NO_LAYER is a constant
)
_SLOTS_TOUCHED = (
    """
    SELECT slot.edit_id, slot.parameter, slot.layer, slot.neuron, slot.old_sha256, slot.new_sha256, slot.base_sha256
    FROM kndb_rows(:places, layer, neuron) AS asked
    CROSS JOIN edit_neuron AS slot INDEXED BY ix_edit_neuron_layer_neuron
        ON slot.layer = asked.layer AND slot.neuron = asked.neuron
    CROSS JOIN edit ON edit.id = slot.edit_id AND edit.model_id = :model
    ORDER BY slot.edit_id, slot.layer, slot.neuron
    """,
    f"""
    SELECT slot.edit_id, slot.parameter, {NO_LAYER}, {NO_LAYER}, slot.old_sha256, slot.new_sha256, slot.base_sha256
    FROM kndb_texts(:names) AS asked
    CROSS JOIN edit_tensor AS slot INDEXED BY ix_edit_tensor_parameter ON slot.parameter = asked.value
    CROSS JOIN edit ON edit.id = slot.edit_id AND edit.model_id = :model
    ORDER BY slot.edit_id, slot.parameter
    """,  # noqa: S608 - NO_LAYER is a constant
)


class StoredSlot(NamedTuple):
    """A slot that an edit changes, with the sha256 of its bytes before, after and in the base checkpoint."""

    slot: Slot
    old: str
    new: str
    base: str

    @property
    def name(self) -> str:
        """The neuron whose slot it is; or the parameter, if it is one as a whole."""
        return slot_name(self.slot)


def slot_name(slot: Slot) -> str:
    """How messages call a slot: its neuron, or the parameter that it is as a whole."""
    parameter, layer, neuron = slot
    return parameter if layer == NO_LAYER else str(Neuron(layer, neuron))


@dataclass(frozen=True)
class CurrentModel:
    """What versions need to know of a model."""

    id: int
    name: str
    fingerprint: str
    version: str

    @property
    def base(self) -> str:
        """The base version's id."""
        return version_id(self.fingerprint, {})


def current_model(connection: Connection, model_id: int) -> CurrentModel:
    """Reads a model's name, fingerprint and current version.

    Raises:
        NotFoundError: if there is no such model.
    """
    query = select(ModelRow.id, ModelRow.name, ModelRow.fingerprint, ModelRow.version)
    row = connection.execute(query.where(ModelRow.id == model_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"no model {model_id}; list them with: {call('models.all')}")
    return CurrentModel(row.id, row.name, row.fingerprint, row.version)


# --- what slots hold ------------------------------------------------------------------------------


def applied_edits(connection: Connection, model_id: int) -> list[int]:
    """Lists the edits that make up a model's current version, in the order in which they were applied."""
    query = select(AppliedEditRow.edit_id).where(AppliedEditRow.model_id == model_id)
    return list(connection.scalars(query.order_by(AppliedEditRow.position)))


def stored_slots(connection: Connection, model_id: int, edit_ids: Sequence[int]) -> dict[int, list[StoredSlot]]:
    """Reads the slots of those of the edits that exist and belong to the model."""
    values = {"model": model_id, "edits": json.dumps(sorted(set(edit_ids)))}
    return _slots_by_edit(connection.execute(text(statement), values) for statement in _SLOTS_OF_EDITS)


def touching(connection: Connection, model_id: int, slots: Collection[Slot]) -> dict[int, list[StoredSlot]]:
    """Reads, of these slots, those that edits of the model change; indexes find them, however many edits there are."""
    places = sorted({slot[1:] for slot in slots if slot[1] != NO_LAYER})
    whole = sorted({slot[0] for slot in slots if slot[1] == NO_LAYER})
    of_neurons, of_tensors = _SLOTS_TOUCHED
    asked = [
        connection.execute(text(of_neurons), {"model": model_id, "places": json.dumps(places)}) if places else (),
        connection.execute(text(of_tensors), {"model": model_id, "names": json.dumps(whole)}) if whole else (),
    ]
    found = _slots_by_edit(asked)
    kept = {edit_id: [one for one in stored if one.slot in slots] for edit_id, stored in found.items()}
    return {edit_id: stored for edit_id, stored in kept.items() if stored}


def _slots_by_edit(results: Iterable[Iterable[Any]]) -> dict[int, list[StoredSlot]]:
    found: dict[int, list[StoredSlot]] = {}
    for rows in results:
        for edit_id, parameter, layer, neuron, old, new, base in rows:
            found.setdefault(edit_id, []).append(StoredSlot((parameter, layer, neuron), old, new, base))
    return found


def walk(slots_of: Mapping[int, Iterable[StoredSlot]], edit_ids: Iterable[int]) -> SlotState:
    """Follows the slots through a list of edits, applied to the base checkpoint in this order.

    Args:
        slots_of: the slots of at least these edits.
        edit_ids: the edits.

    Raises:
        StoreDamagedError: if an edit is missing, or doesn't fit what the edits before it left.
    """
    state: SlotState = {}
    for edit_id in edit_ids:
        take(state, slots_of, edit_id)
    return state


def take(state: SlotState, slots_of: Mapping[int, Iterable[StoredSlot]], edit_id: int) -> None:
    """Takes one edit in a state, or changes nothing.

    Raises:
        StoreDamagedError: if the edit is missing, or doesn't fit the state.
    """
    if edit_id not in slots_of:
        raise StoreDamagedError(f"edit {edit_id} has no value slots in the store; see: {call('maintenance.check')}")
    after: SlotState = {}
    for stored in slots_of[edit_id]:
        base, current = state.get(stored.slot, (stored.base, stored.base))
        if (base, current) != (stored.base, stored.old):
            raise StoreDamagedError(
                f"edit {edit_id} expects sha256 {stored.old[:12]} in slot {stored.name}, but found "
                f"{current[:12]} after the edits before it; see: {call('maintenance.check')}"
            )
        after[stored.slot] = (base, stored.new)
    state.update(after)


def touched_state(connection: Connection, model_id: int, edit_ids: Sequence[int], slots: Collection[Slot]) -> SlotState:
    """As `slot_state`, for those of some slots that the edits touch; reads no other slot of theirs."""
    slots_of = touching(connection, model_id, slots)
    return walk(slots_of, [edit_id for edit_id in edit_ids if edit_id in slots_of])


def slot_state(connection: Connection, model_id: int, edit_ids: Sequence[int]) -> SlotState:
    """Says what the touched slots hold when the edits are applied to the base checkpoint in this order.

    Raises:
        StoreDamagedError: if the edits don't fit one on the other.
    """
    return walk(stored_slots(connection, model_id, edit_ids), edit_ids)


def state_version(fingerprint: str, state: SlotState) -> str:
    """Names the version in which the slots are in this state."""
    differing = {slot: current for slot, (base, current) in state.items() if current != base}
    return version_id(fingerprint, differing)


# --- names of versions ----------------------------------------------------------------------------


def register_base(connection: Connection, model_id: int, version: str) -> None:
    """Notes the base version of a model that was just registered.

    Raises:
        NotFoundError: if there is no such model.
        StoreDamagedError: if `version` is not the base version of the model's fingerprint.
    """
    model = current_model(connection, model_id)
    if version != model.base:
        raise StoreDamagedError(
            f"the base version of model {model.name} was given as {version}; its fingerprint says "
            f"{model.base}. Register the checkpoint again with: "
            f"{call('models.add', Placeholder('PATH'), name=model.name)}"
        )
    keep_version(connection, model_id, version, [])


def version_edits(connection: Connection, model_id: int, version: str) -> list[int]:
    """Lists the edits that build a version from the base checkpoint, in order.

    Args:
        connection: an open transaction.
        model_id: the model.
        version: anything that `resolve_version` takes.

    Raises:
        NotFoundError: if there is no such model or version.
    """
    return listed_edits(connection, model_id, resolve_version(connection, model_id, version))


def resolve_version(connection: Connection, model_id: int, name: str) -> str:
    """Gives the id of a version.

    Args:
        connection: an open transaction.
        model_id: the model.
        name: `base`, `current`, a version's id, a snapshot's name, or the first four or more characters of an
            id where only one version has them; looked up in this order.

    Raises:
        NotFoundError: if there is no such model or version, or several begin like this.
    """
    model = current_model(connection, model_id)
    name = {BASE: model.base, CURRENT: model.version}.get(name, name)
    if is_known(connection, model_id, name):
        return name
    named = select(SnapshotRow.version).where(SnapshotRow.model_id == model_id, SnapshotRow.name == name)
    snapshot = connection.scalar(named)
    if snapshot is not None:
        return snapshot
    begin_alike = _begin_alike(connection, model_id, name)
    if len(name) >= PREFIX_LENGTH and len(begin_alike) == 1:
        return begin_alike[0]
    raise NotFoundError(_not_found(model.name, name, begin_alike))


def _begin_alike(connection: Connection, model_id: int, start: str) -> list[str]:
    """The versions whose ids begin like this, in order; the table's key finds them."""
    after = start[:-1] + chr(ord(start[-1]) + 1) if start and ord(start[-1]) < 127 else None
    if after is None:
        return []
    query = select(VersionRow.version).where(
        VersionRow.model_id == model_id, VersionRow.version >= start, VersionRow.version < after
    )
    return list(connection.scalars(query.order_by(VersionRow.version)))


def _not_found(model: str, name: str, begin_alike: Sequence[str]) -> str:
    if len(name) >= PREFIX_LENGTH and begin_alike:
        listed = ", ".join(begin_alike)
        return f"versions {listed} of model {model} all begin with {name!r}; write more of the id"
    return (
        f"model {model} has no version {name!r}; name {BASE!r}, {CURRENT!r}, a snapshot, a version's id or its "
        f"first {PREFIX_LENGTH} characters or more. They are listed by: {call('edits.log', model=model)}, and: "
        f"{call('snapshots.all', model=model)}"
    )


def version_with_edit(connection: Connection, model_id: int, version: str, edit_id: int) -> str:
    """Names the version that an edit makes of another one, whether or not either was ever current.

    Raises:
        NotFoundError: if there is no such model or version.
        StoreDamagedError: if the edit does not fit the version.
    """
    edit_ids = [*version_edits(connection, model_id, version), edit_id]
    return state_version(current_model(connection, model_id).fingerprint, slot_state(connection, model_id, edit_ids))
