"""The loop that hands units of work to workers, and what happens to units that fail.

A unit whose worker died, or that raised an error, is tried again, `TRIES` times in all. If it still fails it is cut in
two, so that what fails in the end is a single item: that one is reported, and all others are done.

Each unit is leased for `LEASE` seconds. While workers answer, their leases are prolonged; a worker that does not answer
until a lease of its is over is ended, and its units are open again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from ..errors import WorkError
from .outcomes import Failure, Outcome

LEASE = 120.0
"""Seconds that a unit is leased for."""
TRIES = 2
"""How often a unit is tried before it is cut in two, or given up."""
HOPELESS, HOPELESS_LATER = 5, 100
"""Single items that fail one after the other, before anything is done and later on, after which no more are tried: then
it is not the items that are wrong."""
MOST_DEATHS, MOST_DEATHS_LATER = 4, 40
"""Workers that die one after the other at their work, likewise, after which no more are started."""
AHEAD = 2
"""Units that a worker has at most: while one is computed, the next is there already."""


class Unit(Protocol):
    """A part of a work."""

    @property
    def position(self) -> int:
        """Its number in the work."""

    @property
    def items(self) -> tuple[int, ...]:
        """What it is about, at least one number."""

    @property
    def attempts(self) -> int:
        """How often it failed."""


Kept = TypeVar("Kept", bound=Unit)


class Ledger(Protocol[Kept]):
    """Where units are kept, and who has leased them."""

    def lease(self, most: int, seconds: float) -> Sequence[Kept]:
        """Takes open units."""

    def prolong(self, units: Sequence[Kept], seconds: float) -> None:
        """Keeps units for longer."""

    def reopen(self, units: Sequence[Kept], error: str | None) -> None:
        """Gives units back; with an error, after an attempt that failed."""

    def split(self, unit: Kept, error: str) -> None:
        """Cuts a unit in two."""

    def fail(self, unit: Kept, error: str) -> None:
        """Gives a unit up."""

    def left(self) -> int:
        """How many units are neither done nor given up, those of others included."""


@dataclass(frozen=True)
class Event:
    """What became of a unit that a worker had: an outcome; or neither it nor an error, if it had not been begun.

    Attributes:
        position: the unit's.
        outcome: what the worker made of it; None if the worker died.
        suspect: whether the worker died while it was at it.
    """

    position: int
    outcome: Outcome | None = None
    suspect: bool = False
    why: str = ""


class Pool(Protocol):
    """Workers."""

    def room(self, each: int) -> int:
        """How many units can be handed out until each worker that is ready has so many."""

    def submit(self, position: int, payload: Any) -> None:
        """Hands a unit to the worker with the fewest."""

    def wait(self, seconds: float) -> list[Event]:
        """Waits until something happens, so long at most."""

    def answering(self) -> set[int]:
        """The units of workers that answered since they were last asked; asks them again."""

    def end_worker_of(self, position: int) -> None:
        """Ends the worker that has a unit; `wait` tells what that became."""


class Schedule(Generic[Kept]):
    """Work that is done by a pool of workers.

    Args:
        pool: the workers.
        ledger: where units are kept.
        payload: gives what a worker is handed for a unit.
    """

    def __init__(self, pool: Pool, ledger: Ledger[Kept], payload: Callable[[tuple[int, ...]], Any]) -> None:
        self._pool, self._ledger, self._payload = pool, ledger, payload
        self._lease = LEASE
        self._held: dict[int, Kept] = {}
        self._ends: dict[int, float] = {}
        self._done = self._given_up = self._deaths = 0

    def run(self) -> Generator[tuple[Kept, Any], None, None]:
        """Does all units.

        Yields:
            Each unit that was done, with what the worker gave; who takes it notes in the ledger that it is done.

        Raises:
            KndbError: if nothing can be done at all: the error of the last item that failed.
            WorkError: if workers die whatever they do.
        """
        pulse = self._lease / 4
        asked, idle = time.monotonic(), 0.0
        try:
            while True:
                self._hand_out()
                if not self._held and not self._ledger.left():
                    return
                # What was given out last may still be being written; or others are at units of this work.
                idle = 0.0 if self._held else min(1.0, max(0.01, 2 * idle))
                for event in self._pool.wait(idle or min(1.0, pulse)):
                    unit = self._held.pop(event.position)
                    self._ends.pop(event.position)
                    if event.outcome is None:
                        self._after_death(unit, event)
                    elif event.outcome.failure is not None:
                        self._again(unit, event.outcome.failure)
                    else:
                        self._done += 1
                        self._deaths = self._given_up = 0
                        yield unit, event.outcome.value
                if time.monotonic() - asked > pulse:
                    asked = time.monotonic()
                    self._watch()
        finally:
            self._ledger.reopen(list(self._held.values()), None)

    def _hand_out(self) -> None:
        # First one for each worker: nobody is to have two while another has none.
        for each in range(1, AHEAD + 1):
            room = self._pool.room(each)
            for unit in self._ledger.lease(room, self._lease) if room else ():
                self._held[unit.position] = unit
                self._ends[unit.position] = time.monotonic() + self._lease
                self._pool.submit(unit.position, self._payload(unit.items))

    def _watch(self) -> None:
        """Prolongs the leases of workers that answer, and ends those that let one run out."""
        answering = self._pool.answering() & self._held.keys()
        self._ledger.prolong([self._held[position] for position in sorted(answering)], self._lease)
        now = time.monotonic()
        self._ends |= dict.fromkeys(answering, now + self._lease)
        for position in [position for position, end in self._ends.items() if end < now]:
            self._pool.end_worker_of(position)

    def _after_death(self, unit: Kept, event: Event) -> None:
        if not event.suspect:
            self._ledger.reopen([unit], None)
            return
        self._deaths += 1
        if self._deaths >= (MOST_DEATHS_LATER if self._done else MOST_DEATHS):
            self._held[unit.position] = unit
            raise WorkError(
                f"{self._deaths} workers ended one after the other, with nothing done in between: {event.why}"
            )
        self._again(unit, Failure(event.why))

    def _again(self, unit: Kept, failure: Failure) -> None:
        if unit.attempts + 1 < TRIES:
            self._ledger.reopen([unit], failure.text)
        elif len(unit.items) > 1:
            self._ledger.split(unit, failure.text)
        else:
            self._ledger.fail(unit, failure.text)
            self._given_up += 1
            if self._given_up >= (HOPELESS_LATER if self._done else HOPELESS):
                raise failure.as_error()
