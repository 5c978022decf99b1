"""`kndb query layers`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..answering import note_refinement
from ..option_groups import ANY, Which, takes_which
from ..options import (
    DatabaseOption,
    FormatOption,
    RelationsOption,
    open_existing,
)
from ..output import OutputFormat, print_rows
from .rows import named

_LAYERS = ["layer", "pairs", "share", "neurons"]


@takes_which
def layers(
    relation: RelationsOption = None,
    by_relation: Annotated[
        bool, typer.Option("--by-relation", help="Count each relation by itself, not all together.")
    ] = False,
    which: Which = ANY,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Count the knowledge neurons in each layer.

    Example: kndb query layers --relation P176
    """
    with open_existing(db) as database:
        chosen = which.chosen(database, relations=relation or [])
        found = database.query.layers(relation or [], refinement=chosen.refinement, by_relation=by_relation)
    note_refinement(chosen)
    print_rows(named(found, output), ["relation", *_LAYERS], output)
