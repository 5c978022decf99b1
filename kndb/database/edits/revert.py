"""Taking edits out of their model's current version: some, or one with what builds on it."""

from __future__ import annotations

from collections.abc import Sequence

from ...records.versions import HistoryEntry
from ...store.edits import steps as store_steps
from ...store.engine import Store
from ..models import ModelCommands
from .steps import take_steps, try_current


def revert_all(
    store: Store, models: ModelCommands, edits: Sequence[int], expected: str | None = None
) -> list[HistoryEntry]:
    """Takes edits out, the last applied first; see `EditCommands.revert_all`."""
    return take_steps(store, models, edits, "revert", expected=expected)


def revert_cascade(store: Store, models: ModelCommands, edit: int) -> list[HistoryEntry]:
    """Takes an edit out with the later ones that overlap it; see `EditCommands.revert_cascade`."""
    with store.reading() as connection:
        model, order = store_steps.plan_cascade(connection, edit)
    try_current(store, models, model, [(number, "revert") for number in order])
    with store.writing() as connection:
        return store_steps.revert_cascade(connection, edit, model.version)
