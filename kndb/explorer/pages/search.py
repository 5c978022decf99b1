"""One box for all: relations, facts, neurons, edits and snapshots."""

from __future__ import annotations

from ...errors import UsageError
from ...records.models import Neuron
from ..blocks import Block, Choice, Column, Form, Link, Page, Slice, Table, Text, Values, Wanted
from ..context import Context
from ..visit import Visit
from .facts import fact_table
from .parts import edit_columns, edit_rows, relation_column

FACTS = 25
"""Facts of a page."""
MOST = 200
"""Letters of what is looked for."""


def search(visit: Visit) -> Page:
    """What holds `q`, in any case."""
    context = visit.context()
    text = visit.query.get("q", "").strip()[:MOST]
    field = Choice("q", "Search", text, placeholder="Nissan, P36, capital, L2.N418, edit 3 …")
    form = Form(visit.addresses.page(("search",), {}) or "", "Search", [field], as_one_types=True)
    if not text:
        hint = "A part of a subject, an object or a label; a relation's key; a neuron such as L2.N418; a number."
        return Page("Search", [form, Text(hint, "empty")])
    blocks: list[Block] = [form]
    direct = _direct(visit, context, text)
    if direct:
        blocks.append(Values("", [("Go to", link, "text") for link in direct]))
    blocks += [_relations(visit, text), _facts(visit, context, text), _edits(visit, text), _snapshots(visit, text)]
    full = [block for block in blocks if not isinstance(block, Table) or _rows(block)]
    if not direct and len(full) == 1:
        full.append(
            Text(f"Nothing in this store holds “{text}”. A search looks for a part of a text; try less of it.", "empty")
        )
    return Page(f"Search: {text}", full)


def _rows(table: Table) -> int:
    return table.source(Wanted(count=FACTS)).total if callable(table.source) else len(table.source)


def _direct(visit: Visit, context: Context, text: str) -> list[Link]:
    """What the text names: a neuron, or a fact or an edit by its number."""
    found = []
    model = context.model
    try:
        neuron = Neuron.parse(text)
    except UsageError:
        neuron = None
    if neuron is not None and model is not None and neuron.layer < model.layers and neuron.index < model.neurons:
        found.append(visit.link(f"{neuron} of {model.name}", "models", model.name, "neurons", neuron))
    number = text.lower().removeprefix("fact").removeprefix("edit").strip()
    if number.isascii() and number.isdigit() and len(number) < 19:
        database = visit.database
        if not text.lower().startswith("edit"):
            at = database.query.facts(start=max(0, int(number) - 1), count=1).facts if int(number) < 2**31 else ()
            found += [visit.link(f"fact {number}", "facts", number) for one in at if one.fact == int(number)]
        if not text.lower().startswith("fact"):
            edits = {one.id: one for one in database.edits.all()}
            if int(number) in edits:
                found.append(visit.link(f"edit {number}: {edits[int(number)].what}", "edits", number))
    return found


def _relations(visit: Visit, text: str) -> Table:
    part = text.casefold()
    rows = [
        {"relation": key, "label": label}
        for key, label in visit.database.facts.labels().items()
        if part in key.casefold() or part in (label or "").casefold()
    ]
    columns = [
        relation_column(visit),
        Column("label", "Label", link=lambda row: visit.to("relations", row["relation"])),
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
    part = text.casefold()
    found = [one for one in visit.database.edits.all() if part in one.what.casefold()]
    return Table("edits", "Edits", edit_columns(visit), edit_rows(found), size=10, filters=False)


def _snapshots(visit: Visit, text: str) -> Table:
    part = text.casefold()
    rows = [
        {"name": one.name, "model": one.model, "version": one.version}
        for one in visit.database.snapshots.all()
        if part in one.name.casefold()
    ]

    columns = [
        Column("name", "Snapshot", link=lambda _: visit.to("edits")),
        Column("model", "Model", link=lambda row: visit.to("models", row["model"])),
        Column("version", "Version", "version"),
    ]
    return Table("snapshots", "Snapshots", columns, rows, size=10, filters=False)
