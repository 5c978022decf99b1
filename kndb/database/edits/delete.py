"""Deleting edits that nothing needs."""

from __future__ import annotations

from collections.abc import Sequence

from ...records.display import Rows
from ...records.edits import DeletedEdit
from ...store.edits import deleting
from ...store.engine import Store


def delete(store: Store, edits: Sequence[int], *, preview: bool) -> Rows[DeletedEdit]:
    """Deletes edits, all or none; see `EditCommands.delete`."""
    if preview:
        with store.reading() as connection:
            return Rows(deleting.plan_deletion(connection, edits).edits, DeletedEdit)
    objects = store.objects  # Asked for first: where nobody said where they are, nothing is deleted.
    with store.writing() as connection:
        deleted = deleting.delete_edits(connection, edits).edits
    deleting.remove_objects(store, objects, deleted)
    return Rows(deleted, DeletedEdit)
