"""`kndb query counts`."""

from __future__ import annotations

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

_COUNTS = [
    "relation",
    "facts",
    "facts_with_none",
    "neurons",
    "mean",
    "first_quartile",
    "median",
    "third_quartile",
    "largest",
]


@takes_which
def counts(
    relation: RelationsOption = None,
    which: Which = ANY,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Count the knowledge neurons that facts have, facts with none included.

    Example: kndb query counts
    """
    with open_existing(db) as database:
        chosen = which.chosen(database, relations=relation or [])
        found = database.query.counts(relation or [], refinement=chosen.refinement)
    note_refinement(chosen)
    print_rows(named(found, output), _COUNTS, output)
