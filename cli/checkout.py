"""`kndb checkout`: working copies of a checkpoint, switched between versions in place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kndb.errors import ModelError, UsageError

from .options import DatabaseOption, FormatOption, open_existing
from .output import OutputFormat, as_row, note, print_record


def checkout(
    folder: Annotated[
        Path,
        typer.Option(
            "--dir", metavar="DIR", help="Make the working copy in this folder, or switch the one that is there."
        ),
    ],
    version: Annotated[
        str | None,
        typer.Argument(
            metavar="VERSION",
            help="Use this version: base, current, a version id, or a snapshot's name.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Use this registered model. Default: that of the working copy.",
            show_default=False,
        ),
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Change nothing; say what the copy holds.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read and compare every value slot that was ever patched.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="With --status, compare all other bytes with the base checkpoint too.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the value slots whatever they hold.")] = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Make a working copy of a version, or switch one to it: only the bytes of edited value slots are written.

    Example: kndb checkout current --model lab-bert --dir working-copy
    """
    if status:
        if version is not None or model is not None or force:
            raise UsageError(
                "--status goes without VERSION, --model and --force; give it --dir alone, or with --verify or --full"
            )
        _print_status(folder, verify, full, db, output)
        return
    if version is None or full:
        raise UsageError(
            "VERSION is required, or --status (alone or with --verify or --full) to look at the working copy"
        )
    with open_existing(db) as database:
        done = database.checkouts.checkout(version, folder, model=model, verify=verify, force=force)
    if done.recovered:
        note(f"Before that: {done.recovered}.")
    print_record(as_row(done), output)


def _print_status(folder: Path, verify: bool, full: bool, db: str | None, output: OutputFormat) -> None:
    with open_existing(db) as database:
        found = database.checkouts.status(folder, verify=verify, full=full)
    print_record(as_row(found), output)
    if found.problems:
        count = f"{len(found.problems)} problem{'s' if len(found.problems) > 1 else ''}"
        raise ModelError(f"{folder}: {count}, the first being: {found.problems[0]}")
