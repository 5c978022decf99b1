"""`kndb query refinements`."""

from __future__ import annotations

from kndb.advice import call

from ..options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_rows


def refinements(
    model: OptionalModelOption = None, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """List the refinements.

    Example: kndb query refinements
    """
    with open_existing(db) as database:
        found = database.query.refinements(model)
        rows = [
            {
                **as_row(row),
                "neurons_per_fact": database.query.neuron_counts(row.id)[1],
                "relations": len(row.relations),
            }
            for row in found
        ]
    if not rows:
        note(f"There is no refinement yet; make one of a run's scores with: {call('attribution.refine', model=model)}")
    columns = ["id", "run_id", "relations", "neurons_per_fact", "settings", "created_at"]
    print_rows(rows, columns, output, short=columns[:-1])
