"""How far intervals reach, as error bars want it."""

from __future__ import annotations

from ..records.edits import Interval


def spread(interval: Interval) -> list[list[float]]:
    """How far an interval reaches below its value, and above."""
    value, low, high = interval
    if value is None or low is None or high is None:
        return [[0.0], [0.0]]
    # A bootstrap interval of a statistic that is no mean need not hold it.
    return [[max(value - low, 0.0)], [max(high - value, 0.0)]]
