"""What value slots and parameters hold after edits that are kept as low-rank factors: by computing them in turn.

Only what the edits touch is read, from the checkpoint's files; no model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...advice import call
from ...editing.objects import object_format
from ...editing.objects.checkpoint_values import CheckpointValues, DisagreementError
from ...editing.objects.object_format import check_fingerprint
from ...editing.objects.slot_bytes import SlotEdit
from ...errors import EditError
from ...records.edits import Edit
from ...records.models import Model
from ..models import require_fingerprint


def materialised_edits(folder: Path, objects: Path, record: Model, edits: Sequence[Edit]) -> list[list[SlotEdit]]:
    """What each of the edits changes, in bytes, when they are applied to the checkpoint in this order.

    Args:
        folder: the checkpoint.
        objects: the folder of objects.
        record: the model.
        edits: from the base version on.

    Raises:
        EditError: if an edit can't be applied.
        FingerprintError: if the checkpoint changed since it was registered.
        ModelError: if its files can't be read as safetensors.
        DiffFileError: if an object is damaged.
    """
    values, found = CheckpointValues(folder), []
    try:
        for edit in edits:
            content = object_format.read(objects, edit.object_path, edit.object_hash)
            check_fingerprint(content.fingerprint, record.fingerprint)
            places = values.places(content)
            before = values.held(places)
            values.take(content)
            after = values.held(places)
            found.append([SlotEdit(*one) for one in zip(places, before, after, strict=True)])
    except DisagreementError as error:
        require_fingerprint(record, folder, folder)
        check = call("maintenance.check")
        raise EditError(f"the weights do not agree with the store ({error}); look for damage with: {check}") from error
    return found
