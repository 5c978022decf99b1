"""Snapshots: names for versions of a model, and the way back to them.

A restore is a row of ordinary steps (reverts, then applies), each in the history, all in the caller's one
transaction: it ends at exactly the version named, or changes nothing.
"""

from __future__ import annotations

import re

from sqlalchemy import Connection, insert, select
from sqlalchemy import delete as sql_delete

from ..advice import call
from ..errors import EditError, NotFoundError, StoreDamagedError
from ..records.versions import HistoryEntry, Snapshot
from .clock import now
from .edits.allowed_steps import way
from .edits.steps import check_version, road_of, take_step
from .tables import ModelRow, SnapshotRow
from .versions import (
    BASE,
    CURRENT,
    applied_edits,
    current_model,
    resolve_version,
    version_edits,
)

_VERSION_ID = re.compile(r"v[0-9a-f]{16}")


def create(connection: Connection, model_id: int, name: str, version: str = CURRENT) -> Snapshot:
    """Names a version.

    Args:
        connection: an open write transaction.
        model_id: the model.
        name: the snapshot's name.
        version: the version, as `resolve_version` takes it.

    Raises:
        NotFoundError: if there is no such model or version.
        EditError: if the name is taken, or can't be one.
    """
    model = current_model(connection, model_id)
    _check_name(name)
    for taken in snapshots(connection, model_id):
        if taken.name == name:
            raise EditError(
                f"model {model.name} has a snapshot {name!r} already, of version {taken.version}; choose a "
                f"new name. The names there are: {call('snapshots.all', model=model.name)}"
            )
    snapshot = Snapshot(name, model.name, resolve_version(connection, model_id, version), now())
    connection.execute(
        insert(SnapshotRow).values(
            model_id=model_id, name=name, version=snapshot.version, created_at=snapshot.created_at
        )
    )
    return snapshot


def _check_name(name: str) -> None:
    if not name.strip() or not name.isprintable():
        raise EditError(f"{name!r} can't name a snapshot; use text that can be printed")
    if name in (BASE, CURRENT) or _VERSION_ID.fullmatch(name):
        raise EditError(f"{name!r} means a version already; choose another name for the snapshot")


def snapshots(connection: Connection, model_id: int | None = None) -> list[Snapshot]:
    """Lists the snapshots of one model, or of all, oldest first."""
    query = (
        select(SnapshotRow.name, ModelRow.name.label("model"), SnapshotRow.version, SnapshotRow.created_at)
        .join(ModelRow, ModelRow.id == SnapshotRow.model_id)
        .order_by(SnapshotRow.created_at, ModelRow.name, SnapshotRow.name)
    )
    if model_id is not None:
        query = query.where(SnapshotRow.model_id == model_id)
    rows = connection.execute(query)
    return [Snapshot(row.name, row.model, row.version, row.created_at) for row in rows]


def delete(connection: Connection, model_id: int, name: str) -> Snapshot:
    """Forgets a name. The version stays, and can be asked for by its id.

    Args:
        connection: an open write transaction.
        model_id: the model.
        name: the snapshot's name.

    Returns:
        The snapshot that was.

    Raises:
        NotFoundError: if there is no such model or snapshot.
    """
    deleted = snapshot(connection, model_id, name)
    connection.execute(sql_delete(SnapshotRow).where(SnapshotRow.model_id == model_id, SnapshotRow.name == name))
    return deleted


def snapshot(connection: Connection, model_id: int, name: str) -> Snapshot:
    """Reads a snapshot of a model.

    Raises:
        NotFoundError: if there is no such model or snapshot.
    """
    model = current_model(connection, model_id)
    for found in snapshots(connection, model_id):
        if found.name == name:
            return found
    raise NotFoundError(
        f"model {model.name} has no snapshot {name!r}; the names there are: {call('snapshots.all', model=model.name)}"
    )


def restore(connection: Connection, model_id: int, name: str, expected_version: str) -> list[HistoryEntry]:
    """Moves a model's current version to a snapshot's, or to any other known version.

    Args:
        connection: an open write transaction.
        model_id: the model.
        name: the snapshot, or whatever else `resolve_version` takes.
        expected_version: the version that the caller has looked at.

    Returns:
        The steps taken; none if the model is at that version already.

    Raises:
        NotFoundError: if there is no such model, snapshot or version.
        VersionMovedError: if the model is at another version than expected.
        StoreDamagedError: if the steps don't lead to the version.
    """
    model = current_model(connection, model_id)
    check_version(model, expected_version)
    target = resolve_version(connection, model_id, name)
    version, steps = model.version, []
    if version != target:
        present = applied_edits(connection, model_id)
        ahead = way(present, version_edits(connection, model_id, target))
        road = road_of(connection, [edit_id for edit_id, _ in ahead]) if ahead else None
        for edit_id, action in ahead:
            steps.append(take_step(connection, edit_id, action, version, "restore", road=road))
            version = steps[-1].version_after
    if version != target:
        raise StoreDamagedError(
            f"the edits of version {target} of model {model.name} lead to version {version}; see: "
            f"{call('maintenance.check')}"
        )
    return steps
