"""Errors' texts, which begin small and may lack a full stop, as sentences of a page."""

from __future__ import annotations


def begun(text: str) -> str:
    """A sentence that begins with a large letter."""
    return text[:1].upper() + text[1:]


def whole(text: str) -> str:
    """A sentence that also ends with a full stop."""
    return begun(text) + ("" if text.endswith(".") else ".")
