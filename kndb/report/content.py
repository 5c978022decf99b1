"""What a report holds, as plain records; every number knows the command that gives it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

GRADES = ("fine", "above", "large")
"""Of an error: within the limit, above it, or above `LARGE_ERROR`."""

LARGE_ERROR = 0.1
"""A completeness error from which single scores may be off by a large part of the largest."""

NOTHING = "–"
"""Where there is no number."""


@dataclass(frozen=True)
class Command:
    """A command line that gives numbers or a figure, shown below them.

    Attributes:
        id: its name in the page, unique.
        line: what to type.
    """

    id: str
    line: str


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it shows.
        number: whether it is one: it stands to the right and links to its command.
        command: which one, where it is not the table's own.
        grade: how good an error is, one of `GRADES`; empty for other cells.
    """

    text: str
    number: bool = False
    command: Command | None = None
    grade: str = ""


Row = tuple[Cell | str, ...]
"""A row in the making: plain texts stand for cells without a number."""


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its head."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    command: Command | None


@dataclass(frozen=True)
class Picture:
    """A figure: an `svg` element, what it shows in words, and its command."""

    svg: str
    description: str
    command: Command


@dataclass(frozen=True)
class Section:
    """One question and its answers.

    Attributes:
        id: its name in the page, unique.
        title: the heading.
        text: paragraphs before tables and pictures.
        tables, pictures: the answers.
        missing: why there are none, or not all; empty if nothing is missing.
        remedy: the command that makes what is missing.
    """

    id: str
    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    missing: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Report:
    """A model's report.

    Attributes:
        model: the model's name.
        head: what was measured, as names and values.
        sections: the answers, in order.
        kndb_version: of the kndb that wrote it.
    """

    model: str
    head: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    kndb_version: str


def table(title: str, command: Command | None, columns: Sequence[str], rows: Iterable[Row]) -> Table:
    """A table of cells; plain texts become cells."""
    cells = (tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in row) for row in rows)
    return Table(title, tuple(columns), tuple(cells), command)


def count(value: int | None, command: Command | None = None) -> Cell:
    """A whole number, with commas between thousands."""
    return Cell(NOTHING) if value is None else Cell(f"{value:,}", True, command)


def decimal(value: float | None, command: Command | None = None, *, digits: int = 2) -> Cell:
    """A number with so many digits after the point."""
    if value is None or not math.isfinite(value):
        return Cell(NOTHING)
    return Cell(_minus(f"{_rounded(value, digits):,.{digits}f}"), True, command)


def percent(value: float | None, command: Command | None = None, *, signed: bool = False) -> Cell:
    """A share as a percentage; a change has its sign."""
    if value is None or not math.isfinite(value):
        return Cell(NOTHING)
    rounded = _rounded(100 * value, 2)
    return Cell(_minus(f"{rounded:{'+' if signed and rounded else ''}.2f} %"), True, command)


def scientific(value: float | None, command: Command | None = None) -> Cell:
    """A small number, such as an error."""
    if value is None or not math.isfinite(value):
        return Cell(NOTHING)
    return Cell(_minus(f"{value:.1e}"), True, command)


def graded_error(value: float | None, limit: float, command: Command | None = None) -> Cell:
    """A completeness error in the colour of its grade, and in words: colours alone don't reach everybody."""
    cell = scientific(value, command)
    if value is None or not math.isfinite(value):
        return cell
    if value <= limit:
        return replace(cell, grade=GRADES[0])
    if value <= LARGE_ERROR:
        return replace(cell, text=f"{cell.text} (above {limit:g})", grade=GRADES[1])
    return replace(cell, text=f"{cell.text} (large)", grade=GRADES[2])


def _rounded(value: float, digits: int) -> float:
    """The number as it is shown; what comes out as zero has no sign."""
    return round(value, digits) + 0.0


def _minus(text: str) -> str:
    return text.replace("-", "−")
