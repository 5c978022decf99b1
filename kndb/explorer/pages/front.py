"""The front page: what the store holds, and where to go."""

from __future__ import annotations

from collections.abc import Sequence

from ...advice import Placeholder, call
from ...records.edits import Edit
from ..blocks import Column, Page, Table, Text, Values
from ..visit import Visit
from .parts import edit_columns, edit_rows
from .runs import refinement_table


def front(visit: Visit) -> Page:
    """What the store holds."""
    database = visit.database
    context = visit.context()
    relations = database.facts.relations()
    refinements, edits = database.query.refinements(), database.edits.all()
    facts = sum(row.facts for row in relations)
    values = [
        ("Facts", visit.link(f"{facts:,} of {len(relations):,} relations", "facts"), "text"),
        ("Prompts", sum(row.prompts for row in relations), "count"),
        ("Models", len(context.models), "count"),
        ("Edits", visit.link(_count(edits), "edits"), "text"),
    ]
    blocks: list[Text | Values | Table] = [Values("", values)]
    if not relations:
        blocks.append(
            Text(f"The store has no facts yet; add some with: {call('facts.ingest', Placeholder('PATH'))}", "empty")
        )
    blocks.append(Values("Where to begin", _ways(visit), "ways"))
    blocks.append(
        Table(
            "models",
            "Models",
            [
                Column("name", "Model", "whole", link=lambda row: visit.to("models", row["name"])),
                Column("family", "Family"),
                Column("layers", "Layers", "count"),
                Column("neurons", "Neurons per layer", "count"),
                Column("version", "Current version", "version"),
            ],
            [
                {
                    "name": one.name,
                    "family": one.family,
                    "layers": one.layers,
                    "neurons": one.neurons,
                    "version": one.version,
                }
                for one in context.models
            ],
            empty=f"No model is registered yet; register one with: {call('models.add', Placeholder('PATH'))}",
        )
    )
    blocks.append(refinement_table(visit, refinements))
    plan = call("edits.plan_update", model=Placeholder("NAME"), fact=Placeholder("FACT"), to=Placeholder("ANSWER"))
    newest = sorted(edits, key=lambda one: -one.id)[:10]
    blocks.append(
        Table(
            "edits",
            "Newest edits",
            edit_columns(visit),
            edit_rows(newest),
            empty=f"No edit is planned yet; plan one with: {plan}",
        )
    )
    return Page("What this store holds", blocks, command=call("maintenance.info"))


def _count(edits: Sequence[Edit]) -> str:
    return f"{len(edits):,}, {sum(one.applied for one in edits):,} of them applied" if edits else "none"


def _ways(visit: Visit) -> list[tuple[str, object, str]]:
    found = visit.shown_context
    model = None if found is None or found.model is None else found.model.name
    ways: list[tuple[str, object, str]] = [
        ("Two relations", visit.link("which neurons they share, in a heat map of all pairs", "overlap"), "text"),
        (
            "A fact",
            visit.link("facts by their knowledge neurons, the most first", "facts", **{"facts.sort": "-neurons"}),
            "text",
        ),
        ("A neuron", visit.link("the most widely held ones", "neurons"), "text"),
        ("An edit", visit.link("the history, and what each edit did to other facts", "edits"), "text"),
    ]
    if model is not None:
        ways.insert(3, ("Layers", visit.link(f"where {model} has its neurons", "models", model, "layers"), "text"))
    if visit.live and found is not None and found.model is not None and found.model.has_checkpoint:
        ways.append(("The model", visit.link("ask two versions side by side", "ask"), "text"))
    return ways
