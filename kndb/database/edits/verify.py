"""Verifying edits: objects against their hashes and the database, the log's chain, the checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ...advice import call
from ...editing.objects import object_format
from ...editing.objects.object_bytes import object_path
from ...errors import DiffFileError, KndbError, UsageError
from ...records.edits import Edit, SlotChange
from ...records.models import Model
from ...store.edits import checks as edit_checks
from ...store.edits import edit as store_edits
from ...store.engine import Store
from ...versions import NO_LAYER
from ..models import ModelCommands


@dataclass(frozen=True)
class Verified:
    """One thing that was checked.

    Attributes:
        what: the thing, such as `edit 3: object`.
        ok: whether it is as it should be.
        detail: what was found; if it is not sound, also what was expected.
        part: `object` (an edit's file, or what the database says of it), `log` or `checkpoint`.
    """

    what: str
    ok: bool
    detail: str
    part: Literal["object", "log", "checkpoint"]


def verify(
    store: Store, models: ModelCommands, numbers: Sequence[int], model: str | None, weights: bool
) -> list[Verified]:
    """Checks edit objects and histories; see `EditCommands.verify`."""
    concerned = {record.name: record for record in models.all() if record.has_checkpoint}
    if model is not None:
        concerned = {model: models.get(model)}
    with store.reading() as connection:
        chosen = [store_edits.edit(connection, number) for number in dict.fromkeys(numbers)]
        _check_model(chosen, model)
        if chosen:
            concerned = {name: record for name, record in concerned.items() if name in {one.model for one in chosen}}
        else:
            chosen = [one for one in store_edits.edits(connection) if one.model in concerned]
        slots_of = {one.id: store_edits.edit_changes(connection, one.id) for one in chosen}
        found = [row for one in chosen for row in _edit(store, one, slots_of[one.id], concerned[one.model])]
        for record in concerned.values() if not numbers else ():
            problems = edit_checks.check_model(connection, record.id) if record.has_checkpoint else []
            steps = len(store_edits.history(connection, record.id))
            found += [Verified(f"model {record.name}: log", False, problem, "log") for problem in problems]
            if not problems:
                detail = f"{steps} steps lead from the base version to {record.version}"
                found.append(Verified(f"model {record.name}: log", True, detail, "log"))
    # After the transaction: a large checkpoint takes minutes to hash.
    return found + [_checkpoint(models, record) for record in concerned.values() if weights]


def _check_model(chosen: Sequence[Edit], model: str | None) -> None:
    for one in chosen:
        if model is not None and one.model != model:
            raise UsageError(
                f"edit {one.id} is of model {one.model!r}, not of {model!r}; list that model's edits with: "
                f"{call('edits.all', model=model)}"
            )


def _edit(store: Store, edit: Edit, slots: Sequence[SlotChange], model: Model) -> Iterator[Verified]:
    try:
        content = object_format.read(store.objects, edit.object_path, edit.object_hash)
    except DiffFileError as error:
        yield Verified(f"edit {edit.id}: object", False, str(error), "object")
        return
    yield Verified(f"edit {edit.id}: object", True, f"sha256 {edit.object_hash}", "object")
    flaws = _slot_flaws(slots, content.changes())
    tensors = sum(slot.layer == NO_LAYER for slot in slots)
    counted = f"{len(slots) - tensors} value slots{f' and {tensors} tensors' if tensors else ''}"
    sound = f"{counted} with the hashes that the database has"
    yield Verified(f"edit {edit.id}: slots", not flaws, "; ".join(flaws) or sound, "object")
    flaws = [
        f"the object has {name} {found!r}, the database {expected!r}"
        for name, found, expected in (
            ("kind", content.kind, edit.kind),
            ("recipe", content.recipe.as_json(), edit.recipe.as_json()),
            ("fingerprint", content.fingerprint, model.fingerprint),
            ("path", object_path(edit.object_hash), edit.object_path),
        )
        if found != expected
    ]
    sound = "kind, recipe, fingerprint and path are those that the database has"
    yield Verified(f"edit {edit.id}: description", not flaws, "; ".join(flaws) or sound, "object")


def _slot_flaws(stored: Sequence[SlotChange], held: Sequence[SlotChange]) -> list[str]:
    """How the slots in the database differ from those in the object."""
    in_store = {(slot.parameter, slot.layer, slot.neuron): slot for slot in stored}
    in_object = {(slot.parameter, slot.layer, slot.neuron): slot for slot in held}
    flaws = []
    for key in sorted({*in_store, *in_object}):
        parameter, layer, neuron = key
        name = parameter if layer == NO_LAYER else f"slot L{layer}.N{neuron} of {parameter}"
        known, found = in_store.get(key), in_object.get(key)
        if known is None or found is None:
            flaws.append(f"{name} is only in the {'object' if known is None else 'database'}")
            continue
        for moment, expected, present in (
            ("before", known.old_sha256, found.old_sha256),
            ("after", known.new_sha256, found.new_sha256),
        ):
            if expected != present:
                flaws.append(
                    f"{name} {moment} the edit has sha256 {present[:12]} in the object, {expected[:12]} in the database"
                )
    return flaws


def _checkpoint(models: ModelCommands, record: Model) -> Verified:
    what = f"model {record.name}: checkpoint"
    try:
        models.verify_checkpoint(record.name)
    except KndbError as error:
        return Verified(what, False, str(error), "checkpoint")
    return Verified(what, True, f"fingerprint {record.fingerprint}", "checkpoint")
