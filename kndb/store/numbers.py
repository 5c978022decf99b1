"""Messages about numbers that name nothing."""

from __future__ import annotations

from collections.abc import Sequence

_FEW = 5
_NEAREST = 3


def there_are(known: Sequence[int], wanted: int) -> str:
    """Names the numbers that exist: all of a few, else the nearest to the one wanted.

    Args:
        known: the numbers that name something.
        wanted: one that does not.

    Returns:
        For example `there are 1, 2 and 3`, or `the nearest are 7, 8 and 10`.
    """
    if not known:
        return "there is none"
    if len(known) <= _FEW:
        return f"there {'is' if len(known) == 1 else 'are'} {_listed(known)}"
    return f"the nearest are {_listed(sorted(known, key=lambda number: (abs(number - wanted), number))[:_NEAREST])}"


def _listed(numbers: Sequence[int]) -> str:
    *others, last = map(str, sorted(numbers))
    return f"{', '.join(others)} and {last}" if others else last
