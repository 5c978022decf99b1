"""`kndb query neurons`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kndb.advice import call
from kndb.records.attribution import Refinement
from kndb.records.models import Neuron

from ..options import (
    DatabaseOption,
    FactArgument,
    FormatOption,
    OptionalModelOption,
    RefinementOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_rows
from .refinement_notes import refinement_and_run

if TYPE_CHECKING:
    from kndb.database import Database


def neurons(
    fact: FactArgument,
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List the knowledge neurons of one fact.

    Example: kndb query neurons 1
    """
    with open_existing(db) as database:
        chosen = database.query.refinement(refinement, model)
        title = database.facts.get(fact).title
        found = database.query.neurons_of_fact(fact, refinement=chosen.id)
        why = None if found else _why_none(database, fact, chosen)
    note(f"{refinement_and_run(chosen)}, fact {fact} {title}.")
    if why is not None:
        note(why)
    rows = [{**as_row(row), "name": str(Neuron(row.layer, row.neuron))} for row in found]
    columns = ["name", "layer", "neuron", "prompts", "mean_score"]
    print_rows(rows, columns, output, short=["name", "prompts", "mean_score"])


def _why_none(database: Database, fact: int, refinement: Refinement) -> str:
    """Why a fact has no knowledge neurons, and what would give it some."""
    prompts = database.query.fact(fact, refinement=refinement.id).prompts
    if all(prompt.probability is None for prompt in prompts):
        model = database.query.model_of(refinement.id).name
        again = call("attribution.run", model=model, fact_ids=[fact])
        return f"The refinement's run has no results for its prompts; give it some with: {again}"
    return (
        "No neuron is in the coarse sets of enough of its prompts; see which come near, and how many votes they need, "
        f"with: {call('query.fact', fact, refinement=refinement.id)}"
    )
