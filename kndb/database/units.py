"""Work that gives something for each of its items, by this process or by workers, kept until all of it is done.

For work whose results have no tables of their own before all is there, as an experiment's: what workers found is kept
with their units, so that whoever goes on, with workers or without, computes only the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from ..errors import WorkError
from ..records.progress import Progress
from ..records.work import WorkEngine
from ..store import work as store_work
from ..store.engine import Store
from ..work.actor import Prepare
from ..work.ray_engine import ray_workers
from ..work.schedule import Schedule
from .ledger import StoreLedger

ROUNDS = 16
"""Units that each worker does, about: with fewer, some would wait long for the last one."""
_NAMED = 10
"""Failed items that a message names."""


@dataclass(frozen=True)
class ItemWork:
    """Some work over items, which are numbered from 0.

    Attributes:
        name: names the work, and all that decides what it gives.
        kind: what an item is, in the singular; `what`: says it of one.
        payload: what computes a unit is given for some items.
        most: items in a unit at most.
    """

    name: str
    count: int
    kind: str
    what: Callable[[int], str]
    payload: Callable[[Sequence[int]], Any]
    most: int


@dataclass(frozen=True)
class Remote:
    """Workers for some work.

    Attributes:
        engine: where, and how many; `prepare`: what prepares each; `device`: where they compute, as users name it.
        said: what they say of themselves is put here.
    """

    engine: WorkEngine
    prepare: Prepare
    device: str
    said: list[Any] = field(default_factory=list)


Parts = Generator[tuple[Sequence[int], Sequence[Any]], None, None]
"""Some items, and what a work gives for each."""
Compute = Callable[[Any], Sequence[Any]]
"""Computes a payload: something for each of its items, in order, as JSON has it."""


def computed(
    store: Store,
    work: ItemWork,
    compute: Callable[[], Compute],
    remote: Remote | None,
    progress: Progress | None,
) -> list[Any]:
    """What a work gives for each item. What is kept of it stays kept: `store.work.forget` is the caller's.

    Args:
        store: where units are kept.
        work: the work.
        compute: gives what computes in this process.
        remote: the workers that compute instead.
        progress: told how many items are done.

    Raises:
        WorkError: if workers can't be had, or some items failed; all others are kept.
    """
    found: dict[int, Any] = {}
    with store.reading() as connection:
        for items, result in store_work.results(connection, work.name):
            found.update(zip(items, result["items"], strict=True))
    left = [item for item in range(work.count) if item not in found]
    if left:
        parts = _by_workers(store, work, left, remote) if remote is not None else _here(work, left, compute)
        with closing(parts):
            for some, values in parts:
                found.update(zip(some, values, strict=True))
                if progress is not None:
                    progress(len(found), work.count)
    return [found[item] for item in range(work.count)]


def _here(work: ItemWork, left: Sequence[int], compute: Callable[[], Compute]) -> Parts:
    ready = compute()
    for start in range(0, len(left), work.most):
        items = left[start : start + work.most]
        yield items, ready(work.payload(items))


def _by_workers(store: Store, work: ItemWork, left: Sequence[int], remote: Remote) -> Parts:
    with ray_workers(remote.engine, remote.prepare, remote.device) as pool:
        workers = pool.wait_for_first()
        size = min(work.most, max(1, ceil(len(left) / (ROUNDS * workers))))
        ledger = StoreLedger(store, work.name, [left[start : start + size] for start in range(0, len(left), size)])
        with closing(Schedule(pool, ledger, work.payload).run()) as done:
            for unit, values in done:
                with store.writing() as connection:
                    ledger.finish(connection, unit, {"items": list(values)})
                yield unit.items, values
        remote.said.extend(pool.said)
    require_all_done(ledger.end(keep=True), work.kind, work.what)
    # Others may have done some of it.
    with store.reading() as connection:
        for items, result in store_work.results(connection, work.name):
            yield items, result["items"]


def require_all_done(failed: Sequence[tuple[int, str]], kind: str, what: Callable[[int], str]) -> None:
    """Refuses to go on where some items failed however often they were tried.

    Raises:
        WorkError: if any did; it names them.
    """
    if not failed:
        return
    named = [f"{what(item)}: {error}" for item, error in failed[:_NAMED]]
    further = [f"{len(failed) - _NAMED:,} more"] if len(failed) > _NAMED else []
    many = f"1 {kind}" if len(failed) == 1 else f"{len(failed):,} {kind}s"
    raise WorkError(
        f"{many} failed however often they were tried, and nothing else is left to do; the same command tries them "
        f"again: {'; '.join([*named, *further])}"
    )
