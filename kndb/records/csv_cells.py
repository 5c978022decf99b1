"""Cells and lines of CSV, and CSV that is opened with a spreadsheet program: no text in it is a formula.

Spreadsheets take a cell for a formula if it begins with one of a few characters, and formulas can call out. An
apostrophe before it makes the cell a text, in which it may be seen. The cells are no longer the exact texts, so nothing
of kndb reads such a file back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
"""Spreadsheets take the wide signs for the others."""
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def safe_text(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula; numbers stay as they are."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def quoted(text: str) -> str:
    """A text as a cell of CSV, in double quotes where it needs them."""
    # Python's own writer leaves a lone carriage return bare, at which its reader then ends the record.
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text


def csv_line(cells: Sequence[str]) -> str:
    """Cells as a line of CSV; a line of one empty cell is no blank line."""
    return '""\n' if list(cells) == [""] else ",".join(map(quoted, cells)) + "\n"
