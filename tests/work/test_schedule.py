"""The loop that hands out units, with workers and a ledger in memory: what is tried again, cut, given up, ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest

from kndb.errors import ModelError, WorkError
from kndb.work import schedule
from kndb.work.outcomes import Outcome, attempt
from kndb.work.schedule import Event, Schedule


@dataclass(frozen=True)
class Part:
    position: int
    items: tuple[int, ...]
    attempts: int = 0


class Book:
    """A ledger in memory."""

    def __init__(self, *units):
        self.open = [Part(place, tuple(items)) for place, items in enumerate(units)]
        self.leased, self.failed, self.prolonged, self.number = {}, {}, Counter(), len(units)

    def lease(self, most, seconds):
        taken, self.open = self.open[:most], self.open[most:]
        self.leased |= {unit.position: unit for unit in taken}
        return taken

    def prolong(self, units, seconds):
        self.prolonged.update(unit.position for unit in units)

    def reopen(self, units, error):
        for unit in units:
            del self.leased[unit.position]
            self.open.append(unit if error is None else replace(unit, attempts=unit.attempts + 1))

    def split(self, unit, error):
        del self.leased[unit.position]
        middle = len(unit.items) // 2
        for half in (unit.items[:middle], unit.items[middle:]):
            self.open.append(Part(self.number, half))
            self.number += 1

    def fail(self, unit, error):
        del self.leased[unit.position]
        self.failed |= dict.fromkeys(unit.items, error)

    def done(self, unit):
        del self.leased[unit.position]

    def left(self):
        return len(self.open) + len(self.leased)


class Crew:
    """Workers that do one unit at each wait; `compute` may raise, or give `DIES` or `HANGS`."""

    def __init__(self, workers, compute):
        self.queues, self.compute, self.ended = [[] for _ in range(workers)], compute, []
        self.handed, self.were_ended = [], []

    def room(self, each):
        return sum(max(0, each - len(queue)) for queue in self.queues)

    def submit(self, position, payload):
        self.handed.append(payload)
        min(self.queues, key=len).append((position, payload))

    def wait(self, seconds):
        events, self.ended = self.ended, []
        for queue in self.queues if not events else ():
            if not queue:
                continue
            outcome = attempt(lambda queue=queue: self.compute(queue[0][1]))
            if outcome.value == "hangs":
                continue
            if outcome.value == "dies":
                events += self.die(queue)
            else:
                events.append(Event(queue.pop(0)[0], outcome))
        return events

    def die(self, queue):
        units = [position for position, _ in queue]
        queue.clear()
        return [Event(position, suspect=place == 0, why="killed") for place, position in enumerate(units)]

    def answering(self):
        return set()

    def end_worker_of(self, position):
        self.were_ended.append(position)
        for queue in self.queues:
            if any(position == one for one, _ in queue):
                self.ended += self.die(queue)


def run(book, crew):
    found = []
    for unit, value in Schedule(crew, book, list).run():
        book.done(unit)
        found += value
    return sorted(found)


def test_all_is_done_and_nobody_waits_with_two_while_another_has_none():
    crew = Crew(2, lambda items: items)
    assert run(Book([1, 2], [3], [4, 5]), crew) == [1, 2, 3, 4, 5]
    assert crew.handed == [[1, 2], [3], [4, 5]]
    crew = Crew(3, lambda items: items)
    crew.queues[0].append((99, [0]))
    Schedule(crew, Book([1], [2]), list)._hand_out()
    assert [len(queue) for queue in crew.queues] == [1, 1, 1]


def test_the_one_item_that_fails_is_found_and_all_others_are_done():
    tried = Counter()

    def compute(items):
        tried.update(items)
        if 5 in items:
            raise ValueError("no such thing")
        return items

    book = Book(range(8), range(8, 10))
    assert run(book, Crew(2, compute)) == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert book.failed == {5: "ValueError: no such thing"}
    # 8, 4, 2 and 1 items, each twice.
    assert tried[5] == 8
    assert book.left() == 0


def test_a_unit_is_tried_again_when_its_worker_died_and_others_of_that_worker_lose_no_try():
    deaths = []

    def compute(items):
        if items == [1] and not deaths:
            deaths.append(items)
            return "dies"
        return items

    book = Book([1], [2], [3])
    crew = Crew(1, compute)
    assert run(book, crew) == [1, 2, 3]
    assert crew.handed == [[1], [2], [3], [2], [1]] or sorted(map(tuple, crew.handed)) == [(1,), (1,), (2,), (2,), (3,)]
    assert book.failed == {}


def test_an_item_that_kills_every_worker_is_given_up():
    book = Book([1], [2, 3])
    assert run(book, Crew(1, lambda items: "dies" if 2 in items else items)) == [1, 3]
    assert book.failed == {2: "killed"}


def test_workers_that_only_die_end_it_and_the_units_are_open_again():
    book = Book(*([number] for number in range(9)))
    with pytest.raises(WorkError, match="4 workers ended one after the other, with nothing done in between: killed"):
        run(book, Crew(1, lambda items: "dies"))
    assert book.leased == {}


def test_what_fails_everywhere_is_no_matter_of_items():
    def compute(items):
        raise ModelError("gives no numbers")

    book = Book(*([number] for number in range(40)))
    with pytest.raises(ModelError, match="gives no numbers"):
        run(book, Crew(2, compute))
    assert len(book.failed) == schedule.HOPELESS
    assert book.leased == {}


def test_a_worker_that_does_not_answer_until_its_lease_is_over_is_ended(monkeypatch):
    clock = iter(range(0, 10_000, 50))
    monkeypatch.setattr(schedule.time, "monotonic", lambda: float(next(clock)))
    book = Book([1], [2])
    crew = Crew(2, lambda items: "hangs" if items == [1] and not crew.were_ended else items)
    assert run(book, crew) == [1, 2]
    assert len(crew.were_ended) == 1
    assert book.failed == {}


def test_leases_of_workers_that_answer_are_prolonged(monkeypatch):
    clock = iter(range(0, 10_000, 50))
    monkeypatch.setattr(schedule.time, "monotonic", lambda: float(next(clock)))
    slow = []

    class Answering(Crew):
        def answering(self):
            return {position for queue in self.queues for position, _ in queue}

    def compute(items):
        slow.append(items)
        return items if len(slow) > 20 else "hangs"

    book = Book([1])
    crew = Answering(1, compute)
    assert run(book, crew) == [1]
    assert book.prolonged[0] > 5
    assert len(crew.handed) == 1


def test_whoever_stops_in_between_gives_back_what_is_not_done():
    book = Book([1], [2], [3])
    running = Schedule(Crew(1, lambda items: items), book, list).run()
    unit, _ = next(running)
    book.done(unit)
    running.close()
    assert book.leased == {}
    assert {unit.items for unit in book.open} == {(2,), (3,)}


def test_errors_arrive_as_they_were():
    outcome = attempt(lambda: 1 / 0)
    assert outcome.failure.text == "ZeroDivisionError: division by zero"
    assert "1 / 0" in str(outcome.failure.as_error())
    assert isinstance(outcome.failure.as_error(), WorkError)
    assert attempt(lambda: 3) == Outcome(3)
