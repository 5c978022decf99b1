"""Intervals over facts: textbook values, and how often they hold the truth."""

from __future__ import annotations

import math
import random

import pytest

from kndb.analysis.intervals import mean_interval, share_interval


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # Wilson's interval without continuity correction, from the roots of (p − m)² = z²·p·(1 − p)/n.
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_share_interval_solves_the_score_equation(right, count, low, high):
    found = share_interval([1.0] * right + [0.0] * (count - right))
    assert found == pytest.approx((low, high), abs=5e-5)
    mean = right / count
    for end in found:
        if 0 < end < 1:
            assert (end - mean) ** 2 == pytest.approx(1.959963985**2 * end * (1 - end) / count, rel=1e-6)


def test_share_interval_of_parts_is_that_of_their_mean():
    assert share_interval([0.5] * 8) == pytest.approx(share_interval([1.0] * 4 + [0.0] * 4))
    assert share_interval([]) is None


def test_share_interval_weighs_facts():
    assert share_interval([1.0, 0.0, 1.0], [2.0, 2.0, 2.0]) == pytest.approx(share_interval([1.0, 0.0, 1.0]))
    # Three facts with weights 1, 1 and 4 count for 36 / 18 = 2.
    low, high = share_interval([0.0, 0.0, 1.0], [1.0, 1.0, 4.0])
    for end in (low, high):
        assert (end - 4 / 6) ** 2 == pytest.approx(1.959963985**2 * end * (1 - end) / 2, rel=1e-6)


def test_mean_interval_agrees_with_the_normal_one_for_many_facts():
    draw = random.Random(3)
    values = [draw.gauss(2.0, 1.5) for _ in range(2000)]
    mean = sum(values) / len(values)
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    low, high = mean_interval(values, seed=1)
    assert low == pytest.approx(mean - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.3 * error)
    assert mean_interval(values, seed=1) == (low, high)
    assert mean_interval(values, seed=2) != (low, high)


def test_mean_interval_weighs_facts():
    heavy = mean_interval([0.0] * 50 + [1.0] * 50, [1.0] * 50 + [9.0] * 50)
    assert heavy[0] > 0.8
    assert mean_interval([1.0] * 5) == (1.0, 1.0)


def test_no_interval_where_nothing_can_be_said():
    assert mean_interval([1.0]) is None
    assert mean_interval([1.0, math.inf]) is None
