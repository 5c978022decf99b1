"""`kndb query neurons`."""

from __future__ import annotations

from typing import Annotated

import typer

from kndb.records.models import Neuron

from ..options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    RefinementOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_rows
from .refinement_notes import refinement_and_run


def neurons(
    fact: Annotated[int, typer.Argument(help="A fact's number; see: kndb query facts.")],
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """The knowledge neurons of one fact.

    Example: kndb query neurons 588
    """
    with open_existing(db) as database:
        chosen = database.query.refinement(refinement, model)
        title = database.facts.get(fact).title
        found = database.query.neurons_of_fact(fact, refinement=chosen.id)
    note(f"{refinement_and_run(chosen)}, fact {fact} {title}.")
    rows = [{**as_row(row), "name": str(Neuron(row.layer, row.neuron))} for row in found]
    print_rows(rows, ["name", "layer", "neuron", "prompts", "mean_score"], output)
