"""Pages of edits: the history, and each edit with what it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...advice import call
from ...errors import KndbError
from ...records.edits import Edit, Evaluation
from ...records.versions import HistoryEntry
from ..blocks import Block, Choice, Column, Form, Page, Row, Step, Table, Text, Timeline, Values
from ..visit import Visit
from .edit_parts import (
    GROUPS,
    answers_table,
    asked_facts_table,
    collateral_tables,
    facts_table,
    flips_table,
    report_values,
    warnings,
)
from .parts import edit_columns, edit_rows, facts_here, neuron_column

TOP, OTHERS = 1, 40
"""Answers of a prompt, and other facts, that are asked before an edit and with it."""
MOST_STEPS = 200
"""Steps that the timeline shows; the table below has all."""


def edits(visit: Visit) -> Page:
    """The history of the models' versions, all edits, snapshots."""
    context = visit.context()
    database, name = visit.database, visit.query.get("model") or None
    titles = {one.id: one.what for one in database.edits.all()}
    log = database.edits.log(name)
    steps = [_step(visit, entry, titles) for entry in log[-MOST_STEPS:]]
    plans = Table(
        "edits",
        "Edits",
        [edit_columns(visit)[0], Column("model", "Model"), *edit_columns(visit)[1:]],
        edit_rows(database.edits.all(name)),
        empty="No edit is planned yet. An edit changes the value slots of a fact's knowledge neurons, so that the "
        "model gives another answer; it can be applied and taken back.",
    )
    snapshots = Table(
        "snapshots",
        "Snapshots",
        [
            Column("name", "Snapshot"),
            Column("model", "Model", link=lambda row: visit.to("models", row["model"])),
            Column("version", "Version", "version"),
            Column("created_at", "Made", "time"),
            Column("compare", "", link=lambda row: _from_current(visit, row), sorts=False),
        ],
        [
            {
                "name": one.name,
                "model": one.model,
                "version": one.version,
                "created_at": one.created_at,
                "compare": "compare with the current version" if visit.live else "",
            }
            for one in database.snapshots.all(name)
        ],
        empty="No version has a name yet.",
    )
    empty = "No edit was applied yet." if titles else "No edit was planned or applied yet."
    note = "" if len(log) <= MOST_STEPS else f" (the last {MOST_STEPS})"
    blocks: list[Block] = [Timeline(f"History{note}", steps, empty), plans, snapshots]
    if visit.editing and context.models:
        blocks.append(_snapshot_form(visit, [one.name for one in context.models]))
        if context.model is not None and database.snapshots.all(context.model.name):
            blocks.append(_restore_form(visit, context.model.name))
    return Page("Edits", blocks, command=call("edits.log", model=name))


def _from_current(visit: Visit, row: Row) -> str | None:
    if not visit.live:
        return None
    return visit.to("compare", model=row["model"], a="current", b=row["name"], kind="versions")


def _step(visit: Visit, entry: HistoryEntry, titles: Mapping[int, str]) -> Step:
    words = {"apply": "applied", "revert": "reverted", "restore": "restored"}
    what = "" if entry.edit is None else f" edit {entry.edit}"
    title = f"{words.get(entry.action, entry.action)}{what}"
    told = titles.get(entry.edit or 0, "")
    detail = f"{entry.created_at[:16].replace('T', ' ')}, {entry.author or 'nobody knows who'}, {entry.model}: "
    detail += f"{entry.version_before[:10]} → {entry.version_after[:10]}"
    href = None if entry.edit is None else visit.to("edits", entry.edit)
    return Step(title, f"{told + ' · ' if told else ''}{detail}", href, entry.direction or entry.action)


def _snapshot_form(visit: Visit, models: Sequence[str]) -> Form:
    return Form(
        visit.addresses.page(("snapshots",), {}) or "",
        "Name this version",
        [
            Choice("model", "Model", kind="select", options=[(one, one) for one in models]),
            Choice("name", "Name", placeholder="before-the-talk"),
        ],
        post=True,
        title="Name a model's current version",
    )


def _restore_form(visit: Visit, model: str) -> Form:
    names = [one.name for one in visit.database.snapshots.all(model)]
    return Form(
        visit.addresses.page(("snapshots", "restore"), {}) or "",
        "Go back to it",
        [
            Choice("model", kind="hidden", value=model),
            Choice("name", "Snapshot", kind="select", options=[(one, one) for one in names]),
        ],
        post=True,
        title=f"Go back to a snapshot of {model}",
        warning="Edits are reverted and applied as it takes, all or none; compare the versions first.",
    )


def edit(visit: Visit) -> Page:
    """One edit: its facts before and after, what it did to others, its value slots, its steps."""
    number = visit.number("edit")
    database = visit.database
    one = database.edits.get(number)
    context = visit.context(model=one.model)
    every = [row.id for row in database.edits.all(one.model)]
    steps = [entry for entry in database.edits.log(one.model) if entry.edit == number]
    blocks: list[Block] = [Values("", _values(visit, one))]
    report = report_values(one.recipe)
    facts = facts_table(visit, one.recipe, one.fact_numbers, pulled=one.pulled)
    blocks += [block for block in (facts, report) if block is not None]
    blocks += warnings(one.recipe)
    blocks += _asked(visit, one, steps)
    blocks += _before_and_after(visit, one)
    evaluations = database.edits.evaluations(number)
    blocks += _measured(visit, one, evaluations)
    if visit.editing:
        blocks += _forms(visit, one)
    if context.refinement is not None:
        try:
            blocks += collateral_tables(visit, database.query.collateral(number, refinement=context.number))
        except KndbError as error:
            blocks.append(Text(error.text[:1].upper() + error.text[1:], "empty"))
    blocks.append(_slots(visit, one))
    blocks.append(
        Timeline(
            "Its steps",
            [_step(visit, entry, {}) for entry in steps],
            f"It was never applied; apply it with: {call('edits.apply', number)}",
        )
    )
    place = every.index(number)
    return Page(
        f"Edit {number}",
        blocks,
        command=call("edits.get", number),
        crumbs=[visit.link("Edits", "edits")],
        before=None if place == 0 else visit.link(f"Edit {every[place - 1]}", "edits", every[place - 1]),
        after=None if place + 1 == len(every) else visit.link(f"Edit {every[place + 1]}", "edits", every[place + 1]),
        lead=one.what,
    )


def _before_and_after(visit: Visit, one: Edit) -> list[Block]:
    """The answers to its facts' prompts before and with it, if the address asks for them: they need the model."""
    title, model = "Its answers, asked now", visit.database.models.get(one.model)
    if not visit.live or not model.has_checkpoint:
        return []
    if not visit.query.get("answers"):
        link = visit.link("Ask them", "edits", one.id, answers=1)
        return [Text("This loads the model, which takes some seconds.", "empty", title, [link])]
    visit.require_own()
    key = ("before and after", one.object_hash, one.base_version)
    edits = visit.database.edits
    try:
        found = visit.room.asked(key, lambda: edits.preview_stored(one.id, top=TOP, others=OTHERS))
    except KndbError as error:
        return [Text(error.text[:1].upper() + error.text[1:], "empty", title)]
    if found.one is None:
        return [asked_facts_table(visit, found.facts)]
    blocks: list[Block] = [answers_table(found.one.answers)]
    if not edits.evaluations(one.id):
        told = f"{found.one.asked} other facts were asked: those that hold most of its value slots, then others."
        empty = f"Of {found.one.asked} other facts that were asked, none gets another answer."
        blocks.append(flips_table(visit, [vars(flip) for flip in found.one.flips], empty, told))
    return blocks


def _asked(visit: Visit, one: Edit, steps: Sequence[HistoryEntry]) -> list[Block]:
    """A link that asks its first fact at the versions before and after it, where there are such versions."""
    context, numbers = visit.shown_context, facts_here(one)
    applied = [entry for entry in steps if entry.action == "apply"]
    if not visit.live or not applied or not numbers or context is None or context.number is None:
        return []
    found = visit.database.query.fact(numbers[0], refinement=context.number, nearest=1)
    prompts = sorted(found.prompts, key=lambda prompt: not prompt.held_out)
    if not prompts:
        return []
    versions = {"a": applied[-1].version_before, "b": applied[-1].version_after}
    link = visit.link("Ask the model before and after it", "ask", text=prompts[0].text, model=one.model, **versions)
    return [Text("", links=[link])]


def _values(visit: Visit, one: Edit) -> list[tuple[str, Any, str]]:
    values: list[tuple[str, Any, str]] = [
        ("Model", visit.link(one.model, "models", one.model), "text"),
        ("Kind", one.kind, "text"),
        ("State", "applied: part of the current version" if one.applied else "not applied", "text"),
        ("Planned", f"{one.created_at[:16].replace('T', ' ')} by {one.author or 'nobody knows whom'}", "text"),
        ("Planned on", one.base_version, "text"),
        ("From", "a file: what is said of it are its sender's words" if one.pulled else "this store", "text"),
    ]
    try:
        values.append(("Changes", visit.database.edits.change(one.id).words, "text"))
    except KndbError as error:
        # Its words name files of this machine, which is nobody's business elsewhere.
        told = visit.words(error.text) if visit.live else "its object can't be read"
        values.append(("Changes", told, "text"))
    if one.conditions is not None:
        values.append(("Conditions", f"{one.conditions.words}, when it was planned", "text"))
    return values


def _measured(visit: Visit, one: Edit, evaluations: Sequence[Evaluation]) -> list[Block]:
    """What the newest evaluation found."""
    if not evaluations:
        how = f"It was not measured on other facts yet; measure it with: {call('edits.evaluate', one.id)}"
        return [Text(how, "empty", "What it does to other facts")]
    newest = max(evaluations, key=lambda row: row.id)
    measures: Mapping[str, Any] = newest.measures
    flips = measures.get("flips")
    when = newest.created_at[:16].replace("T", " ")
    note = f"Of evaluation {newest.id}, {when}; compared with version {newest.version_before[:12]}."
    empty = "Of all prompts of other facts that were asked, none has another answer with the edit."
    found: list[Block] = [flips_table(visit, flips if isinstance(flips, list) else [], empty, note)]
    rows = list(_measures(measures))
    found.append(
        Table(
            "measures",
            "Measures, beside an edit of as many random neurons",
            [
                Column("group", "Prompts"),
                Column("measure", "Measure"),
                Column("edit", "Edit", "number"),
                Column("control", "Random neurons", "number"),
            ],
            rows,
            empty="The evaluation has no measures.",
            size=15,
        )
    )
    return found


def _measures(measures: Mapping[str, Any]) -> list[Row]:
    edited, control = measures.get("edited"), measures.get("control")
    if not isinstance(edited, Mapping):
        return []
    rows: list[Row] = []
    order = {name: place for place, name in enumerate(GROUPS)}
    for group, some in sorted(edited.items(), key=lambda pair: order.get(pair[0], len(order))):
        if not isinstance(some, Mapping):
            continue
        beside = control.get(group) if isinstance(control, Mapping) else None
        for name, value in some.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                other = beside.get(name) if isinstance(beside, Mapping) else None
                words = name.replace("_", " ")
                rows.append({"group": GROUPS.get(group, group), "measure": words, "edit": value, "control": other})
    return rows


def _forms(visit: Visit, one: Edit) -> list[Block]:
    """What can be done with the edit, below the figures that say what it does."""
    if one.applied:
        ways = [("revert", "Revert this edit", f"The value slots of edit {one.id} get back the bytes from before it.")]
    else:
        told = "The figures above say what it was found to do; conditions that it was planned with are checked again."
        ways = [("apply", "Apply this edit", told)]
    if one.kind != "capture":
        told = "Asks its facts and others before and after, in memory; takes from some seconds to minutes."
        ways.append(("evaluate", "Measure it", told))
    return [
        Form(visit.addresses.page(("edits", one.id, way), {}) or "", button, post=True, warning=told)
        for way, button, told in ways
    ]


def _slots(visit: Visit, one: Edit) -> Table:
    try:
        slots = visit.database.edits.change(one.id).slots
    except KndbError:
        slots = ()
    rows = [
        {
            "neuron": slot.neuron,
            "before": slot.length_before,
            "after": slot.length_after,
            "factor": slot.length_after / slot.length_before if slot.length_before and slot.length_after else None,
        }
        for slot in slots
    ]
    return Table(
        "slots",
        "Value slots that it changes",
        [
            neuron_column(visit, one.model),
            Column("before", "‖v‖ before", "number", help="length of the value slot"),
            Column("after", "‖v‖ after", "number"),
            Column("factor", "Factor", "number", help="after ÷ before"),
        ],
        rows,
        empty="It changes no single value slot, but whole parameters; or its object can't be read.",
        size=15,
    )
