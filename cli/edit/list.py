"""`kndb edit list`."""

from __future__ import annotations

from kndb.advice import Placeholder, call

from ..options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    open_existing,
)
from ..output import OutputFormat, note, print_rows
from .reports import short_warning
from .steps import edit_rows


def list_edits(
    model: OptionalModelOption = None, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """List the edits.

    Example: kndb edit list
    """
    with open_existing(db) as database:
        edits = database.edits.all(model)
    rows = [
        {**row, "warning": short_warning(edit.recipe, pulled=edit.pulled)}
        for edit, row in zip(edits, edit_rows(edits), strict=True)
    ]
    columns = ["id", "model", "kind", "what", "neurons", "applied", "from", "base_version", "author", "created_at"]
    if output is not OutputFormat.TABLE or any(row["warning"] for row in rows):
        columns.append("warning")
    if not rows:
        note(f"No edit is planned yet; plan one with: {_plan(model)}")
    shown = ["id", "model", "kind", "what", "neurons", "applied", "warning"]
    if any(edit.pulled for edit in edits):
        note("Of edits from a file, what, author, time and warning are the sender's words; see: kndb edit show EDIT")
    print_rows(rows, columns, output, short=[name for name in shown if name in columns])


def _plan(model: str | None) -> str:
    name = Placeholder("NAME") if model is None else model
    return call("edits.plan_update", model=name, fact=Placeholder("FACT"), to=Placeholder("ANSWER"))
