"""Two refinements, or two versions of a model, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...advice import call
from ...errors import UsageError
from ...records.display import many
from ...records.facts import BLANK, SUBJECT_SLOT
from ...records.queries import Collateral
from ...records.recipes import new_answers
from ..blocks import Block, Choice, Column, Form, Page, Row, Table, Text, Values
from ..context import Context
from ..visit import Visit
from .edit_parts import collateral_tables
from .parts import edit_columns, edit_rows, fact_columns, facts_here, neuron_column, neuron_name, relation_column

if TYPE_CHECKING:
    from ...database.edits.diff import VersionDiff

_NAMED = 10
"""Edits that a sentence names."""


def compare(visit: Visit) -> Page:
    """What differs between `a` and `b`: numbers of refinements, or with `kind=versions` names of versions."""
    context = visit.context()
    a, b = visit.query.get("a", ""), visit.query.get("b", "")
    forms = _forms(visit, context, a, b)
    if not a or not b:
        hint = Text("Choose two refinements, or two versions of a model.", "empty")
        return Page("Compare", [*forms, hint])
    if visit.query.get("kind") == "versions":
        return _versions(visit, context, a, b, forms)
    return _refinements(visit, a, b, forms)


def _forms(visit: Visit, context: Context, a: str, b: str) -> list[Block]:
    action = visit.addresses.page(("compare",), {}) or ""
    refinements = [(str(one.id), one.title) for one in visit.database.query.refinements()]
    found: list[Block] = []
    if len(refinements) > 1:
        fields = [
            Choice("a", "Refinement A", a, "select", refinements),
            Choice("b", "Refinement B", b or refinements[-1][0], "select", refinements),
        ]
        found.append(Form(action, "Compare", fields, title="Two refinements"))
    if context.model is not None and context.model.has_checkpoint:
        versions = [(name, name) for name in ("base", "current", *context.snapshots)]
        fields = [
            Choice("kind", value="versions", kind="hidden"),
            Choice("model", value=context.model.name, kind="hidden"),
            Choice("a", "Version A", a, "select", versions),
            Choice("b", "Version B", b or "current", "select", versions),
        ]
        found.append(Form(action, "Compare", fields, title=f"Two versions of {context.model.name}"))
    return found


def _refinements(visit: Visit, a: str, b: str, forms: list[Block]) -> Page:
    numbers = []
    for text in (a, b):
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise UsageError(f"a refinement is named by its number (got {text[:40]!r})")
        numbers.append(int(text))
    found = visit.database.query.compare(numbers[0], numbers[1])
    relations = Table(
        "relations",
        "Relations",
        [
            relation_column(visit),
            Column("facts", "Facts", "count", help="facts with a set in either"),
            Column("facts_in_both", "In both", "count"),
            Column("mean_size_a", "Size in A", "number", help="mean size of the sets"),
            Column("mean_size_b", "Size in B", "number"),
            Column("mean_shared", "Shared", "number", help="mean of |A ∩ B|"),
            Column("mean_jaccard", "Jaccard index", "number", help="mean of |A ∩ B| ÷ |A ∪ B|"),
            Column("identical", "Identical", "count"),
        ],
        [
            {
                "relation": row.relation or "all of them",
                "sum": row.relation is None,
                "facts": row.facts,
                "facts_in_both": row.facts_in_both,
                "mean_size_a": row.mean_size_a,
                "mean_size_b": row.mean_size_b,
                "mean_shared": row.mean_shared,
                "mean_jaccard": row.mean_jaccard,
                "identical": row.identical,
            }
            for row in found.relations
        ],
        empty="Neither refinement has a fact with knowledge neurons.",
    )
    facts = Table(
        "facts",
        "Facts",
        [
            *fact_columns(visit),
            Column("size_a", "In A", "count"),
            Column("size_b", "In B", "count"),
            Column("shared", "Shared", "count"),
            Column("jaccard", "Jaccard index", "number"),
        ],
        [
            {
                "fact": row.fact,
                "relation": row.relation,
                "subject": row.subject,
                "object": row.object,
                "size_a": row.size_a,
                "size_b": row.size_b,
                "shared": row.shared,
                "jaccard": row.jaccard,
            }
            for row in found.facts
        ],
        empty="There are no facts to compare.",
    )
    names = {one.id: one.title for one in visit.database.query.refinements()}
    sides = Values("", [("A", names[numbers[0]], "text"), ("B", names[numbers[1]], "text")])
    command = call("query.compare", numbers[0], numbers[1])
    return Page(f"Refinements {a} and {b}", [sides, relations, facts, *forms], command=command)


def _versions(visit: Visit, context: Context, a: str, b: str, forms: list[Block]) -> Page:
    if context.model is None:
        raise UsageError("name the model whose versions are compared")
    name = context.model.name
    found = visit.database.edits.diff(name, a, b)
    slots = Table(
        "slots",
        "Value slots that differ",
        [
            neuron_column(visit, name),
            Column("norm_a", "‖v‖ in A", "number"),
            Column("norm_b", "‖v‖ in B", "number"),
            Column("norm_difference", "‖v B − v A‖", "number"),
            Column("facts", "Facts", "count", help="facts that hold the neuron"),
            Column("relations", "Relations", "long", sorts=False),
        ],
        [
            {
                "neuron": neuron_name(row.layer, row.neuron),
                "norm_a": row.norm_a,
                "norm_b": row.norm_b,
                "norm_difference": row.norm_difference,
                "facts": row.facts,
                "relations": list(row.relations or ()),
            }
            for row in found.slots
        ],
        empty="No value slot differs: both versions have the same weights."
        if not found.tensors
        else f"These parameters differ as a whole: {', '.join(found.tensors)}.",
        size=25,
    )
    edits = []
    for side, some in (("a", found.only_a), ("b", found.only_b)):
        title = f"Edits of {side.upper()} alone"
        edits.append(Table(f"only_{side}", title, edit_columns(visit), edit_rows(some), empty="There are none."))
    touched = Collateral((), found.relations, found.facts)
    sides = Values("", [("A", f"{a}: {found.version_a}", "text"), ("B", f"{b}: {found.version_b}", "text")])
    command = call("edits.diff", a, b, model=name)
    return Page(
        f"Versions {a} and {b} of {name}",
        [
            sides,
            *_asking(visit, name, found),
            *edits,
            slots,
            *collateral_tables(visit, touched, "Facts that hold these value slots"),
            *forms,
        ],
        command=command,
        lead=_between(found),
    )


def _between(found: VersionDiff) -> str:
    """What lies between two versions, in a sentence."""
    if not found.slots and not found.tensors:
        return "Both have the same weights."
    edits = [*found.only_a, *found.only_b]
    differ = [many(len(found.slots), "value slot")] if found.slots else []
    differ += [many(len(found.tensors), "other parameter")] if found.tensors else []
    named = ", ".join(str(one.id) for one in edits[:_NAMED]) + (", …" if edits[_NAMED:] else "")
    return f"{' and '.join(differ)} {'differ' if sum(map(len, (found.slots, found.tensors))) > 1 else 'differs'}; " + (
        f"between them {'lies edit' if len(edits) == 1 else 'lie edits'} {named}."
    )


def _asking(visit: Visit, model: str, found: VersionDiff) -> list[Block]:
    """A form that asks both versions, and the facts of the edits between them, each with its question."""
    versions = {"model": model, "a": found.version_a, "b": found.version_b}
    rows: list[dict[str, Any]] = []
    templates: dict[str, str | None] = {}
    for edit in (*found.only_a, *found.only_b):
        own = facts_here(edit)
        for fact, to in new_answers(edit.recipe):
            number = fact.id if edit.fact_numbers is None else edit.fact_numbers.get(str(fact.id))
            if number not in own:
                continue
            if fact.relation not in templates:
                usual = [one.text for one in visit.database.facts.templates(fact.relation) if not one.held_out]
                templates[fact.relation] = next(iter(usual), None)
            text = templates[fact.relation]
            question = None if text is None or fact.subject is None else text.replace(SUBJECT_SLOT, fact.subject)
            rows.append(
                {
                    "fact": number,
                    "relation": fact.relation,
                    "subject": fact.subject,
                    "object": fact.object,
                    "edit": edit.id,
                    "to": to,
                    "question": question,
                }
            )
    form = Form(
        visit.addresses.page(("ask",), {}) or "",
        "Ask both",
        [
            Choice("text", "Sentence", "", "text", placeholder=f"The capital of France is {BLANK}."),
            *(Choice(key, value=value, kind="hidden") for key, value in versions.items()),
        ],
        title="Ask both versions",
    )
    if not rows:
        return [form]
    table = Table(
        "edited",
        "Facts that the edits between them give new answers",
        [
            *fact_columns(visit),
            Column("edit", "Edit", "id", lambda row: visit.to("edits", row["edit"])),
            Column("to", "New answer"),
            Column("question", "Ask both", "long", lambda row: _both(visit, row, versions), sorts=False),
        ],
        rows,
        size=10,
    )
    return [form, table]


def _both(visit: Visit, row: Row, versions: Mapping[str, str]) -> str | None:
    return visit.to("ask", text=row["question"], **versions) if row["question"] else None
