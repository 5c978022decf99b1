"""`kndb snapshot`: names for versions of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kndb.advice import Placeholder, call
from kndb.records.models import Neuron

from .commands import command, group
from .edit.steps import EDIT_COLUMNS, EDIT_SHORT, edit_rows
from .options import (
    DatabaseOption,
    FormatOption,
    ModelOption,
    OptionalModelOption,
    PartOption,
    open_existing,
)
from .output import OutputFormat, as_row, note, print_parts, print_record, print_rows

app = group("Name versions of a model, look at them, go back to them, export them.")
SLOT_COLUMNS = ["name", "layer", "neuron", "parameter", "norm_base", "norm", "norm_difference"]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The snapshot's name.")]


@command(app, "create", "Name a version.")
def create(
    name: NameArgument,
    model: ModelOption,
    version: Annotated[
        str, typer.Option("--version", help="Name this version: base, current, or a version id.")
    ] = "current",
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Name a version.

    Example: kndb snapshot create before-edits --model lab-bert
    """
    with open_existing(db) as database:
        print_record(as_row(database.snapshots.create(name, model, version)), output)


@command(app, "list", "List the snapshots.", table=True)
def list_snapshots(
    model: OptionalModelOption = None, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """List the snapshots.

    Example: kndb snapshot list
    """
    with open_existing(db) as database:
        rows = [as_row(snapshot) for snapshot in database.snapshots.all(model)]
    if not rows:
        create_one = call("snapshots.create", Placeholder("NAME"), model=model or Placeholder("MODEL"))
        note(f"There is no snapshot yet; name a version with: {create_one}")
    print_rows(rows, ["name", "model", "version", "created_at"], output)


@command(app, "show", "Show a snapshot's version, edits and value slots.", table=True)
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
    slots = [
        {"name": str(Neuron(row.layer, row.neuron)), **as_row(row), "norm_base": row.norm_a, "norm": row.norm_b}
        for row in found.slots
    ]
    parts = {
        "snapshot": ([summary], list(summary)),
        "edits": (edit_rows(found.edits), EDIT_COLUMNS),
        "slots": (slots, SLOT_COLUMNS),
    }
    print_parts(parts, output, part, short={"edits": EDIT_SHORT, "slots": ["name", *SLOT_COLUMNS[4:]]})


@command(app, "delete", "Delete a snapshot's name.")
def delete(
    name: NameArgument, model: ModelOption, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """Delete a snapshot's name; its version stays, and can still be named by its id.

    Example: kndb snapshot delete mistake --model lab-bert
    """
    with open_existing(db) as database:
        deleted = database.snapshots.delete(name, model)
    note(f"Deleted. The version is still known as {deleted.version}.")
    print_record(as_row(deleted), output)


@command(app, "restore", "Go back to a snapshot's version.", table=True)
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


@command(app, "export", "Write a version as a checkpoint folder.")
def export(
    name: NameArgument,
    model: ModelOption,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Write this folder, which must not exist yet.")],
    link: Annotated[
        bool,
        typer.Option("--link", help="Hard-link weight files that no edit changes: they share the checkpoint's bytes."),
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            help="Write all weights as float32, float16 or bfloat16. Default: as they are.",
            show_default=False,
        ),
    ] = None,
    rounding: Annotated[bool, typer.Option("--round", help="Allow --dtype to change values.")] = False,
    card: Annotated[
        bool,
        typer.Option(
            "--card/--no-card",
            help="Write a model card (README.md) with the version's edits, their facts and measures.",
        ),
    ] = True,
    base_model: Annotated[
        str | None,
        typer.Option(
            "--base-model",
            metavar="NAME",
            help="Name this model of the Hugging Face hub as the card's base model. Default: the name by which the "
            "checkpoint was registered, if it came from the hub.",
            show_default=False,
        ),
    ] = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Write a version as an ordinary checkpoint folder, for from_pretrained.

    Example: kndb snapshot export before-edits --model lab-bert --out exported
    """
    with open_existing(db) as database:
        done = database.snapshots.export(
            name, model, out, link=link, dtype=dtype, rounding=rounding, card=card, base_model=base_model
        )
    if done.files_linked:
        note(f"{done.files_linked} weight files share their bytes with the checkpoint: never write to them.")
    print_record(as_row(done), output)
