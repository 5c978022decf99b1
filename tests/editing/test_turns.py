"""Turns: what a step gets depends on its number alone, and all take part equally often."""

from __future__ import annotations

from collections import Counter

import pytest

from kndb.editing.planning.turns import Turns


@pytest.mark.parametrize(("count", "at_once"), [(10, 3), (7, 7), (3, 8), (1, 1), (12, 4)])
def test_each_takes_part_once_in_a_round(count, at_once):
    turns = Turns(count, at_once, "seed")
    size = min(count, at_once)
    steps = [turns.of_step(step) for step in range(count * 4)]
    assert all(len(set(some)) == len(some) <= size for some in steps)
    first = Counter(number for some in steps[: count // size] for number in some)
    assert set(first.values()) == {1}
    total = Counter(number for some in steps for number in some)
    assert set(total) == set(range(count))
    assert max(total.values()) - min(total.values()) <= count


def test_a_step_alone_is_the_same_as_in_turn():
    in_turn = Turns(10, 3, "seed")
    steps = [in_turn.of_step(step) for step in range(20)]
    assert [Turns(10, 3, "seed").of_step(step) for step in reversed(range(20))] == steps[::-1]
    assert [Turns(10, 3, "other").of_step(step) for step in range(20)] != steps


def test_of_nothing():
    assert Turns(0, 5, "seed").of_step(3) == []
