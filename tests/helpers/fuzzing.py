"""How much the tests that fuzz try: little by default, more by the environment variable KNDB_FUZZ_EXAMPLES."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("KNDB_FUZZ_EXAMPLES", "0"))
"""How many inputs each test makes in its long form; 0 is the short form, which makes the same few each time."""


def fuzzed(short: int = 30) -> Callable[[Any], Any]:
    """Settings of a test that fuzzes: so many inputs in the short form."""
    return settings(
        max_examples=EXAMPLES or short,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
