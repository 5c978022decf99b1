"""Texts of others in Markdown: shown as they are, whatever they would mean there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .harmless import harmless

_MARKS = re.compile(r"[\\`*_{}\[\]<>#|~&!$]")
_LINKS = re.compile(r"(?i)(?:(?<=\bhttp)|(?<=\bhttps)|(?<=\bftp)|(?<=\bmailto)|(?<=\bxmpp)):|(?<=\bwww)\.|@")
MOST_LETTERS = 500
"""Letters of a text that a card shows."""


def escaped(text: str, most: int = MOST_LETTERS) -> str:
    """A text in one line of Markdown: no markup, no HTML, no link, no table cell begins or ends in it.

    Args:
        text: the text.
        most: so many letters of it; the rest of a longer one is left out.
    """
    short = text if len(text) <= most else text[: most - 1] + "…"
    line = " ".join(harmless(short).split())
    return _LINKS.sub(lambda match: f"\\{match[0]}", _MARKS.sub(lambda match: f"\\{match[0]}", line))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table of texts that are Markdown already."""
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
