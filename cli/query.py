"""`kndb query`: questions to the store."""

from __future__ import annotations

from typing import Annotated

import typer

from kndb.records import Neuron

from . import query_details, query_sums
from .options import (
    DatabaseOption,
    FormatOption,
    OptionalModelOption,
    RefinementOption,
    RelationsOption,
    open_existing,
)
from .output import OutputFormat, as_row, note, print_rows

app = typer.Typer(no_args_is_help=True, help="Ask the store: which neurons facts and relations share, and more.")
app.command("shared")(query_sums.shared)
app.command("overlap")(query_sums.overlap)
app.command("layers")(query_sums.layers)
app.command("counts")(query_sums.counts)
app.command("compare")(query_sums.compare)
app.command("collateral")(query_sums.collateral)
app.command("neuron")(query_details.neuron)
app.command("fact")(query_details.fact)
app.command("consistency")(query_details.consistency)
app.command("sql")(query_details.sql)


@app.command()
def facts(
    relation: RelationsOption = None,
    subject: Annotated[str | None, typer.Option("--subject", help="Text in the subject.", show_default=False)] = None,
    object_: Annotated[str | None, typer.Option("--object", help="Text in the object.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="At most so many rows.", show_default=False)] = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """List facts with their numbers.

    Example: kndb query facts --relation P36 --subject France
    """
    with open_existing(db) as database:
        found = database.facts.find(relation or [], subject, object_, limit)
    columns = ["id", "relation", "subject", "object", "external_id", "prompts"]
    print_rows([as_row(fact) for fact in found], columns, output)


@app.command()
def neurons(
    fact: Annotated[int, typer.Argument(help="A fact's number; see: kndb query facts.")],
    model: OptionalModelOption = None,
    refinement: RefinementOption = None,
    db: DatabaseOption = None,
    output: FormatOption = OutputFormat.TABLE,
) -> None:
    """The knowledge neurons of one fact.

    Example: kndb query neurons 1
    """
    with open_existing(db) as database:
        chosen = database.query.refinement(refinement, model)
        title = database.facts.get(fact).title
        found = database.query.neurons_of_fact(fact, refinement=chosen.id)
    note(f"Refinement {chosen.id} of run {chosen.run_id}, fact {fact} {title}.")
    rows = [{**as_row(row), "name": str(Neuron(row.layer, row.neuron))} for row in found]
    print_rows(rows, ["name", "layer", "neuron", "prompts", "mean_score"], output)


@app.command()
def relations(db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE) -> None:
    """List the relations with the numbers of their facts, templates and prompts.

    Example: kndb query relations
    """
    with open_existing(db) as database:
        found = database.facts.relations()
    print_rows([as_row(row) for row in found], ["key", "label", "facts", "templates", "prompts"], output)


@app.command()
def runs(
    model: OptionalModelOption = None, db: DatabaseOption = None, output: FormatOption = OutputFormat.TABLE
) -> None:
    """List the attribution runs.

    Example: kndb query runs
    """
    with open_existing(db) as database:
        found = database.query.runs(model)
    columns = ["id", "model", "version", "method", "status", "prompts", "skipped", "above_tolerance"]
    columns += ["settings", "created_at"]
    print_rows([as_row(row) for row in found], columns, output)


@app.command()
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
