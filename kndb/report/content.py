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

LONG = 12
"""A table of more rows is folded."""


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
        place: the name of the place in the page that tells more, to which it links; empty for none.
        whole: whether it is a name or number that no line end may break.
    """

    text: str
    number: bool = False
    command: Command | None = None
    grade: str = ""
    place: str = ""
    whole: bool = False


Row = tuple[Cell | str, ...]
"""A row in the making: plain texts stand for cells without a number."""


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its head.

    Attributes:
        command: gives its numbers; None if its cells have their own.
        source: what its numbers are of: refinement, run, method and version; None stands for the report's own.
        id: its name in the page, unique; empty if nothing links to it.
        folded: whether only its title shows until somebody opens it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    command: Command | None
    source: str | None = None
    id: str = ""
    folded: bool = False

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Of each column, whether it holds numbers and nothing else, and so stands to the right, its head too."""
        return tuple(
            any(cell.number for cell in column) and all(cell.number or cell.text == NOTHING for cell in column)
            for column in zip(*self.rows, strict=True)
        ) or (False,) * len(self.columns)


@dataclass(frozen=True)
class Picture:
    """A figure: an `svg` element, what it shows in words, its command, and what it is of (as of `Table`)."""

    svg: str
    description: str
    command: Command
    source: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What a section comes down to, in a sentence, with its grade, one of `GRADES`."""

    text: str
    grade: str


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
        verdict: the answer in a sentence, where it can be graded.
    """

    id: str
    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    missing: str = ""
    remedy: str = ""
    verdict: Verdict | None = None


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


def table(
    title: str,
    command: Command | None,
    columns: Sequence[str],
    rows: Iterable[Row],
    *,
    source: str | None = None,
    id_: str = "",
    folded: bool | None = None,
) -> Table:
    """A table of cells; plain texts become cells.

    Args:
        title: what it shows.
        command: gives its numbers.
        columns: their heads.
        rows: of as many cells each.
        source: what it is of; None stands for the report's refinement.
        id_: its name in the page.
        folded: whether it is; None folds long ones.
    """
    cells = tuple(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in row) for row in rows)
    return Table(title, tuple(columns), cells, command, source, id_, len(cells) > LONG if folded is None else folded)


def named(text: str, place: str = "") -> Cell:
    """A name that stays on one line, such as a neuron's or a version's; it may link to a place in the page."""
    return Cell(text, place=place, whole=True)


def sourced(section: Section, source: str) -> Section:
    """The section with a source for each table and picture that names none."""
    return replace(
        section,
        tables=tuple(replace(one, source=source) if one.source is None else one for one in section.tables),
        pictures=tuple(replace(one, source=source) if one.source is None else one for one in section.pictures),
    )


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
