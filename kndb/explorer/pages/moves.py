"""What applying or reverting an edit would change, with the button below."""

from __future__ import annotations

from typing import Any, Literal

from ...advice import call
from ...errors import KndbError
from ...records.edits import Edit
from ..blocks import Block, Choice, Column, Form, Page, Table, Text, Values
from ..sentences import whole
from ..visit import Visit
from .edit_effects import before_and_after, measured_flips, newest
from .edit_parts import collateral_tables, facts_table, report_values, slots_table, warnings


def apply(visit: Visit) -> Page:
    """What applying an edit would change."""
    number = visit.number("edit")
    told = "The edit is applied, all of it or nothing, once each byte was compared with the checkpoint's."
    return _move(visit, number, "apply", "Apply", told, call("edits.apply", number))


def revert(visit: Visit) -> Page:
    """What reverting an edit would give back."""
    number = visit.number("edit")
    told = "Its value slots get back the very bytes from before it, all of them or none."
    return _move(visit, number, "revert", "Revert", told, call("edits.revert", number))


def _move(visit: Visit, number: int, way: Literal["apply", "revert"], word: str, told: str, command: str) -> Page:
    edits = visit.database.edits
    one = edits.get(number)
    context = visit.context(model=one.model)
    page = Page(
        f"{word} edit {number}",
        command=command,
        crumbs=[visit.link("Edits", "edits"), visit.link(f"Edit {number}", "edits", number)],
        lead=one.what,
    )
    try:
        ahead = edits.steps_ahead([number], way)
    except KndbError as error:
        return _with(page, [Text(whole(error.text), "warning")])
    values: list[tuple[str, Any, str]] = [
        ("Model", visit.link(one.model, "models", one.model), "text"),
        ("Current version", ahead.version_before, "text"),
        ("Version after", ahead.version_after, "text"),
        ("Value slots that get other bytes", ahead.slots, "count"),
    ]
    if ahead.parameters:
        values.append(("Parameters that change as a whole", ahead.parameters, "count"))
    blocks: list[Block] = [Values("What changes", values)]
    blocks += _answers(visit, one, way)
    if context.refinement is not None:
        blocks += _held(visit, number, context.number)
    blocks.append(slots_table(visit, one, "Value slots that change" if way == "apply" else "Value slots that go back"))
    blocks += _conditions(one) if way == "apply" else []
    action = visit.addresses.page(("edits", number, way), {}) or ""
    fields = [Choice("version", value=ahead.version_before, kind="hidden")]
    blocks.append(Form(action, f"{word} this edit", fields, post=True, title=f"{word} it", note=told))
    return _with(page, blocks)


def _with(page: Page, blocks: list[Block]) -> Page:
    return Page(page.title, blocks, command=page.command, crumbs=page.crumbs, lead=page.lead)


def _answers(visit: Visit, one: Edit, way: str) -> list[Block]:
    """Its facts' answers before it and with it, and what it does to others."""
    current = visit.database.models.resolve_version(one.model)
    blocks: list[Block] = []
    facts = facts_table(visit, one.recipe, one.fact_numbers, pulled=one.pulled)
    report = report_values(one.recipe) if way == "apply" else None
    blocks += [block for block in (facts, report) if block is not None]
    blocks += warnings(one.recipe) if way == "apply" else []
    if way == "apply" and current != one.base_version:
        told = (
            f"It was planned on version {one.base_version}: what it was found to do, and answers, are of that version."
        )
        blocks.append(Text(told, "warning"))
    note = "What is answered before it is what will be answered again." if way == "revert" else ""
    measured = newest(visit.database.edits.evaluations(one.id))
    blocks += before_and_after(visit, one, measured, "edits", one.id, way, note=note)
    return [*blocks, *measured_flips(visit, measured)]


def _held(visit: Visit, number: int, refinement: int | None) -> list[Block]:
    try:
        return [*collateral_tables(visit, visit.database.query.collateral(number, refinement=refinement))]
    except KndbError as error:
        return [Text(whole(error.text), "empty")]


def _conditions(one: Edit) -> list[Block]:
    """The conditions that it was planned with, and what was measured then."""
    if one.conditions is None:
        return []
    rows = [{"condition": row.condition.words, "then": row.words} for row in one.conditions.checked]
    return [
        Table(
            "conditions",
            "Conditions that it was planned with",
            [Column("condition", "Condition"), Column("then", "When it was planned", "long")],
            rows,
            note="They are measured again on the current version, which loads the model; all of them must hold.",
        )
    ]
