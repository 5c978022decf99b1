"""Use cases of the store itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..records.maintenance import CheckReport
from ..store import maintenance
from ..store.engine import Store
from .edits.kept_statistics import remove_files, statistics_problems


class MaintenanceCommands:
    """Check, back up and describe the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def check(self, *, repair: bool = False) -> CheckReport:
        """Looks for damage in the database, its objects, its kept statistics, its versions and its history.

        Args:
            repair: remove files that no edit names, and no count of statistics; nothing else is touched.
        """
        return check(self._store, repair=repair)

    def backup(self, target: str | Path, *, overwrite: bool = False) -> Path:
        """Copies the store, its edit objects included, in one consistent state.

        Kept statistics are not copied: they can be counted again.

        Raises:
            StoreError: if the target exists and `overwrite` is false, or can't be written.
        """
        return maintenance.backup(self._store, target, overwrite=overwrite)

    def info(self) -> dict[str, Any]:
        """Path, size, schema revision and row counts."""
        return maintenance.info(self._store)

    def tables(self) -> dict[str, tuple[str, ...]]:
        """The store's tables, by name, each with its columns, as `query.sql` can ask them."""
        return maintenance.tables()


def check(store: Store, *, repair: bool = False) -> CheckReport:
    """What `kndb.store.maintenance.check` finds, and what is wrong in the folder of kept statistics.

    Args:
        store: the store; it need not have this kndb's schema revision.
        repair: remove left-overs; nothing else is touched.

    Raises:
        StoreError: if the database can't be read, or a left-over not be removed.
    """
    report = maintenance.check(store, repair)
    problems, left_over = statistics_problems(store)
    removed: list[str] = []
    if repair and left_over:
        sharing = store.backend.sharing_objects()
        problems += [f"{other} shares {store.statistics}: nothing was removed; move it away" for other in sharing]
        removed = [] if sharing else left_over
        remove_files(removed)
    return CheckReport((*report.problems, *problems), (*report.orphans, *left_over), (*report.repaired, *removed))
