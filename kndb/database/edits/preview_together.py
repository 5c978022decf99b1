"""What edits of many facts would do to each of them, before they are stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from ...analysis.evaluation_prompts import entries_of, read_answer
from ...analysis.readings import Question, State, as_they_are, read_states
from ...editing.objects.slots import edited
from ...errors import UsageError
from ...models.prompting import EncodedPrompt
from ...records.group_recipes import EditedFact, GroupRecipe
from ...store import facts as store_facts
from ...store.engine import Store
from ..models import ModelVersion
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


def preview_together(store: Store, drafts: Sequence[Draft]) -> list[PreviewedFact]:
    """Asks all facts of edits of many facts, in memory, without the edits and with all of them; stores nothing.

    Args:
        store: the store.
        drafts: the edits, each planned on the ones before it; the model is as it was when this returns.

    Raises:
        UsageError: if a draft is not of many facts.
    """
    facts: list[EditedFact] = []
    for draft in drafts:
        recipe = draft.content.recipe
        if not isinstance(recipe, GroupRecipe):
            raise UsageError(f"an edit of kind {recipe.kind} is not one of many facts; use preview")
        facts += recipe.facts
    version = drafts[0].version
    new = {fact.id: fact.to for fact in facts}
    with store.reading() as connection:
        prompts = store_facts.prompts(connection, fact_ids=list(new))
    asked: dict[int, list[EncodedPrompt]] = {number: [] for number in new}
    for prompt in prompts:
        encoded = version.encoder.encode(prompt.id, prompt.text, new[prompt.fact_id])
        if isinstance(encoded, EncodedPrompt):
            asked[prompt.fact_id].append(encoded)
    parameters = dict(version.model.named_parameters())
    states: list[State] = [as_they_are, lambda: _with_all(parameters, drafts)]
    before, after = _read(version, [one for own in asked.values() for one in own], states)
    found, start = [], 0
    for fact in facts:
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


@contextmanager
def _with_all(parameters: dict[str, torch.Tensor], drafts: Sequence[Draft]) -> Iterator[None]:
    with ExitStack() as stack:
        for draft in drafts:
            stack.enter_context(edited(parameters, draft.content))
        yield


def _read(
    version: ModelVersion, prompts: Sequence[EncodedPrompt], states: Sequence[State]
) -> list[list[tuple[bool, float]]]:
    """For each state, whether each prompt's answer wins, and the mean log-probability of its tokens."""
    questions = [Question(one, 0) for prompt in prompts for one in prompt.questions]
    found = []
    for reading in read_states(version.network, questions, states):
        entries = entries_of(reading)
        found.append([read_answer(prompt, entries) for prompt in prompts])
    return found


def _mean_probability(read: Sequence[tuple[bool, float]]) -> float:
    return sum(math.exp(value) for _, value in read) / len(read)
