"""Steps of a model's current version: applying and reverting edits.

What a slot holds is known by its sha256, and that alone decides whether an edit may be applied or reverted.
Invariants: a step changes `applied_edit`, `model.version`, `version` and `history` together; it is taken only
from the version that the caller expects; an edit is applied only once at a time, and only where each slot
holds its old bytes; it is reverted only if no later edit touches its slots. All functions take an open
transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from ...advice import call
from ...errors import EditError, VersionMovedError
from ...records.conditions import CheckedConditions
from ...records.versions import HistoryEntry
from ..author import author
from ..clock import now
from ..tables import AppliedEditRow, HistoryRow, ModelRow
from ..version_lists import keep_version
from ..versions import CurrentModel, applied_edits, current_model, slot_state, state_version, stored_slots, touching
from .allowed_steps import Action, SlotsOf, after_apply, after_revert, check_applied, later_overlapping
from .edit import edit_model, history_entries
from .road import Road


@dataclass(frozen=True)
class Step:
    """A step of a model's current version that may be taken.

    Attributes:
        model: the model before the step.
        edit_id: the edit to apply or revert.
        action: which of the two.
        edit_ids: the applied edits after the step, in order.
        version_after: the version that the step leads to.
    """

    model: CurrentModel
    edit_id: int
    action: Action
    edit_ids: tuple[int, ...]
    version_after: str


def road_of(connection: Connection, edit_ids: Sequence[int]) -> Road:
    """What `take_step` needs to take several steps of one model: the slots of all applied edits are read once.

    Args:
        connection: an open transaction.
        edit_ids: the edits of the steps; at least one.
    """
    model = current_model(connection, edit_model(connection, edit_ids[0]))
    known = stored_slots(connection, model.id, [*applied_edits(connection, model.id), *edit_ids])
    return Road(model.fingerprint, known)


def plan_step(connection: Connection, edit_id: int, action: Action, road: Road | None = None) -> Step:
    """Works out where applying or reverting an edit leads, and changes nothing.

    Args:
        connection: an open transaction.
        edit_id: the edit.
        action: what to do with it.
        road: of several steps that are taken one after the other, what `road_of` gives.

    Raises:
        NotFoundError: if there is no such edit.
        EditError: if the edit is applied already, or is not applied.
        ConflictError: if a slot holds other bytes than the edit expects, or a later edit touches it too.
        StoreDamagedError: if the applied edits don't fit one on the other.
    """
    model = current_model(connection, edit_model(connection, edit_id))
    before = applied_edits(connection, model.id)
    slots_of = _slots_of(connection, model.id, [edit_id])
    if action == "apply":
        after = after_apply(connection, model, before, slots_of, edit_id)
    else:
        after = after_revert(connection, model, before, slots_of, edit_id)
    # The version's name is a hash of all that differs from the checkpoint: the one part that all applied edits enter.
    if road is None:
        version = state_version(model.fingerprint, slot_state(connection, model.id, after))
    else:
        road.go_to(after)
        version = road.version
    return Step(model, edit_id, action, tuple(after), version)


def _slots_of(connection: Connection, model_id: int, edit_ids: Sequence[int]) -> SlotsOf:
    """The slots of some edits, and the same slots of all edits that change them."""
    own = stored_slots(connection, model_id, edit_ids)
    return touching(connection, model_id, {one.slot for stored in own.values() for one in stored})


def plan_steps(connection: Connection, edit_ids: Sequence[int], action: Action) -> tuple[CurrentModel, list[int]]:
    """Checks that edits of one model can be applied one after the other, or reverted; changes nothing.

    Args:
        connection: an open transaction.
        edit_ids: at least one.
        action: what to do with them.

    Returns:
        The model as it is, and the edits in the order in which to take the steps: for apply the one given, for revert
        the last applied first.

    Raises:
        NotFoundError: if there is no such edit.
        EditError: if the edits are of several models, one is named twice, is applied already, or is not applied.
        ConflictError: if a slot holds other bytes than an edit expects, or a later edit that stays touches it too.
    """
    models = {edit_id: edit_model(connection, edit_id) for edit_id in edit_ids}
    model = current_model(connection, models[edit_ids[0]])
    for edit_id, model_id in models.items():
        if model_id != model.id:
            other = current_model(connection, model_id)
            raise EditError(
                f"edit {edit_id} is for model {other.name}, edit {edit_ids[0]} for {model.name}; name edits of "
                f"one model, as listed by: {call('edits.all')}"
            )
    if len(models) < len(edit_ids):
        twice = next(edit_id for edit_id in edit_ids if list(edit_ids).count(edit_id) > 1)
        raise EditError(f"edit {twice} is named twice; name each edit once")
    applied = applied_edits(connection, model.id)
    slots_of = _slots_of(connection, model.id, edit_ids)
    order = list(edit_ids)
    if action == "revert":
        for edit_id in order:
            check_applied(model, applied, edit_id)
        order.sort(key=applied.index, reverse=True)
    for place, edit_id in enumerate(order):
        if action == "apply":
            applied = after_apply(connection, model, applied, slots_of, edit_id, order[:place])
        else:
            applied = after_revert(connection, model, applied, slots_of, edit_id)
    return model, order


def apply_edit(connection: Connection, edit_id: int, expected_version: str) -> HistoryEntry:
    """Applies an edit to its model's current version; see `take_step`."""
    return take_step(connection, edit_id, "apply", expected_version)


def revert_edit(connection: Connection, edit_id: int, expected_version: str) -> HistoryEntry:
    """Takes an edit out of its model's current version; it need not be the last one applied. See `take_step`."""
    return take_step(connection, edit_id, "revert", expected_version)


def plan_cascade(connection: Connection, edit_id: int) -> tuple[CurrentModel, list[int]]:
    """Lists the edits that have to be reverted with an edit, and changes nothing.

    Those are the edits applied after it that touch its slots, or the slots of another one of them.

    Returns:
        The model at its current version, and the edits in the order in which to revert them: the last applied first,
        `edit_id` itself at the end.

    Raises:
        NotFoundError: if there is no such edit.
        EditError: if the edit is not applied.
    """
    model = current_model(connection, edit_model(connection, edit_id))
    before = applied_edits(connection, model.id)
    check_applied(model, before, edit_id)
    return model, [*reversed(later_overlapping(connection, model.id, before, edit_id)), edit_id]


def revert_cascade(connection: Connection, edit_id: int, expected_version: str) -> list[HistoryEntry]:
    """Reverts an edit and the later ones that overlap it (see `plan_cascade`), the last applied first.

    Args:
        connection: an open write transaction.
        edit_id: the edit.
        expected_version: the version that the caller has looked at.

    Returns:
        The steps, in order.

    Raises:
        NotFoundError: if there is no such edit.
        VersionMovedError: if the model is at another version.
        EditError: if the edit is not applied.
    """
    check_version(current_model(connection, edit_model(connection, edit_id)), expected_version)
    _, edit_ids = plan_cascade(connection, edit_id)
    entries: list[HistoryEntry] = []
    road = road_of(connection, edit_ids)
    for other in edit_ids:
        version = entries[-1].version_after if entries else expected_version
        entries.append(take_step(connection, other, "revert", version, road=road))
    return entries


def take_step(
    connection: Connection,
    edit_id: int,
    action: Action,
    expected_version: str,
    recorded_as: Literal["apply", "revert", "restore"] | None = None,
    conditions: CheckedConditions | None = None,
    road: Road | None = None,
) -> HistoryEntry:
    """Applies an edit to its model's current version, or takes it out.

    Args:
        connection: an open write transaction.
        edit_id: the edit.
        action: what to do with it.
        expected_version: the version that the caller has looked at.
        recorded_as: how the history calls the step, if not by its action.
        conditions: what the step was checked against, for the history.
        road: as of `plan_step`.

    Returns:
        The step, as the history holds it.

    Raises:
        NotFoundError: if there is no such edit.
        VersionMovedError: if the model is at another version.
        EditError: if the edit is applied already, or is not applied.
        ConflictError: if a slot holds other bytes than the edit expects, or an edit applied later touches its slots.
    """
    check_version(current_model(connection, edit_model(connection, edit_id)), expected_version)
    step = plan_step(connection, edit_id, action, road)
    _record_applied(connection, step)
    _move_version(connection, step)
    keep_version(connection, step.model.id, step.version_after, step.edit_ids, after=step.model.version)
    history_id = connection.execute(
        insert(HistoryRow)
        .values(
            model_id=step.model.id,
            action=recorded_as or action,
            edit_id=edit_id,
            version_before=step.model.version,
            version_after=step.version_after,
            created_at=now(),
            author=author(),
            direction=action if recorded_as == "restore" else None,
            conditions=None if conditions is None else conditions.as_json(),
        )
        .returning(HistoryRow.id)
    ).scalar_one()
    return history_entries(connection, HistoryRow.id == history_id)[0]


def check_version(model: CurrentModel, expected_version: str) -> None:
    """Checks that a model is still where the caller saw it.

    Raises:
        VersionMovedError: if it is at another version.
    """
    if model.version != expected_version:
        raise VersionMovedError(
            f"model {model.name} moved from version {expected_version} to {model.version} in the meantime; look at "
            f"{call('edits.log', model=model.name)}, then do it again"
        )


def _record_applied(connection: Connection, step: Step) -> None:
    of_model = AppliedEditRow.model_id == step.model.id
    if step.action == "revert":
        connection.execute(delete(AppliedEditRow).where(of_model, AppliedEditRow.edit_id == step.edit_id))
        return
    last = connection.scalar(select(func.max(AppliedEditRow.position)).where(of_model))
    position = 0 if last is None else last + 1
    connection.execute(insert(AppliedEditRow).values(model_id=step.model.id, position=position, edit_id=step.edit_id))


def _move_version(connection: Connection, step: Step) -> None:
    moved = connection.execute(
        update(ModelRow)
        .where(ModelRow.id == step.model.id, ModelRow.version == step.model.version)
        .values(version=step.version_after)
    )
    if moved.rowcount != 1:
        check_version(current_model(connection, step.model.id), step.model.version)
