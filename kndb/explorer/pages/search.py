"""One box for all: what a text names itself, then relations, facts, neurons, edits, runs and snapshots that hold it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

from ...errors import UsageError
from ...records.models import Neuron
from ...records.queries import HeldNeuron
from ..blocks import Block, Choice, Column, Form, Link, Page, Row, Slice, Table, Text, Values, Wanted
from ..context import Context
from ..visit import Visit
from .facts import fact_table
from .models import held
from .parts import edit_columns, edit_rows, neuron_column, neuron_name, relation_column
from .runs import counted_runs, run_table

FACTS = 25
"""Facts of a page."""
MOST = 200
"""Letters of what is looked for."""
_NUMBERED = re.compile(r"(fact|edit|run|refinement)?\s*#?\s*([0-9]{1,18})", re.IGNORECASE)
_PART_OF_NEURON = re.compile(r"l([0-9]{1,9})(\.?)(?:n([0-9]{0,9}))?|n([0-9]{1,9})", re.IGNORECASE)
Found = TypeVar("Found")


def search(visit: Visit) -> Page:
    """What holds `q`, in any case."""
    context = visit.context()
    text = visit.query.get("q", "").strip()[:MOST]
    field = Choice("q", "Search", text, placeholder="Nissan, P36, capital, L2.N418, edit 3 …")
    form = Form(visit.addresses.page(("search",), {}) or "", "Search", [field], as_one_types=True)
    if not text:
        hint = (
            "A part of a subject, an object or a label; a relation's key; a neuron such as L2.N418, or a part of it; "
            "edit 3, run 1, or a number alone; a method, a model or a snapshot."
        )
        return Page("Search", [form, Text(hint, "empty")])
    blocks: list[Block] = [form]
    direct = [*_numbered(visit, text), *_neuron(visit, context, text), *_models(visit, text), *_pair(visit, text)]
    if direct:
        blocks.append(Values("", [(kind, link, "text") for kind, link in direct], "direct"))
    tables = [_relations(visit, text), _neurons(visit, context, text), _facts(visit, context, text)]
    tables += [_edits(visit, text), _runs(visit, text), _snapshots(visit, text)]
    full = [table for table in tables if _rows(table)]
    if not direct and not full:
        blocks.append(
            Text(f"Nothing in this store holds “{text}”. A search looks for a part of a text; try less of it.", "empty")
        )
    return Page(f"Search: {text}", [*blocks, *full])


def _rows(table: Table) -> int:
    return table.source(Wanted(count=FACTS)).total if callable(table.source) else len(table.source)


def closeness(wanted: str, *names: str | None) -> int:
    """How close a text is to the nearest of some names: 0 is one, 1 begins one, 2 a word of one, 3 is within."""
    part, best = wanted.casefold(), 4
    for name in names:
        whole = (name or "").casefold()
        if part in whole:
            best = min(best, 0 if part == whole else 1 if whole.startswith(part) else 2 if f" {part}" in whole else 3)
    return best


def _nearest(pairs: Iterable[tuple[int, Found]]) -> list[Found]:
    """What is close, the closest first, otherwise in the order in which it comes."""
    return [one for close, one in sorted(pairs, key=lambda pair: pair[0]) if close < 4]


def _numbered(visit: Visit, text: str) -> Iterator[tuple[str, Link]]:
    """What has the number that the text is, of the kind that it says, or of any."""
    match = _NUMBERED.fullmatch(text)
    if match is None:
        return
    kind, number, database = (match[1] or "").lower(), int(match[2]), visit.database
    if kind in ("", "fact") and number < 2**31:
        at = database.query.facts(start=max(0, number - 1), count=1).facts
        for one in at:
            if one.fact == number:
                named = f"{one.subject or '(not named)'} · {one.relation} · {one.object}"
                yield "Fact", visit.link(f"{number}: {named}", "facts", number)
    if kind in ("", "edit"):
        for edit in database.edits.all():
            if edit.id == number:
                yield "Edit", visit.link(f"{number}: {edit.what}", "edits", number)
    if kind in ("", "run"):
        for run in counted_runs(visit):
            if run.id == number:
                yield "Run", visit.link(f"{number}: {run.method} on {run.model}", "runs", number)
    if kind in ("", "refinement"):
        for refinement in database.query.refinements():
            if refinement.id == number:
                told = f"{number}: of run {refinement.run_id}, {refinement.method} on {refinement.model}"
                yield "Refinement", visit.link(told, "refinements", number)


def _neuron(visit: Visit, context: Context, text: str) -> Iterator[tuple[str, Link]]:
    """The neuron, or the layer, that the text names."""
    model, part = context.model, _PART_OF_NEURON.fullmatch(text)
    if model is None or part is None:
        return
    try:
        neuron = Neuron.parse(text)
    except UsageError:
        if part[1] and not part[3] and int(part[1]) < model.layers:
            layer = int(part[1])
            link = visit.link(f"{layer} of {model.name}", "models", model.name, "layers", layer=layer)
            yield "Layer", link
        return
    if neuron.layer < model.layers and neuron.index < model.neurons:
        yield "Neuron", visit.link(f"{neuron} of {model.name}", "models", model.name, "neurons", neuron)


def _pair(visit: Visit, text: str) -> Iterator[tuple[str, Link]]:
    """What two relations share whose keys are named."""
    keys = {key.casefold(): key for key in visit.labels}
    named = [keys.get(one) for one in re.split(r"[\s,×]+(?:and\s+)?", text.casefold())]
    if len(named) == 2 and all(named):
        yield "Shared", visit.link(f"neurons that {named[0]} and {named[1]} share", "overlap", *named)


def _models(visit: Visit, text: str) -> list[tuple[str, Link]]:
    names = ((closeness(text, one.name), one.name) for one in visit.database.models.all())
    return [("Model", visit.link(name, "models", name)) for name in _nearest(names)]


def _neurons(visit: Visit, context: Context, text: str) -> Table:
    """Held neurons whose name begins as the text does, or that have its number; the most widely held first."""
    part = _PART_OF_NEURON.fullmatch(text)
    found: list[tuple[bool, HeldNeuron]] = []
    if part is not None and (part[3] or part[4]):
        number, layer, exact = part[3] or "", int(part[1] or -1), int(part[4] or -1)
        found = [
            (str(one.neuron) != number, one)
            for one in held(visit, context)
            if one.neuron == exact or (one.layer == layer and str(one.neuron).startswith(number))
        ]
    found.sort(key=lambda pair: pair[0])  # They come by the number of facts, and stay so.
    rows: list[Row] = [
        {"neuron": neuron_name(one.layer, one.neuron), "facts": one.facts, "relations": one.relations}
        for _, one in found
    ]
    model = None if context.model is None else context.model.name
    columns = [
        neuron_column(visit, model),
        Column("facts", "Facts", "count", help="facts whose refined set holds the neuron"),
        Column("relations", "Relations", "count", help="relations of those facts"),
    ]
    return Table("neurons", "Neurons that facts hold", columns, rows, size=10, filters=False)


def _relations(visit: Visit, text: str) -> Table:
    found = _nearest((closeness(text, key, label), (key, label)) for key, label in visit.labels.items())
    rows = [{"relation": key, "label": label} for key, label in found]
    columns = [
        relation_column(visit),
        Column("label", "Label", link=lambda row: visit.to("relations", row["relation"]), optional=True),
    ]
    return Table("relations", "Relations", columns, rows, size=10, filters=False)


def _facts(visit: Visit, context: Context, text: str) -> Table:
    every = fact_table(visit, context, [])
    source = every.source
    assert callable(source)
    found: dict[Wanted, Slice] = {}

    def holding(wanted: Wanted) -> Slice:
        if wanted not in found:
            found[wanted] = source(Wanted(wanted.sort, wanted.descending, text, wanted.start, wanted.count))
        return found[wanted]

    return Table("facts", "Facts", every.columns, holding, size=FACTS, filters=False)


def _edits(visit: Visit, text: str) -> Table:
    found = _nearest((closeness(text, one.what, one.kind), one) for one in visit.database.edits.all())
    return Table("edits", "Edits", edit_columns(visit), edit_rows(found), size=10, filters=False)


def _runs(visit: Visit, text: str) -> Table:
    found = _nearest((closeness(text, one.method, one.model), one) for one in counted_runs(visit))
    table = run_table(visit, found)
    return Table("runs", "Attribution runs", table.columns, table.source, size=10, filters=False)


def _snapshots(visit: Visit, text: str) -> Table:
    found = _nearest((closeness(text, one.name), one) for one in visit.database.snapshots.all())
    rows: list[Row] = [{"name": one.name, "model": one.model, "version": one.version} for one in found]
    columns = [
        Column("name", "Snapshot", link=lambda _: visit.to("edits")),
        Column("model", "Model", link=lambda row: visit.to("models", row["model"])),
        Column("version", "Version", "version"),
    ]
    return Table("snapshots", "Snapshots", columns, rows, size=10, filters=False)
