"""What may be done with edits: which steps their slots' hashes allow, and what is in the way of the others.

All functions take an open transaction, or what was read in one, and change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Literal

from sqlalchemy import Connection, select

from ...advice import call
from ...errors import ConflictError, EditError
from ...versions import NO_LAYER, Slot
from ..tables import EditRow
from ..versions import CurrentModel, SlotState, StoredSlot, stored_slots, touching, version_edits, walk

Action = Literal["apply", "revert"]
SlotsOf = Mapping[int, Sequence[StoredSlot]]
_NAMED_IN_MESSAGE = 5


def way(present: list[int], wanted: list[int]) -> list[tuple[int, Action]]:
    """Lists the steps from one list of applied edits to another: back to where they part, then forward."""
    common = 0
    while present[common : common + 1] == wanted[common : common + 1] != []:
        common += 1
    back: list[tuple[int, Action]] = [(edit_id, "revert") for edit_id in reversed(present[common:])]
    return back + [(edit_id, "apply") for edit_id in wanted[common:]]


def after_apply(
    connection: Connection,
    model: CurrentModel,
    before: list[int],
    slots_of: SlotsOf,
    edit_id: int,
    together: Sequence[int] = (),
) -> list[int]:
    """The applied edits once an edit is applied to some, in order.

    Args:
        connection: an open transaction.
        model: the model at its current version.
        before: the edits that are applied.
        slots_of: the edit's slots; and the same slots of all edits that change them.
        edit_id: the edit.
        together: those of the edits before that are being applied with it, and are not applied yet.

    Raises:
        EditError: if it is applied already.
        ConflictError: if a slot holds other bytes than it expects.
    """
    if edit_id in before:
        raise EditError(
            f"edit {edit_id} is applied already to version {model.version} of model {model.name}; take it back with: "
            f"{call('edits.revert', edit_id)}"
        )
    state = walk(slots_of, [other for other in before if other in slots_of])
    unfit = [stored for stored in slots_of.get(edit_id, ()) if _held(state, stored) != stored.old]
    if unfit:
        raise ConflictError(_apply_conflict(connection, model, before, slots_of, edit_id, unfit, together))
    return [*before, edit_id]


def _held(state: SlotState, stored: StoredSlot) -> str:
    return state.get(stored.slot, (stored.base, stored.base))[1]


def _apply_conflict(
    connection: Connection,
    model: CurrentModel,
    before: list[int],
    slots_of: SlotsOf,
    edit_id: int,
    unfit: list[StoredSlot],
    together: Sequence[int],
) -> str:
    slots = {stored.slot for stored in unfit}
    present = _touching(before, slots_of, slots)
    beside = [other for other in present if other in together]
    if beside:
        return (
            f"edit {edit_id} can't be applied together with {_edits(beside)}: {_slots(unfit)} of both are the same. "
            f"Apply {_edits(beside)} first, then plan edit {edit_id} again on the version that it leads to"
        )
    steps = way(present, _foundation(connection, model.id, edit_id, slots))
    in_way = [other for other, action in steps if action == "revert"]
    missing = [other for other, action in steps if action == "apply"]
    reasons = [f"{_edits(sorted(in_way))} changed them"] if in_way else []
    reasons += [f"it builds on {_edits(missing)}, not applied now"] if missing else []
    calls = [_step(other, action) for other, action in steps]
    return (
        f"edit {edit_id} can't be applied to version {model.version} of model {model.name}: {_slots(unfit)} "
        f"hold other bytes than the edit changes: {' and '.join(reasons)}. Take these steps first: {_then(calls)}; or "
        "plan the edit again on the current version"
    )


def _foundation(connection: Connection, model_id: int, edit_id: int, slots: set[Slot]) -> list[int]:
    """Lists the edits to these slots in the version that an edit was planned on, in order."""
    base_version = connection.scalars(select(EditRow.base_version).where(EditRow.id == edit_id)).one()
    planned_on = version_edits(connection, model_id, base_version)
    return _touching(planned_on, touching(connection, model_id, slots), slots)


def later_overlapping(connection: Connection, model_id: int, before: Sequence[int], edit_id: int) -> list[int]:
    """Lists the edits applied after one that touch its slots, or those of another one in the list, in order."""
    places = {other: place for place, other in enumerate(before)}
    found: list[int] = []
    waiting = [places[edit_id]]
    seen = {edit_id}
    while waiting:
        number = before[heappop(waiting)]
        found.append(number)
        slots = {stored.slot for stored in stored_slots(connection, model_id, [number]).get(number, ())}
        for other in touching(connection, model_id, slots):
            if other not in seen and places.get(other, -1) > places[number]:
                seen.add(other)
                heappush(waiting, places[other])
    return found[1:]


def check_applied(model: CurrentModel, before: Sequence[int], edit_id: int) -> None:
    """Checks that an edit is applied.

    Raises:
        EditError: if it is not.
    """
    if edit_id not in before:
        raise EditError(
            f"edit {edit_id} is not applied to version {model.version} of model {model.name}; apply it with: "
            f"{call('edits.apply', edit_id)}"
        )


def after_revert(
    connection: Connection, model: CurrentModel, before: list[int], slots_of: SlotsOf, edit_id: int
) -> list[int]:
    """The applied edits once one is taken out, in order.

    Args:
        connection: an open transaction.
        model: the model at its current version.
        before: the edits that are applied.
        slots_of: the edit's slots; and the same slots of all edits that change them.
        edit_id: the edit.

    Raises:
        EditError: if it is not applied.
        ConflictError: if a later edit touches its slots.
    """
    check_applied(model, before, edit_id)
    own = {stored.slot for stored in slots_of.get(edit_id, ())}
    later = _touching(before[before.index(edit_id) + 1 :], slots_of, own)
    if later:
        touched = {stored.slot for other in later for stored in slots_of[other]}
        shared = [stored for stored in slots_of[edit_id] if stored.slot in touched]
        in_way = later_overlapping(connection, model.id, before, edit_id)
        calls = [_step(other, "revert") for other in reversed(in_way)]
        raise ConflictError(
            f"edit {edit_id} can't be taken out of version {model.version} of model {model.name}: "
            f"{_edits(later)}, applied later, changed {_slots(shared)} too. Take these steps first: {_then(calls)}; or "
            f"take all of them out: {call('edits.revert_cascade', edit_id)}; or only edit {edit_id}, with the later "
            f"ones recomputed: {call('edits.rebase', edit_id)}"
        )
    return [other for other in before if other != edit_id]


def _touching(edit_ids: Iterable[int], slots_of: SlotsOf, slots: set[Slot]) -> list[int]:
    return [edit_id for edit_id in edit_ids if any(stored.slot in slots for stored in slots_of.get(edit_id, ()))]


def _edits(edit_ids: Sequence[int]) -> str:
    return " and ".join(f"edit {edit_id}" for edit_id in edit_ids)


def _slots(stored: Sequence[StoredSlot]) -> str:
    named = ", ".join(each.name for each in stored[:_NAMED_IN_MESSAGE])
    more = ", …" if len(stored) > _NAMED_IN_MESSAGE else ""
    whole = any(each.slot[1] == NO_LAYER for each in stored)
    return f"{len(stored)} {'tensor' if whole else 'value slot'}{'s' if len(stored) > 1 else ''} ({named}{more})"


def _step(edit_id: int, action: Action) -> str:
    return call("edits.apply", edit_id) if action == "apply" else call("edits.revert", edit_id)


def _then(calls: Sequence[str]) -> str:
    return ", then ".join(calls)
