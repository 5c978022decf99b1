"""Options of benches and sweeps, and their tables."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.errors import UsageError
from kndb.records.edit_settings import OptimizeSettings, UpdateSettings
from kndb.records.edits import COMPARED_MEASURES, EDIT_MEASURES, PLANNING_COSTS
from kndb.records.figures import FigureOptions

from ..output import OutputFormat, as_row, note, print_rows

if TYPE_CHECKING:
    from kndb.database import Database


MethodOption = Annotated[str, typer.Option("--method", help="Edit by this method: update or optimize.")]
MethodsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help="Edit by this method: update, optimize, together (kndb edit optimize --together), rome, memit, alphaedit, "
        "emmet or finetune. Repeatable: several are compared. Default: update.",
        show_default=False,
    ),
]


RuleOption = Annotated[
    str, typer.Option("--rule", metavar="gradient|output|paper", help="With update, move slots by this rule.")
]


IntraOption = Annotated[int, typer.Option("--intra", help="Measure so many facts of the edited relations.")]


InterOption = Annotated[int, typer.Option("--inter", help="Measure so many facts of other relations, drawn at random.")]


SeedOption = Annotated[int, typer.Option("--seed", help="Random seed.")]


PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw it too, into this .png, .svg or .pdf file.", show_default=False),
]


_SHOWN = ["success", "paraphrase", "neighbourhood", "intra_change", "inter_change", "inter_locality", "divergence"]


_COMPARED = ["success", "PS", "NS", "S", "perplexity_others"]


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
    measures = _measures_of(found.settings)
    ends = [f"{name}{part}" for name in measures for part in ("", "_low", "_high")]
    columns = ["part", "edits", *_settings_of(rows), "weights", "facts", "planned", "neurons_changed", *ends]
    short = _short(found.kind, varied) if measures is EDIT_MEASURES else ["method", "edits", "weights", *_COMPARED]
    print_rows(rows, columns, output, short=short)
    if plot is not None:
        database.plots.trial(trial, plot, options=figure)
        note(f"Drew {plot}")


def _short(kind: str, varied: list[str]) -> list[str]:
    """The columns of a trial's table without --wide."""
    cells = varied if kind == "sweep" else ["part", "edits"]
    return [*cells, "weights", "success", "paraphrase", "neighbourhood", "inter_change"]


def _rows(database: Database, trial: int) -> Iterator[dict[str, Any]]:
    names = _measures_of(database.trials.get(trial).settings)
    for one in database.trials.table(trial):
        row = {**as_row(one), "neurons_changed": one.neurons, **one.settings}
        for name in names:
            ends = one.measures.get(name, (None, None, None))
            row |= {f"{name}{part}": end for part, end in zip(("", "_low", "_high"), ends, strict=True)}
        yield row


def _measures_of(settings: Mapping[str, object]) -> Collection[str]:
    """The names of the measures of a trial."""
    return (*COMPARED_MEASURES, *PLANNING_COSTS) if "methods" in settings else EDIT_MEASURES


def _settings_of(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row["settings"]))


def words_of(option: str, text: str) -> list[str]:
    """The words of an option that takes several, with commas between them.

    Raises:
        UsageError: if there is none.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError(f"{option} must have values, with commas between them (got none)")
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
        raise UsageError(f"{option} must be {expected} with commas between them (got {text!r})") from None


def optimize_settings(
    method: str, *, keep: float, steps: int, max_share: float | None, neurons: int | None
) -> OptimizeSettings:
    """The settings of `--method optimize`.

    Raises:
        UsageError: for another method.
    """
    if method != OptimizeSettings.method:
        raise UsageError(f"--method must be {UpdateSettings.method} or {OptimizeSettings.method} (got {method})")
    share = OptimizeSettings.max_share if max_share is None else max_share
    return OptimizeSettings(keep=keep, steps=steps, max_share=share, neurons=neurons)
