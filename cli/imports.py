"""`kndb import`: results of others, and what another store exported."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from kndb.advice import Placeholder, call
from kndb.errors import UsageError

from .answering import note_who_answers
from .commands import command, group
from .options import DatabaseOption, FormatOption, RelationsOption, open_existing, open_or_create
from .output import OutputFormat, as_row, note, print_record, progress_bar

app = group("Store results of others, and what kndb exported from another store.")

_SHOWN = 3

ModelNameOption = Annotated[
    str | None,
    typer.Option(
        "--model-name",
        metavar="NAME",
        help="Store them for this model. Default: the one that kndb's own files name.",
        show_default=False,
    ),
]
MostBytesOption = Annotated[
    int | None,
    typer.Option(
        "--most-bytes",
        metavar="N",
        help="Refuse files with more bytes of unpacked text than this. Default: 1 GiB.",
        show_default=False,
    ),
]


@command(app, "neurons", "Store sets of neurons found elsewhere.")
def neurons(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Read these files of neurons.")],
    input_format: Annotated[
        str, typer.Option("--input-format", help="Read files as eleutherai, csv or kndb; auto finds out which.")
    ] = "auto",
    model_name: ModelNameOption = None,
    layers: Annotated[
        int | None,
        typer.Option("--layers", help="Say how many layers a model has that is not registered.", show_default=False),
    ] = None,
    neurons_per_layer: Annotated[
        int | None,
        typer.Option("--neurons", help="Say how many FFN neurons each of its layers has.", show_default=False),
    ] = None,
    facts_by: Annotated[
        str,
        typer.Option(
            "--facts-by", help="Read facts' names in CSV files as external-id (the source's) or number (the store's)."
        ),
    ] = "external-id",
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--setting", metavar="KEY=VALUE", help="Store how the sets were made; repeatable.", show_default=False
        ),
    ] = None,
    most_bytes: MostBytesOption = None,
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
            **_bound(most_bytes),
        )
        note_who_answers(database, database.query.refinement(report.refinement))
    _note_unjoined(report.unjoined)
    if report.superseded:
        note(f"Left out {_few(report.superseded, 'set')} of facts that another id stands for, with another set.")
    if report.already_there:
        note(f"Nothing is new: refinement {report.refinement} holds these sets already.")
    _print(asdict(report), ("unjoined", "superseded"), output)


@command(app, "scores", "Store a run that another store exported.")
def scores(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file that kndb export scores wrote.")],
    model_name: ModelNameOption = None,
    most_bytes: MostBytesOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Store a run with its results and scores, as another store exported it: all of it, or nothing.

    Example: kndb import scores scores.csv --db elsewhere.db
    """
    with open_existing(db) as database, progress_bar("Importing") as progress:
        report = database.exchange.import_scores(path, model_name=model_name, progress=progress, **_bound(most_bytes))
    _note_unjoined(report.unjoined)
    if report.missing_prompts:
        note(
            f"Left out {_few(report.missing_prompts, 'prompt')} that the store lacks. Ingest the templates, then "
            f"import again: {call('facts.ingest', Placeholder('PATH'))}"
        )
    if report.already_there:
        note(f"Nothing is new: run {report.run} has a result of each of these prompts already.")
    _print(asdict(report), ("unjoined", "missing_prompts"), output)


@command(app, "facts", "Store facts that another store exported.")
def facts(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Read these CSV, JSON-lines or Parquet files.")],
    relation: RelationsOption = None,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Skip rows that can't be used, and list them, instead of stopping.")
    ] = False,
    most_bytes: MostBytesOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Store facts, templates and prompts that `kndb export facts` wrote, Parquet included: what is new, or nothing.

    Example: kndb import facts facts.parquet --db elsewhere.db
    """
    with open_or_create(db) as database:
        report = database.exchange.import_facts(
            paths, relations=relation or [], skip_invalid=skip_invalid, **_bound(most_bytes)
        )
    for line in report.rejected:
        note(f"Left out: {line}")
    _print(as_row(report), ("rejected",), output)


def _bound(most_bytes: int | None) -> dict[str, int]:
    """The limit that was given, or nothing, so that the default stays where it is defined."""
    return {} if most_bytes is None else {"most_bytes": most_bytes}


def _setting(text: str) -> tuple[str, object]:
    """A setting's name, and its value: a number, true, false or null where it reads like one, else text."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise UsageError(f"--setting must be KEY=VALUE, for example threshold=0.3 (got {text!r})")
    try:
        parsed = json.loads(value)
    except ValueError:
        return name.strip(), value
    return name.strip(), value if isinstance(parsed, (dict, list)) else parsed


def _note_unjoined(names: Sequence[str]) -> None:
    if names:
        note(
            f"Left out {_few(names, 'fact')} that the store lacks. Ingest the relations that they belong to, then "
            f"import again: {call('facts.ingest', Placeholder('PATH'))}"
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
