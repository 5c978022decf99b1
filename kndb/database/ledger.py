"""Units of work in the store, leased by this process for its workers.

This process alone writes, whatever the database: workers need no way to it and no password, what a unit gave and that
it is done is one transaction, and writing goes on beside the workers' computing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from ..store import work as store_work
from ..store.engine import Store
from ..store.processes import own_name
from ..store.work import WorkUnit


class StoreLedger:
    """The units of one work; see `kndb.work.schedule.Ledger`.

    Args:
        store: where they are.
        work: the work.
        units: the items that are to be done, in units, those to be done first in front.
    """

    def __init__(self, store: Store, work: str, units: Sequence[Sequence[int]]) -> None:
        self._store, self._work, self._holder = store, work, own_name()
        self._items: Collection[int] = frozenset(item for items in units for item in items)
        with store.writing() as connection:
            store_work.plan(connection, work, units)

    def lease(self, most: int, seconds: float) -> list[WorkUnit]:
        """Takes open units."""
        with self._store.reading() as connection:
            if not store_work.count(connection, self._work, store_work.OPEN):
                return []
        with self._store.writing() as connection:
            return store_work.lease(connection, self._work, self._items, self._holder, most, seconds)

    def prolong(self, units: Sequence[WorkUnit], seconds: float) -> None:
        """Keeps units for longer."""
        if units:
            with self._store.writing() as connection:
                store_work.prolong(connection, self._work, self._holder, units, seconds)

    def reopen(self, units: Sequence[WorkUnit], error: str | None) -> None:
        """Gives units back; with an error, after an attempt that failed."""
        if units:
            with self._store.writing() as connection:
                store_work.reopen(connection, self._work, self._holder, units, error)

    def split(self, unit: WorkUnit, error: str) -> None:
        """Cuts a unit in two."""
        with self._store.writing() as connection:
            store_work.split(connection, self._work, self._holder, unit, error)

    def fail(self, unit: WorkUnit, error: str) -> None:
        """Gives a unit up."""
        with self._store.writing() as connection:
            store_work.fail(connection, self._work, self._holder, unit, error)

    def left(self) -> int:
        """How many units are neither done nor given up, those of others included."""
        with self._store.reading() as connection:
            if not store_work.count(connection, self._work, store_work.OPEN, store_work.LEASED):
                return 0
        with self._store.writing() as connection:
            return store_work.left(connection, self._work, self._items)

    def finish(self, connection: Connection, unit: WorkUnit, result: Mapping[str, Any] | None = None) -> None:
        """Notes that a unit is done, in the transaction that writes what came of it."""
        store_work.finish(connection, self._work, self._holder, unit, result)

    def end(self, *, keep: bool = False) -> tuple[tuple[int, str], ...]:
        """The items that could not be done, and why; unless they are kept, all units that are done are forgotten."""
        with self._store.writing() as connection:
            if not keep:
                store_work.forget(connection, self._work, store_work.DONE)
            units = store_work.failed(connection, self._work)
        return tuple((item, error) for unit, error in units for item in unit.items if item in self._items)
