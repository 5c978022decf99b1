"""Which edits build each version, kept so that a long history needs little room.

A version's row has its list of edits. Written out for each version of a long history, the lists would take room that
grows with its square: so a version's list may go on from that of another version, `since`, whose row has a whole list.
Lists of at most `SEGMENT` edits are always whole, and no row has more than `SEGMENT` edits after another version's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from ..advice import call
from ..errors import StoreDamagedError
from .clock import now
from .tables import VersionRow

SEGMENT = 100
"""Edits after another version's: of a history of n edits, n / SEGMENT versions have whole lists."""


@dataclass(frozen=True)
class VersionList:
    """A version's row: the version whose edits come first, if one does, and the edits after them."""

    since: str | None
    edits: list[int]


def keep_version(
    connection: Connection, model_id: int, version: str, edit_ids: Sequence[int], after: str | None = None
) -> None:
    """Notes how to build a version, unless one way is known already.

    Args:
        connection: an open write transaction.
        model_id: the model.
        version: the version's id.
        edit_ids: the edits that build it, in order.
        after: a version that is known, whose list may begin as this one does.
    """
    if _row(connection, model_id, version) is not None:
        return
    since = None
    if after is not None and len(edit_ids) > SEGMENT:
        since = _whole_list_before(connection, model_id, after, edit_ids)
    edits = list(edit_ids) if since is None else list(edit_ids)[len(listed_edits(connection, model_id, since)) :]
    values = {"edits": edits, "since": since, "created_at": now()}
    connection.execute(insert(VersionRow).values(model_id=model_id, version=version, **values))


def listed_edits(connection: Connection, model_id: int, version: str) -> list[int]:
    """The edits that build a known version, in order.

    Raises:
        StoreDamagedError: if the version, or one that its list goes on from, is not known.
    """
    row = _row(connection, model_id, version)
    if row is None:
        raise unknown_version(version)
    if row.since is None:
        return row.edits
    first = _row(connection, model_id, row.since)
    if first is None or first.since is not None:
        raise unknown_version(row.since)
    return first.edits + row.edits


def is_known(connection: Connection, model_id: int, version: str) -> bool:
    """Whether a version of this id has a row."""
    return _row(connection, model_id, version) is not None


def version_lists(connection: Connection, model_id: int) -> dict[str, VersionList]:
    """The rows of all versions of a model, those that came up first first."""
    query = select(VersionRow.version, VersionRow.since, VersionRow.edits).where(VersionRow.model_id == model_id)
    rows = connection.execute(query.order_by(VersionRow.created_at))
    return {row.version: VersionList(row.since, row.edits) for row in rows}


def versions_with(connection: Connection, model_id: int, edit_ids: Collection[int]) -> dict[str, list[int]]:
    """The versions of a model that are built with some of the edits, and with which of them."""
    lists = version_lists(connection, model_id)
    of_row = {version: {one for one in row.edits if one in edit_ids} for version, row in lists.items()}
    found = {}
    for version, row in lists.items():
        edits = of_row[version] | (of_row.get(row.since, set()) if row.since is not None else set())
        if edits:
            found[version] = [one for one in edit_ids if one in edits]
    return found


def unknown_version(version: str) -> StoreDamagedError:
    """The error that a version is named, and its row is missing or no whole list."""
    return StoreDamagedError(f"version {version} has no whole list of edits; see: {call('maintenance.check')}")


def _whole_list_before(connection: Connection, model_id: int, after: str, edit_ids: Sequence[int]) -> str | None:
    """The version to go on from: `after`, or the one that it goes on from; None if the list has to be whole."""
    row = _row(connection, model_id, after)
    if row is None:
        return None
    since = after if row.since is None else row.since
    first = listed_edits(connection, model_id, since)
    goes_on = len(edit_ids) - len(first) <= SEGMENT and list(edit_ids[: len(first)]) == first
    return since if goes_on and len(edit_ids) > len(first) else None


def _row(connection: Connection, model_id: int, version: str) -> VersionList | None:
    query = select(VersionRow.since, VersionRow.edits).where(
        VersionRow.model_id == model_id, VersionRow.version == version
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else VersionList(row.since, row.edits)
