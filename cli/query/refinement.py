"""`kndb query refinement`."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import completion
from ..answering import note_refinement
from ..options import DatabaseOption, FormatOption, PartOption, open_existing
from ..output import OutputFormat, as_row, print_parts, require_part
from .refinements import refinement_rows

_REFINEMENT = ["id", "model", "method", "run_id", "version", "complete", "negative", "imported", "default", "facts"]
_REFINEMENT += ["neurons_per_fact", "settings", "created_at"]
_RELATIONS = ["relation", "label", "facts", "facts_with_neurons", "mean_size", "share", "passes"]
_SHORT = {"refinement": ["id", "method", "run_id", "facts", "neurons_per_fact", "complete", "default"]}
"""The columns of its table without --wide."""


def refinement(
    number: Annotated[
        int,
        typer.Argument(
            metavar="REFINEMENT",
            help="The refinement's number; see: kndb query refinements.",
            autocompletion=completion.refinements,
        ),
    ],
    part: PartOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show one refinement: of which run and by which settings it is, and what it holds of each relation.

    Example: kndb query refinement 1
    """
    require_part(("refinement", "relations"), output, part)
    with open_existing(db) as database:
        chosen = database.query.choose(number)
        one = chosen.refinement
        rows = refinement_rows(database, [one])
        labels = database.facts.labels()
    note_refinement(chosen)
    relations = [{**as_row(row), "label": labels.get(row.relation)} for row in one.relations]
    print_parts({"refinement": (rows, _REFINEMENT), "relations": (relations, _RELATIONS)}, output, part, short=_SHORT)
