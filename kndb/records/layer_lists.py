"""Layers as a user writes them: `24-29` or `0,2`."""

from __future__ import annotations

_MOST = 10_000
"""Layers in a range that can be meant."""


def layers_in(text: str) -> tuple[int, ...] | None:
    """The layers that numbers and ranges name, rising, each once; None if the text is no list of these."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            return None
        if not 0 <= int(last or first) - int(first) < _MOST:
            return None
        found |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))
