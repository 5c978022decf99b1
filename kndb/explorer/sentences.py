"""Errors' texts, which begin small and may lack a full stop, as sentences of a page."""

from __future__ import annotations

from ..advice import END


def begun(text: str) -> str:
    """A sentence that begins with a large letter."""
    return text[:1].upper() + text[1:]


def whole(text: str) -> str:
    """A sentence that also ends with a full stop, unless a command is its end, which is to be pasted as it stands."""
    return begun(text) + ("" if text.endswith((".", END)) else ".")
