"""Suppressing or amplifying knowledge neurons: which facts, which neurons and which prompts, and what came of it.

A fact is asked its own prompts and prompts of facts of other relations, with the activations of each arm's neurons
scaled (see `records.probes.ARMS`). All arms of a fact are asked the same prompts, and what the unmodified model says is
computed once for each prompt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ...analysis.interventions import NeuronQuestion, ask
from ...attribution.batches import automatic_size
from ...models.network import Network
from ...models.prompting import EncodedPrompt, Encoder
from ...records.facts import Prompt
from ...records.models import Neuron
from ...records.probes import ProbeFact
from .draws import chance_of, shuffled

FACTS_AT_ONCE = 128
"""Facts whose questions are batched together: many enough for full batches, few enough to see progress."""

LARGEST_BATCH_ON_CPU = 256
"""More rows make a forward pass on a CPU no faster."""


@dataclass(frozen=True)
class ProbedFact:
    """A fact with the neurons of each arm; none of them is empty."""

    id: int
    relation: str
    arms: Mapping[str, tuple[Neuron, ...]]


@dataclass(frozen=True)
class ArmQuestions:
    """One arm's neurons of a fact, and the prompts to ask with them scaled."""

    fact: ProbedFact
    arm: str
    prompts_of: str
    prompts: list[EncodedPrompt]


class PromptBook:
    """The prompts that facts can be asked, encoded when they are first wanted.

    Args:
        prompts: of all facts of the store.
        relation_of: each fact's relation.
        encoder: the model's.

    Attributes:
        skipped: how many of the prompts that were asked for as a fact's own can't be asked, by reason.
    """

    def __init__(self, prompts: Sequence[Prompt], relation_of: Mapping[int, str], encoder: Encoder) -> None:
        self._encoder = encoder
        # With a relation's prompts side by side, all others are two stretches, however many relations there are.
        self._prompts = sorted(prompts, key=lambda prompt: (relation_of[prompt.fact_id], prompt.id))
        self._of_fact: dict[int, list[Prompt]] = {}
        self._stretch: dict[str, tuple[int, int]] = {}
        for place, prompt in enumerate(self._prompts):
            self._of_fact.setdefault(prompt.fact_id, []).append(prompt)
            start, _ = self._stretch.setdefault(relation_of[prompt.fact_id], (place, place))
            self._stretch[relation_of[prompt.fact_id]] = (start, place + 1)
        self._encoded: dict[int, EncodedPrompt | str] = {}
        self.skipped: Counter[str] = Counter()

    def own(self, fact_id: int) -> list[EncodedPrompt]:
        """A fact's prompts, without those that can't be asked."""
        found = [self._encode(prompt) for prompt in self._of_fact.get(fact_id, [])]
        self.skipped.update(reason for reason in found if isinstance(reason, str))
        return [prompt for prompt in found if isinstance(prompt, EncodedPrompt)]

    def others(self, fact: ProbedFact, count: int, seed: int) -> list[EncodedPrompt]:
        """Prompts of facts of other relations, drawn at random; fewer than `count` if there are no more."""
        start, stop = self._stretch.get(fact.relation, (0, 0))
        drawn: list[EncodedPrompt] = []
        order = shuffled(len(self._prompts) - (stop - start), chance_of(seed, "others", fact.id))
        while len(drawn) < count and (place := next(order, None)) is not None:
            encoded = self._encode(self._prompts[place if place < start else place + stop - start])
            if isinstance(encoded, EncodedPrompt):
                drawn.append(encoded)
        return drawn

    def _encode(self, prompt: Prompt) -> EncodedPrompt | str:
        if prompt.id not in self._encoded:
            encoded = self._encoder.encode(
                prompt.id, prompt.text, prompt.answer, single_token=True, subject=prompt.subject_span
            )
            self._encoded[prompt.id] = encoded if isinstance(encoded, EncodedPrompt) else encoded.reason
        return self._encoded[prompt.id]


def questions_of(fact: ProbedFact, book: PromptBook, others: int, seed: int) -> list[ArmQuestions]:
    """The questions of each arm of a fact; none if no prompt of it can be asked.

    Args:
        fact: the fact.
        book: the prompts.
        others: how many prompts of facts of other relations it is asked.
        seed: of their draw.
    """
    own = book.own(fact.id)
    if not own:
        return []
    foreign = book.others(fact, others, seed)
    groups = []
    for arm in fact.arms:
        groups.append(ArmQuestions(fact, arm, "own", own))
        if foreign:
            groups.append(ArmQuestions(fact, arm, "other", foreign))
    return groups


class Scaling:
    """Asks facts with their neurons' activations scaled.

    Args:
        network: the model.
        factor: what activations are multiplied by.
        batch_size: questions in one forward pass; None takes as many as fit into memory.
    """

    def __init__(self, network: Network, factor: float, batch_size: int | None) -> None:
        self._network = network
        self._factor = factor
        self._batch_size = batch_size
        self._before: dict[int, tuple[float, int]] = {}

    def measure(self, facts: Sequence[Sequence[ArmQuestions]]) -> list[list[ProbeFact]]:
        """What comes of the questions of facts, batched together: for each fact, a record for each group."""
        found = iter(self._measure([group for groups in facts for group in groups]))
        return [[next(found) for _ in groups] for groups in facts]

    def _measure(self, groups: Sequence[ArmQuestions]) -> list[ProbeFact]:
        if not groups:
            return []
        asked = {prompt.prompt_id: prompt for group in groups for prompt in group.prompts}
        fresh = [prompt for number, prompt in asked.items() if number not in self._before]
        size = self._batch_size or batch_size_for(self._network, list(asked.values()))
        before = ask(self._network, [NeuronQuestion(prompt) for prompt in fresh], batch_size=size)
        for prompt, reading in zip(fresh, zip(before.probability, before.predicted, strict=True), strict=True):
            self._before[prompt.prompt_id] = reading
        questions = [NeuronQuestion(prompt, group.fact.arms[group.arm]) for group in groups for prompt in group.prompts]
        after = ask(self._network, questions, self._factor, size)
        readings = iter(zip(after.probability, after.predicted, strict=True))
        return [self._record(group, [next(readings) for _ in group.prompts]) for group in groups]

    def _record(self, group: ArmQuestions, after: Sequence[tuple[float, int]]) -> ProbeFact:
        before = [self._before[prompt.prompt_id] for prompt in group.prompts]
        answers = [prompt.answer for prompt in group.prompts]
        return ProbeFact(
            fact_id=group.fact.id,
            relation=group.fact.relation,
            neurons_from=group.arm,
            prompts_of=group.prompts_of,
            neurons=len(group.fact.arms[group.arm]),
            prompts=len(group.prompts),
            probability_before=fmean(probability for probability, _ in before),
            probability_after=fmean(probability for probability, _ in after),
            correct_before=_share(token == answer for (_, token), answer in zip(before, answers, strict=True)),
            correct_after=_share(token == answer for (_, token), answer in zip(after, answers, strict=True)),
            flips=_share(old != new for (_, old), (_, new) in zip(before, after, strict=True)),
        )


def batch_size_for(network: Network, prompts: Sequence[EncodedPrompt]) -> int:
    """The number of prompts as long as the longest of some that fit into memory, at least 1."""
    longest = max(prompts, key=lambda prompt: len(prompt.ids) + len(prompt.source))
    size = automatic_size(network, longest)
    return min(size, LARGEST_BATCH_ON_CPU) if network.device.type == "cpu" else size


def _share(truths: Iterator[bool]) -> float:
    return fmean(map(float, truths))
