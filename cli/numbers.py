"""Lists of numbers on the command line, with ranges: `3 7-12`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kndb.errors import UsageError

_LONGEST_RANGE = 100_000


def parse_numbers(words: Iterable[str]) -> list[int]:
    """The numbers that words such as `3` and `7-12` stand for, in the order given; a range may also fall (`12-7`).

    Raises:
        UsageError: for a word that is neither, or for a range that is too long to be meant.
    """
    numbers: list[int] = []
    for word in words:
        match = re.fullmatch(r"(\d{1,12})(?:-(\d{1,12}))?", word)
        if match is None:
            raise UsageError(f"found {word!r}; expected a number, or a range such as 7-12")
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if abs(last - first) >= _LONGEST_RANGE:
            raise UsageError(f"found the range {word}; expected one of at most {_LONGEST_RANGE} numbers")
        step = 1 if last >= first else -1
        numbers.extend(range(first, last + step, step))
    return numbers


def number_ranges(numbers: Sequence[int]) -> str:
    """Numbers as words that `parse_numbers` reads: `[3, 7, 8, 9]` as `3 7-9`."""
    words: list[str] = []
    start = 0
    for place in range(1, len(numbers) + 1):
        if place < len(numbers) and numbers[place] == numbers[place - 1] + 1:
            continue
        first, last = numbers[start], numbers[place - 1]
        words.append(str(first) if first == last else f"{first}-{last}")
        start = place
    return " ".join(words)
