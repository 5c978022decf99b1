"""Steps of a model's current version: applying and reverting edits.

What a slot holds is known by its sha256, and that alone decides whether an edit may be applied or reverted.
Invariants: a step changes `applied_edit`, `model.version`, `version` and `history` together; it is taken only
from the version that the caller expects; an edit is applied only once at a time, and only where each slot
holds its old bytes; it is reverted only if no later edit touches its slots. All functions take an open
transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, delete, func, insert, select, update

from ...errors import ConflictError, EditError, VersionMovedError
from ...records.versions import HistoryEntry
from ...versions import NO_LAYER, Slot
from ..author import author
from ..clock import now
from ..tables import AppliedEditRow, EditRow, HistoryRow, ModelRow
from ..versions import (
    CurrentModel,
    SlotState,
    StoredSlot,
    applied_edits,
    current_model,
    keep_version,
    state_version,
    stored_slots,
    version_edits,
    walk,
)
from .edit import edit_model, history_entries

Action = Literal["apply", "revert"]
_SlotsOf = Mapping[int, Sequence[StoredSlot]]
_NAMED_IN_MESSAGE = 5


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


def plan_step(connection: Connection, edit_id: int, action: Action) -> Step:
    """Works out where applying or reverting an edit leads, and changes nothing.

    Raises:
        NotFoundError: if there is no such edit.
        EditError: if the edit is applied already, or is not applied.
        ConflictError: if a slot holds other bytes than the edit expects, or a later edit touches it too.
        StoreDamagedError: if the applied edits don't fit one on the other.
    """
    model = current_model(connection, edit_model(connection, edit_id))
    before = applied_edits(connection, model.id)
    slots_of = stored_slots(connection, model.id, [*before, edit_id])
    if action == "apply":
        after = _after_apply(connection, model, before, slots_of, edit_id)
    else:
        after = _after_revert(model, before, slots_of, edit_id)
    state = walk(slots_of, after)
    return Step(model, edit_id, action, tuple(after), state_version(model.fingerprint, state))


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
                f"edit {edit_id} is for model {other.name}, edit {edit_ids[0]} for {model.name}; expected edits of one "
                "model. Run `kndb edit list` to see them"
            )
    if len(models) < len(edit_ids):
        twice = next(edit_id for edit_id in edit_ids if list(edit_ids).count(edit_id) > 1)
        raise EditError(f"edit {twice} is named twice; expected each edit once")
    applied = applied_edits(connection, model.id)
    slots_of = stored_slots(connection, model.id, [*applied, *edit_ids])
    order = list(edit_ids)
    if action == "revert":
        for edit_id in order:
            _check_applied(model, applied, edit_id)
        order.sort(key=applied.index, reverse=True)
    for edit_id in order:
        if action == "apply":
            applied = _after_apply(connection, model, applied, slots_of, edit_id)
        else:
            applied = _after_revert(model, applied, slots_of, edit_id)
    return model, order


def apply_edit(connection: Connection, edit_id: int, expected_version: str) -> HistoryEntry:
    """Applies an edit to its model's current version.

    Args:
        connection: an open write transaction.
        edit_id: the edit.
        expected_version: the version that the caller has looked at.

    Returns:
        The step, as the history holds it.

    Raises:
        NotFoundError: if there is no such edit.
        VersionMovedError: if the model is at another version.
        EditError: if the edit is applied already.
        ConflictError: if a slot holds other bytes than the edit expects.
    """
    return take_step(connection, edit_id, "apply", expected_version)


def revert_edit(connection: Connection, edit_id: int, expected_version: str) -> HistoryEntry:
    """Takes an edit out of its model's current version; it need not be the last one applied.

    Args:
        connection: an open write transaction.
        edit_id: the edit.
        expected_version: the version that the caller has looked at.

    Returns:
        The step, as the history holds it.

    Raises:
        NotFoundError: if there is no such edit.
        VersionMovedError: if the model is at another version.
        EditError: if the edit is not applied.
        ConflictError: if an edit applied later touches its slots.
    """
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
        StoreDamagedError: if an applied edit has no slots in the store.
    """
    model = current_model(connection, edit_model(connection, edit_id))
    before = applied_edits(connection, model.id)
    _check_applied(model, before, edit_id)
    slots_of = stored_slots(connection, model.id, before)
    walk(slots_of, before)
    return model, [*reversed(_later_overlapping(before, slots_of, edit_id)), edit_id]


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
    for other in edit_ids:
        entries.append(revert_edit(connection, other, entries[-1].version_after if entries else expected_version))
    return entries


def take_step(
    connection: Connection,
    edit_id: int,
    action: Action,
    expected_version: str,
    recorded_as: Literal["apply", "revert", "restore"] | None = None,
) -> HistoryEntry:
    """Applies or reverts an edit, as `apply_edit` and `revert_edit` say.

    Args:
        connection: an open write transaction.
        edit_id: the edit.
        action: what to do with it.
        expected_version: the version that the caller has looked at.
        recorded_as: how the history calls the step, if not by its action.
    """
    check_version(current_model(connection, edit_model(connection, edit_id)), expected_version)
    step = plan_step(connection, edit_id, action)
    _record_applied(connection, step)
    _move_version(connection, step)
    keep_version(connection, step.model.id, step.version_after, step.edit_ids)
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
        )
        .returning(HistoryRow.id)
    ).scalar_one()
    return history_entries(connection, HistoryRow.id == history_id)[0]


def way(present: list[int], wanted: list[int]) -> list[tuple[int, Action]]:
    """Lists the steps from one list of applied edits to another: back to where they part, then forward."""
    common = 0
    while present[common : common + 1] == wanted[common : common + 1] != []:
        common += 1
    back: list[tuple[int, Action]] = [(edit_id, "revert") for edit_id in reversed(present[common:])]
    return back + [(edit_id, "apply") for edit_id in wanted[common:]]


def check_version(model: CurrentModel, expected_version: str) -> None:
    """Checks that a model is still where the caller saw it.

    Raises:
        VersionMovedError: if it is at another version.
    """
    if model.version != expected_version:
        raise VersionMovedError(
            f"model {model.name} is at version {model.version}, expected {expected_version}: its version was "
            "moved in the meantime. See `kndb edit log`, then run the command again"
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


# --- what may be done -----------------------------------------------------------------------------


def _after_apply(
    connection: Connection, model: CurrentModel, before: list[int], slots_of: _SlotsOf, edit_id: int
) -> list[int]:
    if edit_id in before:
        raise EditError(
            f"edit {edit_id} is applied already to version {model.version} of model {model.name}; expected "
            f"one that is not. Run `kndb edit revert {edit_id}` to take it back"
        )
    state = walk(slots_of, before)
    unfit = [stored for stored in slots_of.get(edit_id, ()) if _held(state, stored) != stored.old]
    if unfit:
        raise ConflictError(_apply_conflict(connection, model, before, slots_of, edit_id, unfit))
    return [*before, edit_id]


def _held(state: SlotState, stored: StoredSlot) -> str:
    return state.get(stored.slot, (stored.base, stored.base))[1]


def _apply_conflict(
    connection: Connection,
    model: CurrentModel,
    before: list[int],
    slots_of: _SlotsOf,
    edit_id: int,
    unfit: list[StoredSlot],
) -> str:
    slots = {stored.slot for stored in unfit}
    present = _touching(before, slots_of, slots)
    steps = way(present, _foundation(connection, model.id, edit_id, slots))
    in_way = [other for other, action in steps if action == "revert"]
    missing = [other for other, action in steps if action == "apply"]
    reasons = [f"{_edits(sorted(in_way))} changed them"] if in_way else []
    reasons += [f"it builds on {_edits(missing)}, not applied now"] if missing else []
    commands = [f"kndb edit {action} {other}" for other, action in steps]
    return (
        f"edit {edit_id} can't be applied to version {model.version} of model {model.name}: {_slots(unfit)} "
        f"hold other bytes than the edit expects: {' and '.join(reasons)}. Run {_commands(commands)} first, "
        "or plan the edit anew on the current version"
    )


def _foundation(connection: Connection, model_id: int, edit_id: int, slots: set[Slot]) -> list[int]:
    """Lists the edits to these slots in the version that an edit was planned on, in order."""
    base_version = connection.scalars(select(EditRow.base_version).where(EditRow.id == edit_id)).one()
    planned_on = version_edits(connection, model_id, base_version)
    return _touching(planned_on, stored_slots(connection, model_id, planned_on), slots)


def _later_overlapping(before: Sequence[int], slots_of: _SlotsOf, edit_id: int) -> list[int]:
    """Lists the edits applied after one that touch its slots, or those of another one in the list."""
    found: list[int] = []
    touched = {stored.slot for stored in slots_of[edit_id]}
    for other in before[before.index(edit_id) + 1 :]:
        slots = {stored.slot for stored in slots_of[other]}
        if slots & touched:
            found.append(other)
            touched |= slots
    return found


def _check_applied(model: CurrentModel, before: Sequence[int], edit_id: int) -> None:
    if edit_id not in before:
        raise EditError(
            f"edit {edit_id} is not applied to version {model.version} of model {model.name}; expected one "
            f"that is. Run `kndb edit apply {edit_id}` to apply it"
        )


def _after_revert(model: CurrentModel, before: list[int], slots_of: _SlotsOf, edit_id: int) -> list[int]:
    _check_applied(model, before, edit_id)
    own = {stored.slot for stored in slots_of.get(edit_id, ())}
    later = _touching(before[before.index(edit_id) + 1 :], slots_of, own)
    if later:
        touched = {stored.slot for other in later for stored in slots_of[other]}
        shared = [stored for stored in slots_of[edit_id] if stored.slot in touched]
        in_way = _later_overlapping(before, slots_of, edit_id)
        commands = [f"kndb edit revert {other}" for other in reversed(in_way)]
        raise ConflictError(
            f"edit {edit_id} can't be taken out of version {model.version} of model {model.name}: "
            f"{_edits(later)}, applied later, changed {_slots(shared)} too. Run {_commands(commands)} first; or take "
            f"all of them out with `kndb edit revert {edit_id} --cascade`, or only edit {edit_id}, with the later ones "
            f"computed anew, with `kndb edit revert {edit_id} --rebase`"
        )
    return [other for other in before if other != edit_id]


def _touching(edit_ids: Iterable[int], slots_of: _SlotsOf, slots: set[Slot]) -> list[int]:
    return [edit_id for edit_id in edit_ids if any(stored.slot in slots for stored in slots_of.get(edit_id, ()))]


def _edits(edit_ids: Sequence[int]) -> str:
    return " and ".join(f"edit {edit_id}" for edit_id in edit_ids)


def _slots(stored: Sequence[StoredSlot]) -> str:
    named = ", ".join(each.name for each in stored[:_NAMED_IN_MESSAGE])
    more = ", …" if len(stored) > _NAMED_IN_MESSAGE else ""
    whole = any(each.slot[1] == NO_LAYER for each in stored)
    return f"{len(stored)} {'tensor' if whole else 'value slot'}{'s' if len(stored) > 1 else ''} ({named}{more})"


def _commands(commands: Sequence[str]) -> str:
    return ", then ".join(f"`{command}`" for command in commands)
