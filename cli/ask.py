"""`kndb ask`: a model's answers at any version."""

from __future__ import annotations

from typing import Annotated

import typer

from kndb.records.models import LAB_MODELS

from .options import (
    DatabaseOption,
    DeviceMapOption,
    DeviceOption,
    FormatOption,
    ModelOption,
    ThreadsOption,
    computing,
    open_existing,
    open_or_create,
)
from .output import OutputFormat, as_row, print_rows
from .visible import shown_exactly


def ask(
    text: Annotated[str, typer.Argument(help="Ask this: a sentence with one [MASK] or [Y].")],
    model: ModelOption,
    version: Annotated[
        str, typer.Option("--version", help="Use this version: base, current, a version id, or a snapshot's name.")
    ] = "current",
    top: Annotated[int, typer.Option("--top", help="Print so many answers, the most probable first.")] = 5,
    device: DeviceOption = "auto",
    device_map: DeviceMapOption = None,
    sum_alike: Annotated[
        bool,
        typer.Option(
            "--sum-alike", help="Sum up tokens that differ only in the space before them or in capital letters."
        ),
    ] = False,
    threads: ThreadsOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Ask a model, at its current or another version, to fill in a blank.

    Example: kndb ask --model lab-bert "The capital of France is [MASK]."
    """
    # A lab model needs nothing in the store: asking it works in an empty folder.
    open_database = open_or_create if model in LAB_MODELS else open_existing
    with open_database(db) as database, computing(threads):
        answers = database.models.ask(
            model, text, version=version, top=top, device=device, sum_alike=sum_alike, device_map=device_map
        )
    rows = [as_row(answer) for answer in answers]
    short = ["token", "probability", *(["spellings"] if sum_alike else [])]
    if output is OutputFormat.TABLE and len({row["token"] for row in rows}) < len(rows):
        rows = [{**row, "token": shown_exactly(row["text"])} for row in rows]
    print_rows(rows, ["token", "probability", "text", "id", "spellings"], output, short=short)
