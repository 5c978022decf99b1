"""`kndb edit revert`, alone, with what builds on it, or computing that again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kndb.errors import UsageError

from ..numbers import parse_numbers
from ..options import DatabaseOption, FormatOption, open_existing
from ..output import OutputFormat, as_row, note, print_rows

if TYPE_CHECKING:
    from kndb.database.edits.rebase import Rebase
from .steps import STEP_COLUMNS, EditsArgument, moved, print_steps, step_row

_REPLAY_COLUMNS = ["rebased_from", "slots", "different", "largest_change"]


def revert(
    edits: EditsArgument,
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Revert the later edits that overlap it too, the last one first.")
    ] = False,
    rebase: Annotated[
        bool, typer.Option("--rebase", help="Take it out, and compute the later edits that overlap it again.")
    ] = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Take edits out of their model's current version: every byte goes back; all of them or none.

    Example: kndb edit revert 1
    """
    if cascade and rebase:
        raise UsageError("--cascade and --rebase exclude each other; give one of them, or neither")
    numbers = parse_numbers(edits)
    if (cascade or rebase) and len(numbers) > 1:
        option = "--cascade" if cascade else "--rebase"
        raise UsageError(f"{option} takes one edit, as others may go with it (got {len(numbers)})")
    with open_existing(db) as database:
        if rebase:
            _print_rebase(numbers[0], database.edits.rebase(numbers[0]), output)
        elif cascade:
            steps = database.edits.revert_cascade(numbers[0])
            note(f"Reverted {len(steps)} edit{'s' if len(steps) > 1 else ''}: {moved(steps)}")
            print_rows([step_row(step) for step in steps], STEP_COLUMNS, output)
        else:
            print_steps(database.edits.revert_all(numbers), "Reverted", output)


def _print_rebase(edit: int, done: Rebase, output: OutputFormat) -> None:
    replayed = {one.edit: as_row(one) for one in done.replayed}
    rows = [
        {**dict.fromkeys(_REPLAY_COLUMNS), **(replayed.get(step.edit or 0, {}) if step.action == "apply" else {})}
        | step_row(step)
        for step in done.steps
    ]
    later = f"{len(done.replayed)} later edit{'' if len(done.replayed) == 1 else 's'}"
    note(f"Took edit {edit} out and computed {later} again: {moved(done.steps)}")
    columns = [*STEP_COLUMNS[:3], *_REPLAY_COLUMNS, *STEP_COLUMNS[3:]]
    print_rows(rows, columns, output, short=["edit", "action", *_REPLAY_COLUMNS, "version_after"])
