"""How much the tests of faults try: little by default, more by the environment variable KNDB_TORTURE."""

import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

FACTOR = max(1, int(os.environ.get("KNDB_TORTURE", "1")))
"""Multiplies random seeds and sequences; above 1, every step of a short work is a point, and more of a long one's."""

POINTS = "points"
"""The name of a test's property that holds a fault and how many points of it were tried."""


def counted(reports: Iterable[Any]) -> Counter[str]:
    """Adds up what tests tried, by fault."""
    found: Counter[str] = Counter()
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == POINTS and getattr(report, "when", None) == "call":
                fault, number = value
                found[fault] += number
    return found
