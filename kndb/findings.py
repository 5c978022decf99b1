"""The frozen dataclasses of what queries and experiments find.

Like `records.py`, they hold plain Python values only. "Facts with a set" are facts whose refined set of knowledge
neurons is not empty. A relation of None stands for all chosen relations together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .records import ERROR_LIMIT, Fact, Settings

ARMS = ("knowledge", "random", "activation")
"""Whose neurons a probe scales: the fact's refined set, as many random ones of the same layers, the baseline's set."""

TEXT_KINDS = ("head-and-tail", "head", "neither")
"""What the texts of an activation probe name of their fact."""


# --- errors of runs --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerErrors:
    """A layer with completeness errors above a run's limit: of how many prompts, and the largest of them."""

    layer: int
    prompts: int
    worst: float


@dataclass(frozen=True)
class RunErrors:
    """How exact a run's scores are.

    Attributes:
        limit: the completeness error above which prompts are counted.
        asked: whether that is the tolerance that was asked for; if not, the rule's nodes were fixed.
        prompts: prompts with a completeness error; `above`: those whose error, in their worst layer, is over the limit.
        worst: the largest error; None if there are none.
        facts: facts with such prompts; `facts_above`: those with at least one above the limit.
        unrecorded: prompts above the limit of which no layers are recorded: an earlier kndb stored them.
        layers: the layers above the limit, the one with most prompts first.
    """

    limit: float
    asked: bool
    prompts: int
    above: int
    worst: float | None
    facts: int
    facts_above: int
    unrecorded: int
    layers: tuple[LayerErrors, ...]


# --- sharing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RelationOverlap:
    """How many neurons two facts share on average: a cell of the relation × relation matrix.

    Attributes:
        relation: one relation; `other`: the other, or the same.
        pairs: pairs of different facts with a set, one of each relation (both of the one, if they are the same).
        mean: mean of |A ∩ B| over these pairs; None if there are none.
        same_object_pairs: those pairs whose facts have the same object; likewise its mean.
        different_object_pairs: all others; likewise its mean.
    """

    relation: str
    other: str
    pairs: int
    mean: float | None
    same_object_pairs: int
    same_object_mean: float | None
    different_object_pairs: int
    different_object_mean: float | None


@dataclass(frozen=True)
class OverlapSummary:
    """The matrix in two lines: `within` (its diagonal) and `across` (all else).

    Attributes:
        where: `within` or `across`.
        cells: cells with at least one pair.
        pairs: pairs of facts in all of them.
        pooled_mean: mean over all pairs, so that large relations weigh more.
        mean_of_means: mean over the cells.
        same_object_mean: pooled mean over pairs of the same object.
        different_object_mean: pooled mean over all others.
    """

    where: str
    cells: int
    pairs: int
    pooled_mean: float | None
    mean_of_means: float | None
    same_object_pairs: int
    same_object_mean: float | None
    different_object_pairs: int
    different_object_mean: float | None


@dataclass(frozen=True)
class Overlap:
    """The relation × relation matrix of mean pairwise intersections, exact.

    Attributes:
        relations: the chosen relations with facts that have a set, by key.
        cells: one for each pair of them (i ≤ j in that order), the diagonal included.
        summary: `within` and `across`.
    """

    relations: tuple[str, ...]
    cells: tuple[RelationOverlap, ...]
    summary: tuple[OverlapSummary, ...]


@dataclass(frozen=True)
class LayerCount:
    """The knowledge neurons of one layer.

    Attributes:
        relation: the relation, or None for all chosen ones.
        layer: the layer, from 0; layers without neurons are listed too.
        pairs: (fact, neuron) pairs in the layer.
        share: `pairs` ÷ the pairs in all layers.
        neurons: different neurons among them.
    """

    relation: str | None
    layer: int
    pairs: int
    share: float
    neurons: int


@dataclass(frozen=True)
class NeuronCounts:
    """How many knowledge neurons facts have, over all attributed facts, those with none included.

    Attributes:
        relation: the relation, or None for all chosen ones.
        facts: attributed facts.
        facts_with_none: those whose refined set is empty.
        neurons: different neurons in their sets.
        mean, median, first_quartile, third_quartile, largest: of the sizes of the sets. Quartiles are those of
            the linear rule (numpy's default).
    """

    relation: str | None
    facts: int
    facts_with_none: int
    neurons: int
    mean: float
    first_quartile: float
    median: float
    third_quartile: float
    largest: int


# --- one neuron, one fact -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HoldingFact:
    """A fact that holds a neuron. Votes and score are None where an imported set does not have them."""

    fact: int
    relation: str
    subject: str | None
    object: str
    prompts: int | None
    mean_score: float | None


@dataclass(frozen=True)
class HoldingRelation:
    """A relation whose facts hold a neuron; `share` is of its facts with a set."""

    relation: str
    label: str | None
    facts: int
    share: float
    mean_score: float | None


@dataclass(frozen=True)
class TouchingEdit:
    """An edit that changes a neuron's value slot."""

    edit: int
    kind: str
    target: str
    applied: bool
    created_at: str


@dataclass(frozen=True)
class TokenEffect:
    """What a value slot does to a token through the model's head: head(slot) − head(0), in logits."""

    token: str
    effect: float


@dataclass(frozen=True)
class NeuronFindings:
    """All that a refinement and its model's edits know of one neuron."""

    layer: int
    neuron: int
    facts_holding: int
    mean_score: float | None
    relations: tuple[HoldingRelation, ...]
    facts: tuple[HoldingFact, ...]
    edits: tuple[TouchingEdit, ...]


@dataclass(frozen=True)
class PromptFindings:
    """A fact's prompt, with what the run gave for it (None where it has no result).

    Attributes:
        worst_layer: the layer of the largest completeness error; None too if it is not recorded.
        above_tolerance: whether that error exceeds the run's `kndb.records.Run.error_limit`.
    """

    prompt: int
    text: str
    held_out: bool
    probability: float | None
    predicted: str | None
    predicted_probability: float | None
    correct: bool | None
    coarse_set: int | None
    completeness_error: float | None
    worst_layer: int | None
    above_tolerance: bool | None
    skipped: str | None


@dataclass(frozen=True)
class Votes:
    """How many of a fact's prompts have a neuron in their coarse sets, against the number needed.

    Attributes:
        prompts: coarse sets that hold it; None for an imported set that does not say.
        needed: the number that the refinement asked for: max(share · prompts, the least number); None likewise.
        kept: whether it is in the refined set.
    """

    layer: int
    neuron: int
    prompts: int | None
    needed: float | None
    kept: bool
    mean_score: float | None


@dataclass(frozen=True)
class NearFact:
    """Another fact that shares knowledge neurons; `jaccard` is |A ∩ B| ÷ |A ∪ B|."""

    fact: int
    relation: str
    subject: str | None
    object: str
    shared: int
    jaccard: float


@dataclass(frozen=True)
class FactFindings:
    """All that a refinement and its run know of one fact.

    Attributes:
        fact: the fact.
        share: the share of its prompts that the refinement asked for; None if an import does not say.
        consistency: mean Jaccard index over all pairs of its prompts' coarse sets; None with fewer than two.
        neurons: the size of its refined set.
        prompts, votes, nearest: details.
        error_limit: the completeness error above which prompts are marked; `tolerance_asked`: whether that is the
            run's tolerance.
    """

    fact: Fact
    share: float | None
    consistency: float | None
    neurons: int
    prompts: tuple[PromptFindings, ...]
    votes: tuple[Votes, ...]
    nearest: tuple[NearFact, ...]
    error_limit: float = ERROR_LIMIT
    tolerance_asked: bool = False


@dataclass(frozen=True)
class Consistency:
    """How alike the coarse sets of a fact's paraphrases are, over a relation's facts with two prompts or more.

    Attributes:
        relation: the relation, or None for all chosen ones.
        facts: such facts.
        mean, first_quartile, median, third_quartile: of the facts' mean pairwise Jaccard indices, 0 to 1.
    """

    relation: str | None
    facts: int
    mean: float
    first_quartile: float
    median: float
    third_quartile: float


# --- what an edit would touch; two refinements ----------------------------------------------------------------


@dataclass(frozen=True)
class TouchedRelation:
    """A relation whose facts hold some of the value slots in question; `share` is of its facts with a set."""

    relation: str
    label: str | None
    facts: int
    share: float
    neurons: int


@dataclass(frozen=True)
class TouchedFact:
    """A fact that holds some of the value slots in question, with their names."""

    fact: int
    relation: str
    subject: str | None
    object: str
    neurons: tuple[str, ...]


@dataclass(frozen=True)
class Collateral:
    """Who holds the value slots that an edit touches, or would touch.

    Attributes:
        neurons: the slots.
        relations, facts: who holds them, but for the facts that the edit is for.
        edited: the numbers of the facts that hold some and that the edit is for: its own, and others of the same
            relation and subject.
    """

    neurons: tuple[str, ...]
    relations: tuple[TouchedRelation, ...]
    facts: tuple[TouchedFact, ...]
    edited: tuple[int, ...] = ()


@dataclass(frozen=True)
class ComparedRelation:
    """Two refinements side by side over the facts that have a set in either.

    Attributes:
        relation: the relation, or None for all.
        facts: facts with a set in either; `facts_in_both`: in both.
        mean_size_a, mean_size_b: mean sizes of the sets over `facts`.
        mean_shared: mean of |A ∩ B| over `facts`.
        mean_jaccard: mean of |A ∩ B| ÷ |A ∪ B| over `facts`.
        identical: facts whose two sets are the same.
    """

    relation: str | None
    facts: int
    facts_in_both: int
    mean_size_a: float
    mean_size_b: float
    mean_shared: float
    mean_jaccard: float
    identical: int


@dataclass(frozen=True)
class ComparedFact:
    """A fact's sets in two refinements."""

    fact: int
    relation: str
    subject: str | None
    object: str
    size_a: int
    size_b: int
    shared: int
    jaccard: float


@dataclass(frozen=True)
class Comparison:
    """Two refinements side by side; `settings_a` and `settings_b` say how each was made."""

    refinement_a: int
    refinement_b: int
    settings_a: Settings
    settings_b: Settings
    relations: tuple[ComparedRelation, ...]
    facts: tuple[ComparedFact, ...]


# --- experiments ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """A stored experiment on the activations of a refinement's neurons."""

    id: int
    model: str
    version: str
    kind: str
    refinement: int
    settings: Settings
    created_at: str


@dataclass(frozen=True)
class ProbeFact:
    """What scaling one arm's neurons did to one group of prompts of one fact.

    Attributes:
        fact_id: the fact.
        relation: its relation.
        neurons_from: one of `ARMS`.
        prompts_of: `own`, or `other`: prompts of facts of other relations.
        neurons: how many neurons were scaled.
        prompts: how many prompts were asked.
        probability_before, probability_after: mean probability of the prompts' own answers.
        correct_before, correct_after: share of prompts whose most probable token is the answer.
        flips: share of prompts whose most probable token changed.
    """

    fact_id: int
    relation: str
    neurons_from: str
    prompts_of: str
    neurons: int
    prompts: int
    probability_before: float
    probability_after: float
    correct_before: float
    correct_after: float
    flips: float

    @property
    def change(self) -> float:
        """Mean Δp ÷ mean p over the prompts; NaN where p is 0."""
        before = self.probability_before
        return (self.probability_after - before) / before if before else math.nan


@dataclass(frozen=True)
class ProbeSummary:
    """What scaling one arm's neurons did to a relation's prompts (weighted by prompts), or on average over relations.

    Attributes:
        relation: the relation; None for the mean over the relations' values (sums, for `facts` and `prompts`).
        neurons_from: one of `ARMS`.
        prompts_of: `own` or `other`.
        facts: facts probed.
        prompts: prompts asked.
        neurons: neurons scaled per fact, on average.
        probability_before, probability_after: means over prompts.
        change: mean Δp ÷ mean p over the prompts (method.md section 4); −0.29 is a fall by 29 %.
        correct_before, correct_after: shares of prompts.
        flips: share of prompts whose most probable token changed.
    """

    relation: str | None
    neurons_from: str
    prompts_of: str
    facts: int
    prompts: int
    neurons: float
    probability_before: float
    probability_after: float
    change: float
    correct_before: float
    correct_after: float
    flips: float


@dataclass(frozen=True)
class FactActivation:
    """The mean activation of a fact's neurons over its texts of one kind (one of `TEXT_KINDS`)."""

    fact_id: int
    relation: str
    kind: str
    texts: int
    mean_activation: float


@dataclass(frozen=True)
class ActivationSummary:
    """Mean activation over a relation's facts (each counts once), or over all facts (`relation` None), by kind."""

    relation: str | None
    kind: str
    facts: int
    texts: int
    mean_activation: float


@dataclass(frozen=True)
class ExtremeText:
    """A text that activates a fact's neurons most (rank 1, 2, …) or least (−1, −2, …)."""

    fact_id: int
    rank: int
    kind: str
    text: str
    activation: float


# --- edits ------------------------------------------------------------------------------------------------

EDIT_MEASURES: Mapping[str, tuple[str, str]] = {
    "success": ("own", "success_rate"),
    "efficacy": ("own", "efficacy_score"),
    "paraphrase": ("own_held_out", "success_rate"),
    "paraphrase_score": ("own_held_out", "paraphrase_score"),
    "neighbourhood": ("intra", "neighbourhood_score_after"),
    "intra_change": ("intra", "perplexity_relative_change"),
    "inter_change": ("inter", "perplexity_relative_change"),
    "intra_locality": ("intra", "locality"),
    "inter_locality": ("inter", "locality"),
    "divergence": ("inter", "locality_divergence"),
}
"""The measures of edits that tables over many show, each with the group of prompts and the full name."""

Interval = tuple[float | None, float | None, float | None]
"""A value, and the ends of its 95 % confidence interval; None where there is none."""


@dataclass(frozen=True)
class TrialSummary:
    """A row of a trial's table.

    Attributes:
        part: `single` or `cumulative` of a bench, `cell` of a sweep.
        edits: how many edits the weights had at once.
        settings: of a sweep's cell; empty for a bench.
        weights: `edit`, or `random neurons`.
        facts: facts that count; `planned`: those for which an edit could be planned.
        neurons: value slots that an edit changed, on average.
        measures: by the names of `EDIT_MEASURES`.
    """

    part: str
    edits: int
    settings: Mapping[str, Any]
    weights: str
    facts: int
    planned: int
    neurons: float | None
    measures: Mapping[str, Interval]


# --- planted storage ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LocalisationScore:
    """How well a method's refined sets find the neurons in which a lab model's facts were planted.

    Precision and recall are over all facts together; None where there is nothing to divide by. The last five are shares
    of the refined (fact, neuron) pairs, and add up to 1.

    Attributes:
        method: the method of attribution.
        facts: attributed facts.
        neurons_per_fact: mean size of the refined sets; `planted_per_fact`: mean number of neurons planted for a fact,
            its own and its relation's.
        precision: share of the refined pairs that are planted ones.
        precision_by_chance: the same for as many neurons drawn from all of the model's.
        recall: share of the planted pairs that are refined ones; `recall_by_chance` likewise.
        own: pairs with one of the fact's own neurons.
        relation: with one of its relation's.
        block: with a neuron of another fact of its relation.
        foreign: with a neuron of another relation.
        free: with a neuron that nothing was planted in.
    """

    method: str
    facts: int
    neurons_per_fact: float
    planted_per_fact: float
    precision: float | None
    precision_by_chance: float | None
    recall: float | None
    recall_by_chance: float | None
    own: float | None
    relation: float | None
    block: float | None
    foreign: float | None
    free: float | None
