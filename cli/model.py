"""`kndb model`: registered checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from kndb.advice import Placeholder, call
from kndb.errors import UsageError
from kndb.records.models import LAB_MODELS, FedToken, Model

from .commands import command, group
from .options import DatabaseOption, FormatOption, open_existing, open_or_create
from .output import OutputFormat, as_row, note, print_record, print_rows
from .visible import shown_exactly

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
    chat: Annotated[
        bool,
        typer.Option("--chat", help="Wrap every prompt in the checkpoint's chat template; the assistant answers."),
    ] = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Register a checkpoint with a fingerprint over its weights and tokenizer. Its files are only ever read.

    Example: kndb model add lab-bert
    """
    with open_or_create(db) as database:
        model = database.models.add(source, name, chat=chat)
        remark = database.models.remark(model.name)
    print_model(model, output)
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
    tokens: Annotated[
        str | None,
        typer.Option("--tokens", metavar="TEXT", help="Show what the model is fed for this sentence, with its blank."),
    ] = None,
    answer: Annotated[
        str | None, typer.Option("--answer", help="With --tokens, show the tokens of this answer, too.")
    ] = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show one model, or the tokens that it is fed for a sentence.

    Example: kndb model show lab-bert
    """
    if tokens is None and answer is not None:
        raise UsageError("--answer goes with --tokens: name the sentence that it answers")
    open_database = open_or_create if tokens is not None and name in LAB_MODELS else open_existing
    with open_database(db) as database:
        if tokens is not None:
            print_fed(database.models.tokens(name, tokens, answer), output)
            return
        model = database.models.get(name)
    _note_missing_checkpoint(model)
    print_model(model, output)


def print_model(model: Model, output: OutputFormat) -> None:
    """Prints a model; people read of a chat template where there is one."""
    row = as_row(model)
    if output is OutputFormat.TABLE and model.chat_template is None:
        del row["chat_template"]
    print_record(row, output)


def print_fed(tokens: Sequence[FedToken], output: OutputFormat) -> None:
    """Prints what a model is fed; in a table, texts stand between marks, so that their spaces are seen."""
    rows = [as_row(token) for token in tokens]
    if output is OutputFormat.TABLE:
        rows = [{**row, "text": shown_exactly(row["text"])} for row in rows]
    print_rows(rows, ["part", "position", "id", "token", "text", "kind", "reads"], output)


def _note_missing_checkpoint(model: Model) -> None:
    if not model.has_checkpoint:
        note(
            f"Of {model.name} the store has imported results and no checkpoint; register it with: "
            f"{call('models.add', Placeholder('PATH'), name=model.name)}"
        )
