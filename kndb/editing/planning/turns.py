"""Which of many take part in each step: all in turn, in an order that is drawn again for each round."""

from __future__ import annotations

import random


class Turns:
    """Draws of some numbers for each step; what a step gets depends on nothing but its number.

    Args:
        count: how many numbers there are, from 0.
        at_once: how many take part in a step; all, if there are fewer.
        seed: of the orders; another text, other orders.
    """

    def __init__(self, count: int, at_once: int, seed: str) -> None:
        self._count = count
        self._at_once = min(at_once, count)
        self._seed = seed
        self._round = -1
        self._order: list[int] = []

    def of_step(self, step: int) -> list[int]:
        """The numbers that take part in a step, from 0; each once."""
        found: list[int] = []
        start = step * self._at_once
        for place in range(start, start + self._at_once):
            number = self._in_round(place // self._count)[place % self._count]
            if number not in found:
                found.append(number)
        return found

    def _in_round(self, number: int) -> list[int]:
        if number != self._round:
            chance = random.Random(f"{self._seed} {number}")  # noqa: S311 - not for secrets
            self._round, self._order = number, chance.sample(range(self._count), self._count)
        return self._order
