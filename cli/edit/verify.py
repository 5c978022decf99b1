"""`kndb edit verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from kndb.errors import DiffFileError, StoreDamagedError, UsageError

from ..options import DatabaseOption, FormatOption, OptionalModelOption, open_existing
from ..output import OutputFormat, as_row, print_rows


def verify(
    edits: Annotated[
        list[int] | None,
        typer.Argument(metavar="[EDIT]...", help="Numbers of edits. Default: all.", show_default=False),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Check all edits, as without numbers.")] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Compare the checkpoints with their fingerprints too.")
    ] = False,
    model: OptionalModelOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Check edit objects byte by byte and what the database says of them; without numbers the log, too.

    Fails if anything is wrong.

    Example: kndb edit verify --all
    """
    if every and edits:
        raise UsageError("--all goes with no numbers of edits: it checks all; give one of the two, or neither")
    with open_existing(db) as database:
        found = database.edits.verify(edits or (), model=model, weights=weights)
    print_rows([as_row(row) for row in found], ["what", "ok", "detail"], output)
    wrong = [row for row in found if not row.ok]
    if not wrong:
        return
    message = f"{len(wrong)} of {len(found)} checks failed: {', '.join(dict.fromkeys(row.what for row in wrong))}; "
    if any(row.part == "object" for row in wrong):
        raise DiffFileError(f"{message}restore the objects from a backup (made by: kndb db backup TARGET)")
    if any(row.part == "log" for row in wrong):
        raise StoreDamagedError(f"{message}restore the database from a backup (made by: kndb db backup TARGET)")
    raise StoreDamagedError(f"{message}put the checkpoint's files back as they were registered")
