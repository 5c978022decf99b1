"""Which neurons relations share: the heat map of all pairs, and each pair."""

from __future__ import annotations

from collections.abc import Sequence

from ...advice import call
from ...errors import NotFoundError
from ...records.queries import Overlap
from ..blocks import Block, Choice, Column, Figure, Form, Link, Page, Row, Table
from ..context import Context
from ..figures import clustered, heat_map
from ..tables import in_order
from ..visit import Visit
from .parts import neuron_column, neuron_name, not_refined, relation_column

ORDERS = ("cluster", "name")


def _matrix(visit: Visit, context: Context) -> Overlap:
    found = context.refinement
    assert found is not None
    key = ("overlap", found.id, found.created_at, found.facts)
    return visit.room.counted(key, lambda: visit.database.query.overlap(refinement=found.id))


def overlap(visit: Visit) -> Page:
    """Relation × relation: how many neurons two facts share on average; or the two that a form names."""
    named = [visit.query.get(name, "") for name in ("one", "other")]
    if all(named):
        return _pair(visit, *named)
    context = visit.context()
    command = call("query.overlap", refinement=context.number)
    if context.refinement is None:
        return Page("Neurons that relations share", [not_refined(context)], command=command)
    matrix = _matrix(visit, context)
    labels = visit.labels
    means: dict[tuple[str, str], float | None] = {}
    for cell in matrix.cells:
        means[cell.relation, cell.other] = means[cell.other, cell.relation] = cell.mean
    order = visit.query.get("order", ORDERS[0])
    keys = list(matrix.relations)
    if order != "name":
        found = context.refinement
        clusters = ("clusters", found.id, found.created_at, found.facts)
        keys = visit.room.counted(clusters, lambda: clustered(matrix.relations, means))
    names = [f"ordered by {name}" for name in ORDERS]
    now = ORDERS.index(order) if order in ORDERS else 0
    ways = [visit.link(name, "overlap", order=way) for way, name in zip(ORDERS, names, strict=True)]
    ways[now] = Link(names[now], None)
    ways = ways if visit.live else []
    caption = (
        "Mean number of knowledge neurons that a fact of the row's relation and one of the column's share; on the "
        "diagonal, two facts of the same relation. Shades are logarithmic; where there "
        "is none, nothing is shared. A cell leads to the neurons that both share."
    )
    blocks: list[Block] = []
    if keys:
        picture = heat_map(keys, labels, means, lambda one, other: visit.to("overlap", one, other))
        blocks.append(Figure("All pairs of relations", picture, caption, ways))
    if len(keys) > 1 and visit.live:
        blocks.append(_form(visit, matrix.relations))
    blocks += [_summary(matrix), _pairs(visit, matrix)]
    data = {"order": keys}
    return Page("Neurons that relations share", blocks, command=command, figures=data)


def _summary(matrix: Overlap) -> Table:
    return Table(
        "summary",
        "Within and across relations",
        [
            Column("where", "Pairs"),
            Column("pairs", "Pairs of facts", "count"),
            Column("pooled_mean", "Shared, mean", "number", help="over all pairs of facts"),
            Column("mean_of_means", "Mean of means", "number", help="over the cells of the map"),
            Column("same_object_mean", "Same object", "number", help="over pairs of facts with the same object"),
            Column("different_object_mean", "Different objects", "number"),
        ],
        [
            {
                "where": f"{row.where} relations",
                "pairs": row.pairs,
                "pooled_mean": row.pooled_mean,
                "mean_of_means": row.mean_of_means,
                "same_object_mean": row.same_object_mean,
                "different_object_mean": row.different_object_mean,
            }
            for row in matrix.summary
        ],
        filters=False,
    )


def _pairs(visit: Visit, matrix: Overlap) -> Table:
    cells = sorted(matrix.cells, key=lambda cell: (cell.relation == cell.other, -(cell.mean or 0.0)))
    rows = [
        {
            "relation": cell.relation,
            "other": cell.other,
            "pairs": cell.pairs,
            "mean": cell.mean,
            "same_object_mean": cell.same_object_mean,
            "different_object_mean": cell.different_object_mean,
        }
        for cell in cells
    ]

    def leads(row: Row) -> str | None:
        return visit.to("overlap", row["relation"], row["other"])

    return Table(
        "pairs",
        "Pairs of relations",
        [
            relation_column(visit, labelled=True),
            relation_column(visit, "other", "and", labelled=True),
            Column("mean", "Shared by two facts", "number", leads, help="mean of |A ∩ B| over pairs of facts"),
            Column("same_object_mean", "Same object", "number", help="over pairs of facts with the same object"),
            Column("different_object_mean", "Different objects", "number"),
            Column("pairs", "Pairs of facts", "count"),
        ],
        rows,
        empty="No fact of this refinement has a knowledge neuron.",
        size=25,
    )


def _form(visit: Visit, keys: Sequence[str]) -> Form:
    """Chooses two relations by their names."""
    names = [(key, f"{key} {visit.labels.get(key) or ''}"[:60]) for key in sorted(keys, key=in_order)]
    fields = [
        Choice("one", "Relation", names[0][0], "select", names),
        Choice("other", "and", names[1][0], "select", names),
        *(Choice(name, value=str(value), kind="hidden") for name, value in visit.kept().items()),
    ]
    return Form(visit.addresses.page(("overlap",), {}) or "", "Show what they share", fields, title="Two relations")


def pair(visit: Visit) -> Page:
    """The neurons that facts of two relations share, the most widely held first."""
    return _pair(visit, visit.parts["one"], visit.parts["other"])


def _pair(visit: Visit, one: str, other: str) -> Page:
    labels = visit.labels
    for key in (one, other):
        if key not in labels:
            raise NotFoundError(f"there is no relation {key!r}")
    keys = list(dict.fromkeys((one, other)))
    context = visit.context(relations=keys)
    crumbs = [visit.link("Overlap", "overlap"), *(visit.link(key, "relations", key) for key in keys)]
    names = " and ".join(f"{key} {labels[key]}" if labels[key] else key for key in keys)
    title = f"Neurons that {names} share" if len(keys) > 1 else f"Neurons that facts of {names} share"
    command = call("query.shared", relations=keys, across=len(keys), refinement=context.number)
    if context.refinement is None:
        return Page(title, [not_refined(context, keys)], command=command, crumbs=crumbs)
    found = visit.database.query.shared(keys, across=len(keys), refinement=context.number)
    columns = [
        neuron_column(visit, context.refinement.model),
        *(Column(f"of_{key}", f"Facts of {key}", "count") for key in keys),
        Column("share", "Share", "share", help="of the facts of both with a refined set"),
        Column("relations", "Relations in all", "count", help="relations whose facts hold it"),
    ]
    rows = [
        {
            "neuron": neuron_name(row.layer, row.neuron),
            **{f"of_{key}": row.relations.get(key, 0) for key in keys},
            "share": row.share,
            "relations": len(row.relations),
        }
        for row in found
    ]
    empty = f"Refinement {context.number} has no neuron that facts of {' and '.join(keys)} hold."
    table = Table("shared", "The neurons, the most widely held first", columns, rows, empty=empty, size=25)
    return Page(title, [table], command=command, crumbs=crumbs)
