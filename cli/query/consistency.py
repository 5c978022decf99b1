"""`kndb query consistency`."""

from __future__ import annotations

from ..answering import note_refinement
from ..option_groups import ANY, Which, takes_which
from ..options import (
    DatabaseOption,
    FormatOption,
    RelationsOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_rows, progress_bar


@takes_which
def consistency(
    relation: RelationsOption = None,
    which: Which = ANY,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Measure how alike the neurons of a fact's paraphrases are: the mean Jaccard index of their coarse sets.

    Example: kndb query consistency --relation P176
    """
    with open_existing(db) as database, progress_bar("Consistency", "relations") as tick:
        chosen = which.chosen(database, relations=relation or [])
        found = database.query.consistency(relation or [], refinement=chosen.refinement, progress=tick)
    note_refinement(chosen)
    if not found:
        of = "these relations" if relation else "its relations"
        note(f"No fact of {of} has two attributed prompts in it, so there is nothing to compare.")
    columns = ["relation", "facts", "mean", "first_quartile", "median", "third_quartile"]
    rows = [as_row(row) for row in found]
    if output is OutputFormat.TABLE:
        rows = [{**row, "relation": row["relation"] or "all"} for row in rows]
    print_rows(rows, columns, output)
