"""`kndb report`: all that is known of a model's knowledge neurons, in one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import DatabaseOption, FormatOption, ModelOption, open_existing
from .output import OutputFormat, note, print_record


def report(
    model: ModelOption,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Write index.html into this folder, which is made if need be.")
    ],
    refinement: Annotated[
        int | None,
        typer.Option(
            "--refinement",
            metavar="ID",
            help="Report on this refinement. Default: the model's newest that is no baseline's.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a report that is there.")] = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Write a model's report: one HTML file that opens offline. It needs the extra `plot`.

    Example: kndb report --model lab-bert --out report
    """
    with open_existing(db) as database:
        written = database.reports.write(model, out, refinement=refinement, force=force)
    if written.missing:
        note(f"The report says what is missing for: {', '.join(written.missing)}")
    print_record({"out": str(written.out), "refinement": written.refinement}, output)
