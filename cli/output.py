"""Answers on stdout, everything else on stderr.

Data is printed as a table for people, or as JSON or CSV for programs. A table that is piped is as wide as it needs
to be. Notes, warnings and progress go to stderr, and progress only to a terminal.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass, replace
from enum import Enum
from io import StringIO
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from kndb.errors import UsageError

from .advice import for_shell


class OutputFormat(str, Enum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


Row = Mapping[str, Any]


class _Console(Console):
    """A console that lets the caller know when the reader of its output left."""

    def on_broken_pipe(self) -> None:
        """Leaves the exit code to `main`."""
        raise BrokenPipeError


class Tick(Protocol):
    """Told how much is done, of how much."""

    def __call__(self, done: int, total: int) -> None:
        """Moves the bar."""


def print_rows(rows: Sequence[Row], columns: Sequence[str], output: OutputFormat) -> None:
    """Prints rows: as a table, a JSON list of objects, or CSV with a header.

    Args:
        rows: each with at least these columns.
        columns: what to print, in order.
        output: how.
    """
    chosen = _chosen(rows, columns)
    if output is OutputFormat.JSON:
        print_json(chosen)
    elif output is OutputFormat.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[_cell(value, exact=True) for value in row.values()] for row in chosen])
    else:
        _print_table(chosen, columns)


def print_record(record: Row, output: OutputFormat) -> None:
    """Prints one record: as a table of names and values, a JSON object, or CSV of one row."""
    if output is OutputFormat.JSON:
        print_json(dict(record))
    elif output is OutputFormat.CSV:
        print_rows([record], list(record), output)
    else:
        grid = Table(show_header=False, box=None, pad_edge=False)
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in record.items():
            grid.add_row(name.replace("_", " "), _cell(value))
        _print(grid)


def print_parts(
    parts: Mapping[str, tuple[Sequence[Row], Sequence[str]]],
    output: OutputFormat,
    part: str | None = None,
    about: Row | None = None,
) -> None:
    """Prints an answer of several lists: tables under their titles, one JSON object, or CSV of a single part.

    Args:
        parts: each part's rows and columns (see `print_rows`), by name.
        output: how.
        part: print this one only; CSV needs one, as its columns differ from part to part.
        about: what JSON of all parts says beside them, such as the refinement that answers.

    Raises:
        UsageError: if there is no such part, or CSV is asked for without naming one.
    """
    require_part(tuple(parts), output, part)
    chosen = {name: content for name, content in parts.items() if part in (None, name)}
    if output is OutputFormat.JSON:
        beside = {} if about is None or part is not None else about
        print_json({name: _chosen(rows, columns) for name, (rows, columns) in chosen.items()} | dict(beside))
        return
    for number, (name, (rows, columns)) in enumerate(chosen.items()):
        if output is OutputFormat.TABLE and part is None:
            print_text(("\n" if number else "") + name.replace("_", " ").capitalize(), strong=True)
        print_rows(rows, columns, output)


def require_part(names: Sequence[str], output: OutputFormat, part: str | None) -> None:
    """Checks the part of an answer that `print_parts` is to print, for commands that work long before they print.

    Raises:
        UsageError: if there is no such part, or CSV is asked for without naming one.
    """
    if part is not None and part not in names:
        raise UsageError(f"found --part {part}; expected one of {', '.join(names)}")
    if output is OutputFormat.CSV and part is None:
        raise UsageError(f"CSV prints a single part; name one with --part, of {', '.join(names)}")


def print_json(value: Any) -> None:
    """Prints JSON; a number that is none (NaN) becomes null."""
    sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False, indent=2) + "\n")


def print_text(text: str, *, strong: bool = False) -> None:
    """Prints a line of a story on stdout."""
    _print(text, "bold" if strong else None)


def note(text: str) -> None:
    """Prints a remark on stderr, with what it advises as a shell needs it."""
    Console(stderr=True, highlight=False, soft_wrap=True, emoji=False).print(for_shell(text), markup=False)


@contextmanager
def progress_bar(what: str, unit: str = "prompts") -> Iterator[Tick]:
    """A bar on stderr with rate and time left; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(what, total=None, rate="")

        def tick(done: int, total: int) -> None:
            elapsed = bar.tasks[task].elapsed or 0.0
            rate = f"{done / elapsed:,.0f} {unit}/s" if elapsed > 0 else ""
            bar.update(task, completed=done, total=total, rate=rate)

        yield tick


def as_row(record: Any) -> dict[str, Any]:
    """A record's fields as a row; what is stored as JSON, such as an edit's recipe, as it is stored."""
    stored = {name: value.as_json() for name, value in vars(record).items() if hasattr(value, "as_json")}
    return asdict(replace(record, **dict.fromkeys(stored))) | stored


def _chosen(rows: Sequence[Row], columns: Sequence[str]) -> list[dict[str, Any]]:
    return [{column: row[column] for column in columns} for row in rows]


def _print_table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        numeric = bool(rows) and all(isinstance(row[column], (int, float)) or row[column] is None for row in rows)
        table.add_column(column.replace("_", " "), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    _print(table)


def _print(content: Any, style: str | None = None) -> None:
    # Without emoji: rich would make a picture of the line number in `facts.jsonl:100: …`.
    console = _Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        console.print(content, style=style, soft_wrap=isinstance(content, str))
        return
    # What is piped is read by a program or a pager: no lines broken at 80 columns, no blanks at their ends.
    text = StringIO()
    wide = _Console(highlight=False, markup=False, emoji=False, width=10_000, file=text)
    wide.print(content, style=style)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _cell(value: Any, *, exact: bool = False) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return repr(value) if exact else f"{value:.4g}"
    if isinstance(value, Mapping):
        if exact:
            return json.dumps(_plain(value), ensure_ascii=False)
        return ", ".join(f"{name} {_cell(count)}" for name, count in value.items())
    if isinstance(value, (list, tuple)):
        return json.dumps(_plain(value), ensure_ascii=False) if exact else ", ".join(_cell(item) for item in value)
    return str(value)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
