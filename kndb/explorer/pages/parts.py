"""What several pages have in common: columns of facts, neurons and edits, and why something is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...advice import Placeholder, call
from ...records.attribution import attribute_and_refine
from ...records.edits import Edit
from ...records.models import Neuron
from ...records.recipes import EraseRecipe, facts_of
from ..blocks import Column, Href, Link, Row, Text
from ..context import Context
from ..sentences import whole
from ..visit import Visit


def fact_columns(visit: Visit, name: str = "fact") -> list[Column]:
    """The columns of a fact: number, relation, subject, object; the first three lead to their pages."""
    return [
        Column(name, "Fact", "id", lambda row: visit.to("facts", row[name])),
        relation_column(visit, labelled=True),
        Column("subject", "Subject", link=lambda row: visit.to("facts", row[name])),
        Column("object", "Object"),
    ]


def relation_column(visit: Visit, name: str = "relation", title: str = "Relation", *, labelled: bool = False) -> Column:
    """A relation's key, which leads to its page; a row that is a `sum` over relations leads nowhere."""

    def leads(row: Row) -> Href:
        return None if row.get("sum") else visit.to("relations", row[name])

    return Column(name, title, link=leads, aside=(lambda row: visit.labels.get(row[name])) if labelled else None)


def neuron_column(visit: Visit, model: str | None, name: str = "neuron") -> Column:
    """A neuron's name, which leads to its page."""

    def leads(row: Row) -> Href:
        return None if model is None else visit.to("models", model, "neurons", row[name])

    return Column(name, "Neuron", "code", leads, help="layer and number, both from 0")


def edit_columns(visit: Visit) -> list[Column]:
    """The columns of edits."""
    return [
        Column("edit", "Edit", "id", lambda row: visit.to("edits", row["edit"])),
        Column("kind", "Kind"),
        Column("what", "What", "long", lambda row: visit.to("edits", row["edit"])),
        Column("neurons", "Value slots", "count", help="value slots that it changes"),
        Column("applied", "Applied", "flag", help="part of the model's current version"),
        Column("created_at", "Planned", "time"),
    ]


def edit_rows(edits: Iterable[Edit]) -> list[Row]:
    """Edits as rows of `edit_columns`."""
    return [
        {
            "edit": one.id,
            "model": one.model,
            "kind": one.kind,
            "what": one.what,
            "neurons": one.neurons,
            "applied": one.applied,
            "created_at": one.created_at,
        }
        for one in edits
    ]


def facts_here(edit: Edit) -> list[int]:
    """The numbers here of the facts that an edit is for; those that are not in this store are left out."""
    if isinstance(edit.recipe, EraseRecipe):
        return []
    numbers = [fact.id for fact in facts_of(edit.recipe)]
    if edit.fact_numbers is None:
        return numbers
    found = (edit.fact_numbers.get(str(number)) for number in numbers)
    return [number for number in found if number is not None]


def neuron_name(layer: int, neuron: int) -> str:
    """A neuron's name."""
    return str(Neuron(layer, neuron))


def not_refined(context: Context, relations: Sequence[str] = (), facts: Sequence[int] = ()) -> Text:
    """Why there are no knowledge neurons, and what makes some."""
    if context.missing:
        return Text(whole(context.missing), "empty")
    model = Placeholder("NAME") if context.model is None else context.model.name
    make = attribute_and_refine(model, relations, facts)
    return Text(f"No refinement of this store answers here. Make one with: {make}", "empty")


def holds_nothing(context: Context, relation: str) -> str:
    """What a table of a relation's knowledge neurons says where there are none."""
    found = context.refinement
    if found is None:
        return "There is no refinement."
    if relation not in {one.relation for one in found.relations}:
        make = attribute_and_refine(found.model, [relation])
        return f"Refinement {found.id} has no attributed fact of {relation}. Attribute it with: {make}"
    return f"In refinement {found.id}, no fact of {relation} has a knowledge neuron."


def add_model(name: str) -> str:
    """What registers the checkpoint of a model of which there are only results."""
    return (
        f"Of {name} the store has results and no checkpoint, so nothing can be computed with it. Register it with: "
        f"{call('models.add', Placeholder('PATH'), name=name)}"
    )


def chips(links: Iterable[Link]) -> list[Link]:
    """Links without those that lead nowhere."""
    return [link for link in links if link.href is not None]


def neuron_relations(relations: Mapping[str, int]) -> list[str]:
    """Relations with the number of their facts, the most first."""
    ordered = sorted(relations.items(), key=lambda pair: (-pair[1], pair[0]))
    return [f"{key} {count}" for key, count in ordered]
