"""`kndb query neurons`."""

from __future__ import annotations

from kndb.records.models import Neuron

from ..answering import note_refinement, why_none
from ..options import (
    DatabaseOption,
    FactArgument,
    FormatOption,
    OptionalModelOption,
    RefinementMethodOption,
    RefinementOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_rows


def neurons(
    fact: FactArgument,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    method: RefinementMethodOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List the knowledge neurons of one fact.

    Example: kndb query neurons 588
    """
    with open_existing(db) as database:
        title = database.facts.get(fact).title
        chosen = database.query.choose(refinement, model, method=method, facts=[fact])
        found = database.query.neurons_of_fact(fact, refinement=chosen.refinement)
    note_refinement(chosen)
    note(f"Fact {fact} {title}.")
    if not found:
        note(why_none(fact, chosen))
    rows = [{**as_row(row), "name": str(Neuron(row.layer, row.neuron))} for row in found]
    columns = ["name", "layer", "neuron", "prompts", "mean_score"]
    print_rows(rows, columns, output, short=["name", "prompts", "mean_score"])
