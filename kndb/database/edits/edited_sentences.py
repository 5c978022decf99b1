"""Which prompts ask what an edit is for: they are never among the others, to be kept or counted as harmed.

A fact may have several right objects, or its subject may occur twice: its sentences are then in the store once for each
of them. And one sentence may stand under two relations.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from ...records.edits import Edit
from ...records.facts import BLANK, Fact, Prompt
from ...records.recipes import facts_of
from ...sentences import is_closing
from ...store import facts as store_facts


@dataclass(frozen=True)
class EditedSentences:
    """What edits are for.

    Attributes:
        facts: the edited facts, and every fact of the same relation and subject.
        questions: what all their prompts ask, held-out ones included.
    """

    facts: frozenset[int]
    questions: frozenset[str]

    def asks(self, prompt: Prompt) -> bool:
        """Whether a prompt asks what an edit is for."""
        return prompt.fact_id in self.facts or _question(prompt.text) in self.questions

    def others(self, prompts: Iterable[Prompt]) -> list[Prompt]:
        """The prompts that ask something else."""
        return [prompt for prompt in prompts if not self.asks(prompt)]


def edited_sentences(facts: Iterable[Fact], prompts: Iterable[Prompt], edited: Collection[int]) -> EditedSentences:
    """What edits of some facts are for.

    Args:
        facts: all facts of the edited ones' relations, at least.
        prompts: all prompts of these facts, at least; held-out ones, too.
        edited: the numbers of the edited facts.
    """
    every = list(facts)
    chosen = set(edited)
    subjects = {_subject(fact) for fact in every if fact.id in chosen} - {None}
    same = frozenset(chosen | {fact.id for fact in every if _subject(fact) in subjects})
    return EditedSentences(same, frozenset(_question(prompt.text) for prompt in prompts if prompt.fact_id in same))


def sentences_of_facts(connection: Any, edited: Collection[int]) -> EditedSentences:
    """What edits of some facts of a store are for; numbers of no fact are passed over.

    Args:
        connection: an open transaction.
        edited: the numbers of the edited facts.
    """
    every = store_facts.find_facts(connection)
    chosen = set(edited)
    relations = {fact.relation for fact in every if fact.id in chosen}
    near = [fact for fact in every if fact.relation in relations]
    return edited_sentences(near, store_facts.prompts(connection, fact_ids=[fact.id for fact in near]), chosen)


def sentences_of_edit(connection: Any, edit: Edit) -> EditedSentences:
    """What an edit of facts is for; nothing for other edits, and of facts that are not in this store.

    Args:
        connection: an open transaction.
        edit: the edit.
    """
    numbers: list[int | None] = [fact.id for fact in facts_of(edit.recipe)]
    if edit.fact_numbers is not None:
        numbers = [edit.fact_numbers.get(str(number)) for number in numbers]
    return sentences_of_facts(connection, [number for number in numbers if number is not None])


def asked_by(fact: Fact, prompts: Iterable[Prompt]) -> frozenset[object]:
    """What identifies what a fact asks: two facts with one of these in common ask the same.

    Args:
        fact: the fact.
        prompts: its prompts, held-out ones included.
    """
    return frozenset({fact.id, _subject(fact), *(_question(prompt.text) for prompt in prompts)} - {None})


def _subject(fact: Fact) -> tuple[str, str] | None:
    """A fact's relation and subject, in any case and spacing; None where the subject is not named."""
    return None if fact.subject is None else (fact.relation, " ".join(fact.subject.casefold().split()))


def _question(text: str) -> str:
    """A prompt's text, in any spacing; what only closes the sentence after the blank asks nothing more."""
    before, _, after = text.rpartition(BLANK)
    return " ".join((before + BLANK + ("" if is_closing(after) else after)).split())
