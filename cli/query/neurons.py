"""`kndb query neurons`."""

from __future__ import annotations

from kndb.records.models import Neuron

from ..answering import note_refinement, why_none
from ..option_groups import ANY, Which, takes_which
from ..options import (
    DatabaseOption,
    FactArgument,
    FormatOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_rows


@takes_which
def neurons(
    fact: FactArgument,
    which: Which = ANY,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List the knowledge neurons of one fact.

    Example: kndb query neurons 588
    """
    with open_existing(db) as database:
        title = database.facts.get(fact).title
        chosen = which.chosen(database, facts=[fact])
        found = database.query.neurons_of_fact(fact, refinement=chosen.refinement)
    note_refinement(chosen)
    note(f"Fact {fact} {title}.")
    if not found:
        note(why_none(fact, chosen))
    rows = [{**as_row(row), "name": str(Neuron(row.layer, row.neuron))} for row in found]
    columns = ["name", "layer", "neuron", "prompts", "mean_score"]
    print_rows(rows, columns, output, short=["name", "prompts", "mean_score"])
