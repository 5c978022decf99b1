"""`kndb edit capture`: a checkpoint that another tool edited, as an edit."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import DatabaseOption, FormatOption, ModelOption, open_existing
from ..output import OutputFormat, as_row, note, print_json, print_rows
from .conditions import NOTHING, Required, takes_conditions
from .planning import print_planned

TENSOR_COLUMNS = ["parameter", "encoding", "slots", "rank", "exceptions"]


@takes_conditions
def capture(
    model: ModelOption,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="CHECKPOINT",
            help="Capture this edited checkpoint: a folder, or a name on the Hugging Face hub.",
        ),
    ],
    required: Required = NOTHING,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Turn a checkpoint that another tool edited into an edit of the model's current version; nothing is applied.

    Example: kndb edit capture --model lab-bert --from edited-checkpoint
    """
    with open_existing(db) as database:
        captured = database.edits.draft_capture(model, source)
        planned = required.add(database, captured.draft)
    if captured.other_files:
        note(f"Not captured, as an edit holds weights alone: {', '.join(captured.other_files)} differ, too.")
    rows = [as_row(one) for one in captured.tensors]
    if output is OutputFormat.JSON:
        print_json({"edit": planned.id, **as_row(planned), "tensors": rows})
        return
    if output is OutputFormat.CSV:
        print_rows(rows, TENSOR_COLUMNS, output)
        return
    print_planned(planned, output)
    print_rows(rows, TENSOR_COLUMNS, output)
