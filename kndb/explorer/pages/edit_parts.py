"""What pages of edits and of plans have in common: what a plan was found to do, answers that flip, who holds slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...database.edits.faults import faults
from ...records.display import many, share
from ...records.group_recipes import GroupRecipe
from ...records.plan_reports import FactReport, OthersReport
from ...records.queries import Collateral
from ...records.recipes import Recipe, new_answers
from ..blocks import Column, Row, Table, Text, Values
from ..visit import Visit
from .parts import fact_columns, relation_column

GROUPS: Mapping[str, str] = {
    "own": "its own facts",
    "own_held_out": "its own facts, held-out prompts",
    "intra": "other facts of the relation",
    "inter": "other relations",
    "paraphrase": "paraphrases",
    "neighbourhood": "neighbourhood prompts",
    "locality": "locality prompts",
    "portability": "portability prompts",
    "attribute": "attribute prompts",
}
"""Groups of prompts, in words."""


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
    values += _others("Other facts of the relation", report.relation)
    values += _others("Facts of other relations", report.elsewhere)
    return Values("What the plan was found to do, in memory", values, name="report")


def warnings(recipe: Recipe) -> list[Text]:
    """What is wrong with a plan, by its report: what the commands warn of."""
    report = recipe.report
    found = []
    for fault in faults(recipe):
        if fault.kind in ("no-success", "little-success") and isinstance(report, FactReport):
            found.append(f"the new answer wins on only {share(report.success)} of {many(report.prompts, 'prompt')}")
        elif fault.kind == "some-nowhere":
            found.append(f"the new answers of {many(len(fault.facts), 'fact')} win on none of their prompts")
        elif fault.kind == "not-forgotten":
            found.append("the model still answers most sampled facts of the relation")
        elif fault.kind == "no-numbers":
            found.append("with the edit, the model's probabilities are not numbers")
        else:
            whose = "other facts of the relation" if fault.where == "relation" else "facts of other relations"
            found.append(f"the perplexity of {whose} is {fault.factor:.3g} times what it was")
    return [Text(f"Warning: {'; '.join(found)}.", "warning")] if found else []


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


def answers_table(answers: Sequence[Any]) -> Table:
    """The answers to prompts of an edit's facts before it and with it (`PreviewedAnswer`)."""
    rows: list[Row] = [
        {
            "prompt": one.prompt,
            "rank": one.rank,
            "before": one.before,
            "p_before": one.probability_before,
            "after": one.after,
            "p_after": one.probability_after,
        }
        for one in answers
    ]
    return Table(
        "preview",
        "Answers before and with the edit",
        [
            Column("prompt", "Prompt", "long"),
            Column("rank", "Rank", "count"),
            Column("before", "Before"),
            Column("p_before", "p before", "probability"),
            Column("after", "With the edit"),
            Column("p_after", "p with it", "probability"),
        ],
        rows,
        empty="The model can be asked none of its prompts.",
        size=15,
    )


def asked_facts_table(visit: Visit, facts: Sequence[Any]) -> Table:
    """What an edit of many facts does to each of them (`PreviewedFact`)."""
    rows: list[Row] = [
        {
            "fact": one.fact,
            "relation": one.relation,
            "subject": one.subject,
            "object": one.old_answer,
            "to": one.to,
            "prompts": one.prompts,
            "p_before": one.probability_before,
            "p_after": one.probability_after,
            "success": one.success_rate,
        }
        for one in facts
    ]
    *columns, _ = fact_columns(visit)
    return Table(
        "preview",
        "Its facts before and with the edit",
        [
            *columns,
            Column("object", "Answer before"),
            Column("to", "New answer"),
            Column("p_before", "p before", "probability", help="mean probability of the new answer, 0 to 1"),
            Column("p_after", "p with it", "probability"),
            Column("success", "Wins on", "share", help="share of the fact's prompts"),
            Column("prompts", "Prompts", "count"),
        ],
        rows,
        size=25,
    )


def flips_table(visit: Visit, flips: Sequence[Mapping[str, Any]], empty: str, note: str = "") -> Table:
    """Answers to other facts that an edit changes, by name."""
    rows: list[Row] = [
        {
            "fact": flip.get("fact"),
            "relation": flip.get("relation"),
            "subject": flip.get("subject"),
            "object": flip.get("object"),
            "before": flip.get("old_answer"),
            "after": flip.get("new_answer"),
            "prompts": f"{flip.get('prompts')} of {flip.get('asked')}",
            "group": GROUPS.get(str(flip.get("group")), str(flip.get("group"))),
        }
        for flip in flips
    ]
    return Table(
        "flips",
        "What it does to other facts: answers that change",
        [
            *fact_columns(visit),
            Column("before", "Answer before"),
            Column("after", "Answer after"),
            Column("prompts", "On prompts", help="for how many of the prompts that were asked"),
            Column("group", "Which facts"),
        ],
        rows,
        empty=empty,
        note=note,
        size=25,
    )


def collateral_tables(visit: Visit, found: Collateral) -> list[Table]:
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
        "Other facts that hold these value slots",
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
