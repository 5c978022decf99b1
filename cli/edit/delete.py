"""`kndb edit delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..numbers import parse_numbers
from ..options import DatabaseOption, FormatOption, open_existing
from ..output import OutputFormat, note, print_rows
from .steps import EDIT_COLUMNS, EDIT_SHORT, EditsArgument, edit_rows


def delete(
    edits: EditsArgument,
    preview: Annotated[
        bool, typer.Option("--preview", help="Delete nothing; show what would be deleted, or why it can't be.")
    ] = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Delete edits that are part of no version, with their evaluations: all of them or none.

    An edit that is applied, or ever was, stays: the log's versions are built with it.

    Example: kndb edit delete 8
    """
    numbers = parse_numbers(edits)
    with open_existing(db) as database:
        deleted = database.edits.delete(numbers, preview=preview)
    count = f"{len(deleted)} edit{'' if len(deleted) == 1 else 's'}"
    note(f"{count} would be deleted; nothing was." if preview else f"Deleted {count}.")
    rows = [
        {**row, "evaluations": one.evaluations}
        for one, row in zip(deleted, edit_rows([one.edit for one in deleted]), strict=True)
    ]
    columns = [*EDIT_COLUMNS, "evaluations"]
    print_rows(rows, columns, output, short=[*EDIT_SHORT, "evaluations"])
