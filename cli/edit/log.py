"""`kndb edit log`."""

from __future__ import annotations

from kndb.advice import Placeholder, call

from ..options import DatabaseOption, FormatOption, OptionalModelOption, open_existing
from ..output import OutputFormat, as_row, note, print_rows
from .conditions import conditions_cell


def log(
    model: OptionalModelOption = None, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """List every apply, revert and restore: who, when, what, from and to which version; the oldest first.

    Example: kndb edit log
    """
    with open_existing(db) as database:
        titles = {edit.id: edit.what for edit in database.edits.all(model)}
        entries = database.edits.log(model)
    rows = [
        {
            **as_row(entry),
            "who": entry.author,
            "when": entry.created_at,
            "what": titles.get(entry.edit or 0),
            "from": entry.version_before,
            "to": entry.version_after,
            "conditions": conditions_cell(entry.conditions, output),
        }
        for entry in entries
    ]
    if not rows:
        note(f"No edit was applied yet; apply one with: {call('edits.apply', Placeholder('EDIT'))}")
    columns = ["id", "who", "when", "model", "action", "direction", "edit", "what", "from", "to", "conditions"]
    required = ["conditions"] if any(entry.conditions for entry in entries) else []
    print_rows(rows, columns, output, short=["id", "who", "when", "action", "edit", "what", "to", *required])
