"""Options that several commands share."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kndb.errors import StoreMissingError, UsageError
from kndb.records.locations import is_server, without_password

from . import completion
from .advice import objects_named, remember_database
from .numbers import edit_number, fact_number
from .output import OutputFormat

if TYPE_CHECKING:
    from kndb.database import Database

DATABASE_HELP = (
    "Use this database: a path, sqlite:///PATH or postgresql://USER@HOST/NAME. Default: $KNDB_DB, else ./kndb.db."
)


def _database(ctx: typer.Context, value: str | None) -> str | None:
    """The --db that was given: before the command, after it, or twice the same."""
    before = None if ctx.parent is None else ctx.find_root().params.get("db")
    if value is not None and before not in (None, value):
        shown = without_password(str(before)), without_password(value)
        raise UsageError(f"--db was given twice: {shown[0]} before the command, {shown[1]} after it; give one of them")
    chosen = before if value is None else value
    remember_database(chosen)
    return chosen


DatabaseOption = Annotated[
    str | None,
    typer.Option("--db", metavar="PATH-or-URL", help=DATABASE_HELP, show_default=False, callback=_database),
]
FormatOption = Annotated[OutputFormat, typer.Option("--format", help="Print the answer as a table, as JSON or as CSV.")]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Use this registered model; see: kndb model list.",
        autocompletion=completion.models,
    ),
]
OptionalModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Take only what belongs to this model. Default: any.",
        show_default=False,
        autocompletion=completion.models,
    ),
]
RelationsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--relation",
        metavar="KEY",
        help="Take only facts of this relation, such as P176; repeatable. Default: all.",
        show_default=False,
        autocompletion=completion.relations,
    ),
]
RefinementOption = Annotated[
    int | None,
    typer.Option(
        "--refinement",
        metavar="ID",
        help="Let this refinement answer; see: kndb query refinements. Default: the newest complete one by integrated "
        "gradients that holds the facts asked about.",
        show_default=False,
        autocompletion=completion.refinements,
    ),
]
RefinementMethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        help="Let the newest complete refinement by this method of attribution answer, such as activation.",
        show_default=False,
    ),
]
PartOption = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="NAME",
        help="Print only this part of the answer. CSV needs one. Default: all.",
        show_default=False,
    ),
]
LimitOption = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", help="Print at most so many facts. Default: all.", show_default=False),
]
EditArgument = Annotated[
    int,
    typer.Argument(
        metavar="EDIT",
        help="The edit's number; see: kndb edit list.",
        parser=edit_number,
        autocompletion=completion.edits,
    ),
]
FactArgument = Annotated[
    int, typer.Argument(metavar="FACT", help="The fact's number; see: kndb query facts.", parser=fact_number)
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        help="Compute with so many threads on the CPU. Default: $KNDB_THREADS, else the physical cores that are free.",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="Compute on this device: cpu, cuda or mps; auto takes the fastest.")
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="local|ray",
        help="Compute in this process (local), or with workers of a Ray cluster (ray); see: kndb docs scale.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        help="With ray, use so many workers, each with the model in memory. Default: one for each GPU, else one for "
        "each machine.",
        show_default=False,
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="With ray, join the cluster with this head; auto is the one on this machine. Default: $RAY_ADDRESS, else "
        "start one on this machine that ends with the command.",
        show_default=False,
    ),
]
GpusPerWorkerOption = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker",
        metavar="N",
        help="With ray, give each worker so many GPUs, or a share of one. Default: 1, or 0 without GPUs.",
        show_default=False,
    ),
]

DeviceMapOption = Annotated[
    str | None,
    typer.Option(
        "--device-map",
        metavar="auto|FILE",
        help="Keep weights that --device has no room for on other devices, in memory or on the disk: as the free "
        "memory allows (auto), or as this JSON file says. Default: all on --device.",
        show_default=False,
    ),
]
DTYPES = "float32, tf32, bfloat16, float16 or float64"
DtypeOption = Annotated[str, typer.Option("--dtype", help=f"Compute in this precision: {DTYPES}.")]


@contextmanager
def computing(threads: int | None) -> Iterator[int]:
    """Computes with a number of threads; None takes the default of `kndb.database.threads`."""
    from kndb.database.threads import use_threads

    with use_threads(threads) as used:
        yield used


def open_existing(location: str | None) -> Database:
    """Opens a database that must be there."""
    from kndb.database import open_database

    with explained(location):
        return open_database(location, create=False, objects=objects_named())


def open_or_create(location: str | None) -> Database:
    """Opens a database, making a new one where there is none."""
    from kndb.database import open_database

    return open_database(location, create=True, objects=objects_named())


@contextmanager
def explained(location: str | None) -> Iterator[None]:
    """Says, where a database is missing, what named it, and what to do.

    Raises:
        StoreMissingError: in place of the block's.
    """
    try:
        yield
    except StoreMissingError as error:
        if is_server(location or os.environ.get("KNDB_DB", "")):
            raise  # Its own message says what to do on a server.
        raise StoreMissingError(_missing(error.text, location, os.environ.get("KNDB_DB"))) from error


def _missing(found: str, location: str | None, variable: str | None) -> str:
    """Why there is no database, and what to do.

    Args:
        found: what was found.
        location: the --db that was given.
        variable: the environment's KNDB_DB.
    """
    what = found.partition(";")[0]
    if location is not None:
        make = f"kndb db init --db {shlex.quote(location)}"
        return f"--db {location}: {what}; check the path, or make a database there with: {make}"
    if variable:
        return (
            f"KNDB_DB={variable}: {what}. Set this environment variable to another file, name one with --db PATH, or "
            "make a database there with: kndb db init"
        )
    near = sorted(str(path) for path in Path().glob("*.db") if path.name != "kndb.db")[:3]
    here = f"; this folder has {', '.join(near)}" if near else ""
    return (
        f"{what}: neither --db nor KNDB_DB is set, so kndb looked for ./kndb.db{here}. Name your database with "
        "--db PATH, or make one here: kndb ingest PATH makes it with its first facts, kndb db init an empty one"
    )
