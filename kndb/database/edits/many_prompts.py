"""What edits of many facts by keys are computed on: facts of the store with new answers, as rewrites of a model."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...editing.many.sentences import NewAnswer, Rewrite, rewrites
from ...errors import EditError
from ...models.adapter import Blank
from ...records.facts import BLANK, Fact, Prompt
from ...records.many_settings import Token
from ...records.recipes import new_answers
from ...store import facts as store_facts
from ...store import versions as store_versions
from ...store.edits import edit as store_edits
from ..models import ModelVersion
from .batch import Target, Unusable
from .draft import Draft
from .edited_sentences import sentences_of_facts

OTHERS_EACH = 3
"""Prompts of each other fact of an edited subject whose answers are kept while a target is looked for."""


def rewrites_of(
    version: ModelVersion,
    targets: Sequence[Target],
    facts: Mapping[int, Fact],
    prompts: Iterable[Prompt],
    others: Iterable[Prompt],
    token: Token,
) -> tuple[dict[int, list[Rewrite]], list[Unusable]]:
    """The rewrites of each fact, and the targets that have none.

    Args:
        version: the model.
        targets: the facts with their new answers; each rewrite's `fact` is its place among them.
        facts: at least these, and those of `others`, by number.
        prompts: the facts' prompts.
        others: prompts of other facts of the subjects, whose answers are to stay.
        token: which token's output changes.
    """
    of_fact: dict[int, list[str]] = {}
    for prompt in prompts:
        of_fact.setdefault(prompt.fact_id, []).append(prompt.text)
    of_subject: dict[str, list[Prompt]] = {}
    for prompt in others:
        of_subject.setdefault(_folded(facts[prompt.fact_id].subject), []).append(prompt)
    blank = version.adapter.blank
    found: dict[int, list[Rewrite]] = {}
    unusable: list[Unusable] = []
    for place, target in enumerate(targets):
        subject = facts[target.fact].subject
        same = [] if subject is None else of_subject.get(_folded(subject), [])
        kept = tuple(prompt.text for prompt in same if subject is not None and _shows(prompt.text, subject, blank))
        answer = NewAnswer(subject, tuple(of_fact.get(target.fact, ())), target.to.strip(), kept)
        try:
            own = rewrites(version.tokenizer, version.encoder, blank, [answer], token)
        except EditError as error:
            unusable.append(Unusable(target, error.text))
        else:
            found[target.fact] = [replace(one, fact=place) for one in own]
    return found, unusable


def _folded(subject: str | None) -> str:
    return " ".join((subject or "").casefold().split())


def _shows(text: str, subject: str, blank: Blank) -> bool:
    """Whether a model sees the subject in a prompt."""
    before, _, after = text.partition(BLANK)
    return subject in before or (blank is Blank.MASK and subject in after)


def others_of_subjects(connection: Any, edited: Collection[int], every: Iterable[Fact]) -> list[int]:
    """The facts that are about a subject of the edited ones, and ask something else; rising.

    Args:
        connection: an open transaction.
        edited: the edited facts.
        every: all facts of the store.
    """
    facts = list(every)
    chosen = set(edited)
    subjects = {_folded(fact.subject) for fact in facts if fact.id in chosen and fact.subject is not None}
    same = sentences_of_facts(connection, chosen).facts
    return sorted(
        fact.id
        for fact in facts
        if fact.subject is not None and _folded(fact.subject) in subjects and fact.id not in same | chosen
    )


def answers_there(
    connection: Any, version: ModelVersion, edits: Sequence[int] | None = None, before: Sequence[Draft] = ()
) -> dict[int, str]:
    """The answers that edits gave to facts of this store, by fact; of several for one fact, the last.

    Args:
        connection: an open transaction.
        version: the model.
        edits: the edits, in order; None takes those of the version.
        before: drafts that are applied in memory on top.
    """
    numbers = store_versions.version_edits(connection, version.record.id, version.version) if edits is None else edits
    found: dict[int, str] = {}
    for number in numbers:
        edit = store_edits.edit(connection, number)
        for fact, to in new_answers(edit.recipe):
            here = fact.id if edit.fact_numbers is None else edit.fact_numbers.get(str(fact.id))
            if here is not None:
                found[here] = to
    for draft in before:
        found.update({fact.id: to for fact, to in new_answers(draft.content.recipe)})
    return found


def earlier_rewrites(
    connection: Any, version: ModelVersion, answers: Mapping[int, str], edited: Collection[int], token: Token
) -> list[Rewrite]:
    """The rewrites of facts that earlier edits gave answers, those that are edited now left out; see `keys_of`.

    Facts that the model can't be asked for their answers have no keys, and are left out too.
    """
    targets = [Target(fact, to) for fact, to in answers.items() if fact not in edited]
    numbers = [target.fact for target in targets]
    prompts = store_facts.prompts(connection, fact_ids=numbers, held_out=False)
    facts = {number: store_facts.fact(connection, number) for number in numbers}
    found, _ = rewrites_of(version, targets, facts, prompts, (), token)
    return [one for own in found.values() for one in own]
