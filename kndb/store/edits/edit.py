"""Edits in the store: adding, listing and their history. `steps` applies and reverts them.

An edit's bytes lie in its object file, which is written before its row; the store knows the sha256 of each
slot that it changes: before, after, and in the base checkpoint. Invariants: an edit's old hashes are what its
slots hold in the version that it was planned on; all edits of a model agree on what a slot holds in the base
checkpoint; a model has one edit for an object. All functions take an open transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, func, insert, select, true, update

from ...advice import call
from ...errors import EditError, NotFoundError, StoreDamagedError, UsageError
from ...records.conditions import CheckedConditions
from ...records.edits import Edit, SlotChange
from ...records.models import Neuron
from ...records.recipes import Recipe, read_recipe
from ...records.versions import HistoryEntry
from ...versions import NO_LAYER
from ..author import author
from ..clock import now
from ..tables import AppliedEditRow, EditNeuronRow, EditRow, EditTensorRow, HistoryRow, ModelRow
from ..versions import resolve_version, slot_name, touched_state, touching, version_edits

# --- adding ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Origin:
    """Where an edit from another store comes from.

    Attributes:
        author: who planned it, if anybody knows.
        created_at: when.
        fact_numbers: for each fact's number in its recipe, as text, the number here, or None.
    """

    author: str | None
    created_at: str
    fact_numbers: Mapping[str, int | None]


def add_edit(
    connection: Connection,
    model_id: int,
    recipe: Recipe,
    object_hash: str,
    object_path: str,
    base_version: str,
    changes: Sequence[SlotChange],
    fact_id: int | None = None,
    relation_id: int | None = None,
    origin: Origin | None = None,
    conditions: CheckedConditions | None = None,
) -> int:
    """Adds a planned edit. The object file must be on disk already.

    Args:
        connection: an open transaction.
        model_id: the model that the edit is for.
        recipe: everything needed to compute it again, and what kind of edit it is.
        object_hash: sha256 of the object file.
        object_path: the file, relative to the folder of objects.
        base_version: the version that it was planned on, as `resolve_version` takes it.
        changes: the slots it changes.
        fact_id: the fact that it changes, if one.
        relation_id: the relation that it changes, if one.
        origin: of an edit from another store; None for one that was planned here and now.
        conditions: of an edit from another store, those that it was planned with; see also `note_conditions`.

    Returns:
        The edit's number; that of the model's edit with this object if there is one already.

    Raises:
        NotFoundError: if there is no such model or version.
        EditError: if the changes don't fit the version that the edit was planned on.
    """
    known = connection.execute(
        select(EditRow.id).where(EditRow.model_id == model_id, EditRow.object_hash == object_hash)
    ).one_or_none()
    if known is not None:
        return int(known.id)
    version = resolve_version(connection, model_id, base_version)
    bases = _base_hashes(connection, model_id, version, changes)
    edit_id = connection.execute(
        insert(EditRow)
        .values(
            model_id=model_id,
            kind=recipe.kind,
            recipe=recipe.as_json(),
            object_hash=object_hash,
            object_path=object_path,
            base_version=version,
            fact_id=fact_id,
            relation_id=relation_id,
            created_at=now() if origin is None else origin.created_at,
            author=author() if origin is None else origin.author,
            fact_numbers=None if origin is None else dict(origin.fact_numbers),
            conditions=None if conditions is None else conditions.as_json(),
        )
        .returning(EditRow.id)
    ).scalar_one()
    _add_changes(connection, edit_id, list(zip(changes, bases, strict=True)))
    return edit_id


def _add_changes(connection: Connection, edit_id: int, changes: Sequence[tuple[SlotChange, str]]) -> None:
    """Adds what an edit changes, each with its hash in the base checkpoint."""
    slots = [
        {
            "edit_id": edit_id,
            "layer": change.layer,
            "neuron": change.neuron,
            "parameter": change.parameter,
            "old_sha256": change.old_sha256,
            "new_sha256": change.new_sha256,
            "base_sha256": base,
        }
        for change, base in changes
        if change.layer != NO_LAYER
    ]
    tensors = [
        {
            "edit_id": edit_id,
            "parameter": change.parameter,
            "old_sha256": change.old_sha256,
            "new_sha256": change.new_sha256,
            "base_sha256": base,
        }
        for change, base in changes
        if change.layer == NO_LAYER
    ]
    if slots:
        connection.execute(insert(EditNeuronRow), slots)
    if tensors:
        connection.execute(insert(EditTensorRow), tensors)


def note_conditions(connection: Connection, edit_id: int, conditions: CheckedConditions) -> None:
    """Notes the conditions that an edit was planned with, in place of those that it had."""
    connection.execute(update(EditRow).where(EditRow.id == edit_id).values(conditions=conditions.as_json()))


def note_facts(
    connection: Connection,
    edit_id: int,
    fact_numbers: Mapping[str, int | None],
    fact_id: int | None,
    relation_id: int | None,
) -> None:
    """Notes which facts of this store an edit from another one means, now that more of them are here.

    Args:
        connection: an open transaction.
        edit_id: the edit.
        fact_numbers: for each fact's number in its recipe, as text, the number here, or None.
        fact_id: the fact that it changes, if one.
        relation_id: the relation that it changes, if one.
    """
    values = {"fact_numbers": dict(fact_numbers), "fact_id": fact_id, "relation_id": relation_id}
    connection.execute(update(EditRow).where(EditRow.id == edit_id).values(**values))


def _base_hashes(connection: Connection, model_id: int, version: str, changes: Sequence[SlotChange]) -> list[str]:
    """Finds what each slot holds in the base checkpoint, and checks the old hashes on the way.

    A slot that the version's edits touch has its base hash from them, one that other edits touch from those;
    of one that no edit touches, the old hash is the base hash.
    """
    _check_distinct(changes)
    slots = {(change.parameter, change.layer, change.neuron) for change in changes}
    state = touched_state(connection, model_id, version_edits(connection, model_id, version), slots)
    known = {one.slot: one.base for stored in touching(connection, model_id, slots).values() for one in stored}
    bases = []
    for change in changes:
        slot = (change.parameter, change.layer, change.neuron)
        base = known.get(slot, change.old_sha256)
        base, current = state.get(slot, (base, base))
        if current != change.old_sha256:
            raise EditError(
                f"the edit doesn't fit version {version}, which it was planned on: slot {slot_name(slot)} holds sha256 "
                f"{current[:12]} there, and the edit changes {change.old_sha256[:12]}; plan the edit again"
            )
        bases.append(base)
    return bases


def _check_distinct(changes: Sequence[SlotChange]) -> None:
    if not changes:
        raise EditError("the edit changes no value slot; it must change at least one")
    neurons = Counter((change.layer, change.neuron) for change in changes if change.layer != NO_LAYER)
    twice = [neuron for neuron, count in neurons.items() if count > 1]
    if twice:
        raise EditError(f"the edit changes {Neuron(*twice[0])} twice; each neuron's value slot may change once")


# --- listing --------------------------------------------------------------------------------------


def edit(connection: Connection, edit_id: int) -> Edit:
    """Reads an edit.

    Raises:
        NotFoundError: if there is no such edit.
    """
    found = _edit_records(connection, EditRow.id == edit_id)
    if not found:
        raise NotFoundError(f"no edit {edit_id}; list them with: {call('edits.all')}")
    return found[0]


def edits(connection: Connection, model_id: int | None = None) -> list[Edit]:
    """Lists the edits of one model, or of all, in the order in which they were added."""
    return _edit_records(connection, true() if model_id is None else EditRow.model_id == model_id)


def edit_with_object(connection: Connection, model_id: int, object_hash: str) -> Edit | None:
    """A model's edit with this object, if there is one."""
    found = _edit_records(connection, and_(EditRow.model_id == model_id, EditRow.object_hash == object_hash))
    return found[0] if found else None


def edit_slots(connection: Connection, edit_id: int) -> list[SlotChange]:
    """Lists the value slots that an edit changes.

    Raises:
        NotFoundError: if there is no such edit.
    """
    edit_model(connection, edit_id)
    query = select(EditNeuronRow).where(EditNeuronRow.edit_id == edit_id)
    rows = connection.execute(query.order_by(EditNeuronRow.layer, EditNeuronRow.neuron))
    return [SlotChange(row.parameter, row.layer, row.neuron, row.old_sha256, row.new_sha256) for row in rows]


def edit_changes(connection: Connection, edit_id: int) -> list[SlotChange]:
    """Lists all that an edit changes: value slots, then parameters as a whole, with `NO_LAYER` for layer and neuron.

    Raises:
        NotFoundError: if there is no such edit.
    """
    query = select(EditTensorRow).where(EditTensorRow.edit_id == edit_id).order_by(EditTensorRow.parameter)
    whole = [
        SlotChange(row.parameter, NO_LAYER, NO_LAYER, row.old_sha256, row.new_sha256)
        for row in connection.execute(query)
    ]
    return edit_slots(connection, edit_id) + whole


def edit_subject(connection: Connection, edit_id: int) -> tuple[int | None, int | None]:
    """Gives the numbers of the fact and of the relation that an edit changes, where there are any.

    Raises:
        NotFoundError: if there is no such edit.
    """
    edit_model(connection, edit_id)
    row = connection.execute(select(EditRow.fact_id, EditRow.relation_id).where(EditRow.id == edit_id)).one()
    return row.fact_id, row.relation_id


def edit_model(connection: Connection, edit_id: int) -> int:
    """Gives the number of the model that an edit is for.

    Raises:
        NotFoundError: if there is no such edit.
    """
    model_id = connection.scalar(select(EditRow.model_id).where(EditRow.id == edit_id))
    if model_id is None:
        raise NotFoundError(f"no edit {edit_id}; list them with: {call('edits.all')}")
    return model_id


def history(connection: Connection, model_id: int | None = None) -> list[HistoryEntry]:
    """Lists the steps of one model's current version, or of all models', oldest first."""
    return history_entries(connection, true() if model_id is None else HistoryRow.model_id == model_id)


def history_entries(connection: Connection, condition: ColumnElement[bool]) -> list[HistoryEntry]:
    """Lists the steps that meet a condition, oldest first."""
    query = (
        select(HistoryRow, ModelRow.name)
        .join(ModelRow, ModelRow.id == HistoryRow.model_id)
        .where(condition)
        .order_by(HistoryRow.id)
    )
    return [
        HistoryEntry(
            id=row.id,
            model=row.name,
            action=row.action,
            edit=row.edit_id,
            version_before=row.version_before,
            version_after=row.version_after,
            created_at=row.created_at,
            author=row.author,
            direction=row.direction,
            conditions=_conditions(row.conditions, f"step {row.id}"),
        )
        for row in connection.execute(query)
    ]


def stored_recipe(edit_id: int, kind: str, values: object) -> Recipe:
    """An edit's recipe from its JSON.

    Raises:
        StoreDamagedError: if that is no JSON object.
    """
    if not isinstance(values, dict):
        raise StoreDamagedError(
            f"the recipe of edit {edit_id} is no JSON object: the database was changed by something else. Restore it "
            "from a backup"
        )
    return read_recipe(kind, values)


def _conditions(values: object, of: str) -> CheckedConditions | None:
    """The conditions of an edit or a step from their JSON.

    Raises:
        StoreDamagedError: if they can't be read: nobody may take them for none.
    """
    try:
        return None if values is None else CheckedConditions.parse(values)
    except (TypeError, UsageError) as error:
        raise StoreDamagedError(
            f"the conditions of {of} can't be read ({error}): the database was changed by something else. Restore it "
            "from a backup"
        ) from None


def _edit_records(connection: Connection, condition: ColumnElement[bool]) -> list[Edit]:
    slots = select(func.count()).where(EditNeuronRow.edit_id == EditRow.id).scalar_subquery()
    query = (
        select(EditRow, ModelRow.name, slots.label("slots"), AppliedEditRow.position)
        .join(ModelRow, ModelRow.id == EditRow.model_id)
        # With the model, the table's unique index finds the row; without, all applied edits are gone through for each.
        .outerjoin(
            AppliedEditRow, and_(AppliedEditRow.model_id == EditRow.model_id, AppliedEditRow.edit_id == EditRow.id)
        )
        .where(condition)
        .order_by(EditRow.id)
    )
    return [
        Edit(
            id=row.id,
            model=row.name,
            kind=row.kind,
            recipe=stored_recipe(row.id, row.kind, row.recipe),
            object_hash=row.object_hash,
            object_path=row.object_path,
            base_version=row.base_version,
            created_at=row.created_at,
            neurons=row.slots,
            applied=row.position is not None,
            author=row.author,
            fact_numbers=row.fact_numbers,
            # Each edit from a file has this column, be it empty: no other column says where an edit is from.
            pulled=row.fact_numbers is not None,
            conditions=_conditions(row.conditions, f"edit {row.id}"),
        )
        for row in connection.execute(query)
    ]
