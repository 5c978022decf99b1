"""Planning an edit: what it would do, with the flips by name, before the button that stores it."""

from __future__ import annotations

from typing import Any

from ...advice import call
from ...errors import UsageError
from ..blocks import Block, Choice, Form, Page, Text, Values
from ..planning import Plan, prepared
from ..visit import Visit
from .edit_parts import answers_table, collateral_tables, facts_table, flips_table, report_values, warnings
from .parts import add_model

OTHERS = 60
"""Other facts that a preview asks whether their answers change."""
TOP = 3
WAYS = [("update", "update: at once, along the gradient"), ("optimize", "optimize: by gradient steps, keeping others")]


def plan(visit: Visit) -> Page:
    """What an edit of a fact would do."""
    fact = visit.query.get("fact", "")
    context = visit.context(facts=[int(fact)] if fact.isascii() and fact.isdigit() and len(fact) < 19 else [])
    to, way = visit.query.get("to", "").strip(), visit.query.get("way", "update")
    model = context.model
    if model is None:
        return Page("Plan an edit", [Text("Choose a model above.", "empty")])
    if not model.has_checkpoint:
        return Page("Plan an edit", [Text(add_model(model.name), "empty")])
    fields = [
        Choice("fact", "Fact's number", fact, "text", placeholder="588"),
        Choice("to", "New answer", to, placeholder="one token of the model's"),
        Choice("way", "How", way, "select", WAYS),
        Choice("model", value=model.name, kind="hidden"),
    ]
    form = Form(visit.addresses.page(("plan",), {}) or "", "Try it in memory", fields)
    crumbs = [visit.link("Edits", "edits")]
    if not fact or not to:
        hint = Text("An edit is computed and tried in memory, and nothing is stored until you say so.", "empty")
        return Page("Plan an edit", [form, hint], crumbs=crumbs)
    visit.require_own()
    wanted = Plan(model.name, _number(fact), to, way, context.number)
    return Page(
        f"Plan: fact {fact} becomes “{to}”",
        [*_previewed(visit, wanted), form],
        command=_command(wanted),
        crumbs=crumbs,
    )


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    raise UsageError(f"a fact is named by its number (got {text[:40]!r})")


def _command(wanted: Plan) -> str:
    if wanted.way == "optimize":
        return call(
            "edits.plan_optimize", model=wanted.model, fact=wanted.fact, to=wanted.to, refinement=wanted.refinement
        )
    return call("edits.plan_update", model=wanted.model, fact=wanted.fact, to=wanted.to, refinement=wanted.refinement)


def _previewed(visit: Visit, wanted: Plan) -> list[Block]:
    draft = prepared(visit, wanted)
    found = visit.room.computed(lambda: visit.database.edits.preview(draft, top=TOP, others=OTHERS))
    recipe: Any = draft.content.recipe
    blocks: list[Block] = []
    facts = facts_table(visit, recipe, None, pulled=False)
    report = report_values(recipe)
    blocks += [block for block in (facts, report) if block is not None]
    blocks += warnings(recipe)
    blocks.append(answers_table(found.answers))
    empty = f"Of {found.asked} other facts that were asked, none gets another answer."
    asked = f"{found.asked} other facts were asked: those that hold the most of its value slots, then others at random."
    blocks.append(flips_table(visit, [vars(one) for one in found.flips], empty, asked))
    blocks.append(
        Form(
            visit.addresses.page(("plan",), {}) or "",
            "Store this edit",
            [Choice(name, value=str(value), kind="hidden") for name, value in wanted.fields().items()],
            post=True,
            title="Keep it",
            warning="The edit is stored, and not applied: its page has a button for that.",
        )
    )
    blocks += collateral_tables(visit, found.collateral)
    return [Values("", [("Model", wanted.model, "text"), ("Way", wanted.way, "text")]), *blocks]
