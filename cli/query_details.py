"""`kndb query neuron`, `fact`, `consistency` and `sql`: the details, and whatever else SQL can ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kndb.errors import UsageError
from kndb.records import Neuron, Refinement

from .options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    PartOption,
    RefinementOption,
    RelationsOption,
    open_existing,
)
from .output import OutputFormat, as_row, note, print_parts, print_rows, progress_bar, require_part

if TYPE_CHECKING:
    from kndb.database import Database
    from kndb.findings import FactFindings, NeuronFindings

_NEURON_PARTS = ("neuron", "relations", "facts", "edits", "tokens")

Parts = dict[str, tuple[list[dict[str, Any]], list[str]]]


def neuron(
    name: Annotated[
        str, typer.Argument(metavar="NEURON", help="A neuron, such as L10.N2827: layer 10, neuron 2827, from 0.")
    ],
    refinement: RefinementOption = None,
    model: OptionalModelOption = None,
    top: Annotated[int, typer.Option("--top", help="How many promoted and how many demoted tokens.")] = 10,
    tokens: Annotated[
        bool, typer.Option("--tokens/--no-tokens", help="Load the model for the value slot's effect on tokens.")
    ] = True,
    version: Annotated[
        str, typer.Option("--version", help="Whose value slot: a version id, a snapshot's name, base or current.")
    ] = "current",
    limit: Annotated[int | None, typer.Option("--limit", help="At most so many facts.", show_default=False)] = None,
    part: PartOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """What is known of one neuron: the relations and facts that hold it, the tokens it speaks for, edits of it.

    Example: kndb query neuron L10.N2827 --limit 20
    """
    place = Neuron.parse(name)
    require_part(_NEURON_PARTS if tokens else _NEURON_PARTS[:-1], output, part)
    if limit is not None and limit < 1:
        raise UsageError(f"found limit {limit}; expected at least 1")
    with open_existing(db) as database:
        chosen = database.query.refinement(refinement, model)
        found = database.query.neuron(place, refinement=chosen.id)
        parts = _neuron_parts(found, limit)
        if tokens and part in (None, "tokens"):
            rows = _token_rows(database, chosen, place, version, top, required=part is not None)
            parts.update({} if rows is None else {"tokens": (rows, ["kind", "token", "effect"])})
    number = found.facts_holding
    holders = "no fact holds it" if not number else f"{number} {'fact holds' if number == 1 else 'facts hold'} it"
    note(f"{_of(chosen)}, neuron {place}: {holders}.")
    print_parts(parts, output, part)


def fact(
    number: Annotated[int, typer.Argument(metavar="FACT", help="A fact's number; see: kndb query facts.")],
    nearest: Annotated[
        int, typer.Option("--nearest", help="How many of the facts that share most neurons with it.")
    ] = 10,
    refinement: RefinementOption = None,
    model: OptionalModelOption = None,
    part: PartOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """What is known of one fact: its prompts, the votes for its neurons, the facts that share them.

    Example: kndb query fact 588 --nearest 5
    """
    with open_existing(db) as database:
        chosen = database.query.refinement(refinement, model)
        found = database.query.fact(number, refinement=chosen.id, nearest=nearest)
    note(f"{_of(chosen)}, fact {number} {found.fact.title}.")
    above = [prompt for prompt in found.prompts if prompt.above_tolerance]
    if above:
        than = "the tolerance of " if found.tolerance_asked else ""
        why = "" if found.tolerance_asked else " (fixed rule; no tolerance was asked)"
        note(f"{len(above)} of its prompts have a completeness error over {than}{found.error_limit:g}{why}.")
    if all(prompt.probability is None for prompt in found.prompts) and not found.votes:
        note("The run has no results for it; give it some with: kndb attribute, then kndb refine.")
    print_parts(_fact_parts(found), output, part)


def consistency(
    relation: RelationsOption = None,
    refinement: RefinementOption = None,
    model: OptionalModelOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """How alike the neurons are that a fact's paraphrases find: mean Jaccard index of their coarse sets.

    Example: kndb query consistency --relation P176
    """
    with open_existing(db) as database, progress_bar("Consistency", "relations") as tick:
        chosen = database.query.refinement(refinement, model)
        found = database.query.consistency(relation or [], refinement=chosen.id, progress=tick)
    note(f"{_of(chosen)}.")
    if not found:
        note("No fact of these relations has two prompts with coarse sets in it.")
    columns = ["relation", "facts", "mean", "first_quartile", "median", "third_quartile"]
    rows = [as_row(row) for row in found]
    if output is OutputFormat.TABLE:
        rows = [{**row, "relation": row["relation"] or "all"} for row in rows]
    print_rows(rows, columns, output)


def sql(
    query: Annotated[str, typer.Argument(metavar="SQL", help="One statement that only reads; see docs/schema.md.")],
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """Run an SQL query of your own on the database, whatever its schema revision; it can only read.

    Example: kndb query sql "SELECT key, label FROM relation"
    """
    from kndb.database.query_sql import query_database

    columns, found = query_database(query, db)
    rows = [{name: _printable(value) for name, value in zip(columns, row, strict=True)} for row in found]
    print_rows(rows, columns, output)


def _token_rows(
    database: Database, refinement: Refinement, neuron: Neuron, version: str, top: int, *, required: bool
) -> list[dict[str, Any]] | None:
    """Rows of promoted and demoted tokens; None, with a note, where the model is known by imported results alone."""
    model = database.query.model_of(refinement.id)
    if not model.has_checkpoint and not required:
        note(
            f"Of model {model.name} there are imported results only, so tokens are left out; give it its checkpoint "
            f"with: kndb model add PATH --name {model.name}"
        )
        return None
    found = database.models.token_effects(model.name, neuron, version=version, top=top)
    kinds = zip(("promoted", "demoted"), found, strict=True)
    return [{"kind": kind, **as_row(effect)} for kind, effects in kinds for effect in effects]


def _neuron_parts(found: NeuronFindings, limit: int | None) -> Parts:
    summary = {
        "name": str(Neuron(found.layer, found.neuron)),
        "layer": found.layer,
        "neuron": found.neuron,
        "facts_holding": found.facts_holding,
        "mean_score": found.mean_score,
    }
    facts = [as_row(row) for row in found.facts[:limit]]
    return {
        "neuron": ([summary], list(summary)),
        "relations": ([as_row(row) for row in found.relations], ["relation", "label", "facts", "share", "mean_score"]),
        "facts": (facts, ["fact", "relation", "subject", "object", "prompts", "mean_score"]),
        "edits": ([as_row(row) for row in found.edits], ["edit", "kind", "target", "applied", "created_at"]),
    }


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


def _of(refinement: Refinement) -> str:
    return f"Refinement {refinement.id} of run {refinement.run_id}"


def _printable(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
