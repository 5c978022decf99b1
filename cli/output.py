"""Answers on stdout, everything else on stderr.

Data is printed as a table for people, or as JSON or CSV for programs. A table fits the terminal; one that is piped is
as wide as it needs to be. Notes, warnings and progress go to stderr, and progress only to a terminal.

Texts come from files and from colleagues. What people read has no character that a terminal would obey: see `visible`.
"""

from __future__ import annotations

import difflib
import itertools
import json
import math
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass, replace
from enum import Enum
from typing import Any, Protocol, TypeVar

from rich.console import Console

from kndb.errors import UsageError
from kndb.records.csv_cells import csv_line, safe_text

from .advice import for_shell
from .streams import is_encodable, require_encodable, terminal
from .table_layout import record_lines, table_lines
from .visible import harmless, harmless_json, visible


class OutputFormat(str, Enum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


Row = Mapping[str, Any]
AnyRow = TypeVar("AnyRow", bound=Row)


class Tick(Protocol):
    """Told how much is done, of how much."""

    def __call__(self, done: int, total: int) -> None:
        """Moves the bar."""


WARNING = "Warning:"
"""How a remark begins that --quiet does not drop."""


@dataclass
class Manner:
    """How the command line asked for answers to be printed; `reset` is called before each command.

    Attributes:
        quiet: no notes and no progress; warnings stay.
        wide: tables with all their columns.
        sort: the column to sort rows by.
        reverse: sort the other way round.
        safe_csv: CSV for spreadsheets, without formulas.
    """

    quiet: bool = False
    wide: bool = False
    sort: str | None = None
    reverse: bool = False
    safe_csv: bool = False

    def reset(self) -> None:
        """Goes back to how answers are printed if nobody asks for anything."""
        self.quiet, self.wide, self.sort, self.reverse, self.safe_csv = False, False, None, False, False


manner = Manner()

SHARES = frozenset(
    {"share", "known_answers", "success", "held_out_success", "paraphrase", "neighbourhood", "success_rate"}
    | {"correct_before", "correct_after", "intra_locality", "inter_locality", "share_of_product"}
    | {"precision", "precision_by_chance", "recall", "recall_by_chance", "own", "block", "foreign", "free"}
    | {"alone", "merged", "ES", "PS", "NS", "S", "rewrite_acc", "rephrase_acc", "locality", "portability"}
    | {"flips_relation", "flips_others"}
)
"""Columns that hold shares: people read them in percent."""
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
TITLES = {"known_answers": "answers known", "probability_before": "p before", "probability_after": "p after"}
"""Columns that people read by another name."""


class Share(float):
    """A number that people read in percent, in a column that has other numbers too."""


def print_rows(
    rows: Sequence[Row], columns: Sequence[str], output: OutputFormat, *, short: Sequence[str] | None = None
) -> None:
    """Prints rows: as a table, a JSON list of objects, or CSV with a header. Sorts them first, if that was asked for.

    Args:
        rows: each with at least these columns.
        columns: what to print, in order.
        output: how.
        short: the columns of a table, unless --wide asks for all; None for all.

    Raises:
        UsageError: if rows were to be sorted by another column.
    """
    require_sortable(columns)
    chosen = _chosen(sorted_rows(rows), columns)
    if output is OutputFormat.JSON:
        print_json(chosen)
    elif output is OutputFormat.CSV:
        _print_csv(chosen, columns)
    else:
        _print_table(chosen, columns if short is None or manner.wide else short)


def print_stream(rows: Iterable[Row], columns: Sequence[str], output: OutputFormat) -> None:
    """Prints rows as `print_rows` does, in their order; JSON and CSV while they come, so that there may be many.

    Args:
        rows: each with these columns, in this order.
        columns: their names.
        output: how.
    """
    if output is OutputFormat.JSON:
        before = "[\n"
        for row in rows:
            sys.stdout.write(before + textwrap.indent(_json_text(dict(row)), "  "))
            before = ",\n"
        sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")
    elif output is OutputFormat.CSV:
        _print_csv(rows, columns)
    else:
        _print_table([*rows], columns)


def _print_csv(rows: Iterable[Row], columns: Sequence[str]) -> None:
    on_terminal = sys.stdout.isatty()
    for cells in itertools.chain([columns], (_csv_cells(row) for row in rows)):
        safe = map(safe_text, cells) if manner.safe_csv else cells
        line = csv_line(list(map(visible, safe) if on_terminal else safe))
        require_encodable(line, ", or ask for --format json")
        sys.stdout.write(line)


def _csv_cells(row: Row) -> list[str]:
    return [_cell(value, exact=True) for value in row.values()]


def require_sortable(columns: Sequence[str]) -> None:
    """Checks the column to sort by, for commands that work long before they print.

    Raises:
        UsageError: if it is none of these.
    """
    if manner.sort is not None and manner.sort not in columns:
        near = difflib.get_close_matches(manner.sort, columns, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise UsageError(f"--sort {manner.sort}: no such column{hint} There are {', '.join(columns)}")


def sorted_rows(rows: Sequence[AnyRow]) -> list[AnyRow]:
    """Rows as --sort asks: numbers from the largest, texts from A to Z, or the other way; what is missing comes last.

    Without --sort, or without that column, they keep their order.
    """
    name = manner.sort
    if name is None or (rows and name not in rows[0]):
        return [*rows]
    there = [row for row in rows if row[name] is not None and row[name] == row[name]]
    numeric = all(isinstance(row[name], (int, float)) for row in there)
    if numeric:
        ordered = sorted(there, key=lambda row: row[name], reverse=not manner.reverse)
    else:
        ordered = sorted(there, key=lambda row: _cell(row[name]).casefold(), reverse=manner.reverse)
    return [*ordered, *(row for row in rows if row[name] is None or row[name] != row[name])]


def print_record(record: Row, output: OutputFormat) -> None:
    """Prints one record: as a table of names and values, a JSON object, or CSV of one row."""
    if output is OutputFormat.JSON:
        print_json(dict(record))
    elif output is OutputFormat.CSV:
        print_rows([record], list(record), output)
    else:
        pairs = [(_title(name), _shown(name, value)) for name, value in record.items()]
        _write(record_lines(pairs, _width()))


def print_parts(
    parts: Mapping[str, tuple[Sequence[Row], Sequence[str]]],
    output: OutputFormat,
    part: str | None = None,
    about: Row | None = None,
    *,
    short: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Prints an answer of several lists: tables under their titles, one JSON object, or CSV of a single part.

    Args:
        parts: each part's rows and columns (see `print_rows`), by name.
        output: how.
        part: print this one only; CSV needs one, as its columns differ from part to part.
        about: what JSON of all parts says beside them, such as the refinement that answers.
        short: the columns of tables, unless --wide asks for all, by the parts that have more.

    Raises:
        UsageError: if there is no such part, CSV is asked for without naming one, or rows were to be sorted by a column
            that no part has.
    """
    require_part(tuple(parts), output, part)
    chosen = {name: content for name, content in parts.items() if part in (None, name)}
    require_sortable([column for _, columns in chosen.values() for column in columns])
    if output is OutputFormat.JSON:
        beside = {} if about is None or part is not None else about
        answer = {name: _chosen(sorted_rows(rows), columns) for name, (rows, columns) in chosen.items()}
        print_json(answer | dict(beside))
        return
    for number, (name, (rows, columns)) in enumerate(chosen.items()):
        if output is not OutputFormat.TABLE:
            print_rows(rows, columns, output)
            continue
        if part is None:
            print_text(("\n" if number else "") + name.replace("_", " ").capitalize(), strong=True)
        if not rows:
            print_text("(none)")
            continue
        all_or_few = columns if manner.wide else (short or {}).get(name, columns)
        _print_table(_chosen(sorted_rows(rows), columns), all_or_few)


def require_part(names: Sequence[str], output: OutputFormat, part: str | None) -> None:
    """Checks the part of an answer that `print_parts` is to print, for commands that work long before they print.

    Raises:
        UsageError: if there is no such part, or CSV is asked for without naming one.
    """
    if part is not None and part not in names:
        near = difflib.get_close_matches(part, names, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UsageError(f"--part must be one of {', '.join(names)} (got {part}){hint}")
    if output is OutputFormat.CSV and part is None:
        raise UsageError(f"--format csv prints one part; name it with --part: {', '.join(names)}")


def print_json(value: Any) -> None:
    """Prints JSON; a number that is none (NaN) becomes null."""
    sys.stdout.write(_json_text(value) + "\n")


def _json_text(value: Any) -> str:
    """JSON in which no character is one that a terminal obeys, or that stdout's encoding has not."""
    text = harmless_json(json.dumps(_plain(value), ensure_ascii=False, indent=2))
    return text if is_encodable(text) else json.dumps(_plain(value), indent=2)


def print_text(text: str, *, strong: bool = False) -> None:
    """Prints a line of a story on stdout."""
    if strong:
        Console(highlight=False, markup=False, emoji=False).print(harmless(text), style="bold")
    else:
        _write([harmless(text)])


def note(text: str) -> None:
    """Prints a remark on stderr, with what it advises as a shell needs it; --quiet drops it unless it is a warning."""
    if not manner.quiet or text.startswith(WARNING):
        complain(text)


def complain(text: str) -> None:
    """Prints on stderr what nobody may miss: an error, and why a result can't be trusted."""
    sys.stderr.write(f"{harmless(for_shell(text))}\n")


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
    console = Console(file=terminal())
    with Progress(*columns, console=console, disable=manner.quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task(visible(what), total=None, rate="")

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
    cells = [[_shown(column, row[column]) for column in columns] for row in rows]
    right = [bool(rows) and all(_is_number(row[column]) for row in rows) for column in columns]
    head, lines = table_lines([_title(column) for column in columns], cells, right, _width())
    if head:
        Console(highlight=False, markup=False, emoji=False, soft_wrap=True).print("\n".join(head), style="bold")
    _write(lines)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _width() -> int | None:
    """The terminal's width; None where stdout is none: no program and no pager wants broken lines."""
    console = Console()
    return console.width if console.is_terminal else None


def _write(lines: Sequence[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _title(column: str) -> str:
    return TITLES.get(column, column.replace("_", " "))


def _shown(column: str, value: Any) -> str:
    """A value as people read it in a column."""
    if (column in SHARES or isinstance(value, Share)) and _is_number(value) and value is not None:
        return "" if math.isnan(value) else f"{100 * value:.3g} %"
    if isinstance(value, str) and _TIME.fullmatch(value):
        return f"{value[:10]} {value[11:16]}"
    return visible(_cell(value))


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
