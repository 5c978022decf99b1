"""Which of many take part in each step: all in turn, or those that are not won yet sooner than the others."""

from __future__ import annotations

import random
from collections.abc import Sequence


class Turns:
    """Draws of some numbers for each step: all in turn, in an order that is drawn again for each round.

    Args:
        count: how many numbers there are, from 0.
        at_once: how many take part in a step; all, if there are fewer.
        seed: of the orders; another text, other orders.

    Attributes:
        due: what later steps depend on beside their number: here nothing.
    """

    def __init__(self, count: int, at_once: int, seed: str) -> None:
        self._count = count
        self._at_once = min(at_once, count)
        self._seed = seed
        self._round = -1
        self._order: list[int] = []
        self.due: list[int] = []

    def of_step(self, step: int) -> list[int]:
        """The numbers that take part in a step, from 0; each once."""
        found: list[int] = []
        start = step * self._at_once
        for place in range(start, start + self._at_once):
            number = self._in_round(place // self._count)[place % self._count]
            if number not in found:
                found.append(number)
        return found

    def told(self, step: int, numbers: Sequence[int], won: Sequence[bool]) -> None:
        """Notes which of the numbers of a step were won in it."""

    def _in_round(self, number: int) -> list[int]:
        if number != self._round:
            chance = random.Random(f"{self._seed} {number}")  # noqa: S311 - not for secrets
            self._round, self._order = number, chance.sample(range(self._count), self._count)
        return self._order


class Reviews(Turns):
    """Draws of some numbers for each step: those that were not won when they last took part come back sooner.

    Each number is due some steps after it took part: after as many as a round of all takes, or after `patience` times
    as many where it was won. Those that are due first take part.

    Args:
        count: how many numbers there are, from 0.
        at_once: how many take part in a step; all, if there are fewer.
        patience: at least 1.
        seed: of the order among those that are due at once.

    Attributes:
        due: the step in which each number is due.
    """

    def __init__(self, count: int, at_once: int, patience: int, seed: str) -> None:
        super().__init__(count, at_once, seed)
        self._length = -(-count // max(1, self._at_once))
        self._patience = patience
        chance = random.Random(seed)  # noqa: S311 - not for secrets
        self._places = chance.sample(range(count), count)
        self.due = [0] * count

    def of_step(self, step: int) -> list[int]:  # noqa: ARG002 - those that are due, whichever step it is
        """The numbers that take part in the next step, from 0; each once."""
        waiting = sorted(range(len(self.due)), key=lambda number: (self.due[number], self._places[number]))
        return waiting[: self._at_once]

    def told(self, step: int, numbers: Sequence[int], won: Sequence[bool]) -> None:
        """Notes which of the numbers of a step, counted from 0, were won in it."""
        for number, is_won in zip(numbers, won, strict=True):
            self.due[number] = step + self._length * (self._patience if is_won else 1)
