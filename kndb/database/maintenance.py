"""Use cases of the store itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..records.maintenance import CheckReport
from ..store import maintenance
from ..store.engine import Store


class MaintenanceCommands:
    """Check, back up and describe the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, *, repair: bool = False) -> CheckReport:
        """Looks for damage in the database, its objects, its versions and its history.

        Args:
            repair: remove files that no edit names; nothing else is touched.
        """
        return maintenance.check(self._store, repair)

    def backup(self, target: str | Path, *, overwrite: bool = False) -> Path:
        """Copies the store, its edit objects included, in one consistent state.

        Raises:
            StoreError: if the target exists and `overwrite` is false, or can't be written.
        """
        return maintenance.backup(self._store, target, overwrite=overwrite)

    def info(self) -> dict[str, Any]:
        """Path, size, schema revision and row counts."""
        return maintenance.info(self._store)
