"""`kndb edit`: plan, look at, apply and measure edits. `edit_history` has revert, log, diff and verify."""

from __future__ import annotations

from typing import Annotated

import typer

from . import edit_capture, edit_evaluation, edit_history, edit_optimize, edit_share, edit_trials, edit_update
from .edit_plans import FlipsOption, PreviewOption, PreviewPartOption, check_preview, finish_plan
from .edit_reports import report_rows, short_warning, warnings
from .options import (
    DatabaseOption,
    EditArgument,
    FormatOption,
    ModelOption,
    OptionalModelOption,
    RefinementOption,
    open_existing,
)
from .output import OutputFormat, as_row, note, print_json, print_record, print_rows

app = typer.Typer(no_args_is_help=True, help="Edit what a model knows: planned, stored, reversible bit for bit.")


app.command("update")(edit_update.update)
app.command("optimize")(edit_optimize.optimize)


@app.command()
def erase(
    model: ModelOption,
    relation: Annotated[str, typer.Option("--relation", metavar="KEY", help="The relation to forget.")],
    top: Annotated[int, typer.Option("--top", help="How many of its most common neurons to zero.")] = 20,
    refinement: RefinementOption = None,
    preview: PreviewOption = False,
    part: PreviewPartOption = None,
    list_flips: FlipsOption = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Plan that the model forgets a relation; nothing is applied.

    Example: kndb edit erase --model lab-bert --relation P36
    """
    check_preview(preview, part, output, list_flips=list_flips)
    with open_existing(db) as database:
        draft = database.edits.drafts.erase(model, relation, top=top, refinement=refinement)
        finish_plan(database, draft, preview, part, output, db, list_flips=list_flips)


app.command("apply")(edit_history.apply)
app.command("revert")(edit_history.revert)


@app.command()
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
        summary["recipe"] = {name: value for name, value in planned.recipe.items() if name != "report"}
        print_record(summary | report_rows(planned.kind, planned.recipe), output)
        if planned.kind == "capture":
            print_rows(tensors, edit_capture.TENSOR_COLUMNS, output)
        print_rows(slots, ["neuron", "length_before", "length_after"], output)
    for text in warnings(planned.model, planned.kind, planned.recipe, db):
        note(text)


@app.command("list")
def list_edits(
    model: OptionalModelOption = None, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """List the edits.

    Example: kndb edit list
    """
    from kndb.database.edits import recipe_title

    with open_existing(db) as database:
        rows = [
            {**as_row(edit), "what": recipe_title(edit), "warning": short_warning(edit.kind, edit.recipe)}
            for edit in database.edits.all(model)
        ]
    columns = ["id", "model", "kind", "what", "neurons", "applied", "base_version", "author", "created_at", "warning"]
    if output is OutputFormat.TABLE and not any(row["warning"] for row in rows):
        columns.remove("warning")
    print_rows(rows, columns, output)


app.command("log")(edit_history.log)
app.command("diff")(edit_history.diff)
app.command("verify")(edit_history.verify)


app.command("eval")(edit_evaluation.evaluate)
app.command("evaluations")(edit_evaluation.evaluations)
app.command("capture")(edit_capture.capture)
app.command("push")(edit_share.push)
app.command("pull")(edit_share.pull)
app.command("bench")(edit_trials.bench)
app.command("sweep")(edit_trials.sweep)
app.command("trials")(edit_trials.trials)
