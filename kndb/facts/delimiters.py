"""What separates the cells of a table: a comma, a semicolon or a tab, whichever its header uses."""

from __future__ import annotations

import csv
from collections.abc import Collection

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""Each with its name, for messages."""


def headers(line: str) -> list[tuple[str, list[str]]]:
    """The delimiters, each with the column names that a header has if it is separated by them.

    Args:
        line: the first line that is not blank.
    """
    return [(delimiter, _cells(line, delimiter)) for delimiter in DELIMITERS]


def sniff(line: str, columns: Collection[str]) -> str:
    """The delimiter that makes the most of these columns of a header; of equals the first, in the order above."""
    return max(headers(line), key=lambda pair: len(set(columns).intersection(pair[1])))[0]


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for row in csv.reader([line], delimiter=delimiter) for cell in row]
    except csv.Error:
        return []
