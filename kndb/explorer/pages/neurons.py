"""Pages of models and their neurons: a model, its map of neurons and layers, each neuron, the most widely held ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from ...advice import call
from ...errors import KndbError, NotFoundError, UsageError
from ...records.models import Model, Neuron
from ...records.queries import HeldNeuron, NeuronFindings
from ..blocks import Block, Column, Figure, Link, Page, Row, Slice, Table, Text, Values, Wanted
from ..context import Context
from ..figures import MapCell, neuron_map
from ..visit import Visit
from .parts import (
    add_model,
    edit_columns,
    edit_rows,
    fact_columns,
    neuron_column,
    neuron_name,
    not_refined,
    relation_column,
)

CELLS = 128
"""Cells of a layer in the map."""
TOKENS = 12
_HELD = "Neurons that facts hold"
TEXTS = 3
"""Facts of a neuron whose texts are shown."""


def held(visit: Visit, context: Context, relation: str | None = None) -> Sequence[HeldNeuron]:
    """All neurons that facts hold in the context's refinement; counted once, as a refinement's sets never change."""
    found = context.refinement
    if found is None:
        return []
    relations = [relation] if relation else []
    key = ("held", found.id, found.created_at, found.facts, relation)
    return visit.room.counted(key, lambda: visit.database.query.held_neurons(relations, refinement=found.id))


def shared(visit: Visit) -> Page:
    """The neurons that facts hold, the most widely held first."""
    key = visit.query.get("relation") or None
    context = visit.context(relations=[key] if key else [])
    blocks: list[Block] = []
    if context.refinement is None:
        blocks.append(not_refined(context))
    else:
        rows = sorted(held(visit, context, key), key=lambda one: (-one.facts, one.layer, one.neuron))
        blocks.append(_held_table(visit, context, rows, "No fact of this refinement has a knowledge neuron."))
    command = call("query.shared", relations=[key] if key else [], across=1, refinement=context.number)
    return Page(f"Neurons that facts of {key} hold" if key else "Neurons", blocks, command=command)


def _held_table(visit: Visit, context: Context, rows: Sequence[HeldNeuron], empty: str, title: str = _HELD) -> Table:
    model = None if context.refinement is None else context.refinement.model

    def source(wanted: Wanted) -> Slice:
        # A model may have a hundred thousand neurons: rows are made of those that are shown alone.
        found = rows
        if wanted.sort is not None:
            by = attrgetter(wanted.sort)
            found = sorted(rows, key=by, reverse=wanted.descending)
        stop = None if wanted.count is None else wanted.start + wanted.count
        return Slice([_row(one) for one in found[wanted.start : stop]], len(rows))

    return Table(
        "neurons",
        title,
        [
            neuron_column(visit, model),
            Column("layer", "Layer", "count"),
            Column("facts", "Facts", "count", help="facts whose refined set holds the neuron"),
            Column("relations", "Relations", "count", help="relations of those facts"),
        ],
        source,
        empty=empty,
        filters=False,
    )


def _row(one: HeldNeuron) -> Row:
    name = neuron_name(one.layer, one.neuron)
    return {"neuron": name, "layer": one.layer, "facts": one.facts, "relations": one.relations}


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
        ("Fingerprint", one.fingerprint or "none: only results were imported", "text"),
        ("Chat template", "wrapped around every prompt" if one.chat_template else "none", "text"),
    ]
    blocks: list[Block] = [Values("", values)]
    if not one.has_checkpoint:
        blocks.append(Text(add_model(name), "empty"))
    probes = [
        {"id": row.id, "kind": row.kind, "refinement": row.refinement, "created_at": row.created_at}
        for row in visit.database.probes.all(name)
    ]
    runs = [
        {
            "id": run.id,
            "method": run.method,
            "version": run.version,
            "status": run.status,
            "prompts": run.prompts,
            "skipped": run.skipped,
            "above_tolerance": run.above_tolerance,
            "created_at": run.created_at,
        }
        for run in visit.database.query.runs(name)
    ]
    blocks += [
        Table(
            "runs",
            "Attribution runs",
            [
                Column("id", "Run", "id"),
                Column("method", "Method"),
                Column("version", "Version", "version"),
                Column("status", "Status"),
                Column("prompts", "Prompts", "count", help="prompts with scores"),
                Column("skipped", "Skipped", "count", help="prompts without"),
                Column("above_tolerance", "Above tolerance", "count", help="prompts with a larger completeness error"),
                Column("created_at", "Begun", "time"),
            ],
            runs,
            empty=f"No prompt is attributed yet; begin with: {call('attribution.run', model=name)}",
        ),
        Table(
            "probes",
            "Experiments",
            [Column("id", "Probe", "id"), Column("kind", "Kind"), Column("refinement", "Refinement", "id"), _made()],
            probes,
            empty="No neurons of this model were suppressed, amplified or read yet; begin with: "
            f"{call('probes.scale', kind='suppress', model=name)}",
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

    def leads(cell: MapCell) -> str | None:
        if cell.first == cell.last or not visit.live:
            return visit.to("models", name, "neurons", cell.name)
        return visit.to("models", name, "layers", relation=key, from_=cell.first, to=cell.last)

    ways = _zoom(visit, one, key, first, stop)
    caption = (
        "A row for each layer, from the first one down; from left to right its neurons by number"
        f"{'' if stop - first < CELLS else ', some next to each other in a cell, shown by the most widely held'}. "
        "Shades: facts that hold a neuron, logarithmic. A cell leads closer, and at last to the neuron."
    )
    listed = sorted(
        (row for row in rows if layer in (-1, row.layer)), key=lambda row: (-row.facts, row.layer, row.neuron)
    )
    empty = "No fact holds a neuron here" + (": see all layers and neurons." if (first, stop) != (0, last) else ".")
    return Page(
        title,
        [
            Figure("How many facts hold each neuron", neuron_map(cells, leads), caption, ways),
            _held_table(visit, context, listed, empty, f"Neurons of layer {layer}" if layer >= 0 else _HELD),
        ],
        command=command,
        crumbs=crumbs,
    )


def map_cells(model: Model, rows: Sequence[HeldNeuron], first: int, last: int) -> list[list[MapCell]]:
    """The map's cells, layer by layer: neurons `first` to `last` in at most `CELLS` cells of as many neurons each."""
    each = max(1, -(-(last - first + 1) // CELLS))
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


def neuron(visit: Visit) -> Page:
    """One neuron: who holds it, which tokens it promotes, what activates it, which edits change it."""
    name = visit.parts["model"]
    context = visit.context(model=name)
    one = context.model
    assert one is not None
    try:
        place = Neuron.parse(visit.parts["neuron"])
    except UsageError as error:
        raise NotFoundError(error.text) from error
    if place.layer >= one.layers or place.index >= one.neurons:
        raise NotFoundError(f"{name} has no neuron {place}: it has {one.layers} layers of {one.neurons:,} neurons")
    crumbs = [
        visit.link(name, "models", name),
        visit.link(f"Layer {place.layer}", "models", name, "layers", layer=place.layer),
    ]
    command = call("query.neuron", str(place), refinement=context.number)
    if context.refinement is None:
        return Page(f"{place}", [not_refined(context), *_tokens(visit, one, place)], command=command, crumbs=crumbs)
    found = visit.database.query.neuron(place, refinement=context.number)
    before, after = visit.database.query.beside(place, refinement=context.number)
    blocks: list[Block] = [
        _relations(visit, found, context),
        _facts(visit, found, context),
        *_tokens(visit, one, place),
        _texts(visit, found, one, context),
        _edits(visit, found, name),
    ]
    score = "" if found.mean_score is None else f", with a mean score of {found.mean_score:.4g}"
    return Page(
        f"{place} of {name}",
        blocks,
        command=command,
        crumbs=crumbs,
        before=None if before is None else visit.link(str(before), "models", name, "neurons", before),
        after=None if after is None else visit.link(str(after), "models", name, "neurons", after),
        lead=f"Held by {found.facts_holding:,} fact{'' if found.facts_holding == 1 else 's'} of "
        f"{len(found.relations)} relation{'' if len(found.relations) == 1 else 's'}{score}.",
    )


def _nobody(context: Context) -> str:
    return f"No fact holds this neuron in refinement {context.number}."


def _relations(visit: Visit, found: NeuronFindings, context: Context) -> Table:
    return Table(
        "relations",
        "Relations that hold it",
        [
            relation_column(visit),
            Column("label", "Label"),
            Column("facts", "Facts", "count"),
            Column("share", "Share", "share", help="of the relation's facts with a refined set"),
            Column("mean_score", "Mean score", "number"),
        ],
        [
            {
                "relation": row.relation,
                "label": row.label,
                "facts": row.facts,
                "share": row.share,
                "mean_score": row.mean_score,
            }
            for row in found.relations
        ],
        empty=_nobody(context),
        size=20,
    )


def _facts(visit: Visit, found: NeuronFindings, context: Context) -> Table:
    return Table(
        "facts",
        "Facts that hold it",
        [
            *fact_columns(visit),
            Column("prompts", "Prompts", "count", help="coarse sets of the fact's prompts that hold it"),
            Column("mean_score", "Mean score", "number"),
        ],
        [
            {
                "fact": row.fact,
                "relation": row.relation,
                "subject": row.subject,
                "object": row.object,
                "prompts": row.prompts,
                "mean_score": row.mean_score,
            }
            for row in found.facts
        ],
        empty=_nobody(context),
        size=20,
    )


def _tokens(visit: Visit, model: Model, place: Neuron) -> list[Block]:
    """The tokens that its value slot promotes and demotes: at once where the model is in memory, else if asked."""
    title = "Tokens that its value slot promotes and demotes"
    if not model.has_checkpoint:
        return [Text(add_model(model.name), "empty", title)]
    context = visit.shown_context
    version = "current" if context is None else context.version
    if not visit.live:
        return []
    try:
        if not visit.query.get("tokens") and not visit.room.loaded(model.name, version):
            link = visit.link("Compute them", "models", model.name, "neurons", place, tokens=1)
            return [Text("The model is not loaded yet, which takes some seconds.", "empty", title, [link])]
        visit.require_own()
        promoted, demoted = visit.room.token_effects(model.name, place, version, TOKENS)
    except KndbError as error:
        return [Text(f"{error.text[:1].upper()}{error.text[1:]}", "warning", title)]
    columns = [
        Column("token", "Token", "code"),
        Column("effect", "Effect", "signed", help="head(slot) − head(0), logits"),
    ]
    tables = []
    for name, heading, some in (("promoted", "Promoted tokens", promoted), ("demoted", "Demoted tokens", demoted)):
        rows: list[Row] = [{"token": one.token, "effect": one.effect} for one in some]
        empty = "Its value slot has no effect of this kind on any token."
        tables.append(Table(name, heading, columns, rows, empty=empty, filters=False))
    return [*tables]


def _texts(visit: Visit, found: NeuronFindings, model: Model, context: Context) -> Table:
    """Texts of the newest activation experiment, of the facts with the highest scores that hold the neuron."""
    probe = visit.database.probes.latest("activation", model.name)
    rows: list[dict[str, Any]] = []
    if probe is not None and probe.refinement == context.number:
        for one in found.facts[:TEXTS]:
            rows += [
                {
                    "fact": one.fact,
                    "subject": one.subject,
                    "text": row.text,
                    "kind": row.kind,
                    "activation": row.activation,
                }
                for row in visit.database.probes.texts(probe.id, one.fact)
                if row.rank > 0
            ]
    how = call("probes.activation", model=model.name)
    return Table(
        "texts",
        "Texts that activate the neurons of these facts",
        [
            Column("fact", "Fact", "id", lambda row: visit.to("facts", row["fact"])),
            Column("subject", "Subject"),
            Column("text", "Text", "long"),
            Column("kind", "Kind"),
            Column("activation", "Activation", "number", help="mean over the fact's knowledge neurons"),
        ],
        rows,
        empty=f"No activations of this refinement's neurons were read for these facts; read some with: {how}",
        note="Read for a fact's knowledge neurons together, not for this one alone." if rows else "",
        filters=False,
    )


def _edits(visit: Visit, found: NeuronFindings, model: str) -> Table:
    titles = {one.id: one.what for one in visit.database.edits.all(model)} if found.edits else {}
    return Table(
        "edits",
        "Edits that change it",
        [
            Column("edit", "Edit", "id", lambda row: visit.to("edits", row["edit"])),
            Column("kind", "Kind"),
            Column("what", "What", link=lambda row: visit.to("edits", row["edit"])),
            Column("applied", "Applied", "flag"),
            Column("created_at", "Planned", "time"),
        ],
        [
            {
                "edit": row.edit,
                "kind": row.kind,
                "what": titles.get(row.edit, row.target),
                "applied": row.applied,
                "created_at": row.created_at,
            }
            for row in found.edits
        ],
        empty="No edit changes its value slot.",
    )
