"""What differs between two versions of a model, read from edit objects: no model is loaded."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...advice import Placeholder, call
from ...editing.objects import object_format
from ...editing.objects.object_format import StoredEdit
from ...editing.objects.slot_bytes import numbers
from ...errors import ModelError
from ...records.edits import Edit
from ...records.models import Model, Neuron
from ...records.queries import Collateral, TouchedFact, TouchedRelation
from ...store import versions as store_versions
from ...store.choosing import find
from ...store.edits import edit as store_edits
from ...store.edits.collateral import collateral
from ...store.engine import Store
from ...versions import NO_LAYER, Slot
from ..models import ModelCommands


@dataclass(frozen=True)
class SlotDiff:
    """A value slot whose bytes differ between versions A and B.

    Attributes:
        layer: the layer; where layers share the parameter, the lowest.
        neuron: the neuron's number in it.
        parameter: the parameter that the slot is a row or column of.
        norm_a: the slot's length ‖v‖ in version A; None, like the next two, where a capture that is kept as factors
            changed it, whose values are known only with the weights.
        norm_b: and in version B.
        norm_difference: ‖v in B − v in A‖; 0 where only signs of zeros differ.
        facts: facts that hold the neuron in the model's default refinement; None without one.
        relations: keys of the relations of those facts; None without a refinement.
    """

    layer: int
    neuron: int
    parameter: str
    norm_a: float | None
    norm_b: float | None
    norm_difference: float | None
    facts: int | None
    relations: tuple[str, ...] | None


@dataclass(frozen=True)
class VersionDiff:
    """What differs between two versions of a model.

    Attributes:
        model: its name.
        version_a: the id of version A.
        version_b: the id of version B.
        refinement: the model's default refinement, which facts and relations are from; None if there is none.
        slots: the value slots whose bytes differ, by layer and neuron.
        tensors: other parameters whose bytes differ.
        relations: the relations whose facts hold neurons of those slots, by facts, the most first.
        facts: those facts, by neurons, the most first.
        only_a: the edits that build version A and not B, in order.
        only_b: the edits that build version B and not A, in order.
    """

    model: str
    version_a: str
    version_b: str
    refinement: int | None
    slots: tuple[SlotDiff, ...]
    tensors: tuple[str, ...]
    relations: tuple[TouchedRelation, ...]
    facts: tuple[TouchedFact, ...]
    only_a: tuple[Edit, ...]
    only_b: tuple[Edit, ...]


_Values = dict[Slot, tuple[str, bytes] | None]
"""What slots hold, a dtype and bytes; None where only an edit kept as factors could tell."""


def diff(store: Store, models: ModelCommands, model: str, a: str, b: str) -> VersionDiff:
    """What differs between two versions; see `EditCommands.diff`."""
    record = models.get(model)
    with store.reading() as connection:
        return compare_versions(connection, store.objects, record, a, b)


def compare_versions(connection: Any, objects: Path, model: Model, a: str, b: str) -> VersionDiff:
    """See `EditCommands.diff`."""
    if not model.has_checkpoint:
        raise ModelError(
            f"of model {model.name!r} the store has imported results and no checkpoint, so it has no versions; "
            f"register its checkpoint: {call('models.add', Placeholder('PATH'), name=model.name)}"
        )
    versions = [store_versions.resolve_version(connection, model.id, name) for name in (a, b)]
    edit_ids_a, edit_ids_b = (_edit_ids(connection, model, version) for version in versions)
    records = {number: store_edits.edit(connection, number) for number in {*edit_ids_a, *edit_ids_b}}
    contents = {
        number: object_format.read(objects, record.object_path, record.object_hash)
        for number, record in records.items()
    }
    differing = _differing(connection, model, edit_ids_a, edit_ids_b)
    neurons = [slot for slot in differing if slot[1] != NO_LAYER]
    base: _Values = {}
    in_a, in_b = (_values(contents, edit_ids, base) for edit_ids in (edit_ids_a, edit_ids_b))
    refinement, touched = _touched(connection, model, neurons)
    holders = None if touched is None else _holders(touched)
    slots = [_slot(slot, in_a.get(slot, base.get(slot)), in_b.get(slot, base.get(slot)), holders) for slot in neurons]
    return VersionDiff(
        model=model.name,
        version_a=versions[0],
        version_b=versions[1],
        refinement=refinement,
        slots=tuple(sorted(slots, key=lambda row: (row.layer, row.neuron, row.parameter))),
        tensors=tuple(sorted(parameter for parameter, layer, _ in differing if layer == NO_LAYER)),
        relations=() if touched is None else touched.relations,
        facts=() if touched is None else touched.facts,
        only_a=tuple(records[number] for number in edit_ids_a if number not in edit_ids_b),
        only_b=tuple(records[number] for number in edit_ids_b if number not in edit_ids_a),
    )


def _edit_ids(connection: Any, model: Model, version: str) -> list[int]:
    # Several lists of edits can lead to the same weights: of the current version, the one that is applied counts.
    if version == model.version:
        return store_versions.applied_edits(connection, model.id)
    return store_versions.version_edits(connection, model.id, version)


def _values(contents: dict[int, StoredEdit], edit_ids: Sequence[int], base: _Values) -> _Values:
    """What the touched slots hold after the edits; `base` gets what they held in the checkpoint.

    The first edit of a slot is planned on the checkpoint's bytes, so its old value is that of the checkpoint.
    """
    state: _Values = {}
    for number in edit_ids:
        content = contents[number]
        for slots in content.parameters:
            for one in slots.edits():
                slot = one.place.slot
                if slot not in state:
                    base.setdefault(slot, (slots.dtype, one.old))
                state[slot] = slots.dtype, one.new
        for part in content.tensors:
            for index in () if part.slots is None else part.slots.indices:
                state[part.parameter, part.slots.layer if part.slots else NO_LAYER, index] = None
    return state


def _differing(connection: Any, model: Model, edit_ids_a: Sequence[int], edit_ids_b: Sequence[int]) -> list[Slot]:
    """The slots whose bytes differ, by their hashes."""
    in_a, in_b = (store_versions.slot_state(connection, model.id, edit_ids) for edit_ids in (edit_ids_a, edit_ids_b))
    found = []
    for slot in {**in_a, **in_b}:
        base = (in_a.get(slot) or in_b[slot])[0]
        if in_a.get(slot, (base, base))[1] != in_b.get(slot, (base, base))[1]:
            found.append(slot)
    return found


def _touched(connection: Any, model: Model, slots: Sequence[Slot]) -> tuple[int | None, Collateral | None]:
    chosen = find(connection, model=model.name)
    if chosen is None:
        return None, None
    refinement = chosen.refinement.id
    neurons = [Neuron(layer, index) for _, layer, index in slots]
    return refinement, collateral(connection, refinement, neurons) if neurons else Collateral((), (), ())


def _holders(touched: Collateral) -> dict[str, list[TouchedFact]]:
    """The facts that hold a neuron, by the neuron's name."""
    holders: dict[str, list[TouchedFact]] = {name: [] for name in touched.neurons}
    for fact in touched.facts:
        for name in fact.neurons:
            holders[name].append(fact)
    return holders


def _slot(
    slot: Slot, a: tuple[str, bytes] | None, b: tuple[str, bytes] | None, holders: dict[str, list[TouchedFact]] | None
) -> SlotDiff:
    parameter, layer, index = slot
    facts = None if holders is None else holders[str(Neuron(layer, index))]
    values_a, values_b = (None if held is None else numbers(*held) for held in (a, b))
    return SlotDiff(
        layer,
        index,
        parameter,
        None if values_a is None else _length(values_a),
        None if values_b is None else _length(values_b),
        None if values_a is None or values_b is None else math.dist(values_a, values_b),
        None if facts is None else len(facts),
        None if facts is None else tuple(sorted({fact.relation for fact in facts})),
    )


def _length(values: array[float]) -> float:
    return math.hypot(*values)
