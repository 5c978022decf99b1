"""Edits and steps of versions, as several commands take and print them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from kndb.records.edits import Edit
from kndb.records.versions import HistoryEntry

from ..output import OutputFormat, as_row, note, print_record, print_rows

EDIT_COLUMNS = ["id", "kind", "what", "neurons", "applied", "from", "base_version", "created_at"]


EDIT_SHORT = ["id", "kind", "what", "neurons", "applied"]
"""Of these, the columns of a table without --wide."""


STEP_COLUMNS = ["edit", "model", "action", "version_before", "version_after"]


EditsArgument = Annotated[
    list[str],
    typer.Argument(metavar="EDIT...", help="Numbers of edits, or ranges such as 7-12; see: kndb edit list."),
]


def print_steps(steps: Sequence[HistoryEntry], done: str, output: OutputFormat) -> None:
    """Prints steps of versions: one as a record, several as rows."""
    if len(steps) == 1:
        print_record(step_row(steps[0]), output)
        return
    note(f"{done} {len(steps)} edits: {moved(steps)}")
    print_rows([step_row(step) for step in steps], STEP_COLUMNS, output)


def step_row(entry: HistoryEntry) -> dict[str, Any]:
    """A step's fields, for apply and revert."""
    return {column: getattr(entry, column) for column in STEP_COLUMNS}


def edit_rows(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """Rows of edits with what each is for, and where it is from; see `EDIT_COLUMNS`."""
    return [{**as_row(edit), "what": edit.what, "from": origin(pulled=edit.pulled)} for edit in edits]


def origin(*, pulled: bool) -> str:
    """Where an edit is from: `here`, or a `file`, whose sender's words its title, author and time are."""
    return "file" if pulled else "here"


def moved(steps: Sequence[HistoryEntry]) -> str:
    """From which version to which some steps went."""
    return f"{steps[0].version_before} → {steps[-1].version_after}"
