"""The measures by which the field compares edits, and ours: one group, under the field's names, each with an interval.

ES, PS, NS and their harmonic mean S are CounterFact's (Meng et al. 2022); `rewrite_acc`, `rephrase_acc`, `locality` and
`portability` are EasyEdit's (Wang et al. 2023), shares of tokens that are the most probable ones under teacher forcing;
fluency is ROME's. The units of the intervals are facts: each counts by its prompts.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field

from ..records.facts import LOCALITY, NEIGHBOURHOOD, PORTABILITY
from .edit_measures import NEIGHBOURS, OTHERS, OWN, PARAPHRASES, Measure, Measures, OverFacts, with_ends
from .evaluation_prompts import AskedPrompt, PromptReading
from .group_measures import OwnPrompt, OwnReading
from .intervals import statistic_interval
from .readings import Question, Reading

SUMMARY = "summary"
"""The name of the group."""

Values = list[tuple[Hashable, float]]
"""A value of each prompt, with the unit that it belongs to: a fact's number."""


@dataclass
class Observed:
    """What was seen of an edit, prompt by prompt; a measure is there where its list is not empty.

    Attributes:
        efficacy, paraphrase: 1 where the new answer is more probable than the fact's object, else 0, over the fact's
            prompts and over held-out ones.
        neighbourhood: 1 where, at a prompt of another subject with the same object, that object is more probable.
        rewrite, rephrase: shares of the new answer's tokens that are the most probable ones.
        success, held_out: 1 where all of them are.
        unrelated: shares of the answer's tokens that the edit leaves, over prompts of other relations.
        portability: shares of an answer's tokens that are right, over prompts that use the fact.
        relation, others: of untouched facts of the edited relations, and of others: logs of their objects'
            probabilities before and after, and 1 where the most probable answer changed.
        fluent: fluency of texts before and after.
    """

    efficacy: Values = field(default_factory=list)
    paraphrase: Values = field(default_factory=list)
    neighbourhood: Values = field(default_factory=list)
    rewrite: Values = field(default_factory=list)
    rephrase: Values = field(default_factory=list)
    success: Values = field(default_factory=list)
    held_out: Values = field(default_factory=list)
    unrelated: Values = field(default_factory=list)
    portability: Values = field(default_factory=list)
    relation: list[tuple[Hashable, float, float, float]] = field(default_factory=list)
    others: list[tuple[Hashable, float, float, float]] = field(default_factory=list)
    fluent: list[tuple[Hashable, float, float]] = field(default_factory=list)

    def add_own(self, group: str, prompts: Sequence[OwnPrompt], after: Sequence[OwnReading]) -> None:
        """Adds prompts of edited facts, of group `own` or `own_held_out`, each asked for its whole new answer."""
        scores, accuracy, won = self._of(group)
        for prompt, reading in zip(prompts, after, strict=True):
            if prompt.object is not None:
                scores.append((prompt.fact, float(reading.new > reading.object)))
            accuracy.append((prompt.fact, reading.right))
            won.append((prompt.fact, float(reading.won)))

    def add_own_questions(self, group: str, questions: Sequence[Question], after: Reading) -> None:
        """Adds prompts of one edited fact, whose new answer is one token."""
        scores, accuracy, won = self._of(group)
        for place, question in enumerate(questions):
            scores.append((question.fact, float(after.new[place] > after.answer[place])))
            right = float(after.predicted[place] == question.new)
            accuracy.append((question.fact, right))
            won.append((question.fact, right))

    def add_staying(
        self, group: str, questions: Sequence[Question], before: Reading, after: Reading, same_object: Collection[int]
    ) -> None:
        """Adds prompts of facts that are to stay.

        Args:
            group: `intra` or `inter`.
            questions: the prompts; `new` is the new answer of an edited fact with the same object, if there is one.
            before: what the model says before the edit.
            after: what it says after it.
            same_object: the facts of `intra` that have the object of an edited fact of their relation.
        """
        rows = self.relation if group == NEIGHBOURS else self.others
        for place, question in enumerate(questions):
            flipped = before.predicted[place] != after.predicted[place]
            rows.append((question.fact, before.answer[place], after.answer[place], float(flipped)))
            if group == OTHERS:
                self.unrelated.append((question.fact, float(not flipped)))
        if group == NEIGHBOURS:
            self.add_neighbours(questions, after, same_object)

    def add_neighbours(self, questions: Sequence[Question], after: Reading, same_object: Collection[int]) -> None:
        """Adds prompts of other subjects, of those with the same object; where it is not itself the new answer."""
        for place, question in enumerate(questions):
            if question.fact in same_object and question.new not in (None, question.prompt.answer):
                self.neighbourhood.append((question.fact, float(after.answer[place] > after.new[place])))

    def add_prompts(
        self, kind: str, prompts: Sequence[AskedPrompt], before: Sequence[PromptReading], after: Sequence[PromptReading]
    ) -> None:
        """Adds evaluation prompts of a kind; of one fact alone each is a unit, else all of an edited fact are one."""
        alone = len({prompt.fact for prompt in prompts}) == 1
        for prompt, first, then in zip(prompts, before, after, strict=True):
            unit: Hashable = ("prompt", prompt.text) if alone else ("prompts of", prompt.fact)
            if kind == PORTABILITY:
                self.portability.append((unit, then.tokens_right))
            elif kind == LOCALITY:
                kept = sum(one == other for one, other in zip(first.tokens, then.tokens, strict=True))
                self.unrelated.append((unit, kept / len(first.tokens)))
            elif kind == NEIGHBOURHOOD and prompt.can_prefer:
                self.neighbourhood.append((unit, float(then.answer > then.new)))

    def _of(self, group: str) -> tuple[Values, Values, Values]:
        if group == OWN:
            return self.efficacy, self.rewrite, self.success
        assert group == PARAPHRASES, group
        return self.paraphrase, self.rephrase, self.held_out


def summary_measures(observed: Observed, seed: int) -> Measures:
    """All measures of an edit in one group.

    Args:
        observed: what was seen.
        seed: of the bootstrap.

    Returns:
        `ES`, `PS`, `NS`, `S`, `rewrite_acc`, `rephrase_acc`, `locality`, `portability`, `success`, `held_out_success`,
        `perplexity_relation` and `perplexity_others` (after ÷ before), `flips_relation` and `flips_others` (shares of
        prompts), `fluency_before`, `fluency_after`, `fluency_ratio`: those for which something was seen.
    """
    found: Measures = {}
    shares = {
        "ES": observed.efficacy,
        "PS": observed.paraphrase,
        "NS": observed.neighbourhood,
        "rewrite_acc": observed.rewrite,
        "rephrase_acc": observed.rephrase,
        "locality": observed.unrelated,
        "portability": observed.portability,
        "success": observed.success,
        "held_out_success": observed.held_out,
    }
    for name, values in shares.items():
        if values:
            found[name] = OverFacts([unit for unit, _ in values], seed).share([value for _, value in values])
        if name == "NS" and {"ES", "PS", "NS"} <= found.keys():
            found["S"] = _score(observed, found, seed)
    for name, rows in (("relation", observed.relation), ("others", observed.others)):
        if rows:
            over = OverFacts([row[0] for row in rows], seed)
            grown = over.relative_change([row[1] for row in rows], [row[2] for row in rows])
            ends = None if grown.low is None or grown.high is None else (1 + grown.low, 1 + grown.high)
            found[f"perplexity_{name}"] = with_ends(1 + grown.value, ends)
            found[f"flips_{name}"] = over.share([row[3] for row in rows])
    return found | _fluency(observed.fluent, seed)


def harmonic_mean(values: Sequence[float]) -> float:
    """The harmonic mean of shares; 0 where one is 0."""
    return 0.0 if min(values) <= 0 else len(values) / sum(1 / value for value in values)


def _score(observed: Observed, found: Measures, seed: int) -> Measure:
    """S, with an interval by drawing edited facts, with all their prompts, and facts with the same objects."""
    edited: dict[Hashable, list[float]] = {}
    for place, values in enumerate((observed.efficacy, observed.paraphrase)):
        for unit, value in values:
            row = edited.setdefault(unit, [0.0] * 4)
            row[2 * place] += value
            row[2 * place + 1] += 1
    near: dict[Hashable, list[float]] = {}
    for unit, value in observed.neighbourhood:
        row = near.setdefault(unit, [0.0] * 2)
        row[0] += value
        row[1] += 1

    def score(means: Sequence[Sequence[float]]) -> float:
        return harmonic_mean([mean for group in means for mean in group])

    value = harmonic_mean([found[name].value for name in ("ES", "PS", "NS")])
    return with_ends(value, statistic_interval([list(edited.values()), list(near.values())], score, seed=seed))


def _fluency(texts: Sequence[tuple[Hashable, float, float]], seed: int) -> Measures:
    if not texts:
        return {}
    over = OverFacts([unit for unit, _, _ in texts], seed)
    found = {
        "fluency_before": over.mean([before for _, before, _ in texts]),
        "fluency_after": over.mean([after for _, _, after in texts]),
    }
    first = found["fluency_before"].value
    if first > 0:
        rows: dict[Hashable, list[float]] = {}
        for unit, before, after in texts:
            row = rows.setdefault(unit, [0.0] * 4)
            for place, value in enumerate((before, 1.0, after, 1.0)):
                row[place] += value

        def ratio(means: Sequence[Sequence[float]]) -> float:
            (before, after) = means[0]
            return after / before if before > 0 else float("nan")

        ends = statistic_interval([list(rows.values())], ratio, seed=seed)
        found["fluency_ratio"] = with_ends(found["fluency_after"].value / first, ends)
    return found
