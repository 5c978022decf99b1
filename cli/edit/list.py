"""`kndb edit list`."""

from __future__ import annotations

from kndb.advice import Placeholder, call

from ..options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_rows
from .reports import short_warning


def list_edits(
    model: OptionalModelOption = None, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """List the edits.

    Example: kndb edit list
    """
    with open_existing(db) as database:
        rows = [
            {**as_row(edit), "what": edit.title, "warning": short_warning(edit.recipe)}
            for edit in database.edits.all(model)
        ]
    columns = ["id", "model", "kind", "what", "neurons", "applied", "base_version", "author", "created_at", "warning"]
    if output is OutputFormat.TABLE and not any(row["warning"] for row in rows):
        columns.remove("warning")
    if not rows:
        note(f"No edit is planned yet; plan one with: {_plan(model)}")
    shown = ["id", "model", "kind", "what", "neurons", "applied", "warning"]
    print_rows(rows, columns, output, short=[name for name in shown if name in columns])


def _plan(model: str | None) -> str:
    name = Placeholder("NAME") if model is None else model
    return call("edits.plan_update", model=name, fact=Placeholder("FACT"), to=Placeholder("ANSWER"))
