"""`kndb model`: registered checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kndb.advice import Placeholder, call
from kndb.records.models import Model

from .commands import command, group
from .options import DatabaseOption, FormatOption, open_existing, open_or_create
from .output import OutputFormat, as_row, note, print_record, print_rows

app = group("Register checkpoints, and look at what is registered.")


@command(app, "add", "Register a checkpoint.")
def add(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PATH-OR-HUB-NAME",
            help="Register this checkpoint: a folder, a name on the Hugging Face hub, or a lab model.",
        ),
    ],
    name: Annotated[str | None, typer.Option("--name", help="Call it this. Default: the source's last part.")] = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Register a checkpoint with a fingerprint over its weights and tokenizer. Its files are only ever read.

    Example: kndb model add lab-bert
    """
    with open_or_create(db) as database:
        model = database.models.add(source, name)
        remark = database.models.remark(model.name)
    print_record(as_row(model), output)
    if remark is not None:
        note(remark)


@command(app, "convert", "Make an editable checkpoint of another format.")
def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="FOLDER-or-FILE", help="Read this checkpoint with pickled weights, or this GGUF file."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Make this folder.")],
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Write a pickled checkpoint or a GGUF file as safetensors, which can be edited.

    Example: kndb model convert old-checkpoint --out new-checkpoint
    """
    from kndb.database.models import convert_checkpoint

    print_record(as_row(convert_checkpoint(source, out)), output)


@command(app, "list", "List the registered models.", table=True)
def list_models(db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE) -> None:
    """List the registered models and their current versions.

    Example: kndb model list
    """
    with open_existing(db) as database:
        models = database.models.all()
    for model in models:
        _note_missing_checkpoint(model)
    rows = [{**as_row(model), "fingerprint": model.fingerprint[:12]} for model in models]
    if not rows:
        note(f"No model is registered yet; register one with: {call('models.add', Placeholder('PATH'))}")
    columns = ["name", "family", "layers", "neurons", "version", "fingerprint", "source"]
    print_rows(rows, columns, output, short=columns[:5])


@command(app, "show", "Show one model.")
def show(
    name: Annotated[str, typer.Argument(help="The model's name; see: kndb model list.")],
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show one model.

    Example: kndb model show lab-bert
    """
    with open_existing(db) as database:
        model = database.models.get(name)
    _note_missing_checkpoint(model)
    print_record(as_row(model), output)


def _note_missing_checkpoint(model: Model) -> None:
    if not model.has_checkpoint:
        note(
            f"Of {model.name} the store has imported results and no checkpoint; register it with: "
            f"{call('models.add', Placeholder('PATH'), name=model.name)}"
        )
