"""Draws that experiments share."""

from __future__ import annotations

import random
from collections.abc import Iterator

from ...advice import option
from ...errors import UsageError

LARGEST_SEED = 2**63 - 1


def chance_of(seed: int, *purpose: object) -> random.Random:
    """A source of chance for one purpose: the same for the same seed and purpose, whatever else is drawn."""
    return random.Random(" ".join(map(str, (seed, *purpose))))  # noqa: S311 - not for secrets


def require_seed(seed: int) -> None:
    """Refuses a seed that can't be stored.

    Raises:
        UsageError: if it is out of range.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"{option('seed')} must be from 0 to 2^63 - 1 (got {seed})")


def shuffled(count: int, chance: random.Random) -> Iterator[int]:
    """The numbers under `count` in random order; no more work than numbers are taken."""
    moved: dict[int, int] = {}
    for last in range(count - 1, -1, -1):
        drawn = chance.randint(0, last)
        yield moved.get(drawn, drawn)
        moved[drawn] = moved.pop(last, last)
