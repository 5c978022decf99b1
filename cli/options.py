"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from kndb.advice import call

from .advice import for_shell, remember_database
from .output import OutputFormat

if TYPE_CHECKING:
    from kndb.database import Database


def _fact_number(text: str | int) -> int:
    """The number in a fact's place on the command line; a subject's text is a near miss."""
    if isinstance(text, int) or text.strip().isdecimal():
        return int(text)
    search = for_shell(call("facts.find", subject=text))
    raise typer.BadParameter(f"{text!r} is no fact's number; find it with: {search}")


DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="PATH-or-URL",
        help="The database: a path or sqlite:///PATH. Default: $KNDB_DB, else ./kndb.db.",
        show_default=False,
    ),
]
FormatOption = Annotated[OutputFormat, typer.Option("--format", help="How to print the answer.")]
ModelOption = Annotated[str, typer.Option("--model", metavar="NAME", help="A registered model; see: kndb model list.")]
OptionalModelOption = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Only this model's.", show_default=False)
]
RelationsOption = Annotated[
    list[str] | None,
    typer.Option("--relation", metavar="KEY", help="Only this relation, such as P176; repeatable.", show_default=False),
]
RefinementOption = Annotated[
    int | None,
    typer.Option(
        "--refinement",
        metavar="ID",
        help="Which refinement answers. Default: the newest complete one by integrated gradients that holds the facts "
        "asked about; see: kndb query refinements.",
        show_default=False,
    ),
]
RefinementMethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help="The newest complete refinement by this method of attribution, such as activation.",
        show_default=False,
    ),
]
FactArgument = Annotated[
    int, typer.Argument(metavar="FACT", parser=_fact_number, help="A fact's number; see: kndb query facts.")
]
PartOption = Annotated[
    str | None,
    typer.Option(
        "--part", metavar="NAME", help="Only this part of the answer; CSV prints one at a time.", show_default=False
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", help="At most so many facts.", show_default=False)]
EditArgument = Annotated[int, typer.Argument(metavar="EDIT", help="An edit's number; see: kndb edit list.")]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="Threads to compute with. Default: $KNDB_THREADS, else the physical cores that are free.",
        show_default=False,
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]


@contextmanager
def computing(threads: int | None) -> Iterator[int]:
    """Computes with a number of threads; None takes the default of `kndb.database.threads`."""
    from kndb.database.threads import use_threads

    with use_threads(threads) as used:
        yield used


def open_existing(location: str | None) -> Database:
    """Opens a database that must be there."""
    from kndb.database import open_database

    remember_database(location)
    return open_database(location, create=False)


def open_or_create(location: str | None) -> Database:
    """Opens a database, making a new one where there is none."""
    from kndb.database import open_database

    remember_database(location)
    return open_database(location, create=True)
