"""Texts from files and from colleagues, without the characters that a terminal obeys or a page's layout follows."""

from __future__ import annotations

import re

# Control characters but tab and line feed; line and paragraph separators; marks and overrides of writing direction.
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    r"""A text of any number of lines, its control characters written out: `\x1b`, `\u202e`."""
    return OBEYED.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
