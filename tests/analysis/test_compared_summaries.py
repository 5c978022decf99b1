"""The table of a comparison of methods, by hand."""

import math

import pytest

from kndb.analysis.trial_summaries import compared_part, mean_of_draws, summarise_compared
from kndb.records.edits import TrialResult


def result(method, seed, size, success, control=None):
    measures = {
        "edited": {"success": success},
        "control": {} if control is None else {"success": control},
        "facts": size,
        "planned": size - 1,
        "neurons": 10 * seed,
        "seconds": 2.0 + seed,
        "memory": 0.5,
    }
    return TrialResult(compared_part(method, seed), size, None, measures)


def test_rows_are_means_over_seeds_in_the_order_of_the_methods():
    rows = summarise_compared(
        [
            result("memit", 1, 10, [0.8, 0.6, 0.9]),
            result("update", 1, 10, [0.4, 0.3, 0.6], [0.0, 0.0, 0.1]),
            result("update", 2, 10, [0.6, 0.2, 0.7], [0.2, 0.1, 0.4]),
            result("update", 1, 1, [1.0, 0.2, 1.0]),
        ],
        ["update", "memit"],
    )
    assert [(row.settings["method"], row.edits, row.weights) for row in rows] == [
        ("update", 1, "edit"),
        ("update", 10, "edit"),
        ("update", 10, "random neurons"),
        ("memit", 10, "edit"),
    ]
    row = rows[1]
    assert (row.facts, row.planned, row.neurons) == (20, 18, 15)
    low, high = 0.5 - math.hypot(0.1, 0.4) / 2, 0.5 + math.hypot(0.2, 0.1) / 2
    assert row.measures["success"] == pytest.approx((0.5, low, high))
    assert row.measures["seconds"] == (3.5, None, None)
    assert "seconds" not in rows[2].measures


def test_draws_without_an_interval_leave_none():
    assert mean_of_draws([(0.5, 0.4, 0.6), (0.7, None, None)]) == (0.6, None, None)
    assert mean_of_draws([(None, None, None)]) == (None, None, None)
    assert mean_of_draws([(0.5, 0.4, 0.6)]) == pytest.approx((0.5, 0.4, 0.6))
