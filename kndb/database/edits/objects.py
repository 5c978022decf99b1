"""Edit objects between store and model: stored with the row that names them, applied to weights in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...advice import call
from ...errors import ConflictError, EditError
from ...records.conditions import CheckedConditions
from ...store.edits import edit as store_edits
from ...store.edits.edit import Origin
from ...store.engine import Store

if TYPE_CHECKING:
    import torch

    from ...editing.objects import diff_file


def step_in_memory(
    parameters: Mapping[str, torch.Tensor], fingerprint: str, content: diff_file.EditObject, *, reverse: bool
) -> None:
    """Applies an edit in memory, or takes it back, every byte of what it changes compared first.

    Args:
        parameters: the model's parameters by name.
        fingerprint: of its checkpoint.
        content: the edit.
        reverse: take it back.

    Raises:
        FingerprintError: if the edit is for another checkpoint.
        EditError: if the weights are not those that the store says.
    """
    from ...editing.objects.slots import apply_object, check_fingerprint

    check_fingerprint(content, fingerprint)
    try:
        apply_object(parameters, content, reverse=reverse)
    except ConflictError as error:
        raise EditError(
            f"the weights do not agree with the store ({error}); look for damage with: {call('maintenance.check')}"
        ) from error


def add_object(
    connection: Any,
    store: Store,
    model_id: int,
    content: diff_file.EditObject,
    version: str,
    fact_id: int | None,
    relation_id: int | None,
    origin: Origin | None = None,
    conditions: CheckedConditions | None = None,
) -> int:
    """Writes an edit's object, and adds the edit; both belong in one write transaction.

    Args:
        connection: that transaction.
        store: the store.
        model_id: the model.
        content: the edit.
        version: the version that it was planned on.
        fact_id: the fact that it changes, if one.
        relation_id: the relation that it changes, if one.
        origin: of an edit from another store.
        conditions: of an edit from another store, those that it was planned with.

    Returns:
        The edit's number; that of the model's edit with this object if there is one already.

    Raises:
        EditError: if the edit does not fit the version.
        StoreError: if the object can't be written.
    """
    from ...editing.objects import diff_file
    from ...editing.objects.slots import changes

    store.backend.note_store()
    object_hash, object_path = diff_file.write(content, store.objects)
    return store_edits.add_edit(
        connection,
        model_id,
        content.recipe,
        object_hash,
        object_path,
        version,
        changes(content),
        fact_id,
        relation_id,
        origin,
        conditions,
    )
