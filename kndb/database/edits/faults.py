"""What the report in an edit's recipe finds wrong with it. Imports no torch, so that lists of edits say it at once."""

from __future__ import annotations

from dataclasses import dataclass

from ...records.group_recipes import EditedFact, GroupRecipe
from ...records.plan_reports import FactReport
from ...records.recipes import EraseRecipe, Recipe

HARM = 2.0
"""A plan that multiplies the perplexity of other facts' answers by this is warned about."""
LITTLE_SUCCESS = 0.5
"""So is a plan for many facts whose new answers win on fewer of their prompts than this share."""
LITTLE_FORGOTTEN = 0.5
"""And so is an erase that leaves more than this share of the relation's right answers right."""


@dataclass(frozen=True)
class Fault:
    """Why a plan is not what was wanted.

    Attributes:
        kind: `no-success`: the new answer wins on none of the fact's prompts. `little-success`: of many facts, on fewer
            than `LITTLE_SUCCESS`. `some-nowhere`: some of many facts win on none of their prompts. `harm`: perplexity
            of other answers times `HARM` or more. `not-forgotten`: an erase that leaves most right answers right.
            `no-numbers`: with the edit, the model's probabilities are not numbers.
        where: `relation` or `elsewhere`, of a harm.
        factor: of a harm, perplexity after ÷ before.
        facts: those that win nowhere, in the recipe's order.
    """

    kind: str
    where: str = ""
    factor: float = 0.0
    facts: tuple[EditedFact, ...] = ()


def faults(recipe: Recipe) -> list[Fault]:
    """What a recipe's report finds wrong with its edit; nothing where there is no report."""
    report = recipe.report
    if report is None:
        return []
    found = []
    if isinstance(report, FactReport) and report.prompts and report.success == 0:
        found.append(Fault("no-success"))
    elif isinstance(report, FactReport) and isinstance(recipe, GroupRecipe) and _little(report):
        found.append(Fault("little-success"))
    if isinstance(report, FactReport) and isinstance(recipe, GroupRecipe) and report.success:
        numbers = set(report.without_success or ())
        nowhere: tuple[EditedFact, ...] = tuple(fact for fact in recipe.facts if fact.id in numbers)
        found += [Fault("some-nowhere", facts=nowhere)] if nowhere else []
    for name, group in (("relation", report.relation), ("elsewhere", report.elsewhere)):
        if not group.prompts:
            continue
        factor = group.perplexity_factor
        if factor is None:
            found.append(Fault("no-numbers"))
            break
        if isinstance(recipe, EraseRecipe) and name == "relation":
            if (group.right or 0.0) > LITTLE_FORGOTTEN * (group.right_before or 0.0):
                found.append(Fault("not-forgotten"))
        elif factor >= HARM:
            found.append(Fault("harm", name, factor))
    return found


def _little(report: FactReport) -> bool:
    return bool(report.prompts) and (report.success or 0.0) < LITTLE_SUCCESS
