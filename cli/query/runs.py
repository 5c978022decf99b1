"""`kndb query runs`."""

from __future__ import annotations

from kndb.advice import Placeholder, call

from ..options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_rows


def runs(
    model: OptionalModelOption = None, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """List the attribution runs.

    Example: kndb query runs
    """
    with open_existing(db) as database:
        found = database.query.runs(model)
    if not found:
        make = call("attribution.run", model=model or Placeholder("NAME"))
        note(f"There is no run yet; make one with: {make}")
    columns = ["id", "model", "version", "method", "status", "prompts", "skipped", "above_tolerance"]
    columns += ["settings", "created_at"]
    short = ["id", "model", "method", "status", "prompts", "above_tolerance"]
    print_rows([as_row(row) for row in found], columns, output, short=short)
