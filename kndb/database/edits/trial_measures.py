"""What trials of edits do in memory: draw facts and new answers, plan edits, and measure them, alone and piled up.

The weights are those of one model version, and hold the same bytes after each measurement; but for a pile of edits,
which grows until it is taken back.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any, Literal

import torch

from ...analysis.edit_measures import NEIGHBOURS, OTHERS, OWN, PARAPHRASES, Measures, compare_states
from ...analysis.readings import Question, State, as_they_are
from ...editing.objects.diff_file import EditObject
from ...editing.objects.slots import apply_object, edited
from ...errors import EditError, UsageError
from ...models.network import Network
from ...models.prompting import EncodedPrompt
from ...records.edits import EDIT_MEASURES, Edit, Interval
from ...records.facts import Fact, Prompt
from ...store import facts as store_facts
from ...store.edits import trials as store_trials
from ...store.engine import Store
from ..models import ModelVersion
from .drafts import MAX_SHARE, Draft, EditDrafts
from .edited_sentences import EditedSentences, edited_sentences
from .evaluation import control_edit, neurons_of
from .optimize import OptimizeSettings, prompts_in_recipe

METHODS = ("update", "optimize")


@dataclass(frozen=True)
class EditMethod:
    """How the edits of a trial are planned.

    Attributes:
        name: `update` or `optimize`.
        rule, lambda_old, lambda_new: of `update`; see `EditDrafts.update`.
        keep, steps: of `optimize`.
        max_share: neurons held by more than this share of the relation's facts are left out; None takes the default
            of `kndb edit update` or `kndb edit optimize`.
        neurons: of the others, only so many, those with the highest mean scores; None takes all.
    """

    name: str = "update"
    lambda_old: float | None = None
    lambda_new: float | Literal["auto"] | None = None
    keep: float = OptimizeSettings.keep
    steps: int = OptimizeSettings.steps
    max_share: float | None = None
    neurons: int | None = None
    rule: str = "gradient"

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: for a method that there is not.
        """
        if self.name not in METHODS:
            raise UsageError(f"found method {self.name!r}; expected one of {', '.join(METHODS)}")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that its edits depend on."""
        own = ("rule", "lambda_old", "lambda_new") if self.name == "update" else ("keep", "steps")
        default = MAX_SHARE.get(self.rule, 1.0) if self.name == "update" else 1.0
        share = default if self.max_share is None else self.max_share
        every = asdict(self)
        return {"method": self.name, **{name: every[name] for name in own}, "max_share": share, "neurons": self.neurons}

    def plan(self, drafts: EditDrafts, target: TrialTarget, on: ModelVersion, refinement: int) -> Draft:
        """Plans one edit on the weights in memory.

        Raises:
            EditError: if that can't be.
        """
        if target.to is None:
            raise EditError(f"the relation of fact {target.fact.id} has no other answer of one token")
        model = on.record.name
        # The trial measures on its own, and more.
        common: dict[str, Any] = {"neurons": self.neurons, "refinement": refinement, "on": on, "report": False}
        if self.name == "update":
            own: dict[str, Any] = {"lambda_old": self.lambda_old, "lambda_new": self.lambda_new, "rule": self.rule}
            return drafts.update(model, target.fact.id, target.to, max_share=self.max_share, **own, **common)
        settings, share = OptimizeSettings(keep=self.keep, steps=self.steps), self.settings["max_share"]
        return drafts.optimize(model, target.fact.id, target.to, settings=settings, max_share=share, **common)


@dataclass(frozen=True)
class TrialTarget:
    """A fact of a trial, and its new answer; None if the relation has no other one of one token."""

    fact: Fact
    to: str | None


@dataclass(frozen=True)
class TrialSizes:
    """What a trial measures.

    Attributes:
        facts: facts to edit; all that there are, if there are fewer.
        intra: facts of the edited relations to measure; `inter`: of other relations.
    """

    facts: int = 100
    intra: int = 50
    inter: int = 50

    def __post_init__(self) -> None:
        """Refuses numbers under 1.

        Raises:
            UsageError: for one.
        """
        for name, number in asdict(self).items():
            if number < 1:
                raise UsageError(f"found {name} {number}; expected at least 1")


class TrialRun:
    """The facts of a trial, and edits of them in memory.

    Args:
        store: the store.
        drafts: plans edits.
        version: the model version; its weights are changed and put back.
        unedited: the model without any edit; None if the version is just that.
        refinement: whose knowledge neurons.
        sizes: how many facts.
        relations: keys of the relations whose facts are edited; none stands for three quarters of those that have
            facts with knowledge neurons, drawn at random.
        seed: of all that is drawn.
    """

    def __init__(
        self,
        store: Store,
        drafts: EditDrafts,
        version: ModelVersion,
        unedited: ModelVersion | None,
        refinement: int,
        sizes: TrialSizes,
        relations: Sequence[str],
        seed: int,
    ) -> None:
        self._store = store
        self._drafts = drafts
        self.version = version
        self._network = version.network
        self._unedited = None if unedited is None else unedited.network
        self._parameters: dict[str, torch.Tensor] = dict(version.model.named_parameters())
        self._refinement = refinement
        self._sizes = sizes
        self._seed = seed
        with store.reading() as connection:
            if relations:
                store_facts.require_relations(connection, relations)
            self._facts = {fact.id: fact for fact in store_facts.find_facts(connection)}
            usable = store_trials.facts_with_neurons(connection, refinement)
            self._prompts: dict[int, list[Prompt]] = {}
            for prompt in store_facts.prompts(connection):
                self._prompts.setdefault(prompt.fact_id, []).append(prompt)
        self._encoded: dict[int, EncodedPrompt | None] = {}
        self.known_facts = len(self._facts)
        self.relations = self._chosen_relations(usable, relations)
        self.targets = self._drawn(usable)

    def _chosen_relations(self, usable: Sequence[int], relations: Sequence[str]) -> list[str]:
        known = sorted({self._facts[number].relation for number in usable})
        if relations:
            return sorted(set(relations))
        left_out = self._chance("relations").sample(known, len(known) // 4 or min(len(known) - 1, 1))
        return [key for key in known if key not in left_out]

    def _chance(self, what: str) -> random.Random:
        """A source of draws of its own for each thing that is drawn."""
        return random.Random(f"{self._seed} {what}")  # noqa: S311 - not for secrets

    def _drawn(self, usable: Sequence[int]) -> list[TrialTarget]:
        """Facts and new answers: the same for every method, and the first n of them for every n."""
        chance = self._chance("facts")
        pool = [number for number in usable if self._facts[number].relation in self.relations]
        if not pool:
            raise EditError(
                f"no fact of {', '.join(self.relations)} has a knowledge neuron in refinement {self._refinement}; "
                "attribute one of their relations first: kndb attribute --relation KEY, then kndb refine"
            )
        chance.shuffle(pool)
        answers: dict[str, set[str]] = {}
        for fact in self._facts.values():
            answers.setdefault(fact.relation, set()).add(fact.object)
        encoder = self.version.encoder
        short = {
            relation: sorted(word for word in words if isinstance(encoder.answer_token(word), int))
            for relation, words in answers.items()
            if relation in self.relations
        }
        found: list[TrialTarget] = []
        taken: set[int] = set()
        for number in pool:
            if len(found) == self._sizes.facts:
                break
            if number in taken:  # Its sentences are edited already: two new answers to one question can't both win.
                continue
            fact = self._facts[number]
            same = self._sentences([number]).facts
            taken |= same
            right = {self._facts[one].object for one in same}
            others = [word for word in short[fact.relation] if word not in right]
            found.append(TrialTarget(fact, self._chance(f"{number}").choice(others) if others else None))
        return found

    # --- one fact alone ------------------------------------------------------------------------------------

    def single(self, target: TrialTarget, method: EditMethod, *, control: bool = True) -> dict[str, Any]:
        """Edits one fact, measures the edit and its random-neuron control, and takes both back.

        Args:
            target: the fact.
            method: how to edit it.
            control: whether to measure as many random neurons, too.

        Returns:
            `edited` and `control`, each with the measures of `EDIT_MEASURES`, and the number of `neurons`; or why there
            is no edit, as `unplanned`.
        """
        try:
            draft = method.plan(self._drafts, target, self.version, self._refinement)
            contents = [draft.content]
            if control:
                contents.append(self._control(draft, self.version, self._network))
        except EditError as error:
            return {"to": target.to, "unplanned": str(error)}
        old, new = (int(str(draft.content.recipe[name])) for name in ("old_token", "new_token"))
        chance = self._chance(f"measured {target.fact.id}")
        relation = target.fact.relation
        edited_ones = self._sentences([target.fact.id])
        near = [
            number
            for number, fact in self._facts.items()
            if fact.relation == relation and number not in edited_ones.facts
        ]
        groups = {
            OWN: self._questions([target.fact.id], old, new, held_out=False),
            PARAPHRASES: self._questions([target.fact.id], old, new, held_out=True),
            NEIGHBOURS: self._questions(_some(chance, near, self._sizes.intra), old, new, without=edited_ones),
            OTHERS: self._questions(_some(chance, self._elsewhere, self._sizes.inter), without=edited_ones),
        }
        states: list[State] = [
            as_they_are,
            *(partial(edited, self._parameters, planned) for planned in contents),
        ]
        measured = compare_states(self._network, groups, states, self._unedited, self._seed)
        values = [{name: interval[0] for name, interval in _short(found).items()} for found in measured]
        neurons = len(neurons_of(draft.content))
        return {"to": target.to, "neurons": neurons, **dict(zip(("edited", "control"), values, strict=False))}

    def _control(self, draft: Draft, version: ModelVersion, network: Network) -> EditObject:
        content = draft.content
        record = Edit(0, version.record.name, content.kind, content.recipe, "", "", version.version, "")
        with self._store.reading() as connection:
            prompts = prompts_in_recipe(connection, record)
        seed = self._seed + (draft.fact_id or 0)
        return control_edit(record, version, network, content, seed, prompts)

    # --- many, one on the other ----------------------------------------------------------------------------

    def cumulative(
        self, method: EditMethod, counts: Sequence[int], control: ModelVersion, done: Sequence[int] = ()
    ) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """Piles edits up, each planned on the weights with those before it, and measures after so many.

        Args:
            method: how they are planned.
            counts: after how many facts to measure, rising.
            control: the same model version once more, in memory of its own: for the pile of random-neuron edits.
            done: counts that are not to be measured again.

        Yields:
            After each fact: how many there are, and what was measured, where something is.
        """
        pile = _Pile(self.version)
        beside = _Pile(control)
        planned: list[tuple[TrialTarget, int, int]] = []
        unplanned: list[tuple[int, str]] = []
        try:
            for place, target in enumerate(self.targets[: max(counts)], 1):
                try:
                    draft = method.plan(self._drafts, target, self.version, self._refinement)
                    other = self._control(draft, control, beside.network)
                except EditError as error:
                    unplanned.append((target.fact.id, str(error)))
                else:
                    pile.add(draft.content)
                    beside.add(other)
                    recipe: Any = draft.content.recipe
                    planned.append((target, int(recipe["old_token"]), int(recipe["new_token"])))
                wanted = place in counts and place not in done
                yield place, self._measured(pile, beside, planned, unplanned, place) if wanted else None
        finally:
            pile.take_back()

    def _measured(
        self,
        pile: _Pile,
        beside: _Pile,
        planned: Sequence[tuple[TrialTarget, int, int]],
        unplanned: Sequence[tuple[int, str]],
        place: int,
    ) -> dict[str, Any]:
        groups = self._groups_of_many(planned)
        measured: list[dict[str, Interval]] = []
        for one in (pile, beside):
            states = (one.without, as_they_are)
            (found,) = compare_states(one.network, groups, states, self._unedited, self._seed)
            measured.append(_short(found))
        neurons = pile.slots / len(planned) if planned else 0.0
        result = {"edited": measured[0], "control": measured[1], "facts": place, "planned": len(planned)}
        return result | {"neurons": neurons, "unplanned": [list(pair) for pair in unplanned]}

    def _groups_of_many(self, planned: Sequence[tuple[TrialTarget, int, int]]) -> dict[str, list[Question]]:
        groups: dict[str, list[Question]] = {name: [] for name in (OWN, PARAPHRASES, NEIGHBOURS, OTHERS)}
        answers: dict[str, tuple[int, int]] = {}
        for target, old, new in planned:
            groups[OWN] += self._questions([target.fact.id], old, new, held_out=False)
            groups[PARAPHRASES] += self._questions([target.fact.id], old, new, held_out=True)
            answers.setdefault(target.fact.relation, (old, new))
        taken = self._sentences([target.fact.id for target, _, _ in planned])
        near = [
            number for number, fact in self._facts.items() if fact.relation in answers and number not in taken.facts
        ]
        chance = self._chance(f"measured {len(planned)}")
        for number in _some(chance, near, self._sizes.intra):
            groups[NEIGHBOURS] += self._questions([number], *answers[self._facts[number].relation], without=taken)
        groups[OTHERS] += self._questions(_some(chance, self._elsewhere, self._sizes.inter), without=taken)
        return groups

    # --- prompts -------------------------------------------------------------------------------------------

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
            found = self.version.encoder.encode(prompt.id, prompt.text, prompt.answer, single_token=True)
            self._encoded[prompt.id] = found if isinstance(found, EncodedPrompt) else None
        return self._encoded[prompt.id]


class _Pile:
    """Edits that are applied to a model in memory, one on the other."""

    def __init__(self, version: ModelVersion) -> None:
        self.network = version.network
        self._parameters: dict[str, torch.Tensor] = dict(version.model.named_parameters())
        self._edits: list[EditObject] = []

    @property
    def slots(self) -> int:
        return sum(len(neurons_of(planned)) for planned in self._edits)

    def add(self, planned: EditObject) -> None:
        apply_object(self._parameters, planned)
        self._edits.append(planned)

    def take_back(self) -> None:
        for planned in reversed(self._edits):
            apply_object(self._parameters, planned, reverse=True)

    @contextmanager
    def without(self) -> Iterator[None]:
        """The weights without any of the edits."""
        self.take_back()
        try:
            yield
        finally:
            for planned in self._edits:
                apply_object(self._parameters, planned)


def _some(chance: random.Random, numbers: Sequence[int], most: int) -> list[int]:
    return chance.sample(numbers, min(most, len(numbers)))


def _short(groups: Mapping[str, Measures]) -> dict[str, Interval]:
    """The measures of `EDIT_MEASURES`, those that there are."""
    found: dict[str, Interval] = {}
    for name, (group, full) in EDIT_MEASURES.items():
        measure = groups.get(group, {}).get(full)
        if measure is not None:
            found[name] = (measure.value, measure.low, measure.high)
    return found
