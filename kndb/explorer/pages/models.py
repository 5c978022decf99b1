"""Pages of models and of all their neurons: a model, its map of neurons and layers, the most widely held neurons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter

from ...advice import call
from ...records.models import Model
from ...records.queries import HeldNeuron
from ..blocks import Block, Column, Figure, Link, Page, Row, Slice, Table, Text, Values, Wanted
from ..context import Context
from ..figures import MapCell, neuron_map
from ..visit import Visit
from .parts import add_model, edit_columns, edit_rows, neuron_column, neuron_name, not_refined
from .runs import counted_runs, refinement_table, run_table

CELLS, MOST_CELLS = 128, 1_600
"""Cells of a layer in the map at most, and of all layers, about: a page of more takes long to send and to draw."""
_HELD = "Neurons that facts hold"


def held(visit: Visit, context: Context, relation: str | None = None) -> Sequence[HeldNeuron]:
    """All neurons that facts hold in the context's refinement, the most widely held first.

    They are counted once, as a refinement's sets never change.
    """
    found = context.refinement
    if found is None:
        return []
    relations = [relation] if relation else []
    key = ("held", found.id, found.created_at, found.facts, relation)

    def counted() -> Sequence[HeldNeuron]:
        rows = visit.database.query.held_neurons(relations, refinement=found.id)
        return sorted(rows, key=lambda one: (-one.facts, one.layer, one.neuron))

    return visit.room.counted(key, counted)


def shared(visit: Visit) -> Page:
    """The neurons that facts hold, the most widely held first."""
    key = visit.query.get("relation") or None
    context = visit.context(relations=[key] if key else [])
    blocks: list[Block] = []
    if context.refinement is None:
        blocks.append(not_refined(context))
    else:
        rows = held(visit, context, key)
        blocks.append(_held_table(visit, context, rows, "No fact of this refinement has a knowledge neuron."))
    command = call("query.shared", relations=[key] if key else [], across=1, refinement=context.number)
    return Page(f"Neurons that facts of {key} hold" if key else "Neurons", blocks, command=command)


def _held_table(
    visit: Visit, context: Context, rows: Sequence[HeldNeuron], empty: str, title: str = _HELD, size: int = 50
) -> Table:
    model = None if context.refinement is None else context.refinement.model

    def source(wanted: Wanted) -> Slice:
        # A model may have a hundred thousand neurons: rows are made of those that are shown alone.
        found = rows
        if wanted.sort is not None:
            by = attrgetter("layer", "neuron") if wanted.sort == "neuron" else attrgetter(wanted.sort)
            found = sorted(rows, key=by, reverse=wanted.descending)
        stop = None if wanted.count is None else wanted.start + wanted.count
        return Slice([_row(one) for one in found[wanted.start : stop]], len(rows))

    return Table(
        "neurons",
        title,
        [
            neuron_column(visit, model),
            Column("facts", "Facts", "count", help="facts whose refined set holds the neuron"),
            Column("relations", "Relations", "count", help="relations of those facts"),
        ],
        source,
        empty=empty,
        size=size,
        filters=False,
    )


def _row(one: HeldNeuron) -> Row:
    name = neuron_name(one.layer, one.neuron)
    return {"neuron": name, "facts": one.facts, "relations": one.relations}


def model(visit: Visit) -> Page:
    """One model: what it is, its refinements, its edits and snapshots."""
    name = visit.parts["model"]
    context = visit.context(model=name)
    assert context.model is not None
    one = context.model
    values: list[tuple[str, object, str]] = [
        ("Family", one.family, "text"),
        ("Layers", visit.link(f"{one.layers:,}: where its neurons lie", "models", name, "layers"), "text"),
        ("FFN neurons per layer", one.neurons, "count"),
        ("Current version", one.version, "text"),
        (
            "Fingerprint",
            one.fingerprint or "none: only results were imported",
            "version" if one.fingerprint else "text",
        ),
        ("Chat template", "wrapped around every prompt" if one.chat_template else "none", "text"),
    ]
    blocks: list[Block] = [Values("", values)]
    if not one.has_checkpoint:
        blocks.append(Text(add_model(name), "empty"))
    probes = [
        {"id": row.id, "kind": row.kind, "refinement": row.refinement, "created_at": row.created_at}
        for row in visit.database.probes.all(name)
    ]
    blocks += [
        run_table(visit, counted_runs(visit, name), name),
        refinement_table(visit, visit.database.query.refinements(name), name),
        Table(
            "probes",
            "Experiments",
            [Column("id", "Probe", "id"), Column("kind", "Kind"), Column("refinement", "Refinement", "id"), _made()],
            probes,
            empty="No neurons of this model were suppressed, amplified or read yet"
            + (f"; begin with: {call('probes.scale', kind='suppress', model=name)}" if one.has_checkpoint else "."),
        ),
        Table(
            "edits",
            "Edits",
            edit_columns(visit),
            edit_rows(visit.database.edits.all(name)),
            empty="No edit of this model is planned yet.",
        ),
    ]
    return Page(name, blocks, command=call("models.get", name=name), crumbs=[visit.link("Store")])


def _made() -> Column:
    return Column("created_at", "Made", "time")


def layers(visit: Visit) -> Page:
    """Neurons × layers: how many facts hold each neuron, or the most widely held of some next to each other."""
    name, key = visit.parts["model"], visit.query.get("relation") or None
    context = visit.context(model=name, relations=[key] if key else [])
    one = context.model
    assert one is not None
    crumbs = [visit.link("Store"), visit.link(name, "models", name)]
    title = f"Layers of {name}" + (f", {key}" if key else "")
    command = call("query.layers", relations=[key] if key else [], refinement=context.number)
    if context.refinement is None:
        return Page(title, [not_refined(context)], command=command, crumbs=crumbs)
    last = max(0, one.neurons - 1)
    first = visit.parameter("from", 0, last, 0)
    stop = visit.parameter("to", first, last, last)
    layer = visit.parameter("layer", 0, max(0, one.layers - 1), -1)
    rows = [row for row in held(visit, context, key) if first <= row.neuron <= stop]
    cells = map_cells(one, rows, first, stop)
    closer = (visit.to("models", name, "layers", relation=key) or "").partition("?")[2]

    def leads(cell: MapCell) -> str | None:
        if cell.first == cell.last or not visit.live:
            return visit.to("models", name, "neurons", cell.name)
        # Of this page, and short: hundreds of cells have one.
        return f"?{closer}{'&' if closer else ''}from={cell.first}&to={cell.last}"

    ways = _zoom(visit, one, key, first, stop)
    several = stop - first >= cells_of(one)
    caption = (
        "A row for each layer, from the first one down; from left to right its neurons by number"
        f"{', some next to each other in a cell, shown by the most widely held' if several else ''}. "
        "Shades: facts that hold a neuron, logarithmic. A cell leads closer, and at last to the neuron."
    )
    listed = [row for row in rows if layer in (-1, row.layer)]
    empty = "No fact holds a neuron here" + (": see all layers and neurons." if (first, stop) != (0, last) else ".")
    return Page(
        title,
        [
            Figure("How many facts hold each neuron", neuron_map(cells, leads), caption, ways),
            _held_table(visit, context, listed, empty, f"Neurons of layer {layer}" if layer >= 0 else _HELD, 20),
        ],
        command=command,
        crumbs=crumbs,
    )


def cells_of(model: Model) -> int:
    """How many cells a layer has at most."""
    return min(CELLS, max(32, MOST_CELLS // max(1, model.layers)))


def map_cells(model: Model, rows: Sequence[HeldNeuron], first: int, last: int) -> list[list[MapCell]]:
    """The map's cells, layer by layer: neurons `first` to `last` in some cells of as many neurons each."""
    each = max(1, -(-(last - first + 1) // cells_of(model)))
    best: dict[tuple[int, int], HeldNeuron] = {}
    counts: Counter[tuple[int, int]] = Counter()
    for row in rows:
        at = row.layer, (row.neuron - first) // each
        counts[at] += 1
        if at not in best or row.facts > best[at].facts:
            best[at] = row
    found = []
    for layer in range(model.layers):
        cells = []
        for place in range(-(-(last - first + 1) // each)):
            start = first + place * each
            most = best.get((layer, place))
            name = neuron_name(layer, start if most is None else most.neuron)
            stop = min(last, start + each - 1)
            cells.append(MapCell(layer, start, stop, counts[layer, place], 0 if most is None else most.facts, name))
        found.append(cells)
    return found


def _zoom(visit: Visit, model: Model, key: str | None, first: int, last: int) -> list[Link]:
    if not visit.live:
        return []
    size, end = last - first + 1, model.neurons - 1
    ways = []
    if size <= end:
        ways.append(visit.link("all neurons", "models", model.name, "layers", relation=key))
        if first > 0:
            start = max(0, first - size)
            ways.append(visit.link("← lower", "models", model.name, "layers", relation=key, from_=start, to=first - 1))
        if last < end:
            stop = min(end, last + size)
            ways.append(visit.link("higher →", "models", model.name, "layers", relation=key, from_=last + 1, to=stop))
    elif key:
        ways.append(visit.link("all relations", "models", model.name, "layers"))
    return ways
