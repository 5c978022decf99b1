"""What is wrong with a plan, in words: sentences for whoever planned it, and a few words for a list."""

from __future__ import annotations

from collections.abc import Sequence

from ...records.display import many
from ...records.edits import in_words
from ...records.group_recipes import EditedFact, GroupRecipe
from ...records.plan_reports import FactReport, PlanReport
from ...records.recipes import Recipe, UpdateRecipe
from .faults import Fault, faults

NEARLY_ALIKE = 0.9
"""Below this cosine, a word embedding is said not to be what the head reads a token by."""
_MOST_NAMED = 5
"""Facts that a warning names."""


def fault_sentences(recipe: Recipe) -> list[str]:
    """What a recipe's report finds wrong with its edit, a sentence without capital and full stop for each fault."""
    report = recipe.report
    if report is None:
        return []
    several = isinstance(recipe, GroupRecipe)
    return [_sentence(fault, report, several=several) for fault in faults(recipe)]


def short_warning(recipe: Recipe, *, pulled: bool = False) -> str | None:
    """A plan's faults in a few words; None without any. Of an edit from a file, they are the sender's words."""
    found = "; ".join(dict.fromkeys(_short(fault) for fault in faults(recipe)))
    return in_words(found, pulled=pulled) if found else None


def rule_flaws(recipe: Recipe) -> list[str]:
    """What is wrong with the rule as published on this model."""
    if not isinstance(recipe, UpdateRecipe) or recipe.rule != "paper":
        return []
    negative, count = len(recipe.negative_neurons or ()), len(recipe.neurons)
    found = []
    if negative:
        found.append(
            f"{negative} of {count} neurons have negative activation: their slots push against the new answer"
            if negative > 1
            else f"1 of {count} neurons has negative activation: its slot pushes against the new answer"
        )
    cosine = recipe.cosine_to_output
    if isinstance(cosine, float) and cosine < NEARLY_ALIKE:
        found.append(
            f"the new answer's word embedding is not what the head reads it by (cosine {cosine:.2f} to its output "
            "direction)"
        )
    return found


def _short(fault: Fault) -> str:
    if fault.kind == "harm":
        return f"{'relation' if fault.where == 'relation' else 'others'} × {fault.factor:.3g}"
    if fault.kind == "some-nowhere":
        return f"{len(fault.facts)} win nowhere"
    return {
        "no-success": "wins nowhere",
        "little-success": "wins seldom",
        "not-forgotten": "not forgotten",
        "no-numbers": "no numbers",
    }[fault.kind]


def _sentence(fault: Fault, report: PlanReport | FactReport, *, several: bool) -> str:
    if fault.kind == "no-success" and isinstance(report, FactReport) and several:
        return (
            f"the new answers win on none of the facts' {report.prompts} prompts (their mean probability is "
            f"{report.probability or 0.0:.2g})"
        )
    if fault.kind == "no-success" and isinstance(report, FactReport):
        return (
            f"the new answer wins on none of the fact's {report.prompts} prompts (its mean probability is "
            f"{report.probability or 0.0:.2g})"
        )
    if fault.kind == "little-success" and isinstance(report, FactReport):
        return f"the new answers win on only {_of(report.success, report.prompts)} of the facts' prompts"
    if fault.kind == "some-nowhere":
        return _nowhere(fault.facts)
    if fault.kind == "no-numbers":
        return "with this edit, the model's probabilities are not numbers"
    if fault.kind == "not-forgotten":
        kept = report.relation
        return f"the model still answers {_of(kept.right, kept.prompts)} sampled facts of the relation"
    inside = fault.where == "relation"
    group = report.relation if inside else report.elsewhere
    whose = "other facts of the relation" if inside else "facts of other relations"
    return f"the perplexity of {whose} is {fault.factor:.3g} times what it was ({group.prompts} sampled)"


def _nowhere(facts: Sequence[EditedFact]) -> str:
    """Of which facts the new answers win on no prompt: the first few by name."""
    named = "; ".join(
        f"{fact.subject or f'fact {fact.id}'} · {fact.relation} → {fact.to}" for fact in facts[:_MOST_NAMED]
    )
    more = f"; and {len(facts) - _MOST_NAMED} more" if len(facts) > _MOST_NAMED else ""
    one = len(facts) == 1
    return (
        f"the new answer{'' if one else 's'} of {many(len(facts), 'fact')} {'wins' if one else 'win'} on none of "
        f"{'its' if one else 'their'} prompts ({named}{more})"
    )


def _of(share: float | None, count: int) -> str:
    return f"{round((share or 0.0) * count)} of {count}"
