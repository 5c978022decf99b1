"""What an edit would do, before it is stored: answers before and after, holders of its slots, answers that flip."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...advice import option
from ...analysis.edit_measures import NEIGHBOURS, OTHERS, OWN, Flip, flipped
from ...editing.objects.slots import edited
from ...errors import UsageError
from ...models.answers import batched_log_probabilities
from ...records.facts import Fact, Prompt
from ...records.queries import Collateral
from ...records.recipes import facts_of, relation_of
from ...store import facts as store_facts
from ...store.edits import collateral as store_collateral
from ...store.engine import Store
from .control import neurons_of
from .draft import Draft
from .edited_sentences import EditedSentences, sentences_of_facts
from .flips import FlippedFact, flipped_facts
from .kept_prompts import encode_open

_PROMPTS = 10
"""Prompts that are asked for an edit of a relation: the first of as many facts."""


@dataclass(frozen=True)
class PreviewedAnswer:
    """An answer of a certain rank before an edit, and that of the same rank with it.

    Attributes:
        prompt: the question, its blank as `[Y]`.
        rank: 1 for the most probable.
        before, after: the answers.
        probability_before, probability_after: their probabilities, 0 to 1.
    """

    prompt: str
    rank: int
    before: str
    probability_before: float
    after: str
    probability_after: float


@dataclass(frozen=True)
class EditPreview:
    """What an edit would do, with nothing stored.

    Attributes:
        answers: the model's answers.
        collateral: who holds the value slots.
        asked: how many other facts were asked whether their answers flip.
        flips: those of them whose answers do.
    """

    answers: tuple[PreviewedAnswer, ...]
    collateral: Collateral
    asked: int = 0
    flips: tuple[FlippedFact, ...] = ()


def preview(store: Store, draft: Draft, top: int, others: int = 0) -> EditPreview:
    """Asks the draft's prompts before and after it, in memory, and finds who holds its value slots; stores nothing.

    The prompts are those of the draft's fact, held-out templates included; for a relation, one of each of its first
    ten facts. The model is as it was when this returns.

    Args:
        store: the store.
        draft: the edit.
        top: answers to show for each prompt, at least 1.
        others: how many facts that the edit is not for are asked whether their answers flip, at least 0: those that
            hold the most of its value slots, then others, drawn at random. Of an erase, also the relation's own.

    Raises:
        UsageError: if a number is out of range, or the draft is for no fact and no relation.
    """
    if top < 1:
        raise UsageError(f"{option('top')} must be at least 1 (got {top})")
    if others < 0:
        raise UsageError(f"{option('others')} must be at least 0 (got {others})")
    content = draft.content
    if draft.refinement_id is None:
        raise UsageError("a capture has no preview: it does not say what it is for")
    neurons, relation = neurons_of(content), relation_of(content.recipe)
    with store.reading() as connection:
        if draft.fact_id is not None:
            prompts = store_facts.prompts(connection, fact_ids=[draft.fact_id])
        else:
            every = store_facts.prompts(connection, relations=[relation])
            prompts = list({prompt.fact_id: prompt for prompt in reversed(every)}.values())[::-1][:_PROMPTS]
        own = sentences_of_facts(connection, () if draft.fact_id is None else (draft.fact_id,))
        touched: Collateral = store_collateral.collateral(connection, draft.refinement_id, neurons, own.facts)
        facts = {fact.id: fact for fact in store_facts.find_facts(connection)} if others else {}
        chosen = _others(list(facts), touched, own, others)
        other_prompts = own.others(store_facts.prompts(connection, fact_ids=chosen)) if others else []
    parameters = dict(draft.version.model.named_parameters())
    before, answers_before = _answers(draft, prompts, top), _predicted(draft, other_prompts)
    with edited(parameters, content):
        after, answers_after = _answers(draft, prompts, top), _predicted(draft, other_prompts)
    answers = [
        PreviewedAnswer(prompt, rank, *old, *new)
        for (prompt, first), (_, second) in zip(before, after, strict=True)
        for rank, (old, new) in enumerate(zip(first, second, strict=True), start=1)
    ]
    relations = {relation_of(content.recipe)}
    inside = OWN if draft.fact_id is None else NEIGHBOURS
    flips = _flips(facts, answers_before, answers_after, relations, inside)
    return EditPreview(tuple(answers), touched, len(chosen), tuple(flipped_facts(draft.version, flips, facts)))


@dataclass(frozen=True)
class PreviewedFlips:
    """What an edit would do to facts that it is not for.

    Attributes:
        collateral: who holds the value slots; nobody where no refinement is asked.
        asked: how many were asked.
        flips: those of them whose answers flip.
    """

    collateral: Collateral
    asked: int
    flips: tuple[FlippedFact, ...]


def preview_flips(store: Store, draft: Draft, others: int) -> PreviewedFlips:
    """Asks facts that an edit of many is not for whether their answers flip, in memory; stores nothing.

    Args:
        store: the store.
        draft: the edit, whose facts are this store's. The model is as it was when this returns.
        others: how many facts are asked, at least 0: those that hold the most of its value slots in the refinement, if
            the draft has one, then others, drawn at random.

    Raises:
        UsageError: if `others` is under 0.
    """
    if others < 0:
        raise UsageError(f"{option('others')} must be at least 0 (got {others})")
    content = draft.content
    edited_ones = facts_of(content.recipe)
    with store.reading() as connection:
        own = sentences_of_facts(connection, [fact.id for fact in edited_ones])
        touched = Collateral((), (), ())
        neurons = neurons_of(content)
        if draft.refinement_id is not None and neurons:
            touched = store_collateral.collateral(connection, draft.refinement_id, neurons, own.facts)
        facts = {fact.id: fact for fact in store_facts.find_facts(connection)}
        chosen = _others(list(facts), touched, own, others)
        prompts = own.others(store_facts.prompts(connection, fact_ids=chosen)) if chosen else []
    before = _predicted(draft, prompts)
    with edited(dict(draft.version.model.named_parameters()), content):
        after = _predicted(draft, prompts)
    flips = _flips(facts, before, after, {fact.relation for fact in edited_ones}, NEIGHBOURS)
    return PreviewedFlips(touched, len(chosen), tuple(flipped_facts(draft.version, flips, facts)))


def _others(facts: Iterable[int], touched: Collateral, edited_ones: EditedSentences, count: int) -> list[int]:
    """The facts to ask whether their answers flip: those that hold the most slots first."""
    holders = [fact.fact for fact in touched.facts]
    rest = sorted(set(facts) - set(holders) - edited_ones.facts)
    random.Random(0).shuffle(rest)  # noqa: S311 - not for secrets
    return [*holders, *rest][:count]


def _predicted(draft: Draft, prompts: Sequence[Prompt]) -> list[tuple[int, int]]:
    """Each prompt's fact, and its most probable token; prompts that the model can't be asked are left out."""
    encoded = encode_open(draft.version, prompts)
    facts = {prompt.id: prompt.fact_id for prompt in prompts}
    found = [(facts[one.prompt_id], -1) for one in encoded]
    network = draft.version.network
    for indices, log_probabilities in batched_log_probabilities(network, encoded):
        for index, token in zip(indices, log_probabilities.argmax(-1).tolist(), strict=True):
            found[index] = found[index][0], token
    return found


def _flips(
    facts: Mapping[int, Fact],
    before: Sequence[tuple[int, int]],
    after: Sequence[tuple[int, int]],
    relations: Collection[str],
    inside: str,
) -> list[Flip]:
    """The answers that differ, those of the edit's relations first, whose group is `inside`."""
    if not facts:
        return []
    found: list[Flip] = []
    for group in (inside, OTHERS):
        rows = [
            (number, old, new)
            for (number, old), (_, new) in zip(before, after, strict=True)
            if (facts[number].relation in relations) == (group == inside)
        ]
        found += flipped([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows], group)
    return found


def _answers(draft: Draft, prompts: Sequence[Prompt], top: int) -> list[tuple[str, list[tuple[str, float]]]]:
    """Each prompt's text, with its most probable answers and their probabilities."""
    version = draft.version
    encoded = encode_open(version, prompts)
    texts = {prompt.id: prompt.text for prompt in prompts}
    found: list[tuple[str, list[tuple[str, float]]]] = [("", [])] * len(encoded)
    for indices, log_probabilities in batched_log_probabilities(version.network, encoded):
        values, tokens = log_probabilities.topk(min(top, log_probabilities.shape[1]))
        for index, row, ids in zip(indices, values.exp().tolist(), tokens.tolist(), strict=True):
            decoded = [version.loaded.decode(token) for token in ids]
            found[index] = texts[encoded[index].prompt_id], list(zip(decoded, row, strict=True))
    return found
