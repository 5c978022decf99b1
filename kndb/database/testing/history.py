"""A stretch of a model's history: the versions that it went through, and the steps between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...advice import call
from ...errors import StoreDamagedError, UsageError
from ...records.knowledge_tests import HistoryStep
from ...records.models import Model
from ...records.versions import HistoryEntry
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ...store.engine import Store


@dataclass(frozen=True)
class Stretch:
    """A stretch of a model's history.

    Attributes:
        entries: its steps, at least one.
        actions: for each of them `apply` or `revert`, whatever the log calls it.
        versions: ids of the versions before the first step and after each.
    """

    entries: tuple[HistoryEntry, ...]
    actions: tuple[str, ...]
    versions: tuple[str, ...]


def stretch(store: Store, model: Model, good: str, bad: str, *, whole: bool = False) -> Stretch:
    """The stretch of a model's history that leads from one version to another.

    A history may come back to a version. The stretch ends where it was last at the second one.

    Args:
        store: the store.
        model: the model.
        good: a version: `base`, `current`, an id or an unambiguous start of one, or a snapshot's name.
        bad: a later one.
        whole: begin where the history was first at the first one, in place of last; then they may be the same weights.

    Raises:
        NotFoundError: if there is no such version.
        UsageError: if they are the same weights and no step is between them, or the history does not come from one to
            the other.
    """
    with store.reading() as connection:
        first, last = (store_versions.resolve_version(connection, model.id, name) for name in (good, bad))
        entries = store_edits.history(connection, model.id)
        base = store_versions.current_model(connection, model.id).base
    versions = [base, *(entry.version_after for entry in entries)]
    end = max((place for place, version in enumerate(versions) if version == last), default=-1)
    starts = [place for place, version in enumerate(versions[: max(end, 0)]) if version == first]
    if first == last and not (whole and starts):
        raise UsageError(
            f"the versions {good!r} and {bad!r} have the same weights, {first}, so that no step between them broke a "
            f"test; name two others of: {call('edits.log', model=model.name)}"
        )
    if not starts:
        raise UsageError(
            f"version {good!r} must come before version {bad!r} in the history of {model.name}, and does not; see: "
            f"{call('edits.log', model=model.name)}"
        )
    start = starts[0 if whole else -1]
    chosen = slice(start, end)
    return Stretch(tuple(entries[chosen]), tuple(replayed_actions(entries)[chosen]), tuple(versions[start : end + 1]))


def replayed_actions(entries: Sequence[HistoryEntry]) -> list[str]:
    """What each step of a whole history did: `apply` or `revert`.

    Of a restore's step the log may not say it: then an edit that was applied was reverted.

    Args:
        entries: all steps of one model, the oldest first.
    """
    applied: set[int | None] = set()
    found = []
    for entry in entries:
        told = entry.direction if entry.action == "restore" else entry.action
        action = told or ("revert" if entry.edit in applied else "apply")
        (applied.discard if action == "revert" else applied.add)(entry.edit)
        found.append(action)
    return found


def described(connection: Any, entry: HistoryEntry, action: str) -> HistoryStep:
    """A step with what its edit is for, and who planned it.

    Args:
        connection: an open transaction.
        entry: the step.
        action: what it did.

    Raises:
        StoreDamagedError: if the step names no edit.
    """
    if entry.edit is None:
        raise StoreDamagedError(f"step {entry.id} of the log names no edit; see: {call('maintenance.check')}")
    edit = store_edits.edit(connection, entry.edit)
    return HistoryStep(entry, action, edit.what, edit.kind, edit.author, edit.created_at)
