"""`kndb edit push`: edits into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..numbers import parse_numbers
from ..options import DatabaseOption, FormatOption, open_existing
from ..output import OutputFormat, as_row, print_record
from .steps import EditsArgument


def push(
    edits: EditsArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Write this file, such as toyota.kndb.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Write edits to one file that a colleague with the same checkpoint can pull; with what they build on.

    Example: kndb edit push 1 --out toyota.kndb
    """
    with open_existing(db) as database:
        done = database.edits.push(parse_numbers(edits), out, force=force)
    print_record(as_row(done), output)
