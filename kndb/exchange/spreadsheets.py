"""CSV that is opened with a spreadsheet program: no text in it is a formula.

Spreadsheets take a cell for a formula if it begins with one of a few characters, and formulas can call out. An
apostrophe before it makes the cell a text, in which it may be seen. The cells are no longer the exact texts, so nothing
of kndb reads such a file back.
"""

from __future__ import annotations

import re

_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
"""Spreadsheets take the wide signs for the others."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def safe_text(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula; numbers stay as they are."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text
