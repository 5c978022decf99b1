"""Versions of a model: what each value slot holds after a list of edits, and the names of versions.

A version is built by applying edits, in order, to the base checkpoint. The store knows a slot's bytes by
their sha256: in the base checkpoint, before and after each edit. Invariants: a row of `version` rebuilds to
its own id; a model's `applied_edit` rows rebuild to `model.version`; every version that was ever current has
a row, and the base version's row has no edits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from ..advice import Placeholder, call
from ..errors import NotFoundError, StoreDamagedError
from ..records.models import Neuron
from ..versions import NO_LAYER, Slot, version_id
from .clock import now
from .tables import AppliedEditRow, EditNeuronRow, EditRow, EditTensorRow, ModelRow, SnapshotRow, VersionRow

BASE = "base"
CURRENT = "current"
PREFIX_LENGTH = 4
"""The least number of characters that stand for a version's whole id."""

SlotState = dict[Slot, tuple[str, str]]
"""For each slot that edits touch: the sha256 of its bytes in the base checkpoint, and of those it holds."""

# SQLite takes a limited number of values in one statement.
_CHUNK = 500


@dataclass(frozen=True)
class StoredSlot:
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
    found: dict[int, list[StoredSlot]] = {}
    for start in range(0, len(edit_ids), _CHUNK):
        query = (
            select(EditNeuronRow)
            .join(EditRow, EditRow.id == EditNeuronRow.edit_id)
            .where(EditRow.model_id == model_id, EditRow.id.in_(edit_ids[start : start + _CHUNK]))
            .order_by(EditNeuronRow.layer, EditNeuronRow.neuron)
        )
        for row in connection.execute(query):
            slot = (row.parameter, row.layer, row.neuron)
            stored = StoredSlot(slot, row.old_sha256, row.new_sha256, row.base_sha256)
            found.setdefault(row.edit_id, []).append(stored)
        whole = (
            select(EditTensorRow)
            .join(EditRow, EditRow.id == EditTensorRow.edit_id)
            .where(EditRow.model_id == model_id, EditRow.id.in_(edit_ids[start : start + _CHUNK]))
            .order_by(EditTensorRow.parameter)
        )
        for tensor in connection.execute(whole):
            slot = (tensor.parameter, NO_LAYER, NO_LAYER)
            stored = StoredSlot(slot, tensor.old_sha256, tensor.new_sha256, tensor.base_sha256)
            found.setdefault(tensor.edit_id, []).append(stored)
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
        if edit_id not in slots_of:
            raise StoreDamagedError(f"edit {edit_id} has no value slots in the store; see: {call('maintenance.check')}")
        for stored in slots_of[edit_id]:
            base, current = state.get(stored.slot, (stored.base, stored.base))
            if (base, current) != (stored.base, stored.old):
                raise StoreDamagedError(
                    f"edit {edit_id} expects sha256 {stored.old[:12]} in slot {stored.name}, but found "
                    f"{current[:12]} after the edits before it; see: {call('maintenance.check')}"
                )
            state[stored.slot] = (base, stored.new)
    return state


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


def keep_version(connection: Connection, model_id: int, version: str, edit_ids: Sequence[int]) -> None:
    """Notes how to build a version, unless one way is known already."""
    known = select(VersionRow.version).where(VersionRow.model_id == model_id, VersionRow.version == version)
    if connection.scalar(known) is None:
        connection.execute(
            insert(VersionRow).values(model_id=model_id, version=version, edits=list(edit_ids), created_at=now())
        )


def version_edits(connection: Connection, model_id: int, version: str) -> list[int]:
    """Lists the edits that build a version from the base checkpoint, in order.

    Args:
        connection: an open transaction.
        model_id: the model.
        version: anything that `resolve_version` takes.

    Raises:
        NotFoundError: if there is no such model or version.
    """
    resolved = resolve_version(connection, model_id, version)
    query = select(VersionRow.edits).where(VersionRow.model_id == model_id, VersionRow.version == resolved)
    return list(connection.execute(query).scalar_one())


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
    versions = set(connection.scalars(select(VersionRow.version).where(VersionRow.model_id == model_id)))
    if name in versions:
        return name
    named = select(SnapshotRow.version).where(SnapshotRow.model_id == model_id, SnapshotRow.name == name)
    snapshot = connection.scalar(named)
    if snapshot is not None:
        return snapshot
    begin_alike = sorted(version for version in versions if version.startswith(name))
    if len(name) >= PREFIX_LENGTH and len(begin_alike) == 1:
        return begin_alike[0]
    raise NotFoundError(_not_found(model.name, name, begin_alike))


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
