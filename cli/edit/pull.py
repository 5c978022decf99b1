"""`kndb edit pull`: edits from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kndb.advice import call

from ..numbers import number_ranges
from ..options import DatabaseOption, FormatOption, OptionalModelOption, open_existing
from ..output import OutputFormat, as_row, note, print_rows

_COLUMNS = ["edit", "known", "wanted", "kind", "what", "author", "created_at", "builds_on", "unknown_facts"]

_SHORT = ["edit", "known", "kind", "what", "author", "builds_on"]


def pull(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that kndb edit push wrote.")],
    model: OptionalModelOption = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Store nothing; check the file and show what is in it.")
    ] = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Take the edits of a file into the store, all or none; nothing is applied. Another checkpoint is refused.

    Example: kndb edit pull toyota.kndb
    """
    with open_existing(db) as database:
        found = database.edits.pull(file, model=model, preview=preview)
    count = f"{len(found)} edit{'s' if len(found) != 1 else ''}"
    if preview:
        note(f"{count} in {file}; nothing was stored.")
    else:
        new = sum(not one.known for one in found)
        ready = number_ranges([one.edit for one in found if one.edit is not None]).split()
        note(f"Took in {count}, {new} of them new; not applied. Apply them with: {call('edits.apply_all', ready)}")
    print_rows([as_row(one) for one in found], _COLUMNS, output, short=_SHORT)
