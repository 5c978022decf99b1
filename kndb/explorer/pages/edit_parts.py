"""What pages of edits and of plans have in common: what a plan was found to do, its facts, who holds its slots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...database.edits.fault_words import fault_sentences, rule_flaws
from ...errors import KndbError
from ...records.display import many, share
from ...records.edits import Edit
from ...records.group_recipes import GroupRecipe
from ...records.plan_reports import FactReport, OthersReport
from ...records.queries import Collateral
from ...records.recipes import EraseRecipe, Recipe, new_answers
from ..blocks import Column, Table, Text, Values
from ..visit import Visit
from .parts import fact_columns, neuron_column, relation_column


def report_values(recipe: Recipe) -> Values | None:
    """What a plan was found to do, in memory, before it was stored; None for kinds of edits that don't say."""
    report = recipe.report
    if report is None:
        return None
    values: list[tuple[str, Any, str]] = []
    if isinstance(report, FactReport):
        what = "New answers win on" if isinstance(recipe, GroupRecipe) else "New answer wins on"
        values.append((what, f"{share(report.success)} of {many(report.prompts, 'prompt')}", "text"))
        values.append(("before the edit", share(report.success_before), "text"))
        if report.held_out_prompts:
            held_out = f"{share(report.held_out_success)} of {report.held_out_prompts:,}"
            values.append(("on held-out prompts", held_out, "text"))
        if report.probability is not None and report.probability_before is not None:
            odds = f"{report.probability_before:.3g} → {report.probability:.3g}"
            values.append(("Mean p(new answer)", odds, "text"))
    if isinstance(recipe, EraseRecipe):
        values += _forgotten(report.relation)
    else:
        values += _others("Other facts of the relation", report.relation)
    values += _others("Facts of other relations", report.elsewhere)
    return Values("What the plan was found to do, in memory", values, name="report")


def _forgotten(report: OthersReport) -> list[tuple[str, Any, str]]:
    if not report.prompts or report.right is None or report.right_before is None:
        return []
    before, after = (round(share * report.prompts) for share in (report.right_before, report.right))
    told = f"{before} of {report.prompts} sampled facts answered right before, {after} after"
    return [("Facts of the relation", told, "text")]


def warnings(recipe: Recipe) -> list[Text]:
    """What is wrong with a plan, by its report, and with its rule on this model: what the commands warn of."""
    found = []
    flaws, faults = rule_flaws(recipe), fault_sentences(recipe)
    if flaws:
        found.append(Text(f"The rule as published, on this model: {'; '.join(flaws)}.", "warning"))
    if faults:
        found.append(Text(f"Warning: {'; '.join(faults)}.", "warning"))
    return found


def _others(name: str, report: OthersReport) -> list[tuple[str, Any, str]]:
    if not report.prompts or report.changed is None:
        return []
    changed = f"answers of {round(report.changed * report.prompts)} of {report.prompts} sampled facts change"
    factor = report.perplexity_factor
    return [(name, changed + ("" if factor is None else f"; perplexity × {factor:.3g}"), "text")]


def facts_table(
    visit: Visit, recipe: Recipe, numbers: Mapping[str, int | None] | None, *, pulled: bool
) -> Table | None:
    """The facts that an edit gives new answers, before and after; None for edits of other kinds."""
    answers = new_answers(recipe)
    if not answers:
        return None
    rows = []
    for fact, to in answers:
        number = fact.id if numbers is None else numbers.get(str(fact.id))
        old = getattr(fact, "old_answer", None) or getattr(recipe, "old_answer", None)
        rows.append(
            {
                "fact": number,
                "relation": fact.relation,
                "subject": fact.subject,
                "object": fact.object,
                "old_answer": old,
                "to": to,
            }
        )
    return Table(
        "answers",
        "Its facts and their new answers",
        [
            *fact_columns(visit),
            Column("old_answer", "Answer before", help="the model's, when the edit was planned"),
            Column("to", "New answer"),
        ],
        rows,
        note="Facts and answers are the words of the file's sender." if pulled else "",
        size=20,
    )


def collateral_tables(
    visit: Visit, found: Collateral, facts_title: str = "Other facts that hold these value slots"
) -> list[Table]:
    """Who holds the value slots that an edit changes, its own facts left out."""
    relations = Table(
        "holding_relations",
        "Relations whose facts hold these value slots",
        [
            relation_column(visit),
            Column("label", "Label"),
            Column("facts", "Facts", "count", help="facts that hold at least one of the slots"),
            Column("share", "Share", "share", help="of the relation's facts with a refined set"),
            Column("neurons", "Slots", "count", help="slots that its facts hold"),
        ],
        [
            {
                "relation": row.relation,
                "label": row.label,
                "facts": row.facts,
                "share": row.share,
                "neurons": row.neurons,
            }
            for row in found.relations
        ],
        empty="No other fact of the refinement holds one of its value slots.",
        size=10,
    )
    facts = Table(
        "holding_facts",
        facts_title,
        [*fact_columns(visit), Column("count", "Slots", "count"), Column("neurons", "Which", "long", sorts=False)],
        [
            {
                "fact": row.fact,
                "relation": row.relation,
                "subject": row.subject,
                "object": row.object,
                "count": len(row.neurons),
                "neurons": [*row.neurons[:5], *([f"and {len(row.neurons) - 5} more"] if len(row.neurons) > 5 else [])],
            }
            for row in found.facts
        ],
        empty="No other fact of the refinement holds one of its value slots.",
        size=10,
    )
    return [relations, facts]


def slots_table(visit: Visit, one: Edit, title: str = "Value slots that it changes") -> Table:
    """The value slots that an edit changes, with their lengths before it and with it."""
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
        title,
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
