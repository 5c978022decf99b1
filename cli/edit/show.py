"""`kndb edit show`."""

from __future__ import annotations

from ..options import (
    DatabaseOption,
    EditArgument,
    FormatOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_json, print_record, print_rows
from .capture import TENSOR_COLUMNS
from .reports import report_rows, warnings


def show(edit: EditArgument, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE) -> None:
    """Show an edit: recipe, object, and the value slots that it changes.

    Example: kndb edit show 1
    """
    with open_existing(db) as database:
        planned = database.edits.get(edit)
        lengths = database.edits.slot_lengths(edit)
        tensors = [as_row(one) for one in database.edits.tensors(edit)]
    slots = [
        {"neuron": str(neuron), "length_before": before, "length_after": after}
        for neuron, (before, after) in lengths.items()
    ]
    if output is OutputFormat.JSON:
        print_json({**as_row(planned), "slots": slots, "tensors": tensors})
    elif output is OutputFormat.CSV:
        print_rows(slots, ["neuron", "length_before", "length_after"], output)
    else:
        summary = as_row(planned)
        summary["recipe"] = {name: value for name, value in planned.recipe.as_json().items() if name != "report"}
        print_record(summary | report_rows(planned.recipe), output)
        if planned.kind == "capture":
            print_rows(tensors, TENSOR_COLUMNS, output)
        print_rows(slots, ["neuron", "length_before", "length_after"], output)
    for text in warnings(planned.model, planned.recipe, db):
        note(text)
