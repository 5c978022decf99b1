"""What an edit of many facts is found to do, in memory before it is stored: to all of its facts, and to some others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...analysis.evaluation_prompts import entries_of, read_answer
from ...analysis.readings import Question, State, as_they_are, read_states
from ...editing.objects.diff_file import EditObject
from ...editing.objects.slots import edited
from ...models.prompting import EncodedPrompt
from ...records.group_recipes import GroupRecipe
from ...records.plan_reports import FactReport
from ...store import facts as store_facts
from ...store import refinements
from ...store.engine import Store
from ..models import ModelVersion
from .reports import asked, of_refinement, report_of_others, rounded, sampled

SAMPLED = 50
"""Other facts of the edited relations, and of other relations, that a plan is tried on."""


def with_group_report(store: Store, version: ModelVersion, content: EditObject) -> EditObject:
    """The same edit, with the report in its recipe; the model is as it was when this returns.

    Args:
        store: the store.
        version: the model in memory, on whose weights the edit was planned.
        content: the edit; its recipe is a `GroupRecipe`.
    """
    recipe = content.recipe
    assert isinstance(recipe, GroupRecipe), "only edits of many facts are reported so"
    new = {fact.id: fact.to for fact in recipe.facts}
    with store.reading() as connection:
        chosen = None if recipe.refinement is None else refinements.refinement(connection, recipe.refinement)
        prompts = store_facts.prompts(connection, fact_ids=list(new))
        relations = {fact.relation for fact in recipe.facts}
        near, far = sampled(connection, version, set(new), relations, recipe.seed, SAMPLED)
    encoded = [(prompt, version.encoder.encode(prompt.id, prompt.text, new[prompt.fact_id])) for prompt in prompts]
    own, held_out = (
        [(prompt.fact_id, one) for prompt, one in encoded if prompt.held_out is flag and isinstance(one, EncodedPrompt)]
        for flag in (False, True)
    )
    parameters = dict(version.model.named_parameters())
    groups = {"relation": near, "elsewhere": far}
    before = asked(version.network, groups)
    with edited(parameters, content):
        after = asked(version.network, groups)
    others: dict[str, Any] = {name: report_of_others(groups[name], before[name], after[name]) for name in groups}
    states: list[State] = [as_they_are, lambda: edited(parameters, content)]
    first, then = (_wins(version, own, state) for state in states)
    held_out_success = _wins(version, held_out, states[1]).success
    report = FactReport(
        prompts=len(own),
        success_before=first.success,
        success=then.success,
        probability_before=first.probability,
        probability=then.probability,
        held_out_prompts=len(held_out),
        held_out_success=held_out_success,
        refinement=None if chosen is None else of_refinement(chosen),
        without_success=then.nowhere or None,
        **others,
    )
    return replace(content, recipe=replace(recipe, report=report))


@dataclass(frozen=True)
class _Wins:
    """New answers' mean probability, the share of prompts on which they win, and the facts of which they do on none."""

    probability: float | None = None
    success: float | None = None
    nowhere: tuple[int, ...] = ()


def _wins(version: ModelVersion, prompts: Sequence[tuple[int, EncodedPrompt]], state: State) -> _Wins:
    """How often the new answers win on prompts, each with its fact; without a prompt, nothing is a number."""
    if not prompts:
        return _Wins()
    questions = [Question(one, 0) for _, prompt in prompts for one in prompt.questions]
    (reading,) = read_states(version.network, questions, [state])
    entries = entries_of(reading)
    read = [read_answer(prompt, entries) for _, prompt in prompts]
    won = {fact for (fact, _), (wins, _) in zip(prompts, read, strict=True) if wins}
    return _Wins(
        rounded(sum(math.exp(value) for _, value in read) / len(read)),
        rounded(sum(wins for wins, _ in read) / len(read)),
        tuple(sorted({fact for fact, _ in prompts} - won)),
    )
