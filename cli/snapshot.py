"""`kndb snapshot`: names for versions of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .edit.steps import EDIT_COLUMNS, edit_rows
from .options import (
    DatabaseOption,
    FormatOption,
    ModelOption,
    OptionalModelOption,
    PartOption,
    open_existing,
)
from .output import OutputFormat, as_row, note, print_parts, print_record, print_rows

app = typer.Typer(no_args_is_help=True, help="Name versions of a model, look at them, go back to them, export them.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The snapshot's name.")]


@app.command()
def create(
    name: NameArgument,
    model: ModelOption,
    version: Annotated[str, typer.Option("--version", help="A version id, base or current.")] = "current",
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Name a version.

    Example: kndb snapshot create before-edits --model lab-bert
    """
    with open_existing(db) as database:
        print_record(as_row(database.snapshots.create(name, model, version)), output)


@app.command("list")
def list_snapshots(
    model: OptionalModelOption = None, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """List the snapshots.

    Example: kndb snapshot list
    """
    with open_existing(db) as database:
        rows = [as_row(snapshot) for snapshot in database.snapshots.all(model)]
    print_rows(rows, ["name", "model", "version", "created_at"], output)


@app.command()
def show(
    name: NameArgument,
    model: ModelOption,
    part: PartOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show a snapshot: its version, the edits in it, the value slots that differ from the checkpoint.

    Example: kndb snapshot show before-edits --model lab-bert
    """
    with open_existing(db) as database:
        found = database.snapshots.show(name, model)
    if not found.edits:
        note("It is the checkpoint as it was registered, without edits.")
    summary = {**as_row(found.snapshot), "current": found.current}
    slots = [{**as_row(row), "norm_base": row.norm_a, "norm": row.norm_b} for row in found.slots]
    parts = {
        "snapshot": ([summary], list(summary)),
        "edits": (edit_rows(found.edits), EDIT_COLUMNS),
        "slots": (slots, ["layer", "neuron", "parameter", "norm_base", "norm", "norm_difference"]),
    }
    print_parts(parts, output, part)


@app.command()
def delete(
    name: NameArgument, model: ModelOption, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """Delete a snapshot's name; its version stays, and goes on being known by its id.

    Example: kndb snapshot delete mistake --model lab-bert
    """
    with open_existing(db) as database:
        deleted = database.snapshots.delete(name, model)
    note(f"Deleted. The version is still known as {deleted.version}.")
    print_record(as_row(deleted), output)


@app.command()
def restore(
    name: NameArgument, model: ModelOption, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """Move a model's current version to a snapshot's: one row per edit applied or reverted on the way.

    Example: kndb snapshot restore before-edits --model lab-bert
    """
    with open_existing(db) as database:
        steps = database.snapshots.restore(name, model)
        version = database.models.get(model).version
    note(f"Model {model} is at {version}." if steps else f"Model {model} was at {version} already.")
    rows = [as_row(step) for step in steps]
    print_rows(rows, ["edit", "model", "action", "version_before", "version_after"], output)


@app.command()
def export(
    name: NameArgument,
    model: ModelOption,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="A folder that does not exist yet.")],
    link: Annotated[
        bool,
        typer.Option("--link", help="Hard-link weight files that stay as they are; they share the checkpoint's bytes."),
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="float32, float16 or bfloat16 for all weights.", show_default=False),
    ] = None,
    rounding: Annotated[bool, typer.Option("--round", help="Allow that --dtype changes values.")] = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Write a version as an ordinary checkpoint folder, for from_pretrained.

    Example: kndb snapshot export before-edits --model lab-bert --out exported
    """
    with open_existing(db) as database:
        done = database.snapshots.export(name, model, out, link=link, dtype=dtype, rounding=rounding)
    if done.files_linked:
        note(f"{done.files_linked} weight files share their bytes with the checkpoint: never write to them.")
    print_record(as_row(done), output)
