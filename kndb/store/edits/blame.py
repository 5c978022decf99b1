"""Which edits would change given value slots, whether or not they are applied."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, text

from ...versions import NO_LAYER
from ..versions import StoredSlot

_SLOTS = """
SELECT edit.id, held.parameter, held.layer, held.neuron, held.old_sha256, held.new_sha256, held.base_sha256
FROM kndb_rows(:ranges, layer, low, high) AS wanted
JOIN edit_neuron AS held
  ON held.layer = wanted.layer AND held.neuron BETWEEN wanted.low AND wanted.high
JOIN edit ON edit.id = held.edit_id AND edit.model_id = :model
ORDER BY held.layer, held.neuron, held.parameter, edit.id
"""
_TENSORS = """
SELECT edit.id, held.parameter, held.old_sha256, held.new_sha256, held.base_sha256
FROM edit_tensor AS held JOIN edit ON edit.id = held.edit_id AND edit.model_id = :model
WHERE held.parameter IN kndb_texts(:names)
ORDER BY held.parameter, edit.id
"""

Changes = dict[tuple[str, int, int], list[tuple[int, StoredSlot]]]
"""For each slot, the edits that change it, with the hashes of its bytes."""


def changes_of_neurons(connection: Connection, model_id: int, ranges: Sequence[tuple[int, int, int]]) -> Changes:
    """The edits of a model that change some value slots, slot by slot, in the order in which edits were planned.

    Args:
        connection: an open transaction.
        model_id: the model.
        ranges: each a layer, and the first and last neuron in it.
    """
    found: Changes = {}
    values = {"ranges": json.dumps(list(ranges)), "model": model_id}
    for edit, parameter, layer, neuron, old, new, base in connection.execute(text(_SLOTS), values):
        slot = (parameter, layer, neuron)
        known = found.setdefault(slot, [])
        if edit not in {number for number, _ in known}:  # Ranges may overlap.
            known.append((edit, StoredSlot(slot, old, new, base)))
    return found


def changes_of_parameters(connection: Connection, model_id: int, names: Sequence[str]) -> Changes:
    """The edits of a model that change some parameters as a whole; the rest is as for `changes_of_neurons`."""
    found: Changes = {}
    values = {"names": json.dumps(list(names)), "model": model_id}
    for edit, parameter, old, new, base in connection.execute(text(_TENSORS), values):
        slot = (parameter, NO_LAYER, NO_LAYER)
        found.setdefault(slot, []).append((edit, StoredSlot(slot, old, new, base)))
    return found
