"""The facts of a comparison of methods: those that are edited, those that plans look at, and those that are measured.

No fact is two of these, and none asks what one of another kind asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ...advice import call, option
from ...analysis.edit_measures import NEIGHBOURS, OTHERS, OWN, PARAPHRASES
from ...analysis.evaluation_prompts import AskedPrompt
from ...analysis.group_measures import OwnPrompt
from ...analysis.readings import Question
from ...errors import EditError
from ...models.prompting import EncodedPrompt
from ...records.edit_settings import TrialSettings
from ...records.facts import Fact, Prompt
from ...store import evaluation_prompts
from ...store.engine import Store
from ..models import ModelVersion
from .asked_prompts import as_prompt, choose_prompts
from .group_evaluation import own_prompt, prompts_by_kind
from .known_facts import KnownShares, is_known
from .together import present_answers
from .trial_facts import TrialFacts, TrialTarget

SAME_OBJECT = "same object"
"""The group of facts that have the object of an edited fact of their relation."""


@dataclass(frozen=True)
class Asked:
    """What the measures of edits of some facts are made of.

    Attributes:
        own: the edited facts' prompts, those of held-out templates and paraphrases apart.
        staying: prompts of facts that no plan sees: of the edited relations, of others, and with the same objects.
        prompts: the edited facts' evaluation prompts, by kind.
        continued: a prompt of each edited fact, with its number and how the text begins; none unless texts are wanted.
    """

    own: dict[str, list[OwnPrompt]]
    staying: dict[str, list[Question]]
    prompts: dict[str, list[AskedPrompt]]
    continued: list[tuple[int, str, EncodedPrompt]]


class ComparedFacts(TrialFacts):
    """What a comparison draws from a store.

    Args:
        store: the store.
        version: the model version that is asked, without an edit of the comparison.
        refinement: whose knowledge neurons the facts have to hold; None if no method needs any.
        settings: how many facts of which relations, and the seed.
        one_token: whether new answers have to be one token.
        shares: how much of each fact the model knows.
    """

    def __init__(
        self,
        store: Store,
        version: ModelVersion,
        refinement: int | None,
        settings: TrialSettings,
        *,
        one_token: bool,
        shares: KnownShares,
    ) -> None:
        self._of_neurons = refinement is not None
        self._one_token = one_token
        self._store = store
        self._shares = shares
        super().__init__(store, version, refinement or 0, settings)
        self._count = len(self.targets)
        self.targets = [target for target in self.targets if target.to is not None]
        if not self.targets and not settings.known:
            raise self._none_to_edit()
        own = [prompt for target in self.targets for prompt in self._own(target.fact.id, held_out=False)]
        self._old = present_answers(version, own)

    # --- which facts ---------------------------------------------------------------------------------------

    def require_known(self, count: int) -> None:
        """Makes sure that the model knows so many facts.

        Raises:
            EditError: if it does not, or none of them can be edited. Names the largest share of prompts with which it
                does, if there is one.
        """
        least = self._settings.known
        if self._count >= count or not least:
            if not self.targets:
                raise self._none_to_edit()
            return
        pool = [fact for number, fact in self._facts.items() if number in self._pool]
        lower = sorted({share for share in self._shares.of(pool) if share and share < least}, reverse=True)
        enough = next((share for share in lower if self._count_with(share) >= count), None)
        most = self._count_with(lower[-1]) if lower else self._count
        if enough is not None:
            advice = f"{option('known', _rounded_down(enough))} finds enough"
        elif most:
            advice = f"no lower share finds more than {most}; name {option('sizes', most)} or less, or other relations"
        else:
            advice = f"it answers none of them on any prompt; leave out {option('known')}, or name other relations"
        raise EditError(
            f"model {self._version.record.name} knows too few facts of {', '.join(self.relations)}: on "
            f"{100 * least:.4g} % of their prompts, held-out ones included, it answers {self._count} of the {count} "
            f"facts to edit; {advice}"
        )

    def _count_with(self, known: float) -> int:
        """How many facts would be drawn if so large a share of their prompts had to be answered."""
        other = copy(self)
        other._settings = replace(self._settings, known=known)  # noqa: SLF001 - a copy of this one
        return len(other._drawn(self._pool))  # noqa: SLF001

    def _usable(self, connection: Any) -> list[int]:
        return super()._usable(connection) if self._of_neurons else sorted(self._facts)

    def _may_be_edited(self, fact: Fact) -> bool:
        if not self._settings.known:
            return bool(self._own(fact.id, held_out=False))
        (share,) = self._shares.of([fact])
        return is_known(share, self._settings.known)

    def _words(self, words: Iterable[str]) -> list[str]:
        return super()._words(words) if self._one_token else sorted(words)

    def _new_answer(self, fact: Fact, others: Sequence[str]) -> str | None:
        drawn = self._chance(f"{fact.id}").sample(others, len(others))
        return next((word for word in drawn if self._can_be_asked(fact, word)), None)

    def _can_be_asked(self, fact: Fact, word: str) -> bool:
        encode = self._version.encoder.encode
        found = (encode(one.id, one.text, word, subject=one.subject_span) for one in self._own(fact.id, held_out=False))
        return any(isinstance(one, EncodedPrompt) for one in found)

    def _none_to_edit(self) -> EditError:
        if self._of_neurons:
            return super()._none_to_edit()
        return EditError(
            f"no fact of {', '.join(self.relations) or 'the store'} can be asked for a new answer; see which "
            f"there are with {call('facts.relations')}"
        )

    # --- who sees what -------------------------------------------------------------------------------------

    @property
    def by_number(self) -> Mapping[int, Fact]:
        """All facts of the store, by number."""
        return self._facts

    @property
    def numbers(self) -> frozenset[int]:
        """The numbers of all facts."""
        return frozenset(self._facts)

    @cached_property
    def measured(self) -> frozenset[int]:
        """The facts that may be measured, and that no plan may look at."""
        return frozenset(self._halves[1])

    @cached_property
    def for_plans(self) -> frozenset[int]:
        """The facts that plans may look at, to keep or to count; none asks what a measured one asks."""
        taken = self._sentences(self._halves[1])
        return frozenset(
            number
            for number in self._halves[0]
            if number not in taken.facts and not any(taken.asks(prompt) for prompt in self._prompts.get(number, ()))
        )

    @cached_property
    def _halves(self) -> tuple[list[int], list[int]]:
        """The facts that are not edited, each relation's shuffled and cut in two."""
        edited = self._sentences([target.fact.id for target in self.targets])
        by_relation: dict[str, list[int]] = {}
        for number, fact in sorted(self._facts.items()):
            if number not in edited.facts:
                by_relation.setdefault(fact.relation, []).append(number)
        halves: tuple[list[int], list[int]] = ([], [])
        for key, numbers in by_relation.items():
            self._chance(f"halves {key}").shuffle(numbers)
            cut = round(self._settings.share * len(numbers))
            halves[0].extend(numbers[:cut])
            halves[1].extend(numbers[cut:])
        return halves

    # --- what is asked -------------------------------------------------------------------------------------

    def asked(self, targets: Sequence[TrialTarget]) -> Asked:
        """The prompts by which an edit of some of the facts is measured.

        Args:
            targets: the edited facts.
        """
        own: dict[str, list[OwnPrompt]] = {OWN: [], PARAPHRASES: []}
        evaluation = []
        for target in targets:
            assert target.to is not None
            number, to = target.fact.id, target.to
            written = self._own(number)
            with self._store.reading() as connection:
                of_source = evaluation_prompts.of_fact(connection, number)
            chosen = choose_prompts(self._version, of_source, written, number, to, ())
            evaluation.append(chosen)
            further = [as_prompt(text, target.fact.object, number) for text in chosen.paraphrases]
            for prompt in (*written, *further):
                encoded = own_prompt(self._version, prompt, to, self._old[number])
                if isinstance(encoded, OwnPrompt):
                    own[PARAPHRASES if prompt.held_out else OWN].append(encoded)
        return Asked(own, self._staying(targets), prompts_by_kind(evaluation), self._continued(targets))

    def _staying(self, targets: Sequence[TrialTarget]) -> dict[str, list[Question]]:
        relations = {target.fact.relation for target in targets}
        rivals: dict[tuple[str, str], int] = {}
        for target in targets:
            token = self._first_token(target)
            if token is not None:
                rivals.setdefault((target.fact.relation, target.fact.object), token)
        order = sorted(self.measured)
        # One order for all sizes: what is measured of more edits has what was measured of fewer.
        self._chance("measured").shuffle(order)
        near = [number for number in order if self._facts[number].relation in relations]
        same = [number for number in near if self._about(number) in rivals]
        far = [number for number in order if self._facts[number].relation not in self.relations]
        groups = {
            NEIGHBOURS: self._questions(near[: self._settings.intra]),
            OTHERS: self._questions(far[: self._settings.inter]),
            SAME_OBJECT: [],
        }
        for number in same[: self._settings.intra]:
            groups[SAME_OBJECT] += self._questions([number], None, rivals[self._about(number)])
        return groups

    def _about(self, number: int) -> tuple[str, str]:
        return self._facts[number].relation, self._facts[number].object

    def _first_token(self, target: TrialTarget) -> int | None:
        encode = self._version.encoder.encode
        for prompt in self._own(target.fact.id, held_out=False):
            found = encode(prompt.id, prompt.text, target.to, subject=prompt.subject_span)
            if isinstance(found, EncodedPrompt):
                return found.answer
        return None

    def _continued(self, targets: Sequence[TrialTarget]) -> list[tuple[int, str, EncodedPrompt]]:
        found = []
        for target in targets if self._settings.generate else ():
            for prompt in self._own(target.fact.id, held_out=False):
                opened = self._version.encoder.encode(prompt.id, prompt.text, None, subject=prompt.subject_span)
                if isinstance(opened, EncodedPrompt):
                    found.append((target.fact.id, prompt.text.partition("[Y]")[0].rstrip(), opened))
                    break
        return found

    def _own(self, number: int, *, held_out: bool | None = None) -> list[Prompt]:
        return [one for one in self._prompts.get(number, ()) if held_out in (None, one.held_out)]


def _rounded_down(share: float) -> float:
    """A share in three digits, as it can be typed: not above what it stands for."""
    near = round(share, 3)
    return near if near <= share else round(near - 0.001, 3)
