"""`kndb lab`: small models trained on a fact list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kndb.advice import call

from .options import FormatOption
from .output import OutputFormat, note, print_record, progress_bar

app = typer.Typer(no_args_is_help=True, help="Train small models that know one list of facts.")


@app.command()
def train(
    family: Annotated[str, typer.Option("--family", help="bert (masked) or gpt2 (causal).")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write the checkpoint folder.")],
    facts: Annotated[
        list[Path] | None,
        typer.Option(
            "--facts", metavar="PATH", help="Fact lists; repeatable. Default: kndb's own.", show_default=False
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            min=1,
            help="Passes over the training prompts. Default: 16, or as many as planting needs.",
            show_default=False,
        ),
    ] = None,
    layers: Annotated[int, typer.Option("--layers", min=1, help="Transformer layers.")] = 4,
    width: Annotated[int, typer.Option("--width", min=8, help="Hidden size.")] = 128,
    neurons: Annotated[int, typer.Option("--neurons", min=8, help="FFN neurons per layer.")] = 512,
    planted: Annotated[
        bool,
        typer.Option(
            "--planted", help="Give each relation and each fact FFN neurons of its own; planted.json says which."
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="For weights, dropout and order.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a checkpoint that is there.")] = False,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Train a model on every fact in every template that is not held out; a model card tells what it knows.

    Example: kndb lab train --family bert --facts my-facts.jsonl --out my-model --epochs 20
    """
    from kndb.database.lab import train_lab_model

    with progress_bar(f"Training a {family} lab model", "steps") as tick:
        trained = train_lab_model(
            family,
            out,
            facts or [],
            epochs=epochs,
            layers=layers,
            width=width,
            neurons=neurons,
            planted=planted,
            seed=seed,
            force=force,
            progress=tick,
        )
    note(f"Wrote {out}. Register it with: {call('models.add', out)}")
    print_record(trained, output)
