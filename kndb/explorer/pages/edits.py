"""Pages of edits: the history, and each edit with what it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...advice import call
from ...errors import KndbError
from ...records.edits import Edit
from ...records.versions import HistoryEntry
from ..blocks import Block, Choice, Column, Form, Page, Row, Step, Table, Text, Timeline, Values
from ..sentences import whole
from ..visit import Visit
from .edit_effects import before_and_after, measured_flips, measures_table, newest
from .edit_parts import collateral_tables, facts_table, report_values, slots_table, warnings
from .parts import edit_columns, edit_rows, facts_here

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
            *([Column("restore", "", link=lambda row: _back(visit, row), sorts=False)] if visit.editing else []),
        ],
        [
            {
                "name": one.name,
                "model": one.model,
                "version": one.version,
                "created_at": one.created_at,
                "compare": "compare with the current version" if visit.live else "",
                "restore": "go back to it",
            }
            for one in database.snapshots.all(name)
        ],
        empty="No version has a name yet.",
    )
    empty = "No edit was applied yet." if titles else "No edit was planned or applied yet."
    note = "" if len(log) <= MOST_STEPS else f" (the last {MOST_STEPS})"
    blocks: list[Block] = [Timeline(f"History{note}", steps, empty), plans, snapshots]
    if visit.editing:
        names = [one.name for one in context.models if one.has_checkpoint]
        links = [visit.link(f"Name the current version of {one}", "snapshots", model=one) for one in names]
        blocks.append(Text("", links=links))
    return Page("Edits", blocks, command=call("edits.log", model=name))


def _from_current(visit: Visit, row: Row) -> str | None:
    if not visit.live:
        return None
    return visit.to("compare", model=row["model"], a="current", b=row["name"], kind="versions")


def _back(visit: Visit, row: Row) -> str | None:
    return visit.to("snapshots", "restore", model=row["model"], name=row["name"])


def _step(visit: Visit, entry: HistoryEntry, titles: Mapping[int, str]) -> Step:
    words = {"apply": "applied", "revert": "reverted", "restore": "restored"}
    what = "" if entry.edit is None else f" edit {entry.edit}"
    title = f"{words.get(entry.action, entry.action)}{what}"
    told = titles.get(entry.edit or 0, "")
    detail = f"{entry.created_at[:16].replace('T', ' ')}, {entry.author or 'nobody knows who'}, {entry.model}: "
    detail += f"{entry.version_before[:10]} → {entry.version_after[:10]}"
    href = None if entry.edit is None else visit.to("edits", entry.edit)
    return Step(title, f"{told + ' · ' if told else ''}{detail}", href, entry.direction or entry.action)


def edit(visit: Visit) -> Page:
    """One edit: its facts before and after, what it did to others, its value slots, its steps."""
    number = visit.number("edit")
    database = visit.database
    one = database.edits.get(number)
    context = visit.context(model=one.model)
    every = [row.id for row in database.edits.all(one.model)]
    steps = [entry for entry in database.edits.log(one.model) if entry.edit == number]
    blocks: list[Block] = [Values("", _values(visit, one)), *_moves(visit, one)]
    report = report_values(one.recipe)
    facts = facts_table(visit, one.recipe, one.fact_numbers, pulled=one.pulled)
    blocks += [block for block in (facts, report) if block is not None]
    blocks += warnings(one.recipe)
    blocks += _asked(visit, one, steps)
    evaluations = database.edits.evaluations(number)
    measured = newest(evaluations)
    blocks += before_and_after(visit, one, measured, "edits", number)
    blocks += measured_flips(visit, measured)
    blocks.append(measures_table(number, measured))
    blocks += _measuring(visit, one, len(evaluations))
    if context.refinement is not None:
        try:
            blocks += collateral_tables(visit, database.query.collateral(number, refinement=context.number))
        except KndbError as error:
            blocks.append(Text(whole(error.text), "empty"))
    blocks.append(slots_table(visit, one))
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


def _moves(visit: Visit, one: Edit) -> list[Block]:
    """The page that says what applying or reverting it would change, with a button below."""
    way, word = ("revert", "Revert this edit …") if one.applied else ("apply", "Apply this edit …")
    return [Text("", links=[visit.link(word, "edits", one.id, way)])] if visit.editing else []


def _measuring(visit: Visit, one: Edit, evaluations: int) -> list[Block]:
    """A form that measures it."""
    if not visit.editing or one.kind == "capture":
        return []
    told = "Asks its facts and others before and after, in memory; takes from some seconds to minutes."
    action = visit.addresses.page(("edits", one.id, "evaluate"), {}) or ""
    fields = [Choice("evaluations", value=str(evaluations), kind="hidden")]
    return [Form(action, "Measure it", fields, post=True, note=told)]
