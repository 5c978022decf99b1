"""The facts of a trial: those that are edited, their new answers, and the questions by which edits are measured."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...advice import Placeholder, call
from ...analysis.edit_measures import NEIGHBOURS, OTHERS, OWN, PARAPHRASES
from ...analysis.readings import Question
from ...errors import EditError
from ...models.prompting import EncodedPrompt
from ...records.edit_settings import TrialSettings
from ...records.facts import Fact, Prompt, by_fact
from ...store import facts as store_facts
from ...store.edits import trials as store_trials
from ...store.engine import Store
from ..models import ModelVersion
from .edited_sentences import EditedSentences, edited_sentences
from .kept_prompts import encode_single


@dataclass(frozen=True)
class TrialTarget:
    """A fact of a trial, and its new answer; None if the relation has no other one of one token."""

    fact: Fact
    to: str | None


@dataclass(frozen=True)
class TargetAnswers:
    """A target with the tokens of its present and its new answer."""

    target: TrialTarget
    old: int
    new: int


class TrialFacts:
    """What a trial draws from a store.

    Attributes:
        known: how many facts there are.
        relations: keys of the relations whose facts are edited.
        targets: the facts that are edited, with their new answers.

    Args:
        store: the store.
        version: the model version that is asked.
        refinement: whose knowledge neurons.
        settings: how many facts of which relations, and the seed.
    """

    def __init__(self, store: Store, version: ModelVersion, refinement: int, settings: TrialSettings) -> None:
        self._version = version
        self._refinement = refinement
        self._settings = settings
        with store.reading() as connection:
            if settings.relations:
                store_facts.require_relations(connection, settings.relations)
            self._facts = {fact.id: fact for fact in store_facts.find_facts(connection)}
            self._pool = self._usable(connection)
            self._prompts = by_fact(store_facts.prompts(connection))
        self._encoded: dict[int, EncodedPrompt | None] = {}
        self.known = len(self._facts)
        self.relations = self._chosen_relations(self._pool, settings.relations)
        self._pool = [number for number in self._pool if self._facts[number].relation in self.relations]
        self.targets = self._drawn(self._pool)

    def _usable(self, connection: Any) -> list[int]:
        """The facts that may be edited, rising."""
        return store_trials.facts_with_neurons(connection, self._refinement)

    def _may_be_edited(self, fact: Fact) -> bool:
        """Whether one of them is, if it is drawn."""
        return fact.id in self._facts

    def _new_answer(self, fact: Fact, others: Sequence[str]) -> str | None:
        """The new answer of a fact, among other objects of its relation."""
        return self._chance(f"{fact.id}").choice(others) if others else None

    def _words(self, words: Iterable[str]) -> list[str]:
        """The objects of a relation that may be new answers, in order."""
        encoder = self._version.encoder
        return sorted(word for word in words if isinstance(encoder.answer_token(word), int))

    def _none_to_edit(self) -> EditError:
        model = self._version.record.name
        attribute = call("attribution.run", model=model, relations=self.relations[:1] or [Placeholder("KEY")])
        return EditError(
            f"no fact of {', '.join(self.relations)} has a knowledge neuron in refinement {self._refinement}; "
            f"attribute one of these relations first: {attribute}, then {call('attribution.refine', model=model)}"
        )

    def _chosen_relations(self, usable: Sequence[int], relations: Sequence[str]) -> list[str]:
        known = sorted({self._facts[number].relation for number in usable})
        if relations:
            return sorted(set(relations))
        left_out = self._chance("relations").sample(known, len(known) // 4 or min(len(known) - 1, 1))
        return [key for key in known if key not in left_out]

    def _chance(self, what: str) -> random.Random:
        """A source of draws of its own for each thing that is drawn."""
        return random.Random(f"{self._settings.seed} {what}")  # noqa: S311 - not for secrets

    def _drawn(self, may_be_edited: Sequence[int]) -> list[TrialTarget]:
        """Facts and new answers: the same for every method, and the first n of them for every n."""
        chance = self._chance("facts")
        pool = list(may_be_edited)
        if not pool:
            raise self._none_to_edit()
        chance.shuffle(pool)
        answers: dict[str, set[str]] = {}
        for fact in self._facts.values():
            answers.setdefault(fact.relation, set()).add(fact.object)
        words = {key: self._words(objects) for key, objects in answers.items() if key in self.relations}
        found: list[TrialTarget] = []
        taken: set[int] = set()
        for number in pool:
            if len(found) == self._settings.facts:
                break
            if number in taken:  # Its sentences are edited already: two new answers to one question can't both win.
                continue
            fact = self._facts[number]
            if not self._may_be_edited(fact):
                continue
            same = self._sentences([number]).facts
            taken |= same
            right = {self._facts[one].object for one in same}
            to = self._new_answer(fact, [word for word in words[fact.relation] if word not in right])
            found.append(TrialTarget(fact, to))
        return found

    # --- what is asked -------------------------------------------------------------------------------------

    def groups_of(self, answers: Sequence[TargetAnswers], what: str) -> dict[str, list[Question]]:
        """The questions by which edits of some facts are measured, by group.

        Args:
            answers: the edited facts.
            what: names the draw: another name, other facts of the relations and elsewhere.
        """
        groups: dict[str, list[Question]] = {name: [] for name in (OWN, PARAPHRASES, NEIGHBOURS, OTHERS)}
        of_relation: dict[str, TargetAnswers] = {}
        for one in answers:
            own = [one.target.fact.id]
            groups[OWN] += self._questions(own, one.old, one.new, held_out=False)
            groups[PARAPHRASES] += self._questions(own, one.old, one.new, held_out=True)
            of_relation.setdefault(one.target.fact.relation, one)
        taken = self._sentences([one.target.fact.id for one in answers])
        near = [
            number for number, fact in self._facts.items() if fact.relation in of_relation and number not in taken.facts
        ]
        chance = self._chance(f"measured {what}")
        for number in _some(chance, near, self._settings.intra):
            first = of_relation[self._facts[number].relation]
            groups[NEIGHBOURS] += self._questions([number], first.old, first.new, without=taken)
        groups[OTHERS] += self._questions(_some(chance, self._elsewhere, self._settings.inter), without=taken)
        return groups

    @cached_property
    def _elsewhere(self) -> list[int]:
        """The facts of relations of which no fact is edited."""
        return [number for number, fact in self._facts.items() if fact.relation not in self.relations]

    def _sentences(self, edited_facts: Sequence[int]) -> EditedSentences:
        own = {self._facts[number].relation for number in edited_facts}
        near = [fact for fact in self._facts.values() if fact.relation in own]
        prompts = (prompt for fact in near for prompt in self._prompts.get(fact.id, ()))
        return edited_sentences(near, prompts, edited_facts)

    def _questions(
        self,
        facts: Sequence[int],
        old: int | None = None,
        new: int | None = None,
        *,
        held_out: bool | None = None,
        without: EditedSentences | None = None,
    ) -> list[Question]:
        found = []
        for number in facts:
            for prompt in self._prompts.get(number, ()):
                if without is not None and without.asks(prompt):
                    continue
                encoded = self._encode(prompt)
                if encoded is not None and held_out in (None, prompt.held_out):
                    found.append(Question(encoded, number, old, new))
        return found

    def _encode(self, prompt: Prompt) -> EncodedPrompt | None:
        if prompt.id not in self._encoded:
            found = encode_single(self._version, prompt)
            self._encoded[prompt.id] = found if isinstance(found, EncodedPrompt) else None
        return self._encoded[prompt.id]


def _some(chance: random.Random, numbers: Sequence[int], most: int) -> list[int]:
    return chance.sample(numbers, min(most, len(numbers)))
