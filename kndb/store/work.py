"""Parts of some work, leased to whoever does them: rows of `work_unit`.

A lease names the process that holds it and ends by itself, unless the holder prolongs it: a process that was killed
keeps nothing for long, and nothing at all from others on its machine, who see that it is gone. When all of a work is
done its rows are deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from .processes import is_gone
from .tables import WorkUnitRow

OPEN, LEASED, DONE, FAILED = "open", "leased", "done", "failed"


@dataclass(frozen=True)
class WorkUnit:
    """A part of a work: numbers of prompts, facts or cells, and how often it failed so far."""

    position: int
    items: tuple[int, ...]
    attempts: int = 0


def plan(connection: Connection, work: str, units: Sequence[Sequence[int]]) -> None:
    """Cuts what is left of a work into units, and gives up those of processes that are gone.

    What others are at stays theirs: of the new units, the items of units that are leased are left out, and as long as
    there are any, those of open ones too. Units that failed are tried again.

    Args:
        connection: a connection in a transaction that writes.
        work: the work.
        units: the items that are left, in units, those to be done first in front.
    """
    release_gone(connection, work)
    others = count(connection, work, LEASED)
    given_up = (FAILED,) if others else (OPEN, FAILED)
    connection.execute(delete(WorkUnitRow).where(WorkUnitRow.work == work, WorkUnitRow.state.in_(given_up)))
    taken = {item for unit in _units(connection, work, OPEN, LEASED) for item in unit.items}
    parts = [[item for item in items if item not in taken] for items in units]
    _add(connection, work, [(part, None) for part in parts if part])


def lease(
    connection: Connection, work: str, among: Collection[int], holder: str, most: int, seconds: float
) -> list[WorkUnit]:
    """Leases the first open units of some items.

    Args:
        connection: a connection in a transaction that writes.
        work: the work.
        among: the items that the holder can do.
        holder: who takes them.
        most: how many units at most.
        seconds: for how long.
    """
    units = [unit for unit in _units(connection, work, OPEN) if all(item in among for item in unit.items)][:most]
    which = (WorkUnitRow.work == work, WorkUnitRow.position.in_([unit.position for unit in units]))
    taken = {"state": LEASED, "holder": holder, "lease_until": _after(seconds)}
    connection.execute(update(WorkUnitRow).where(*which).values(**taken))
    return units


def left(connection: Connection, work: str, among: Collection[int]) -> int:
    """How many units with some of these items are open or leased, once the leases of those who are gone are over."""
    release_gone(connection, work)
    return sum(any(item in among for item in unit.items) for unit in _units(connection, work, OPEN, LEASED))


def prolong(connection: Connection, work: str, holder: str, units: Sequence[WorkUnit], seconds: float) -> None:
    """Prolongs leases; those that others took over meanwhile stay theirs, here and below."""
    _set_own(connection, work, holder, units, lease_until=_after(seconds))


def finish(
    connection: Connection, work: str, holder: str, unit: WorkUnit, result: Mapping[str, Any] | None = None
) -> None:
    """Notes that a unit is done, and what came of it, if that has no table of its own."""
    values: dict[str, Any] = {"state": DONE, "holder": None, "lease_until": None, "error": None}
    _set_own(connection, work, holder, [unit], **values, result=None if result is None else dict(result))


def reopen(connection: Connection, work: str, holder: str, units: Sequence[WorkUnit], error: str | None = None) -> None:
    """Gives units back; with an error, one more attempt at them failed."""
    values: dict[str, Any] = {"state": OPEN, "holder": None, "lease_until": None}
    if error is not None:
        values |= {"error": error, "attempts": WorkUnitRow.attempts + 1}
    _set_own(connection, work, holder, units, **values)


def split(connection: Connection, work: str, holder: str, unit: WorkUnit, error: str) -> None:
    """Puts two halves of a unit in its place, each to be tried as if for the first time."""
    which = (WorkUnitRow.work == work, WorkUnitRow.position == unit.position, WorkUnitRow.holder == holder)
    if connection.execute(delete(WorkUnitRow).where(*which)).rowcount:
        middle = len(unit.items) // 2
        _add(connection, work, [(half, error) for half in (unit.items[:middle], unit.items[middle:])])


def fail(connection: Connection, work: str, holder: str, unit: WorkUnit, error: str) -> None:
    """Notes that a unit can't be done."""
    _set_own(connection, work, holder, [unit], state=FAILED, holder=None, lease_until=None, error=error)


def count(connection: Connection, work: str, *states: str) -> int:
    """How many units of a work are in one of these states."""
    query = select(func.count()).select_from(WorkUnitRow)
    return int(connection.scalar(query.where(WorkUnitRow.work == work, WorkUnitRow.state.in_(states))) or 0)


def failed(connection: Connection, work: str) -> list[tuple[WorkUnit, str]]:
    """The units that failed, and why."""
    rows = connection.execute(
        select(WorkUnitRow).where(WorkUnitRow.work == work, _is(FAILED)).order_by(WorkUnitRow.position)
    )
    return [(WorkUnit(row.position, tuple(row.items), row.attempts), row.error or "") for row in rows]


def results(connection: Connection, work: str) -> list[tuple[tuple[int, ...], Mapping[str, Any]]]:
    """The items of the units that are done, with what came of them."""
    columns = select(WorkUnitRow.items, WorkUnitRow.result)
    rows = connection.execute(columns.where(WorkUnitRow.work == work, _is(DONE)).order_by(WorkUnitRow.position))
    return [(tuple(row.items), row.result or {}) for row in rows]


def forget(connection: Connection, work: str, *states: str) -> None:
    """Deletes a work's units: all, or those in one of these states."""
    which = (WorkUnitRow.state.in_(states),) if states else ()
    connection.execute(delete(WorkUnitRow).where(WorkUnitRow.work == work, *which))


def release_gone(connection: Connection, work: str) -> None:
    """Takes back the leases that ended, and those of processes that are seen to be gone."""
    mine = WorkUnitRow.work == work
    holders = connection.scalars(select(WorkUnitRow.holder).where(mine, _is(LEASED)).distinct())
    gone = [holder for holder in holders if holder is None or is_gone(holder)]
    over = or_(WorkUnitRow.lease_until.is_(None), WorkUnitRow.lease_until < _after(0), WorkUnitRow.holder.in_(gone))
    given_up = {"state": OPEN, "holder": None, "lease_until": None}
    connection.execute(update(WorkUnitRow).where(mine, _is(LEASED), over).values(**given_up))


def _units(connection: Connection, work: str, *states: str) -> list[WorkUnit]:
    columns = select(WorkUnitRow.position, WorkUnitRow.items, WorkUnitRow.attempts)
    which = columns.where(WorkUnitRow.work == work, WorkUnitRow.state.in_(states))
    rows = connection.execute(which.order_by(WorkUnitRow.position))
    return [WorkUnit(row.position, tuple(row.items), row.attempts) for row in rows]


def _is(state: str) -> Any:
    return WorkUnitRow.state == state


def _set_own(connection: Connection, work: str, owner: str, units: Sequence[WorkUnit], **values: Any) -> None:
    """Changes units, those that their holder still has."""
    numbers = [unit.position for unit in units]
    which = (WorkUnitRow.work == work, WorkUnitRow.position.in_(numbers), WorkUnitRow.holder == owner)
    connection.execute(update(WorkUnitRow).where(*which).values(**values))


def _add(connection: Connection, work: str, units: Sequence[tuple[Sequence[int], str | None]]) -> None:
    """Adds open units at the end."""
    last = connection.scalar(select(func.max(WorkUnitRow.position)).where(WorkUnitRow.work == work))
    first = 0 if last is None else int(last) + 1
    rows = [
        {"work": work, "position": first + place, "items": list(items), "state": OPEN, "attempts": 0, "error": error}
        for place, (items, error) in enumerate(units)
    ]
    if rows:
        connection.execute(insert(WorkUnitRow), rows)


def _after(seconds: float) -> str:
    """A time from now as the store writes it, to the microsecond: all of one length, so that text compares as time."""
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat(timespec="microseconds")
