"""`kndb edit trials`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kndb.advice import Placeholder, call
from kndb.errors import UsageError
from kndb.records.figures import PLAIN, FigureOptions

from ..option_groups import require_plot, takes_figure_options
from ..options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_rows
from .trial_options import PlotOption, print_trial


@takes_figure_options
def trials(
    trial: Annotated[
        int | None,
        typer.Argument(metavar="[TRIAL]", help="Show this trial's table. Default: list them all.", show_default=False),
    ] = None,
    model: OptionalModelOption = None,
    plot: PlotOption = None,
    figure: FigureOptions = PLAIN,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List the benches and sweeps, or show one's table again.

    Example: kndb edit trials
    """
    require_plot(plot, figure)
    with open_existing(db) as database:
        if trial is not None:
            print_trial(database, trial, plot, figure, output)
            return
        if plot is not None:
            raise UsageError("--plot draws one trial; name it: kndb edit trials TRIAL --plot FILE")
        rows = [{**as_row(one), **_told(one.settings)} for one in database.trials.all(model)]
    if not rows:
        start = call("trials.bench", model=model or Placeholder("NAME"))
        note(f"There is no bench or sweep yet; start one with: {start}")
    columns = ["id", "kind", "model", "version", "status", "settings", "created_at", "finished_at"]
    if output is OutputFormat.TABLE:
        columns[5:6] = ["method", "facts", "tried"]
    print_rows(rows, columns, output, short=["id", "kind", "model", "status", "method", "facts", "tried"])


def _told(settings: Any) -> dict[str, Any]:
    """What a list of trials says of their settings; all of them are in the other formats."""
    cells, methods = settings.get("cells"), settings.get("methods")
    if methods:
        tried = f"{', '.join(map(str, settings['sizes']))} at once"
        return {"method": ", ".join(one["method"] for one in methods), "facts": settings["facts"], "tried": tried}
    tried = f"{len(cells)} settings" if cells else f"after {', '.join(map(str, settings['counts']))} edits"
    return {"method": (cells[0] if cells else settings)["method"], "facts": settings["facts"], "tried": tried}
