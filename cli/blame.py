"""`kndb blame`: which edits wrote value slots."""

from __future__ import annotations

from typing import Annotated

import typer

from kndb.records.display import many
from kndb.records.versions import Blame

from .numbers import edit_number
from .options import DatabaseOption, FormatOption, ModelOption, open_existing
from .output import OutputFormat, as_row, note, print_rows

_COLUMNS = [
    *("slot", "parameter", "edit", "kind", "what", "planned_by", "planned_at", "step", "applied_by", "applied_at"),
    *("status", "reverted_step", "reverted_by", "reverted_at", "relative_change", "old_sha256", "new_sha256"),
]
_SHORT = ["slot", "edit", "what", "applied_by", "applied_at", "status", "relative_change"]


def blame(
    model: ModelOption,
    slots: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SLOT]...",
            help="Value slots by their neurons: L2.N418, a range L2.N400-420; or a parameter's name.",
            show_default=False,
        ),
    ] = None,
    edit: Annotated[
        int | None,
        typer.Option(
            "--edit", metavar="EDIT", help="Look at all that this edit changes.", parser=edit_number, show_default=False
        ),
    ] = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show which edits wrote value slots: whose, when applied, and whether they are in effect; the oldest first.

    Example: kndb blame L2.N418 --model lab-bert
    """
    with open_existing(db) as database:
        found = database.edits.blame(model, slots or (), edit=edit)
    _note(found)
    rows = [as_row(one) for one in found.writes]
    print_rows(rows, _COLUMNS, output, short=_SHORT)


def _note(found: Blame) -> None:
    if not found.writes:
        note(f"No edit wrote any of them, so they hold what the checkpoint of {found.model} holds.")
    if found.never_applied:
        numbers = ", ".join(map(str, found.never_applied))
        note(f"Planned on them, but never applied: {many(len(found.never_applied), 'edit')} ({numbers}).")
