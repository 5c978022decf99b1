"""`kndb query runs`."""

from __future__ import annotations

from ..options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    open_existing,
)
from ..output import OutputFormat, as_row, print_rows


def runs(
    model: OptionalModelOption = None, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """List the attribution runs.

    Example: kndb query runs
    """
    with open_existing(db) as database:
        found = database.query.runs(model)
    columns = ["id", "model", "version", "method", "status", "prompts", "skipped", "above_tolerance"]
    columns += ["settings", "created_at"]
    print_rows([as_row(row) for row in found], columns, output)
