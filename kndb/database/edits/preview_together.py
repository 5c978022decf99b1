"""What a joint plan would do to each of its facts, before it is stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ...analysis.evaluation_prompts import entries_of, read_answer
from ...analysis.readings import Question, State, as_they_are, read_states
from ...editing.objects.slots import edited
from ...errors import UsageError
from ...models.prompting import EncodedPrompt
from ...records.together import TogetherRecipe
from ...store import facts as store_facts
from ...store.engine import Store
from .draft import Draft


@dataclass(frozen=True)
class PreviewedFact:
    """What an edit of many facts does to one of them.

    Attributes:
        fact, relation, subject: the fact.
        old_answer: the model's answer before, its first token.
        to: the new answer.
        prompts: how many of the fact's prompts the model was asked, held-out ones included.
        probability_before, probability_after: mean probability of the new answer over them, the geometric mean of its
            tokens', without and with the edit.
        success_rate: share of them for which, with the edit, each token of the new answer is the most probable one.
    """

    fact: int
    relation: str
    subject: str | None
    old_answer: str
    to: str
    prompts: int
    probability_before: float
    probability_after: float
    success_rate: float


def preview_together(store: Store, draft: Draft) -> list[PreviewedFact]:
    """Asks all facts of a joint plan, in memory, without the edit and with it; stores nothing.

    Args:
        store: the store.
        draft: the edit; the model is as it was when this returns.

    Raises:
        UsageError: if the draft is no joint plan.
    """
    recipe, version = draft.content.recipe, draft.version
    if not isinstance(recipe, TogetherRecipe):
        raise UsageError(f"an edit of kind {recipe.kind} is not one of many facts; use preview")
    new = {fact.id: fact.to for fact in recipe.facts}
    with store.reading() as connection:
        prompts = store_facts.prompts(connection, fact_ids=list(new))
    asked: dict[int, list[EncodedPrompt]] = {number: [] for number in new}
    for prompt in prompts:
        encoded = version.encoder.encode(prompt.id, prompt.text, new[prompt.fact_id])
        if isinstance(encoded, EncodedPrompt):
            asked[prompt.fact_id].append(encoded)
    parameters = dict(version.model.named_parameters())
    states: list[State] = [as_they_are, lambda: edited(parameters, draft.content)]
    before, after = _read(draft, [one for own in asked.values() for one in own], states)
    found, start = [], 0
    for fact in recipe.facts:
        count = len(asked[fact.id])
        first, then = before[start : start + count], after[start : start + count]
        start += count
        found.append(
            PreviewedFact(
                fact=fact.id,
                relation=fact.relation,
                subject=fact.subject,
                old_answer=fact.old_answer or "",
                to=fact.to,
                prompts=count,
                probability_before=_mean_probability(first),
                probability_after=_mean_probability(then),
                success_rate=sum(won for won, _ in then) / count,
            )
        )
    return found


def _read(draft: Draft, prompts: Sequence[EncodedPrompt], states: Sequence[State]) -> list[list[tuple[bool, float]]]:
    """For each state, whether each prompt's answer wins, and the mean log-probability of its tokens."""
    questions = [Question(one, 0) for prompt in prompts for one in prompt.questions]
    found = []
    for reading in read_states(draft.version.network, questions, states):
        entries = entries_of(reading)
        found.append([read_answer(prompt, entries) for prompt in prompts])
    return found


def _mean_probability(read: Sequence[tuple[bool, float]]) -> float:
    return sum(math.exp(value) for _, value in read) / len(read)
