"""How wide a table's columns are, and where its cells break: between words, never inside one.

Cells are texts without line breaks. On a terminal that is too narrow even for each column's longest word, a table is
shown as records, one row below the other; only there a word that is longer than the whole line breaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, chop_cells

_BETWEEN = 2
"""Blanks between two columns."""


def table_lines(
    names: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], width: int | None
) -> tuple[list[str], list[str]]:
    """The lines of a table's head and of its rows, without blanks at their ends.

    Args:
        names: the columns' names.
        rows: a cell for each column.
        right: for each column, whether it goes to the right.
        width: of the terminal; None if lines may have any length.
    """
    widths = _widths(names, rows, width)
    if widths is None:
        assert width is not None
        pairs = [list(zip(names, row, strict=True)) for row in rows]
        return [], [line for row in pairs for line in (*record_lines(row, width), "")][:-1]
    head = list(_lines(names, widths, right))
    return head, [line for row in rows for line in _lines(row, widths, right)]


def record_lines(pairs: Sequence[tuple[str, str]], width: int | None) -> list[str]:
    """The lines of a record: names and values.

    A value that does not fit goes on below itself; one with a word that would only fit the whole line, below its name.
    """
    first = max((cell_len(name) for name, _ in pairs), default=0)
    lines = []
    for name, value in pairs:
        room = None if width is None else max(1, width - first - _BETWEEN)
        longest = max(cell_len(word) for word in value.split(" "))
        if width is not None and room is not None and room < longest <= width - _BETWEEN:
            lines += [name, *(f"{' ' * _BETWEEN}{part}" for part in wrapped(value, width - _BETWEEN))]
            continue
        parts = [value] if room is None else wrapped(value, room)
        lines += [
            f"{_padded(name if number == 0 else '', first)}{' ' * _BETWEEN}{part}".rstrip()
            for number, part in enumerate(parts)
        ]
    return lines


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines of at most that many cells; words stay whole, unless one is longer than a line."""
    lines, line = [], ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if cell_len(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        *whole, line = chop_cells(word, width) or [""]
        lines += whole
    return [*lines, line]


def _widths(names: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[int] | None:
    """Each column's width; None if the terminal is too narrow for whole words."""
    columns = list(zip(names, *rows, strict=True))
    widths = [max(map(cell_len, cells)) for cells in columns]
    if width is None or sum(widths) + _BETWEEN * (len(widths) - 1) <= width:
        return widths
    least = [max(cell_len(word) for cell in cells for word in cell.split(" ")) for cells in columns]
    room = width - _BETWEEN * (len(widths) - 1)
    if sum(least) > room:
        return None
    widths = [min(natural, room) for natural in widths]
    while sum(widths) > room:
        # The column with the most to give is the widest of those whose words still fit.
        widest = max((place for place, one in enumerate(widths) if one > least[place]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _lines(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> Iterator[str]:
    parts = [
        [cell] if cell_len(cell) <= width else wrapped(cell, width) for cell, width in zip(cells, widths, strict=True)
    ]
    for number in range(max(map(len, parts), default=0)):
        line = [
            _padded(part[number] if number < len(part) else "", width, right=to_right)
            for part, width, to_right in zip(parts, widths, right, strict=True)
        ]
        yield (" " * _BETWEEN).join(line).rstrip()


def _padded(text: str, width: int, *, right: bool = False) -> str:
    blanks = " " * (width - cell_len(text))
    return blanks + text if right else text + blanks
