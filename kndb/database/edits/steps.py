"""Steps of a model's version, tried before they are taken: every byte that they touch is compared.

What an edit touches is read from the checkpoint's safetensors files, at its offsets there. The edits that are applied
already count as far as they change the same slots or parameters; each of their objects is read and checked. No model is
loaded, unless the files alone do not agree with the edits: then it is, with its fingerprint compared, and that decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ...editing.objects import object_format
from ...editing.objects.checkpoint_values import CheckpointValues, DisagreementError, places_of
from ...editing.objects.object_format import StoredEdit, check_fingerprint
from ...errors import ModelError, UsageError
from ...models.sources import locate
from ...records.conditions import CheckedConditions
from ...records.models import Model
from ...records.versions import HistoryEntry
from ...store import models as store_models
from ...store.edits import edit as store_edits
from ...store.edits import steps as store_steps
from ...store.edits.allowed_steps import Action
from ...store.engine import Store
from ...store.versions import CurrentModel, applied_edits, current_model, touching
from ...versions import Slot
from ..models import ModelCommands, require_checkpoint

Required = Callable[[Any], CheckedConditions]
"""Given the transaction of the steps, stores what was measured, and gives what the history is to say."""
Require = Callable[[CurrentModel, Sequence[int]], Required | None]


def take_steps(
    store: Store,
    models: ModelCommands,
    edits: Sequence[int],
    action: Action,
    require: Require | None = None,
    expected: str | None = None,
) -> list[HistoryEntry]:
    """Applies edits of one model to its current version, or reverts them, all or none; each is tried first.

    Args:
        store: the store.
        models: loads the checkpoint, where its files alone don't do.
        edits: at least one.
        action: what to do with them.
        require: told the model and the steps' order once they were tried; checks conditions, or raises.
        expected: the version that the caller has looked at; None takes the current one, whichever it is.
    """
    if not edits:
        raise UsageError("there is no edit; give at least one number")
    with store.reading() as connection:
        if expected is not None:
            store_steps.check_version(current_model(connection, store_edits.edit_model(connection, edits[0])), expected)
        # The store knows every slot's hash: a conflict is named there, with the edits that are in the way.
        model, order = store_steps.plan_steps(connection, edits, action)
    try_current(store, models, model, [(edit, action) for edit in order])
    required = None if require is None else require(model, order)
    with store.writing() as connection:
        taken: list[HistoryEntry] = []
        # What was measured is stored with the steps, in their transaction: neither is there without the other.
        conditions = None if required is None else required(connection)
        road = store_steps.road_of(connection, order) if len(order) > 1 else None
        for edit in order:
            expected = taken[-1].version_after if taken else model.version
            taken.append(store_steps.take_step(connection, edit, action, expected, conditions=conditions, road=road))
        return taken


def try_current(store: Store, models: ModelCommands, model: CurrentModel, steps: Sequence[tuple[int, Action]]) -> None:
    """Tries steps from a model's current version; see `try_steps`."""
    with store.reading() as connection:
        record = store_models.model(connection, model.name)
        applied = applied_edits(connection, model.id)
    try_steps(store, models, record, applied, steps)


def try_steps(
    store: Store, models: ModelCommands, record: Model, applied: Sequence[int], steps: Sequence[tuple[int, Action]]
) -> None:
    """Tries steps on what the checkpoint and the applied edits hold, and changes nothing.

    Args:
        store: the store.
        models: loads the checkpoint, where its files alone don't do.
        record: the model, at the version that the steps start from.
        applied: the edits that make that version, in order.
        steps: the edits to apply or revert, in order.

    Raises:
        ModelError: if the checkpoint is gone.
        FingerprintError: if the checkpoint changed since it was registered, or an edit is for another one.
        EditError: if a slot holds other bytes than an edit expects.
        DiffFileError: if an edit's object is damaged or missing.
    """
    require_checkpoint(record)
    objects = _Objects(store, record)
    for number, _ in steps:
        objects.read(number)
    try:
        _try_on_files(store, locate(record.source), objects, applied, steps)
    except (DisagreementError, ModelError):
        # Pickled weights, a tensor of another name or dtype than the parameter's, a checkpoint that was changed.
        _try_in_memory(store, models, record, steps)


class _Objects:
    """Edit objects, each read and checked once."""

    def __init__(self, store: Store, record: Model) -> None:
        self._store = store
        self._record = record
        self._read: dict[int, StoredEdit] = {}

    @property
    def model_id(self) -> int:
        """The number of the model that they are for."""
        return self._record.id

    def read(self, number: int) -> StoredEdit:
        """The content of an edit's object."""
        if number not in self._read:
            with self._store.reading() as connection:
                edit = store_edits.edit(connection, number)
            content = object_format.read(self._store.objects, edit.object_path, edit.object_hash)
            check_fingerprint(content.fingerprint, self._record.fingerprint)
            self._read[number] = content
        return self._read[number]


def _try_on_files(
    store: Store, folder: Path, objects: _Objects, applied: Sequence[int], steps: Sequence[tuple[int, Action]]
) -> None:
    values = CheckpointValues(folder)
    touched = {place.slot for number, _ in steps for place in values.places(objects.read(number))}
    concerned: list[int] = []
    while True:
        before = len(touched)
        with store.reading() as connection:
            changing = touching(connection, objects.model_id, touched)
        concerned = [number for number in applied if number in changing]
        # What factors make of a slot is known only once all slots of theirs were compared.
        touched.update(_regions(map(objects.read, concerned), touched))
        if len(touched) == before:
            break
    for number in concerned:
        values.take(objects.read(number), only=touched)
    for number, action in steps:
        values.take(objects.read(number), reverse=action == "revert")


def _regions(contents: Iterable[StoredEdit], touched: set[Slot]) -> set[Slot]:
    """All slots of the factors that have one of these."""
    found: set[Slot] = set()
    for content in contents:
        for part in content.tensors:
            region = {place.slot for place in places_of(part)}
            if not region.isdisjoint(touched):
                found |= region
    return found


def _try_in_memory(
    store: Store,
    models: ModelCommands,
    record: Model,
    steps: Sequence[tuple[int, Action]],
) -> None:
    version = models.load(record.name, record.version)
    from ...editing.objects import diff_file
    from .objects import step_in_memory

    parameters = dict(version.model.named_parameters())
    for number, action in steps:
        with store.reading() as connection:
            edit = store_edits.edit(connection, number)
        content = diff_file.read(store.objects, edit.object_path, edit.object_hash)
        step_in_memory(parameters, version.record.fingerprint, content, reverse=action == "revert")
