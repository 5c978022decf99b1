"""`kndb query consistency`."""

from __future__ import annotations

from ..options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    RefinementOption,
    RelationsOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_rows, progress_bar
from .refinement_notes import refinement_and_run


def consistency(
    relation: RelationsOption = None,
    refinement: RefinementOption = None,
    model: OptionalModelOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Measure how alike the neurons of a fact's paraphrases are: the mean Jaccard index of their coarse sets.

    Example: kndb query consistency --relation P176
    """
    with open_existing(db) as database, progress_bar("Consistency", "relations") as tick:
        chosen = database.query.refinement(refinement, model)
        found = database.query.consistency(relation or [], refinement=chosen.id, progress=tick)
    note(f"{refinement_and_run(chosen)}.")
    if not found:
        note("No fact of these relations has two prompts with coarse sets in it.")
    columns = ["relation", "facts", "mean", "first_quartile", "median", "third_quartile"]
    rows = [as_row(row) for row in found]
    if output is OutputFormat.TABLE:
        rows = [{**row, "relation": row["relation"] or "all"} for row in rows]
    print_rows(rows, columns, output)
