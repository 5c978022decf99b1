"""`kndb query counts`."""

from __future__ import annotations

from ..options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    RefinementOption,
    RelationsOption,
    open_existing,
)
from ..output import OutputFormat, print_rows
from .refinement_notes import named, note_refinement

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


def counts(
    relation: RelationsOption = None,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Count the knowledge neurons that facts have, facts with none included.

    Example: kndb query counts
    """
    with open_existing(db) as database:
        chosen = database.query.refinement(refinement, model)
        found = database.query.counts(relation or [], refinement=chosen.id)
    note_refinement(chosen, relation)
    print_rows(named(found, output), _COUNTS, output)
