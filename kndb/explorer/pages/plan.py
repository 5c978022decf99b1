"""Planning an edit: what it would do, with the flips by name, before the button that stores it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...advice import Placeholder, call, option
from ...errors import ConditionError, UsageError
from ..blocks import Block, Choice, Form, Later, Link, Page, Part, Text, Values
from ..context import Context
from ..planning import OTHERS, WAYS, Plan, Tried, conditions, flips, tried
from ..sentences import whole
from ..visit import Visit
from .edit_effects import FLIPS_TITLE, answers_table, asked_facts_table, flips_table
from .edit_parts import collateral_tables, facts_table, report_values, warnings
from .parts import add_model

OF_A_FACT = [
    ("update", "update: at once, along the gradient"),
    ("optimize", "optimize: by gradient steps, keeping others"),
]
_LEAD = "An edit is computed and tried in memory, and nothing is stored until you say so."


def plan(visit: Visit) -> Page:
    """What an edit would do."""
    way = visit.query.get("way") or "update"
    fact, relation = visit.query.get("fact", "").strip(), visit.query.get("relation", "").strip()
    facts = (
        [int(fact)] if way in ("update", "optimize") and fact.isascii() and fact.isdigit() and len(fact) < 19 else []
    )
    context = visit.context(facts=facts, relations=[relation] if way == "erase" and relation else [])
    model = context.model
    if model is None:
        return Page("Plan an edit", [Text("Choose a model above.", "empty")])
    if not model.has_checkpoint:
        return Page("Plan an edit", [Text(add_model(model.name), "empty")])
    crumbs = [visit.link("Edits", "edits")]
    forms = _forms(visit, model.name, visit.query)
    if not all(visit.query.get(name, "").strip() for name in WAYS.get(way, ("",))):
        return Page("Plan an edit", list(forms.values()), crumbs=crumbs, lead=_LEAD)
    number = _refinement(visit, context, way)
    own = forms["update" if way == "optimize" else way]
    try:
        wanted = Plan.of({**visit.query, "model": model.name, "refinement": "" if number is None else str(number)})
    except UsageError as error:
        search = [] if fact.isdecimal() or not fact else [visit.link(f"Search for “{fact[:40]}”", "search", q=fact)]
        said = Text(whole(error.text), "warning", links=search)
        return Page("Plan an edit", [said, own], crumbs=crumbs, lead=_LEAD, status=400)
    others = [_other(visit, one) for one in forms if forms[one] is not own]
    return Page(
        _title(wanted),
        [*_tried(visit, wanted), own, Text("", title="Or another edit", links=others)],
        command=_command(wanted),
        crumbs=crumbs,
        lead=_LEAD,
    )


def _refinement(visit: Visit, context: Context, way: str) -> int | None:
    """The refinement that is planned with; of many facts, the one that is named, or else the rule chooses for them."""
    if way == "together" and not visit.query.get("refinement"):
        return None
    return context.number


def _title(wanted: Plan) -> str:
    if wanted.way == "erase":
        return f"Plan: forget {wanted.relation}"
    if wanted.way == "together":
        return "Plan: new answers for many facts"
    return f"Plan: fact {wanted.fact} becomes “{wanted.to}”"


def _other(visit: Visit, way: str) -> Link:
    words = {"update": "of a fact", "erase": "that erases a relation", "together": "of many facts"}
    return Link(words[way], visit.addresses.page(("plan",), {}))


def _command(wanted: Plan) -> str:
    model, number = wanted.model, wanted.refinement
    if wanted.way == "erase":
        found = call("edits.plan_erase", model=model, relation=wanted.relation, top=wanted.top, refinement=number)
    elif wanted.way == "together":
        found = call("edits.plan_together", model=model, targets=Placeholder("FILE"), refinement=number)
    elif wanted.way == "optimize":
        found = call("edits.plan_optimize", model=model, fact=wanted.fact, to=wanted.to, refinement=number)
    else:
        found = call("edits.plan_update", model=model, fact=wanted.fact, to=wanted.to, refinement=number)
    found += f" {option('require', list(wanted.require))}" if wanted.require else ""
    return found + (f" {option('confident', True)}" if wanted.confident else "")


def _forms(visit: Visit, model: str, query: Mapping[str, str]) -> dict[str, Form]:
    """The forms by the way they plan; each holds what the address has of its fields."""
    address = visit.addresses.page(("plan",), {}) or ""

    def said(name: str) -> str:
        return query.get(name, "").strip()

    held = [
        Choice(
            "require",
            "Only if (conditions, one on each line)",
            said("require"),
            "area",
            placeholder="success>=95%\nperplexity.others<=1.05",
            rows=2,
        ),
        Choice(
            "confident",
            "Compare",
            said("confident"),
            "select",
            [("", "each measure"), ("yes", "the worse end of its 95 % interval")],
        ),
        Choice("model", value=model, kind="hidden"),
        *([Choice("refinement", value=said("refinement"), kind="hidden")] if said("refinement") else []),
    ]
    of_a_fact = [
        Choice("fact", "Fact's number", said("fact"), "text", placeholder="588"),
        Choice("to", "New answer", said("to"), placeholder="one token of the model's"),
        Choice("way", "How", said("way"), "select", OF_A_FACT),
    ]
    of_a_relation = [
        Choice("way", value="erase", kind="hidden"),
        Choice("relation", "Relation", said("relation"), placeholder="P36"),
        Choice("top", "Its most common neurons", said("top") or "20", "number"),
    ]
    of_many = [
        Choice("way", value="together", kind="hidden"),
        Choice(
            "answers",
            "Facts and answers",
            said("answers"),
            "area",
            placeholder="588 Toyota\n589 Honda\nor a table: relation,subject,to",
        ),
    ]
    button = "Try it in memory"
    return {
        "update": Form(address, button, [*of_a_fact, *held], title="A new answer for a fact"),
        "erase": Form(address, button, [*of_a_relation, *held], title="Make the model forget a relation"),
        "together": Form(address, button, [*of_many, *held], title="New answers for many facts, in one edit"),
    }


def _tried(visit: Visit, wanted: Plan) -> list[Block]:
    """What the plan would do; its place, as long as nobody asked for that."""
    version = visit.database.models.resolve_version(wanted.model)
    if not visit.query.get("try"):
        told = "The edit is computed and tried in memory: from some seconds for a fact to minutes for many."
        link = Link("Compute it", visit.again("plan", **{"try": 1}))
        busy = f"Loading {wanted.model}, computing the edit, and asking the model before and with it …"
        return [Later("tried", "What the edit would do", told, link, busy, automatic=not visit.foreign)]
    visit.require_own()
    return [Part("tried", [*_previewed(visit, wanted, version)])]


def _previewed(visit: Visit, wanted: Plan, version: str) -> list[Block]:
    found = tried(visit, wanted, version)
    recipe: Any = found.draft.content.recipe
    values = [("Model", wanted.model, "text"), ("Version", version, "text"), ("Way", wanted.way, "text")]
    blocks: list[Block] = [Values("", values)]
    facts = None if found.facts else facts_table(visit, recipe, None, pulled=False)
    report = report_values(recipe)
    blocks += [block for block in (facts, report) if block is not None]
    blocks += warnings(recipe)
    blocks.append(asked_facts_table(visit, found.facts) if found.facts else answers_table(found.answers))
    blocks += collateral_tables(visit, found.collateral)
    return [*blocks, *_kept(visit, wanted, version, found)]


def _kept(visit: Visit, wanted: Plan, version: str, found: Tried) -> list[Block]:
    """What it does to others, and the button that stores it; or their place, as asking the others takes long."""
    known = visit.room.known(flips(visit, wanted, found)) is not None and (
        not wanted.require or visit.room.known(conditions(visit, wanted, found)) is not None
    )
    if not known and not visit.query.get("flips"):
        told = "Other facts are asked before the edit and with it" + (
            ", and its conditions are measured." if wanted.require else "."
        )
        link = Link("Ask them", visit.again("plan", **{"try": 1, "flips": 1}))
        busy = f"Asking {OTHERS} other facts{', and measuring the conditions' if wanted.require else ''} …"
        return [Later("kept", FLIPS_TITLE, told, link, busy, automatic=not visit.foreign)]
    return [Part("kept", _button(visit, wanted, version, found))]


def _button(visit: Visit, wanted: Plan, version: str, found: Tried) -> list[Block]:
    """The flips, the conditions, and the button; not that, if a condition does not hold."""
    others = visit.room.done(flips(visit, wanted, found))
    empty = f"Of {others.asked} other facts that were asked, none gets another answer."
    asked = f"{others.asked} other facts were asked: those that hold most of its value slots, then others at random."
    blocks: list[Block] = [flips_table(visit, [vars(one) for one in others.flips], empty, asked)]
    if wanted.require:
        try:
            checked = visit.room.done(conditions(visit, wanted, found))
        except ConditionError as error:
            return [*blocks, Text(whole(error.text), "warning", "Conditions")]
        blocks.append(Text(f"{'; '.join(one.words for one in checked.checked)}.", title="Conditions"))
    fields = {**wanted.fields(), "version": version, "draft": found.draft.object_hash}
    blocks.append(
        Form(
            visit.addresses.page(("plan",), {}) or "",
            "Store this edit",
            [Choice(name, value=value, kind="hidden") for name, value in fields.items()],
            post=True,
            title="Keep it",
            note="The edit is stored, and not applied: its page leads to a button for that.",
        )
    )
    return blocks
