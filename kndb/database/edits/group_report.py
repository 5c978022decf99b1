"""What an edit of many facts is found to do, in memory before it is stored: to all of its facts, and to some others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
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
    encoded = [
        (prompt.held_out, version.encoder.encode(prompt.id, prompt.text, new[prompt.fact_id])) for prompt in prompts
    ]
    own, held_out = (
        [one for flag, one in encoded if flag is wanted and isinstance(one, EncodedPrompt)] for wanted in (False, True)
    )
    parameters = dict(version.model.named_parameters())
    groups = {"relation": near, "elsewhere": far}
    before = asked(version.network, groups)
    with edited(parameters, content):
        after = asked(version.network, groups)
    others: dict[str, Any] = {name: report_of_others(groups[name], before[name], after[name]) for name in groups}
    states: list[State] = [as_they_are, lambda: edited(parameters, content)]
    first, then = (_wins(version, own, state) for state in states)
    _, held_out_success = _wins(version, held_out, states[1])
    report = FactReport(
        prompts=len(own),
        success_before=first[1],
        success=then[1],
        probability_before=first[0],
        probability=then[0],
        held_out_prompts=len(held_out),
        held_out_success=held_out_success,
        refinement=None if chosen is None else of_refinement(chosen),
        **others,
    )
    return replace(content, recipe=replace(recipe, report=report))


def _wins(version: ModelVersion, prompts: Sequence[EncodedPrompt], state: State) -> tuple[float | None, float | None]:
    """The new answers' mean probability, and the share of prompts on which they win; None without a prompt."""
    if not prompts:
        return None, None
    (reading,) = read_states(
        version.network, [Question(one, 0) for prompt in prompts for one in prompt.questions], [state]
    )
    entries = entries_of(reading)
    read = [read_answer(prompt, entries) for prompt in prompts]
    probability = sum(math.exp(value) for _, value in read) / len(read)
    return rounded(probability), rounded(sum(won for won, _ in read) / len(read))
