"""Deleting edits that nothing needs: no version that is or was current, no snapshot, no result, no other edit.

The rows go first, in one transaction; the object files after it, in another one that holds the write lock while it
looks whether a row names them again. A crash in between leaves files that no edit names, which `kndb db check --repair`
removes.
All functions but `remove_objects` take an open transaction.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, select

from ...advice import call
from ...errors import EditError, StoreError, UsageError
from ...records.edits import DeletedEdit
from ..engine import Store
from ..tables import (
    EditRow,
    EditTrialRow,
    EvaluationRow,
    HistoryRow,
    ProbeRow,
    RunRow,
    SnapshotRow,
    VersionRow,
)
from ..version_lists import versions_with
from ..versions import applied_edits, current_model
from .edit import edit, edit_model, history

Versions = dict[str, list[int]]
"""Versions that would go, each with those of the edits that build it."""
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Deletion:
    """What is to be deleted.

    Attributes:
        edits: the edits, with what goes with each.
        versions: by model, the ids of versions that only these edits need.
    """

    edits: tuple[DeletedEdit, ...]
    versions: tuple[tuple[int, str], ...]


def plan_deletion(connection: Connection, edit_ids: Sequence[int]) -> Deletion:
    """Looks whether edits can be deleted together, and changes nothing.

    Raises:
        UsageError: if there is no edit.
        NotFoundError: if there is no such edit.
        EditError: if something needs one of them.
    """
    numbers = list(dict.fromkeys(edit_ids))
    if not numbers:
        raise UsageError("there is no edit to delete; give at least one number")
    by_model: dict[int, list[int]] = {}
    for number in numbers:
        by_model.setdefault(edit_model(connection, number), []).append(number)
    versions: list[tuple[int, str]] = []
    for model_id, some in by_model.items():
        going = versions_with(connection, model_id, some)
        for needed in _needs(connection, model_id, some, going):
            raise EditError(f"{needed}. Nothing was deleted")
        versions += [(model_id, version) for version in going]
    measured = select(func.count()).select_from(EvaluationRow)
    deleted = [
        DeletedEdit(edit(connection, number), connection.scalar(measured.where(EvaluationRow.edit_id == number)) or 0)
        for number in numbers
    ]
    return Deletion(tuple(deleted), tuple(versions))


def delete_edits(connection: Connection, edit_ids: Sequence[int]) -> Deletion:
    """Deletes the rows of edits, of their evaluations, and of versions that only they need; errors as above."""
    planned = plan_deletion(connection, edit_ids)
    for model_id, version in planned.versions:
        connection.execute(delete(VersionRow).where(VersionRow.model_id == model_id, VersionRow.version == version))
    for one in planned.edits:
        connection.execute(delete(EditRow).where(EditRow.id == one.edit.id))
    return planned


# --- what needs an edit ---------------------------------------------------------------------------


def _needs(connection: Connection, model_id: int, edit_ids: Sequence[int], going: Versions) -> Iterator[str]:
    """Sentences on what needs an edit, or a version that is built with it; each with the way out."""
    yield from _steps(connection, model_id, edit_ids)
    yield from _edits_on(connection, model_id, edit_ids, going)
    yield from _names(connection, model_id, going)
    yield from _results(connection, model_id, going)


def _steps(connection: Connection, model_id: int, edit_ids: Sequence[int]) -> Iterator[str]:
    model = current_model(connection, model_id)
    going = set(edit_ids)
    for applied in [one for one in applied_edits(connection, model_id) if one in going][:1]:
        yield (
            f"edit {applied} is applied to model {model.name}, and the log names it, so that it can't be deleted. To "
            f"take it out of the current version: {call('edits.revert', applied)}"
        )
    for step in [one for one in history(connection, model_id) if one.edit in going][:1]:
        yield (
            f"edit {step.edit} was applied to model {model.name} once ({step.created_at[:10]}): the log names it, and "
            "versions of the log are built with it, which a restore or a checkout may ask for. It can stay: an edit "
            "that is not applied changes nothing"
        )


def _edits_on(connection: Connection, model_id: int, edit_ids: Sequence[int], going: Versions) -> Iterator[str]:
    of_model = EditRow.model_id == model_id
    for later, version in _uses(connection, EditRow.id, EditRow.base_version, going, of_model, but=edit_ids):
        needed = going[version]
        yield (
            f"{_edits(needed)} can't be deleted alone: edit {later} was planned on a version with "
            f"{'it' if len(needed) == 1 else 'them'}. Delete it too: {call('edits.delete', [*edit_ids, later])}"
        )
    owned = EvaluationRow.edit_id.in_(select(EditRow.id).where(of_model))
    for column in (EvaluationRow.version_before, EvaluationRow.version_after):
        for found, version in _uses(connection, EvaluationRow.edit_id, column, going, owned, but=edit_ids):
            yield (
                f"edit {found} was measured on version {version}, which is built with {_edits(going[version])}. Delete "
                f"it too: {call('edits.delete', [*edit_ids, found])}"
            )


def _names(connection: Connection, model_id: int, going: Versions) -> Iterator[str]:
    model = current_model(connection, model_id)
    of_model = SnapshotRow.model_id == model_id
    for name, version in _uses(connection, SnapshotRow.name, SnapshotRow.version, going, of_model):
        yield (
            f"snapshot {name!r} names a version with {_edits(going[version])}. Delete the snapshot first: "
            f"{call('snapshots.delete', name, model=model.name)}"
        )
    if model.version in going:
        yield f"the current version of model {model.name} is built with {_edits(going[model.version])}"


def _results(connection: Connection, model_id: int, going: Versions) -> Iterator[str]:
    for what, number, column, owner in (
        ("attribution run", RunRow.id, RunRow.version, RunRow.model_id),
        ("probe", ProbeRow.id, ProbeRow.version, ProbeRow.model_id),
        ("trial", EditTrialRow.id, EditTrialRow.version, EditTrialRow.model_id),
        ("the log's step", HistoryRow.id, HistoryRow.version_before, HistoryRow.model_id),
        ("the log's step", HistoryRow.id, HistoryRow.version_after, HistoryRow.model_id),
    ):
        for found, version in _uses(connection, number, column, going, owner == model_id):
            yield (
                f"{what} {found} is of version {version}, which is built with {_edits(going[version])}. "
                f"{'It' if len(going[version]) == 1 else 'They'} can stay: an edit that is not applied changes nothing"
            )


def _uses(
    connection: Connection,
    name: Any,
    version: Any,
    going: Versions,
    condition: ColumnElement[bool],
    *,
    but: Sequence[int] = (),
) -> list[tuple[Any, str]]:
    """The names of rows whose version is one of those that would go, each with that version; the first alone."""
    left_out = set(but)
    rows = connection.execute(select(name, version).where(condition).order_by(name))
    return [(row[0], row[1]) for row in rows if row[1] in going and row[0] not in left_out][:1]


def _edits(edit_ids: Sequence[int]) -> str:
    return f"edit{'' if len(edit_ids) == 1 else 's'} {', '.join(map(str, edit_ids))}"


# --- objects --------------------------------------------------------------------------------------


def remove_objects(store: Store, objects: Path, deleted: Iterable[DeletedEdit]) -> None:
    """Removes the object files of edits that were deleted, unless a row names them (of another model, or a new one).

    Args:
        store: the store, with no transaction open.
        objects: its folder of edit objects.
        deleted: edits whose rows are gone.

    Raises:
        StoreError: if a file can't be removed; it does no harm.
    """
    # Who writes an edit holds the write lock from before its object is written until its row commits.
    with store.writing() as connection:
        if store.backend.sharing_objects():
            return
        named = set(connection.scalars(select(EditRow.object_hash)))
        for object_hash in {one.edit.object_hash for one in deleted} - named:
            if not _HASH.fullmatch(object_hash):
                continue
            folder = objects / object_hash[:2]
            try:
                if not folder.is_symlink():
                    (folder / f"{object_hash}.safetensors").unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(
                    f"the edits were deleted, but the object {error.filename} can't be removed: "
                    f"{error.strerror or error}. It does no harm; remove it later with: "
                    f"{call('maintenance.check', repair=True)}"
                ) from error
            with contextlib.suppress(OSError):  # one that still holds objects
                folder.rmdir()
