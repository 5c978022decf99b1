"""Measures of an edit: what it did to its own fact or relation, and to all others, with intervals over facts.

All compare the model before and after the edit on the same prompts. Perplexity is exp of the mean of −log p(answer)
over prompts. `method.md`'s names: change rate (most probable answer ≠ the old one), success rate (= the new one),
intra (other facts of the relation), inter (facts of other relations). Efficacy, paraphrase and neighbourhood scores are
those of CounterFact (Meng et al. 2022): which of two answers is more probable.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

from ..models.network import Network
from .intervals import mean_interval, share_interval
from .readings import Question, Reading, State, read_states

OWN, PARAPHRASES, NEIGHBOURS, OTHERS = GROUPS = ("own", "own_held_out", "intra", "inter")
"""Prompts of an edit's fact or relation, those of its held-out templates, of the relation's other facts, of others."""
CHANGED = (OWN, PARAPHRASES)
"""Groups whose answers an edit of facts is to change."""


@dataclass(frozen=True)
class Measure:
    """A measure over facts.

    Attributes:
        value: over all prompts.
        low, high: ends of its 95 % confidence interval over facts; None where nothing can be said.
    """

    value: float
    low: float | None = None
    high: float | None = None


Measures = dict[str, Measure]


@dataclass(frozen=True)
class Flip:
    """An answer of a fact that is to stay, and changed.

    Attributes:
        group: which of `GROUPS` its prompts are in.
        fact: the fact's number.
        old, new: the most probable token before and after.
        prompts: for how many of the fact's prompts; `asked`: how many were asked.
    """

    group: str
    fact: int
    old: int
    new: int
    prompts: int
    asked: int


def compare_states(
    network: Network,
    groups: Mapping[str, Sequence[Question]],
    states: Sequence[State],
    unedited: Network | None,
    seed: int,
    *,
    changed: Collection[str] = CHANGED,
) -> list[dict[str, Measures]]:
    """The measures of several states of a model's weights against the first of them, by group of prompts.

    Args:
        network: the model.
        groups: prompts, by the names of `GROUPS`.
        states: the state before, then those to measure.
        unedited: the unedited model; None takes the first state for it.
        seed: of the bootstrap.
        changed: the groups whose answers should change; those of all others should stay the same.
    """
    return [compared.measures for compared in compare(network, groups, states, unedited, seed, changed=changed)]


@dataclass(frozen=True)
class Compared:
    """What a state of a model's weights does, against the state before.

    Attributes:
        measures: by group of prompts.
        flips: the answers that were to stay and changed, by group, fact and tokens.
        readings: by group, what the model says before and in this state.
    """

    measures: dict[str, Measures]
    flips: tuple[Flip, ...]
    readings: dict[str, tuple[Reading, Reading]]


def compare(
    network: Network,
    groups: Mapping[str, Sequence[Question]],
    states: Sequence[State],
    unedited: Network | None,
    seed: int,
    *,
    changed: Collection[str] = CHANGED,
) -> list[Compared]:
    """As `compare_states`, with the answers that flip."""
    measures: list[dict[str, Measures]] = [{} for _ in states[1:]]
    flips: list[list[Flip]] = [[] for _ in states[1:]]
    readings: list[dict[str, tuple[Reading, Reading]]] = [{} for _ in states[1:]]
    for name, questions in groups.items():
        before, *after = read_states(network, questions, states, unedited)
        measure = change_measures if name in changed else stay_measures
        for place, reading in enumerate(after):
            measures[place][name] = measure(questions, before, reading, name, seed)
            readings[place][name] = before, reading
            if name not in changed:
                flips[place] += flipped([q.fact for q in questions], before.predicted, reading.predicted, name)
    return [Compared(*one) for one in zip(measures, map(tuple, flips), readings, strict=True)]


def flipped(facts: Sequence[int], before: Sequence[int], after: Sequence[int], group: str) -> list[Flip]:
    """The facts whose most probable answers changed.

    Args:
        facts: the fact of each prompt.
        before: the most probable token before an edit.
        after: that after it.
        group: the prompts' group.

    Returns:
        One for each fact, old and new answer, in this order.
    """
    asked = Counter(facts)
    changes = Counter((fact, old, new) for fact, old, new in zip(facts, before, after, strict=True) if old != new)
    return [Flip(group, *key, count, asked[key[0]]) for key, count in sorted(changes.items())]


def count_measures(questions: Sequence[Question]) -> Measures:
    """How many prompts and facts there are."""
    return {
        "prompts": Measure(len(questions)),
        "facts": Measure(len({question.fact for question in questions})),
    }


def change_measures(questions: Sequence[Question], before: Reading, after: Reading, group: str, seed: int) -> Measures:
    """Whether edits did what they are for, over prompts of the edited facts.

    Args:
        questions: prompts of edited facts, each with its fact's old and new answer.
        before: the model's answers before the edits.
        after: its answers after them.
        group: `own` or `own_held_out`.
        seed: of the bootstrap.
    """
    if not questions:
        return count_measures(questions)
    over = OverFacts([question.fact for question in questions], seed)
    score = "paraphrase_score" if group == PARAPHRASES else "efficacy_score"
    return {
        **count_measures(questions),
        "change_rate": over.share([token != q.old for q, token in zip(questions, after.predicted, strict=True)]),
        "success_rate": over.share([token == q.new for q, token in zip(questions, after.predicted, strict=True)]),
        score: over.share([new > answer for new, answer in zip(after.new, after.answer, strict=True)]),
        "new_answer_probability_before": over.mean(_probabilities(before.new)),
        "new_answer_probability_after": over.mean(_probabilities(after.new)),
        "new_answer_rank_before": over.mean(before.new_rank),
        "new_answer_rank_after": over.mean(after.new_rank),
        "answer_probability_before": over.mean(_probabilities(before.answer)),
        "answer_probability_after": over.mean(_probabilities(after.answer)),
    }


def stay_measures(questions: Sequence[Question], before: Reading, after: Reading, group: str, seed: int) -> Measures:
    """Whether all else stayed, over prompts of facts that an edit is not for; or, of an erase, over its own.

    Args:
        questions: the prompts; those of `intra` with a new answer, if an edit has one that they might get.
        before: the model's answers before the edit.
        after: its answers after it.
        group: which of `GROUPS`.
        seed: of the bootstrap.
    """
    if not questions:
        return count_measures(questions)
    over = OverFacts([question.fact for question in questions], seed)
    right = [
        [q.prompt.answer == token for q, token in zip(questions, r.predicted, strict=True)] for r in (before, after)
    ]
    first, then = (over.perplexity(reading.answer) for reading in (before, after))
    found = {
        **count_measures(questions),
        "perplexity_before": first,
        "perplexity_after": then,
        "perplexity_change": Measure(then.value - first.value),
        "perplexity_relative_change": over.relative_change(before.answer, after.answer),
        "accuracy_before": over.share(right[0]),
        "accuracy_after": over.share(right[1]),
        "unchanged": over.share([a == b for a, b in zip(before.predicted, after.predicted, strict=True)]),
        "locality": over.share([a == b for a, b in zip(after.unedited, after.predicted, strict=True)]),
        "locality_divergence": over.mean(after.divergence),
    }
    if group == NEIGHBOURS:
        # A neighbour whose object is the new answer can't prefer one of the two.
        asked = [question.new not in (None, question.prompt.answer) for question in questions]
        for name, reading in (("before", before), ("after", after)):
            flags = [answer > new for answer, new in zip(reading.answer, reading.new, strict=True)]
            if any(asked):
                found[f"neighbourhood_score_{name}"] = over.share(flags, asked)
    return found


def as_json(groups: Mapping[str, Measures]) -> dict[str, dict[str, float | int]]:
    """The values alone, by group and name."""
    return {group: {name: measure.value for name, measure in measures.items()} for group, measures in groups.items()}


def intervals_as_json(groups: Mapping[str, Measures]) -> dict[str, dict[str, list[float]]]:
    """The intervals alone, [low, high], by group and name."""
    return {
        group: {
            name: [measure.low, measure.high]
            for name, measure in measures.items()
            if measure.low is not None and measure.high is not None
        }
        for group, measures in groups.items()
    }


def perplexity(log_probabilities: Sequence[float]) -> float:
    """Exp of the mean of −log p; infinity where that is too large for a number."""
    return _exp(-sum(log_probabilities) / len(log_probabilities))


class OverFacts:
    """Means over prompts, with intervals over their facts, each of which counts by its prompts.

    Args:
        facts: each prompt's fact.
        seed: of the bootstrap.
    """

    def __init__(self, facts: Sequence[Hashable], seed: int) -> None:
        self._facts = facts
        self._seed = seed

    def share(self, flags: Sequence[float], asked: Sequence[bool] | None = None) -> Measure:
        """The mean of flags, or of shares from 0 to 1, over the prompts asked, of which there is at least one."""
        kept = [True] * len(flags) if asked is None else asked
        chosen = [place for place, keep in enumerate(kept) if keep]
        totals, counts = self._by_fact([float(flags[place]) for place in chosen], chosen)
        shares = [total / count for total, count in zip(totals, counts, strict=True)]
        return with_ends(sum(totals) / len(chosen), share_interval(shares, counts))

    def mean(self, values: Sequence[float]) -> Measure:
        """The mean of a value of each prompt."""
        totals, counts = self._by_fact(values, range(len(values)))
        means = [total / count for total, count in zip(totals, counts, strict=True)]
        return with_ends(sum(values) / len(values), mean_interval(means, counts, seed=self._seed))

    def perplexity(self, log_probabilities: Sequence[float]) -> Measure:
        """Exp of the mean of −log p."""
        loss = self.mean([-value for value in log_probabilities])
        return Measure(_exp(loss.value), *(None if end is None else _exp(end) for end in (loss.low, loss.high)))

    def relative_change(self, before: Sequence[float], after: Sequence[float]) -> Measure:
        """Perplexity after ÷ before − 1."""
        grown = self.mean([first - then for first, then in zip(before, after, strict=True)])
        ends = (None if end is None else _exp(end) - 1 for end in (grown.low, grown.high))
        return Measure(_exp(grown.value) - 1, *ends)

    def _by_fact(self, values: Sequence[float], places: Sequence[int]) -> tuple[list[float], list[int]]:
        totals: dict[Hashable, float] = {}
        counts: dict[Hashable, int] = {}
        for value, place in zip(values, places, strict=True):
            fact = self._facts[place]
            totals[fact] = totals.get(fact, 0.0) + value
            counts[fact] = counts.get(fact, 0) + 1
        return list(totals.values()), list(counts.values())


def with_ends(value: float, ends: tuple[float, float] | None) -> Measure:
    """A measure with the ends of its interval, if it has one."""
    return Measure(value) if ends is None else Measure(value, *ends)


def _probabilities(log_probabilities: Sequence[float]) -> list[float]:
    return [math.exp(value) for value in log_probabilities]


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
