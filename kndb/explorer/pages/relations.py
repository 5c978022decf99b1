"""Pages of relations: the list, and each relation."""

from __future__ import annotations

from collections.abc import Sequence

from ...advice import Placeholder, call
from ...errors import NotFoundError
from ...records.attribution import SharedNeuron
from ..blocks import Block, Column, Figure, Link, Page, Table, Values
from ..context import Context
from ..figures import LayerBar, layer_bars
from ..visit import Visit
from .facts import fact_table
from .parts import holds_nothing, neuron_column, neuron_name, neuron_relations, not_refined, relation_column

MOST_SHARED = 500
"""Neurons that a relation's page lists."""


def relations(visit: Visit) -> Page:
    """All relations, with what the refinement holds of each."""
    context = visit.context()
    found = context.refinement
    outcomes = {} if found is None else {one.relation: one for one in found.relations}
    rows = []
    for one in visit.database.facts.relations():
        outcome = outcomes.get(one.key)
        rows.append(
            {
                "relation": one.key,
                "label": one.label,
                "facts": one.facts,
                "templates": one.templates,
                "prompts": one.prompts,
                "attributed": None if outcome is None else outcome.facts,
                "with_neurons": None if outcome is None else outcome.facts_with_neurons,
                "mean_size": None if outcome is None else outcome.mean_size,
            }
        )
    columns = [
        relation_column(visit),
        Column("label", "Label", link=lambda row: visit.to("relations", row["relation"]), optional=True),
        Column("facts", "Facts", "count", lambda row: visit.to("facts", relation=row["relation"])),
        Column("templates", "Templates", "count"),
        Column("prompts", "Prompts", "count"),
        Column("attributed", "Attributed facts", "count", help="facts that the refinement holds"),
        Column("with_neurons", "With neurons", "count", help="those whose refined set is not empty"),
        Column("mean_size", "Neurons per fact", "number", help="mean size of the refined sets"),
    ]
    empty = f"The store has no facts yet; add some with: {call('facts.ingest', Placeholder('PATH'))}"
    blocks: list[Block] = [Table("relations", "All relations", columns, rows, empty=empty, size=100)]
    if found is None and rows:
        blocks.insert(0, not_refined(context))
    return Page("Relations", blocks, command=call("facts.relations"))


def relation(visit: Visit) -> Page:
    """One relation: templates, layers, the neurons that its facts share, near relations, facts."""
    key, labels = visit.parts["relation"], visit.labels
    if key not in labels:
        wanted = key.casefold()
        near = next((one for one, text in labels.items() if wanted in (one.casefold(), (text or "").casefold())), None)
        meant = f"; did you mean {near}?" if near else ""
        raise NotFoundError(f"there is no relation {key!r}{meant}")
    context = visit.context(relations=[key])
    blocks: list[Block] = [Values("", _values(key, context))] if context.refinement is not None else []
    if context.refinement is None:
        blocks.append(not_refined(context, [key]))
    else:
        blocks += _neurons(visit, key, context)
    blocks.append(_templates(visit, key))
    blocks.append(fact_table(visit, context, [key], size=25))
    keys, title = list(labels), f"{key} {labels[key]}" if labels[key] else key
    place = keys.index(key)
    return Page(
        title,
        blocks,
        command=call("query.shared", relations=[key], refinement=context.number),
        crumbs=[visit.link("Relations", "relations")],
        before=None if place == 0 else _beside(visit, keys[place - 1]),
        after=None if place + 1 == len(keys) else _beside(visit, keys[place + 1]),
    )


def _beside(visit: Visit, key: str) -> Link:
    label = visit.labels.get(key)
    return visit.link(f"{key} {label}" if label else key, "relations", key)


def _values(key: str, context: Context) -> list[tuple[str, object, str]]:
    values: list[tuple[str, object, str]] = []
    outcomes = () if context.refinement is None else context.refinement.relations
    for outcome in outcomes:
        if outcome.relation == key:
            values += [
                ("Attributed facts", outcome.facts, "count"),
                ("Facts with neurons", outcome.facts_with_neurons, "count"),
                ("Neurons per fact", outcome.mean_size, "number"),
                ("Prompts needed", outcome.share, "share"),
            ]
    return values


def _neurons(visit: Visit, key: str, context: Context) -> list[Block]:
    assert context.refinement is not None
    model, query = context.refinement.model, visit.database.query
    counts = query.layers([key], refinement=context.number)
    bars = [LayerBar(row.layer, row.pairs, row.share, row.neurons) for row in counts]
    picture = layer_bars(bars, key, lambda layer: visit.to("models", model, "layers", relation=key, layer=layer))
    near = query.near_relations(key, refinement=context.number)
    shared = query.shared([key], refinement=context.number, top=MOST_SHARED)
    return [
        Figure(
            "Where its knowledge neurons lie",
            picture,
            f"Share of the (fact, neuron) pairs of {key} in each layer, in per cent; all layers add up to 100 %.",
        ),
        shared_table(visit, key, shared, context, holds_nothing(context, key)),
        Table(
            "near",
            "Relations that share neurons with it",
            [
                relation_column(visit),
                Column("label", "Label", optional=True),
                Column("mean", "Shared by two facts", "number", help="mean of |A ∩ B| over pairs of facts"),
                Column(
                    "neurons",
                    "Neurons in common",
                    "count",
                    lambda row: visit.to("overlap", key, row["relation"]) if row["neurons"] else None,
                    help="neurons that facts of both hold",
                ),
            ],
            [
                {"relation": row.relation, "label": row.label, "mean": row.mean, "neurons": row.neurons}
                for row in near
                if row.neurons
            ],
            empty="No other relation's facts hold one of its knowledge neurons.",
            size=10,
        ),
    ]


def shared_table(visit: Visit, own: str, shared: Sequence[SharedNeuron], context: Context, empty: str) -> Table:
    """A table of neurons that facts of a relation share."""
    model = None if context.refinement is None else context.refinement.model
    note = f"The {MOST_SHARED} most widely held; the command below lists all." if len(shared) == MOST_SHARED else ""
    return Table(
        "shared",
        "Neurons that its facts share",
        [
            neuron_column(visit, model),
            Column("facts", "Facts", "count", help="facts whose refined set holds the neuron"),
            Column("share", "Share", "share", help="of the facts with a refined set"),
            Column(
                "others",
                "Also held by facts of",
                "long",
                help="other relations with the number of such facts",
                sorts=False,
                optional=True,
            ),
        ],
        [
            {
                "neuron": neuron_name(row.layer, row.neuron),
                "facts": row.facts,
                "share": row.share,
                "others": _first(neuron_relations({key: n for key, n in row.relations.items() if key != own})),
            }
            for row in shared
        ],
        empty=empty,
        note=note,
        size=20,
    )


def _first(names: list[str], most: int = 6) -> list[str]:
    return names if len(names) <= most else [*names[:most], f"and {len(names) - most} more"]


def _templates(visit: Visit, key: str) -> Table:
    rows = [{"text": row.text, "held_out": row.held_out} for row in visit.database.facts.templates(key)]
    return Table(
        "templates",
        "Templates",
        [Column("text", "Sentence", "long"), Column("held_out", "Held out", "flag", help="only tests edits")],
        rows,
        empty="The relation has no templates: its prompts were written out by its source, or there are none.",
        size=20,
        filters=False,
    )
