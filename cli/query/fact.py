"""`kndb query fact`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kndb.records.models import Neuron

from ..answering import in_json, note_refinement, why_none
from ..option_groups import ANY, Which, takes_which
from ..options import (
    DatabaseOption,
    FactArgument,
    FormatOption,
    PartOption,
    open_existing,
)
from ..output import OutputFormat, as_row, note, print_parts

if TYPE_CHECKING:
    from kndb.records.queries import FactFindings
from .neuron import Parts


@takes_which
def fact(
    number: FactArgument,
    nearest: Annotated[
        int, typer.Option("--nearest", help="List so many of the facts that share the most neurons with it.")
    ] = 10,
    which: Which = ANY,
    part: PartOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show what is known of one fact: its prompts, the votes for its neurons, and the facts that share them.

    Example: kndb query fact 588 --nearest 5
    """
    with open_existing(db) as database:
        database.facts.get(number)
        chosen = which.chosen(database, facts=[number])
        found = database.query.fact(number, refinement=chosen.refinement, nearest=nearest)
    note_refinement(chosen)
    note(f"Fact {number} {found.fact.title}.")
    kinds = found.fact.evaluation_prompts
    if kinds:
        listed = ", ".join(f"{count} for {kind}" for kind, count in kinds.items())
        note(f"Its evaluation prompts, which only `kndb edit eval` asks: {listed}.")
    above = [prompt for prompt in found.prompts if prompt.above_tolerance]
    if above:
        than = "the tolerance of " if found.tolerance_asked else ""
        why = "" if found.tolerance_asked else " (fixed rule; no tolerance was asked)"
        note(f"{len(above)} of its prompts have a completeness error over {than}{found.error_limit:g}{why}.")
    if not found.neurons:
        note(why_none(number, chosen))
    print_parts(_fact_parts(found), output, part, {"refinement": in_json(chosen.refinement)}, short=_SHORT)


def _fact_parts(found: FactFindings) -> Parts:
    summary = {**as_row(found.fact), "share": found.share, "consistency": found.consistency, "neurons": found.neurons}
    votes = [{"name": str(Neuron(row.layer, row.neuron)), **as_row(row)} for row in found.votes]
    return {
        "fact": ([summary], list(summary)),
        "prompts": ([as_row(row) for row in found.prompts], _PROMPT_COLUMNS),
        "votes": (votes, ["name", "layer", "neuron", "prompts", "needed", "kept", "mean_score"]),
        "nearest": (
            [as_row(row) for row in found.nearest],
            ["fact", "relation", "subject", "object", "shared", "jaccard"],
        ),
    }


_SHORT = {
    "fact": ["id", "relation", "subject", "object", "prompts", "neurons", "share", "consistency"],
    "prompts": ["prompt", "text", "probability", "predicted", "correct", "coarse_set"],
    "votes": ["name", "prompts", "needed", "kept", "mean_score"],
}
"""The columns of each part's table without --wide."""
_PROMPT_COLUMNS = [
    "prompt",
    "text",
    "held_out",
    "probability",
    "predicted",
    "predicted_probability",
    "correct",
    "coarse_set",
    "completeness_error",
    "worst_layer",
    "above_tolerance",
    "skipped",
]
