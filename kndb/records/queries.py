"""What questions to the store find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .attribution import ERROR_LIMIT
from .display import Record, fact_words, many, quoted, share
from .facts import Fact
from .models import Neuron, StoredSettings


@dataclass(frozen=True)
class RelationOverlap(Record):
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

    def _line(self) -> str:
        return f"{self.relation} × {self.other}, mean {_number(self.mean)}, {many(self.pairs, 'pair')}"


@dataclass(frozen=True)
class OverlapSummary(Record):
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

    def _line(self) -> str:
        return f"{self.where}, mean {_number(self.pooled_mean)}, {many(self.pairs, 'pair')}"


@dataclass(frozen=True)
class Overlap(Record):
    """The relation × relation matrix of mean pairwise intersections, exact.

    Attributes:
        relations: the chosen relations with facts that have a set, by key.
        cells: one for each pair of them (i ≤ j in that order), the diagonal included.
        summary: `within` and `across`.
    """

    relations: tuple[str, ...]
    cells: tuple[RelationOverlap, ...]
    summary: tuple[OverlapSummary, ...]

    def _line(self) -> str:
        return many(len(self.relations), "relation")


@dataclass(frozen=True)
class LayerCount(Record):
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

    def _line(self) -> str:
        return f"{self.relation or 'all'}, layer {self.layer}, {many(self.pairs, 'pair')}, {share(self.share)}"


@dataclass(frozen=True)
class NeuronCounts(Record):
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

    def _line(self) -> str:
        return f"{self.relation or 'all'}, {many(self.facts, 'fact')}, mean {self.mean:.4g}, median {self.median:.4g}"


@dataclass(frozen=True)
class ListedFact(Record):
    """A fact in a list; `neurons` is the size of its refined set, None if that is empty, or no refinement was asked."""

    fact: int
    relation: str
    subject: str | None
    object: str
    neurons: int | None

    def _line(self) -> str:
        return f"{self.fact}, {fact_words(self)}"


@dataclass(frozen=True)
class FactList(Record):
    """Facts in an order, some of them from a place on.

    Attributes:
        facts: those asked for.
        start: how many were passed over.
        total: how many there are in all.
    """

    facts: tuple[ListedFact, ...]
    start: int
    total: int

    def _line(self) -> str:
        return f"{many(len(self.facts), 'fact')} of {self.total:,}, from {self.start:,}"


@dataclass(frozen=True)
class HeldNeuron(Record):
    """A neuron that some facts hold, with the number of them, and of their relations."""

    layer: int
    neuron: int
    facts: int
    relations: int

    def _line(self) -> str:
        return f"{Neuron(self.layer, self.neuron)}, {many(self.facts, 'fact')}"


@dataclass(frozen=True)
class NearRelation(Record):
    """Another relation, and how near it is.

    Attributes:
        relation, label: the other relation.
        neurons: neurons that facts of both hold.
        mean: mean of |A ∩ B| over all pairs of a fact of the one and a fact of the other that have a set.
    """

    relation: str
    label: str | None
    neurons: int
    mean: float

    def _line(self) -> str:
        return f"{self.relation}, mean {self.mean:.4g}, {many(self.neurons, 'neuron')}"


@dataclass(frozen=True)
class HoldingFact(Record):
    """A fact that holds a neuron. Votes and score are None where an imported set does not have them."""

    fact: int
    relation: str
    subject: str | None
    object: str
    prompts: int | None
    mean_score: float | None

    def _line(self) -> str:
        return f"{self.fact}, {fact_words(self)}"


@dataclass(frozen=True)
class HoldingRelation(Record):
    """A relation whose facts hold a neuron; `share` is of its facts with a set."""

    relation: str
    label: str | None
    facts: int
    share: float
    mean_score: float | None

    def _line(self) -> str:
        return f"{self.relation}, {many(self.facts, 'fact')}, {share(self.share)}"


@dataclass(frozen=True)
class TouchingEdit(Record):
    """An edit that changes a neuron's value slot.

    Attributes:
        edit: its number; `kind`, `applied`, `created_at`: of the edit.
        target: the fact or relation that it is for.
        pulled: whether it came from a file: then target and time are the sender's words.
    """

    edit: int
    kind: str
    target: str
    applied: bool
    created_at: str
    pulled: bool = False


@dataclass(frozen=True)
class NeuronFindings(Record):
    """All that a refinement and its model's edits know of one neuron."""

    layer: int
    neuron: int
    facts_holding: int
    mean_score: float | None
    relations: tuple[HoldingRelation, ...]
    facts: tuple[HoldingFact, ...]
    edits: tuple[TouchingEdit, ...]

    def _line(self) -> str:
        held = many(self.facts_holding, "fact")
        return f"{Neuron(self.layer, self.neuron)}, {held}, {many(len(self.edits), 'edit')}"


@dataclass(frozen=True)
class PromptFindings(Record):
    """A fact's prompt, with what the run gave for it (None where it has no result).

    Attributes:
        worst_layer: the layer of the largest completeness error; None too if it is not recorded.
        above_tolerance: whether that error exceeds the run's `records.attribution.Run.error_limit`.
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

    def _line(self) -> str:
        error = "" if self.completeness_error is None else f", error {self.completeness_error:.1e}"
        return f"{self.prompt}, {quoted(self.text)}{error}"


@dataclass(frozen=True)
class Votes(Record):
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

    def _line(self) -> str:
        votes = "votes not known" if self.prompts is None else many(self.prompts, "prompt")
        return f"{Neuron(self.layer, self.neuron)}, {votes}, {'kept' if self.kept else 'left out'}"


@dataclass(frozen=True)
class FactScores(Record):
    """The scores of a fact's prompts, as far as their run stored them.

    Attributes:
        threshold: the share of a prompt's largest score from which a neuron is in its coarse set.
        floor: the share of it from which scores are stored.
        shares: for each neuron (layer, number), its score ÷ the prompt's largest, of each prompt that has one stored.
    """

    threshold: float
    floor: float
    shares: Mapping[tuple[int, int], tuple[float, ...]]


@dataclass(frozen=True)
class NearFact(Record):
    """Another fact that shares knowledge neurons; `jaccard` is |A ∩ B| ÷ |A ∪ B|."""

    fact: int
    relation: str
    subject: str | None
    object: str
    shared: int
    jaccard: float

    def _line(self) -> str:
        return f"{self.fact}, {fact_words(self)}, {self.shared} shared"


@dataclass(frozen=True)
class FactFindings(Record):
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

    def _line(self) -> str:
        return f"{self.fact.id}, {fact_words(self.fact)}, {many(self.neurons, 'neuron')}"


@dataclass(frozen=True)
class Consistency(Record):
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

    def _line(self) -> str:
        return f"{self.relation or 'all'}, {many(self.facts, 'fact')}, mean {self.mean:.4g}"


@dataclass(frozen=True)
class TouchedRelation(Record):
    """A relation whose facts hold some of the value slots in question; `share` is of its facts with a set."""

    relation: str
    label: str | None
    facts: int
    share: float
    neurons: int

    def _line(self) -> str:
        return f"{self.relation}, {many(self.facts, 'fact')}, {many(self.neurons, 'neuron')}"


@dataclass(frozen=True)
class TouchedFact(Record):
    """A fact that holds some of the value slots in question, with their names; `label` is the relation's."""

    fact: int
    relation: str
    label: str | None
    subject: str | None
    object: str
    neurons: tuple[str, ...]

    def _line(self) -> str:
        return f"{self.fact}, {fact_words(self)}, {many(len(self.neurons), 'neuron')}"


@dataclass(frozen=True)
class Collateral(Record):
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

    def _line(self) -> str:
        held = many(len(self.facts), "fact")
        return f"{many(len(self.neurons), 'neuron')}, held by {held} of {many(len(self.relations), 'relation')}"


@dataclass(frozen=True)
class ComparedRelation(Record):
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

    def _line(self) -> str:
        return f"{self.relation or 'all'}, {many(self.facts, 'fact')}, Jaccard index {self.mean_jaccard:.4g}"


@dataclass(frozen=True)
class ComparedFact(Record):
    """A fact's sets in two refinements."""

    fact: int
    relation: str
    subject: str | None
    object: str
    size_a: int
    size_b: int
    shared: int
    jaccard: float

    def _line(self) -> str:
        return f"{self.fact}, {fact_words(self)}, {self.shared} shared"


@dataclass(frozen=True)
class Comparison(Record):
    """Two refinements side by side; `settings_a` and `settings_b` say how each was made."""

    refinement_a: int
    refinement_b: int
    settings_a: StoredSettings
    settings_b: StoredSettings
    relations: tuple[ComparedRelation, ...]
    facts: tuple[ComparedFact, ...]

    def _line(self) -> str:
        compared = f"refinements {self.refinement_a} and {self.refinement_b}"
        return f"{compared}, {many(len(self.facts), 'fact')}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
