"""`kndb export`: results and facts into files for other programs, and for other stores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kndb.errors import UsageError

from .answering import choose
from .commands import command, group
from .options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    RefinementMethodOption,
    RefinementOption,
    RelationsOption,
    open_existing,
)
from .output import OutputFormat, as_row, manner, print_record, progress_bar

app = group("Write results and facts to CSV, JSON-lines or Parquet files.")

ToOption = Annotated[
    Path,
    typer.Option(
        "--to", metavar="FILE", help="Write this file, which ends in .csv, .jsonl or .parquet.", show_default=False
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]


@command(app, "neurons", "Write knowledge neurons to a file.")
def neurons(
    to: ToOption,
    refinement: RefinementOption = None,
    method: RefinementMethodOption = None,
    run: Annotated[
        int | None,
        typer.Option("--run", metavar="ID", help="Write the newest refinement of this run.", show_default=False),
    ] = None,
    model: OptionalModelOption = None,
    relation: RelationsOption = None,
    force: ForceOption = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Write the knowledge neurons of a refinement to a file.

    Example: kndb export neurons --to neurons.csv
    """
    with open_existing(db) as database:
        if run is None:
            chosen = choose(database, refinement, method, model, relations=relation or [])
            written = database.exchange.export_neurons(
                to, refinement=chosen, relations=relation or [], force=force, safe_csv=manner.safe_csv
            )
        elif method is not None:
            raise UsageError("--run and --method both name a refinement; give one of them")
        else:
            written = database.exchange.export_neurons(
                to,
                refinement=refinement,
                run=run,
                model=model,
                relations=relation or [],
                force=force,
                safe_csv=manner.safe_csv,
            )
    print_record(as_row(written), output)


@command(app, "scores", "Write a run's results and scores to a file.")
def scores(
    to: ToOption,
    run: Annotated[
        int | None,
        typer.Option(
            "--run",
            metavar="ID",
            help="Write this run; see: kndb query runs. Default: the newest with scores.",
            show_default=False,
        ),
    ] = None,
    model: OptionalModelOption = None,
    relation: RelationsOption = None,
    force: ForceOption = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Write the results of a run's prompts, with their scores, to a file.

    Example: kndb export scores --to scores.parquet
    """
    with open_existing(db) as database, progress_bar("Exporting") as progress:
        written = database.exchange.export_scores(
            to, run=run, model=model, relations=relation or [], force=force, safe_csv=manner.safe_csv, progress=progress
        )
    print_record(as_row(written), output)


@command(app, "facts", "Write facts, templates and prompts to a file.")
def facts(
    to: ToOption,
    relation: RelationsOption = None,
    force: ForceOption = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Write facts, templates and prompts to a file that `kndb ingest` reads (Parquet: `kndb import facts`).

    Example: kndb export facts --to facts.jsonl
    """
    with open_existing(db) as database:
        written = database.exchange.export_facts(to, relations=relation or [], force=force, safe_csv=manner.safe_csv)
    print_record(as_row(written), output)
