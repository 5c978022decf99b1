"""`kndb model`: registered checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kndb.records.models import Model

from .options import DatabaseOption, FormatOption, open_existing, open_or_create
from .output import OutputFormat, as_row, note, print_record, print_rows

app = typer.Typer(no_args_is_help=True, help="Register checkpoints and look at them.")


@app.command()
def add(
    source: Annotated[str, typer.Argument(metavar="PATH-OR-HUB-NAME", help="A folder, a hub name, or a lab model.")],
    name: Annotated[
        str | None, typer.Option("--name", help="What to call it. Default: the source's last part.")
    ] = None,
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


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="FOLDER-or-FILE", help="A checkpoint with pickled weights, or a GGUF file.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make.")],
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Write a pickled checkpoint or a GGUF file as safetensors, which can be edited.

    Example: kndb model convert old-checkpoint --out new-checkpoint
    """
    from kndb.database.models import convert_checkpoint

    print_record(as_row(convert_checkpoint(source, out)), output)


@app.command("list")
def list_models(db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE) -> None:
    """List the registered models and their current versions.

    Example: kndb model list
    """
    with open_existing(db) as database:
        models = database.models.all()
    for model in models:
        _note_missing_checkpoint(model)
    rows = [{**as_row(model), "fingerprint": model.fingerprint[:12]} for model in models]
    print_rows(rows, ["name", "family", "layers", "neurons", "version", "fingerprint", "source"], output)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A registered model.")],
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
            f"kndb model add PATH --name {model.name}"
        )
