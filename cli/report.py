"""`kndb report`: all that is known of a model's knowledge neurons, in one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .advice import for_shell
from .answering import choose
from .options import DatabaseOption, FormatOption, ModelOption, RefinementMethodOption, RefinementOption, open_existing
from .output import OutputFormat, note, print_record


def report(
    model: ModelOption,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Write index.html into this folder, which is made if need be.")
    ],
    refinement: RefinementOption = None,
    method: RefinementMethodOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a report that is there.")] = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Write a model's report: one HTML file that opens offline. It needs the extra `plot`.

    Example: kndb report --model lab-bert --out report
    """
    with open_existing(db) as database:
        chosen = choose(database, refinement, method, model)
        written = database.reports.write(model, out, refinement=chosen, force=force, words=for_shell)
    if written.missing:
        note(f"The report says what is missing for: {', '.join(written.missing)}")
    of = {"refinement": chosen.id, "run": chosen.run_id, "method": chosen.method, "version": chosen.version}
    print_record({"out": str(written.out), **of}, output)
