"""Lists of numbers on the command line, with ranges: `3 7-12`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kndb.advice import call
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
            raise UsageError(f"{word!r} is neither an edit's number nor a range such as 7-12{_pull(word)}")
        first = int(match[1])
        last = first if match[2] is None else int(match[2])
        if abs(last - first) >= _LONGEST_RANGE:
            raise UsageError(f"the range {word} is too long; a range may have {_LONGEST_RANGE:,} numbers")
        step = 1 if last >= first else -1
        numbers.extend(range(first, last + step, step))
    return numbers


def edit_number(text: str) -> int:
    """An edit's number.

    Raises:
        UsageError: for a text that is none; if it names a file, with how to take edits from that.
    """
    if not re.fullmatch(r"\d{1,18}", text.strip()):
        listed = f"list the edits with: {call('edits.all')}"
        raise UsageError(f"{text!r} is not an edit's number{_pull(text) or f'; {listed}'}")
    return int(text)


def fact_number(text: str) -> int:
    """A fact's number.

    Raises:
        UsageError: for a text that is none, with how to find the number.
    """
    if not re.fullmatch(r"\d{1,18}", text.strip()):
        found = call("facts.find") if _is_file(text) else call("facts.find", subject=text)
        raise UsageError(f"{text!r} is not a fact's number; find the number with: {found}")
    return int(text)


def _is_file(text: str) -> bool:
    """Whether a word reads like a file's name."""
    return "/" in text or re.search(r"\.[A-Za-z]\w*$", text) is not None


def _pull(text: str) -> str:
    return f"; take edits from a file with: {call('edits.pull', text)}" if _is_file(text) else ""


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
