"""`kndb snapshot`: names for versions of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    DatabaseOption,
    FormatOption,
    ModelOption,
    OptionalModelOption,
    open_existing,
)
from .output import OutputFormat, as_row, note, print_record, print_rows

app = typer.Typer(no_args_is_help=True, help="Name versions of a model, go back to them, export them.")
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
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Write a version as an ordinary checkpoint folder, for from_pretrained.

    Example: kndb snapshot export before-edits --model lab-bert --out exported
    """
    with open_existing(db) as database:
        print_record(as_row(database.snapshots.export(name, model, out)), output)
