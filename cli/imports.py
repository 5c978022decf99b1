"""`kndb import`: results of others, and what another store exported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kndb.errors import UsageError

from .options import DatabaseOption, FormatOption, RelationsOption, open_existing, open_or_create
from .output import OutputFormat, as_row, note, print_record, progress_bar

app = typer.Typer(no_args_is_help=True, help="Import results of others, and what kndb exported elsewhere.")

_SHOWN = 3

ModelNameOption = Annotated[
    str | None,
    typer.Option(
        "--model-name",
        metavar="NAME",
        help="The model that they are about; kndb's own files name it themselves.",
        show_default=False,
    ),
]


@app.command()
def neurons(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Files of neurons.")],
    input_format: Annotated[str, typer.Option("--input-format", help="auto, eleutherai, csv or kndb.")] = "auto",
    model_name: ModelNameOption = None,
    layers: Annotated[
        int | None,
        typer.Option("--layers", help="Layers of a model that the store does not have.", show_default=False),
    ] = None,
    neurons_per_layer: Annotated[
        int | None, typer.Option("--neurons", help="FFN neurons in each of its layers.", show_default=False)
    ] = None,
    facts_by: Annotated[
        str, typer.Option("--facts-by", help="How a CSV file names facts: external-id or number.")
    ] = "external-id",
    setting: Annotated[
        list[str] | None,
        typer.Option("--setting", metavar="KEY=VALUE", help="How the sets were made; repeatable.", show_default=False),
    ] = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Store sets of knowledge neurons that were found elsewhere, as a refinement: all of them, or nothing.

    Example: kndb import neurons neurons.parquet --db elsewhere.db
    """
    settings = dict(_setting(text) for text in setting or [])
    with open_existing(db) as database:
        report = database.exchange.import_neurons(
            paths,
            input_format=input_format,
            model_name=model_name,
            layers=layers,
            neurons=neurons_per_layer,
            facts_by=facts_by,
            settings=settings,
        )
    _note_unjoined(report.unjoined)
    if report.superseded:
        note(f"Left out {_few(report.superseded, 'set')} of facts that another id stands for, with another set.")
    if report.already_there:
        note(f"Nothing is new: refinement {report.refinement} holds these sets already.")
    _print(asdict(report), ("unjoined", "superseded"), output)


@app.command()
def scores(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `kndb export scores` wrote.")],
    model_name: ModelNameOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Store a run with its results and scores, as another store exported it: all of it, or nothing.

    Example: kndb import scores scores.csv --db elsewhere.db
    """
    with open_existing(db) as database, progress_bar("Importing") as progress:
        report = database.exchange.import_scores(path, model_name=model_name, progress=progress)
    _note_unjoined(report.unjoined)
    if report.missing_prompts:
        note(
            f"Left out {_few(report.missing_prompts, 'prompt')} that the store does not have. Ingest the templates "
            "with `kndb ingest PATH`, then import again."
        )
    if report.already_there:
        note(f"Nothing is new: run {report.run} has a result of each of these prompts already.")
    _print(asdict(report), ("unjoined", "missing_prompts"), output)


@app.command()
def facts(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE…", help="CSV, JSON-lines or Parquet files.")],
    relation: RelationsOption = None,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Leave invalid rows out and list them, instead of stopping.")
    ] = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Store facts, templates and prompts that `kndb export facts` wrote, Parquet included: what is new, or nothing.

    Example: kndb import facts facts.parquet --db elsewhere.db
    """
    with open_or_create(db) as database:
        report = database.exchange.import_facts(paths, relations=relation or [], skip_invalid=skip_invalid)
    for line in report.rejected:
        note(f"Left out: {line}")
    _print(as_row(report), ("rejected",), output)


def _setting(text: str) -> tuple[str, object]:
    """A setting's name, and its value: a number, true, false or null where it reads like one, else text."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"found --setting {text!r}; expected KEY=VALUE, for example: --setting threshold=0.3")
    try:
        parsed = json.loads(value)
    except ValueError:
        return name.strip(), value
    return name.strip(), value if isinstance(parsed, (dict, list)) else parsed


def _note_unjoined(names: Sequence[str]) -> None:
    if names:
        note(
            f"Left out {_few(names, 'fact')} that the store does not have. Ingest the relations that they belong to "
            "with `kndb ingest PATH`, then import again."
        )


def _few(names: Sequence[str], what: str) -> str:
    shown = ", ".join(names[:_SHOWN])
    more = ", …" if len(names) > _SHOWN else ""
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'} ({shown}{more})"


def _print(report: dict[str, object], lists: Sequence[str], output: OutputFormat) -> None:
    """Prints a report; its lists as such in JSON only, elsewhere their lengths."""
    if output is not OutputFormat.JSON:
        report.update({name: len(report[name]) for name in lists})  # type: ignore[arg-type]
    print_record(report, output)
