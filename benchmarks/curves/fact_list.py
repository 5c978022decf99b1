"""Fact lists of any length, with names, templates and objects like those of ParaRel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

RELATIONS, TEMPLATES, OBJECTS = 34, 9, 97
"""Relations of a list; templates and distinct objects of each."""
_SYLLABLES = ("ka", "re", "lo", "min", "da", "vor", "es", "tu", "ran", "pi", "sol", "ben", "qua", "xi", "ha", "ne")
_TEMPLATES = (
    "[X] is produced by [Y] .",
    "[X] is a product of [Y] .",
    "[X], produced by [Y] .",
    "[X], developed by [Y] .",
    "The maker of [X] is [Y] .",
    "[X] was created by [Y] .",
    "[X] was first made by [Y] .",
    "It is [Y] that makes [X] .",
    "[X] comes from the house of [Y] .",
)


def write_list(folder: Path, facts: int) -> Path:
    """Writes a list as JSON lines, one file for each relation.

    Args:
        folder: where to; made if need be.
        facts: how many, over all relations; equally many of each, but for the remainder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for relation in range(RELATIONS):
        first, last = (facts * (relation + step) // RELATIONS for step in (0, 1))
        with (folder / f"P{relation + 1}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in _lines(f"P{relation + 1}", range(first, last)))
    return folder


def _lines(key: str, numbers: range) -> Iterator[dict[str, str]]:
    if not numbers:
        return
    for template in _TEMPLATES:
        yield {"relation": key, "template": template}
    for number in numbers:
        subject = f"{name(number)} {number}"
        yield {"relation": key, "subject": subject, "object": name(number % OBJECTS), "id": f"Q{number + 1}"}


def name(number: int) -> str:
    """A name of two to four syllables."""
    parts = [_SYLLABLES[number % 16], _SYLLABLES[number // 16 % 16]]
    parts += [_SYLLABLES[number // 256 % 16]] * (number % 3 > 0) + [_SYLLABLES[number // 7 % 16]] * (number % 3 > 1)
    return "".join(parts).capitalize()
