"""Applying edits to their model's current version."""

from __future__ import annotations

from collections.abc import Sequence

from ...records.versions import HistoryEntry
from ...store.engine import Store
from ..models import ModelCommands
from .steps import take_steps


def apply_all(store: Store, models: ModelCommands, edits: Sequence[int]) -> list[HistoryEntry]:
    """Applies edits in this order; see `EditCommands.apply_all`."""
    return take_steps(store, models, edits, "apply")
