"""What all parts of `EditCommands` have: the store, and the models."""

from __future__ import annotations

from ...store.engine import Store
from ..models import ModelCommands


class CommandGroup:
    """Methods on a store's edits; each part of `EditCommands` is one."""

    def __init__(self, store: Store, models: ModelCommands) -> None:
        self._store = store
        self._models = models
