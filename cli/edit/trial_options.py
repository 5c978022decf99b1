"""Options of benches and sweeps, and their tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.errors import UsageError
from kndb.records.edits import EDIT_MEASURES
from kndb.records.figures import FigureOptions

from ..output import OutputFormat, as_row, note, print_rows

if TYPE_CHECKING:
    from kndb.database import Database


MethodOption = Annotated[str, typer.Option("--method", help="update or optimize.")]


RuleOption = Annotated[str, typer.Option("--rule", metavar="gradient|output|paper", help="Of update: how slots move.")]


IntraOption = Annotated[int, typer.Option("--intra", help="Facts of the edited relations to measure.")]


InterOption = Annotated[int, typer.Option("--inter", help="Facts of other relations to measure.")]


SeedOption = Annotated[int, typer.Option("--seed", help="Of all that is drawn.")]


PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw it, too: .png, .svg or .pdf.", show_default=False),
]


_SHOWN = ["success", "paraphrase", "neighbourhood", "intra_change", "inter_change", "inter_locality", "divergence"]


def print_trial(database: Database, trial: int, plot: Path | None, figure: FigureOptions, output: OutputFormat) -> None:
    """Prints a bench's or a sweep's table, and draws it if that is wanted."""
    found = database.trials.get(trial)
    rows = list(_rows(database, trial))
    unplanned = database.trials.unplanned(trial)
    note(f"Trial {trial}, a {found.kind} of model {found.model} at {found.version}: {found.status}.")
    if unplanned:
        few = "; ".join(f"fact {fact}: {reason}" for fact, reason in unplanned[:3])
        note(f"No edit could be planned in {len(unplanned)} cases, which count as not changed: {few}")
    varied = [name for name in _settings_of(rows) if len({str(row.get(name)) for row in rows}) > 1]
    columns = ["part", "edits", *varied, "weights", "facts", "planned", "neurons_changed", *_SHOWN]
    if output is not OutputFormat.TABLE:
        ends = [f"{name}{part}" for name in EDIT_MEASURES for part in ("", "_low", "_high")]
        columns = ["part", "edits", *_settings_of(rows), "weights", "facts", "planned", "neurons_changed", *ends]
    print_rows(rows, columns, output)
    if plot is not None:
        database.plots.trial(trial, plot, options=figure)
        note(f"Drew {plot}")


def _rows(database: Database, trial: int) -> Iterator[dict[str, Any]]:
    for one in database.trials.table(trial):
        row = {**as_row(one), "neurons_changed": one.neurons, **one.settings}
        for name in EDIT_MEASURES:
            ends = one.measures.get(name, (None, None, None))
            row |= {f"{name}{part}": end for part, end in zip(("", "_low", "_high"), ends, strict=True)}
        yield row


def _settings_of(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["settings"]))


def words_of(option: str, text: str) -> list[str]:
    """The words of an option that takes several, with commas between them.

    Raises:
        UsageError: if there is none.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError(f"found nothing in {option}; expected values with commas between them")
    return words


def numbers_of(option: str, text: str, *, whole: bool = False) -> list[float]:
    """The numbers of such an option.

    Raises:
        UsageError: if there is none, or one is no number.
    """
    try:
        return [int(word) if whole else float(word) for word in words_of(option, text)]
    except ValueError:
        expected = "whole numbers" if whole else "numbers"
        raise UsageError(f"found {text!r} in {option}; expected {expected} with commas between them") from None
