"""Texts from files and from colleagues, as commands print them."""

from __future__ import annotations

from kndb.records.harmless import OBEYED, harmless

__all__ = ["harmless", "harmless_json", "shown_exactly", "visible"]


def visible(text: str) -> str:
    r"""A harmless text in one line: line breaks and tabs are written out too, as `\n` and `\t`."""
    return harmless(text).replace("\n", "\\n").replace("\t", "\\t")


def shown_exactly(text: str) -> str:
    """A text between marks, so that the spaces at its ends are seen."""
    return f"'{text}'"


def harmless_json(text: str) -> str:
    """JSON that means the same, in ASCII where a character would be obeyed: it can only stand in a string."""
    return OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
