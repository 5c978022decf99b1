"""`kndb query refinements`."""

from __future__ import annotations

from ..options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    open_existing,
)
from ..output import OutputFormat, as_row, print_rows


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
    print_rows(rows, ["id", "run_id", "relations", "neurons_per_fact", "settings", "created_at"], output)
