"""The version that a merge is planned on: the current one, without those of the merged edits that are applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...advice import call, option
from ...errors import ConflictError, EditError
from ...records.edits import Edit
from ...store.edits.allowed_steps import later_overlapping, way
from ...store.engine import Store
from ...store.versions import (
    StoredSlot,
    applied_edits,
    current_model,
    slot_state,
    state_version,
    stored_slots,
    walk,
)
from ..models import ModelCommands, ModelVersion
from .objects import step_in_memory

if TYPE_CHECKING:
    from ...editing.objects.diff_file import EditObject


@dataclass(frozen=True)
class MergeBase:
    """What a merge is planned on.

    Attributes:
        version: the version's id.
        edits: the edits that build it, in order.
        current: the id of the model's current version; `applied`: the edits that build that.
        taken_out: the merged edits that are applied, in the order in which to revert them.
        layers: those in which the merged edits change value slots, rising.
    """

    version: str
    edits: tuple[int, ...]
    current: str
    applied: tuple[int, ...]
    taken_out: tuple[int, ...]
    layers: tuple[int, ...]


def merge_base(connection: Any, model_id: int, edits: Sequence[int], *, anyway: bool) -> MergeBase:
    """Finds the version to plan a merge on.

    Args:
        connection: an open transaction.
        model_id: the model.
        edits: the merged edits.
        anyway: allow edits that change no value slot in common.

    Raises:
        ConflictError: if another edit is applied that changes slots of one that is to be taken out.
        EditError: if the edits need no merge, and `anyway` is not set.
    """
    model = current_model(connection, model_id)
    applied = applied_edits(connection, model_id)
    slots_of = stored_slots(connection, model_id, [*applied, *edits])
    if not anyway:
        _require_overlap(applied, slots_of, edits)
    taken_out = [edit for edit in reversed(applied) if edit in edits]
    for edit in taken_out:
        others = [later for later in later_overlapping(connection, model_id, applied, edit) if later not in edits]
        if others:
            them = "it" if len(others) == 1 else "them"
            raise ConflictError(
                f"a merge is planned without the edits that it is of, and edit {edit} can't be taken out of version "
                f"{model.version}: {_named(others)}, applied later, changed value slots of it. Merge {them} as well: "
                f"{call('edits.merge', [*edits, *others])}; or first take {them} out: "
                f"{call('edits.revert_all', list(reversed(others)))}"
            )
    left = [edit for edit in applied if edit not in edits]
    version = state_version(model.fingerprint, slot_state(connection, model_id, left))
    layers = sorted({stored.slot[1] for edit in edits for stored in slots_of.get(edit, ()) if stored.slot[1] >= 0})
    return MergeBase(version, tuple(left), model.version, tuple(applied), tuple(taken_out), tuple(layers))


def _require_overlap(
    applied: Sequence[int], slots_of: Mapping[int, Sequence[StoredSlot]], edits: Sequence[int]
) -> None:
    """Refuses edits that can all be applied as they are, as no two of them change one slot."""
    seen: set[Any] = set()
    for edit in edits:
        slots = {stored.slot for stored in slots_of.get(edit, ())}
        if slots & seen:
            return
        seen |= slots
    state = walk(slots_of, applied)
    waiting = [edit for edit in edits if edit not in applied]
    for edit in waiting:
        if any(state.get(one.slot, (one.base, one.base))[1] != one.old for one in slots_of.get(edit, ())):
            return
    how = f"apply them as they are: {call('edits.apply_all', waiting)}" if waiting else "they are all applied"
    raise EditError(
        f"{_named(edits)} change no value slot in common, so there is nothing to merge: {how}. To plan one edit of all "
        f"their facts all the same, add {option('anyway', True)}"
    )


def _named(edits: Sequence[int]) -> str:
    return f"edit{'' if len(edits) == 1 else 's'} {', '.join(map(str, edits))}"


class SteppedModel:
    """A model in memory that goes from one list of applied edits to another, every byte compared on the way."""

    def __init__(self, store: Store, version: ModelVersion, records: Iterable[Edit], applied: Sequence[int]) -> None:
        self._store = store
        self.version = version
        self._records = {record.id: record for record in records}
        self._contents: dict[int, EditObject] = {}
        self._present = list(applied)
        self._parameters = dict(version.model.named_parameters())

    def go_to(self, edits: Sequence[int]) -> None:
        """Steps to the version that these edits build.

        Raises:
            DiffFileError: if an edit's object is damaged.
            EditError: if the weights are not those that the store says.
        """
        for number, action in way(self._present, list(edits)):
            content = self._content(number)
            step_in_memory(self._parameters, self.version.record.fingerprint, content, reverse=action == "revert")
        self._present = list(edits)

    def _content(self, number: int) -> EditObject:
        from ...editing.objects import diff_file

        if number not in self._contents:
            record = self._records[number]
            self._contents[number] = diff_file.read(self._store.objects, record.object_path, record.object_hash)
        return self._contents[number]


def load_base(store: Store, models: ModelCommands, name: str, base: MergeBase, records: Iterable[Edit]) -> SteppedModel:
    """Loads a model, and steps to the version that a merge is planned on.

    Args:
        store: the store.
        models: loads the model.
        name: the model.
        base: the version.
        records: all edits of the model.

    Raises:
        EditError: if another process moved the model's version meanwhile.
    """
    loaded = models.load(name, base.current)
    stepped = SteppedModel(store, replace(loaded, version=base.version), records, base.applied)
    stepped.go_to(base.edits)
    return stepped
