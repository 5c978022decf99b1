"""Attribution runs, what they give for prompts, and the refinements of their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..advice import Placeholder, call, option
from .display import Record, many, quoted, share
from .models import Neuron, StoredSettings
from .work import FailedItem

INTEGRATED_GRADIENTS = "integrated-gradients"
"""The method whose refinements answer unless the user names others."""

IMPORTED = "imported"
"""The method of runs that stand for results of others."""

ERROR_LIMIT = 1e-3
"""The completeness error above which prompts are counted where a run asked for no tolerance."""


def attribute_and_refine(
    model: str | Placeholder,
    relations: Sequence[str] = (),
    facts: Sequence[int] = (),
    method: str | None = None,
) -> str:
    """The two calls that make a refinement, as a text advises them; see `kndb.advice`."""
    attribute = call("attribution.run", model=model, relations=list(relations), fact_ids=list(facts), method=method)
    return f"{attribute}, then: {call('attribution.refine')}"


@dataclass(frozen=True)
class Run(Record):
    """An attribution run: all results that one method with one set of settings gave on one model version.

    Attributes:
        prompts: prompts with scores; `skipped`: those without.
        above_tolerance: prompts whose completeness error exceeds `error_limit`; None if no errors are stored.
    """

    id: int
    model: str
    version: str
    method: str
    settings: StoredSettings
    status: str
    created_at: str
    finished_at: str | None
    prompts: int = 0
    skipped: int = 0
    above_tolerance: int | None = None

    @property
    def not_refined(self) -> str:
        """What to say where it has no refinement: how to make one, with the marks of `kndb.advice`."""
        said = "No refinement of it is made yet"
        if not self.prompts:
            return f"{said}, and it has no prompts with scores to make one of."
        if self.status == "complete":
            return f"{said}; make one with: {call('attribution.refine', run=self.id)}"
        how = call("attribution.refine", run=self.id, allow_incomplete=True)
        return f"{said}, and it is not complete; refine what there is with: {how}"

    @property
    def error_limit(self) -> float:
        """The completeness error above which its prompts are counted: its tolerance; else `ERROR_LIMIT`."""
        return error_limit(self.settings)

    def _line(self) -> str:
        status = "" if self.status == "complete" else f", {self.status}"
        return f"{self.id}, {self.model}, {self.method}, {many(self.prompts, 'prompt')}{status}"


def error_limit(settings: StoredSettings) -> float:
    """The completeness error above which a run's prompts are counted: its tolerance; of fixed rules, `ERROR_LIMIT`."""
    tolerance = settings.get("tolerance")
    return float(tolerance) if isinstance(tolerance, (int, float)) else ERROR_LIMIT


@dataclass(frozen=True)
class PromptResult:
    """What attribution gave for one prompt.

    Attributes:
        prompt_id: the prompt.
        probability: probability of the answer asked about in the unmodified network, 0 to 1 (of several tokens, the
            product of theirs); None if skipped.
        predicted: the token with the highest probability, as text; one for each token of the answer.
        predicted_probability: its probability, or their product.
        correct: whether the most probable token (each of them) is the fact's answer's; None if it has no tokens.
        completeness_error: the largest, over layers, of |Σ_i Attr − (P(1) − P(0))| relative to
            max(|P(1) − P(0)|, 0.1 · the largest |P(1) − P(0)| among the layers).
        completeness_error_mean: its mean over layers.
        max_score: the largest score over all layers and neurons; what floor and threshold refer to.
        min_score: the smallest score, likewise; below zero where a neuron speaks against the answer.
        evaluations: gradient evaluations spent, over all layers, the shared one at α = 1 counted once.
        tokens: tokens in the model's input.
        answer_tokens: tokens of the answer; the prompt's scores are the mean over them.
        skipped: why the prompt has no result (a short key); None if it has one.
        worst_layer: the layer of the largest completeness error; None if nobody noted it.
        layers_above: the layers whose completeness error exceeds the run's `error_limit`, with that error.
    """

    prompt_id: int
    probability: float | None = None
    predicted: str | None = None
    predicted_probability: float | None = None
    correct: bool | None = None
    completeness_error: float | None = None
    completeness_error_mean: float | None = None
    max_score: float | None = None
    min_score: float | None = None
    evaluations: int | None = None
    tokens: int | None = None
    answer_tokens: int | None = None
    skipped: str | None = None
    worst_layer: int | None = None
    layers_above: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreColumns:
    """The scores of several prompts that reach the run's floor, as columns of equal length."""

    prompt_ids: Sequence[int] = ()
    layers: Sequence[int] = ()
    neurons: Sequence[int] = ()
    scores: Sequence[float] = ()

    def __len__(self) -> int:
        return len(self.prompt_ids)


@dataclass(frozen=True)
class ResultBatch:
    """What attribution gave for a batch of prompts; written to the store in one transaction."""

    results: tuple[PromptResult, ...]
    scores: ScoreColumns = ScoreColumns()


@dataclass(frozen=True)
class KnowledgeNeuron(Record):
    """A neuron in a fact's refined set: in the coarse sets of `prompts` of the fact's prompts.

    An imported set may not know that number, nor the mean score over those prompts: None.
    """

    fact_id: int
    layer: int
    neuron: int
    prompts: int | None
    mean_score: float | None

    def _line(self) -> str:
        votes = "" if self.prompts is None else f", {many(self.prompts, 'prompt')}"
        score = "" if self.mean_score is None else f", mean score {self.mean_score:.4g}"
        return f"{Neuron(self.layer, self.neuron)}, fact {self.fact_id}{votes}{score}"


@dataclass(frozen=True)
class RelationRefinement(Record):
    """How the refined sets of one relation came out.

    Attributes:
        share: the share p of a fact's prompts that was used in the end; None for imported sets that don't say.
        passes: how many adaptation passes were made; likewise.
        facts: facts of the relation with at least one attributed prompt.
        facts_with_neurons: those whose refined set is not empty.
        mean_size: mean size of the refined sets over `facts`.
    """

    relation: str
    share: float | None
    passes: int | None
    facts: int
    facts_with_neurons: int
    mean_size: float

    def _line(self) -> str:
        with_neurons = f"{self.facts_with_neurons:,} of {many(self.facts, 'fact')}"
        return f"{self.relation}, {with_neurons}, mean size {self.mean_size:.4g}"


@dataclass(frozen=True)
class Refinement(Record):
    """A refinement of one run: of which run, with which settings, and the outcome for each relation.

    Attributes:
        model, version, method: its run's.
        complete: whether its run has results of all prompts that it was asked for, and had them when it was refined.
    """

    id: int
    run_id: int
    settings: StoredSettings
    created_at: str
    relations: tuple[RelationRefinement, ...] = ()
    model: str = ""
    version: str = ""
    method: str = ""
    complete: bool = True

    @property
    def negative(self) -> bool:
        """Whether its sets hold the neurons of the lowest scores, which speak against the answer."""
        return bool(self.settings.get("negative"))

    @property
    def imported(self) -> bool:
        """Whether its sets were found elsewhere, by a method that kndb does not know."""
        return self.method == IMPORTED

    @property
    def caveat(self) -> str | None:
        """What a reader has to know before they believe its sets; None of a complete one by integrated gradients."""
        said = []
        if self.negative:
            said.append("its neurons are those of negative scores: they speak against the answer")
        elif self.imported:
            said.append("its sets were imported")
        elif self.method != INTEGRATED_GRADIENTS:
            said.append(f"its scores are by {self.method}")
        if not self.complete:
            said.append(f"run {self.run_id} is not complete, or was not when it was refined")
        return "; ".join(said) or None

    @property
    def facts(self) -> int:
        """The facts that it holds: those with an attributed prompt, whether or not they have knowledge neurons."""
        return sum(outcome.facts for outcome in self.relations)

    @property
    def title(self) -> str:
        """Which one it is, in words: `refinement 3 of run 2 (integrated-gradients, lab-bert vf41e9e52818)`."""
        kind = [self.method]
        kind += ["negative scores"] if self.negative else []
        kind += [] if self.complete else ["incomplete"]
        kind.append(f"{self.model} {self.version[:12]}")
        return f"refinement {self.id} of run {self.run_id} ({', '.join(kind)})"

    def _line(self) -> str:
        return f"{self.id}, run {self.run_id}, {self.method}, {many(len(self.relations), 'relation')}"


RefinementChoice = Refinement | int | str | None
"""Which refinement is to answer: itself or its number; a method's name for the newest complete one by that method; or
None for the one that `kndb.store.choosing` chooses."""


@dataclass(frozen=True)
class ChosenRefinement(Record):
    """The refinement that answers a question, and how it came to.

    Attributes:
        refinement: the one.
        named: whether its number or its method was named.
        asked: the facts that the question names, itself or by their relations; None if it names none.
        held: those of them that the refinement holds.
        newer: the newest refinement that is as good as this one, newer, and holds fewer of the facts.
        relations: the keys of the relations that the question is about; none stands for all.
    """

    refinement: Refinement
    named: bool = False
    asked: int | None = None
    held: int | None = None
    newer: int | None = None
    relations: tuple[str, ...] = ()

    @property
    def warning(self) -> str | None:
        """What a reader has to know if it is no complete refinement by integrated gradients, and nobody named it."""
        found = self.refinement
        if self.named or found.caveat is None:
            return None
        of = "" if self.asked is None else " that holds any of these facts" if self.held else " of this model"
        make = attribute_and_refine(found.model, self.relations)
        return (
            f"Warning: {found.title} answers because there is no complete refinement by {INTEGRATED_GRADIENTS}{of}; "
            f"{found.caveat}. Make one with: {make}"
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What to say beside an answer, in sentences: the warning, facts that are not held, a newer refinement."""
        said = [self.warning] if self.warning else []
        if self.asked is not None and self.held and self.held < self.asked:
            missing = self.asked - self.held
            said.append(
                f"Refinement {self.refinement.id} holds {self.held:,} of the {self.asked:,} facts asked about; the "
                f"other {missing:,} {'has' if missing == 1 else 'have'} no attributed prompt in it."
            )
        if self.newer is not None:
            fewer = "facts" if self.asked is None else "of these facts"
            name = option("refinement", self.newer)
            said.append(f"Refinement {self.newer} is newer and holds fewer {fewer}; {name} takes it.")
        return tuple(said)

    def _line(self) -> str:
        return f"{self.refinement!r}"


@dataclass(frozen=True)
class SharedNeuron(Record):
    """A row of `query shared`.

    Attributes:
        facts: facts of the chosen relations whose refined set holds the neuron.
        share: `facts` ÷ facts of the chosen relations with a refined set.
        relations: every relation whose facts hold the neuron, with the number of those facts.
    """

    layer: int
    neuron: int
    facts: int
    share: float
    relations: Mapping[str, int]

    def _line(self) -> str:
        return f"{Neuron(self.layer, self.neuron)}, {many(self.facts, 'fact')}, {share(self.share)}"


@dataclass(frozen=True)
class LayerErrors(Record):
    """A layer with completeness errors above a run's limit: the number of prompts, and the largest error."""

    layer: int
    prompts: int
    worst: float


@dataclass(frozen=True)
class RunErrors(Record):
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

    def _line(self) -> str:
        return f"{self.above:,} of {many(self.prompts, 'prompt')} above {self.limit:g}"


@dataclass(frozen=True)
class AttributionReport(Record):
    """What an attribution did.

    Attributes:
        run: the run as it now stands.
        resumed: whether it existed before.
        attributed: prompts attributed now; `already_done`: those that were before. Skipped ones are in neither.
        skipped: prompts of the whole run without a score, by reason.
        unfinished: relations that an earlier command left half done, with the prompts that they lack.
        held_out: prompts of held-out templates that were left out.
        seconds: time spent attributing now, loading the model left out.
        seconds_writing: how much of it was spent waiting for the store; the rest of the writing went on beside it.
        trust: completeness errors and the share of known answers, over the whole run.
        errors: how many prompts of the whole run are above the tolerance, and in which layers.
        facts: facts that this command chose.
        free_fact: the fact that free prompts were stored as; None without any.
        workers: how many processes computed elsewhere; 0 if this one did.
        threads: threads of each of them on the CPU.
        failed: prompts that failed however often they were tried; the same command tries them again.
    """

    run: Run
    resumed: bool
    attributed: int
    already_done: int
    skipped: dict[str, int]
    unfinished: dict[str, int]
    held_out: int
    seconds: float
    seconds_writing: float
    device: str
    trust: dict[str, float | int | None]
    errors: RunErrors
    facts: int
    free_fact: int | None = None
    workers: int = 0
    threads: int = 0
    failed: tuple[FailedItem, ...] = ()

    @property
    def rate(self) -> float | None:
        """Prompts per second, if there were any."""
        return self.attributed / self.seconds if self.attributed else None

    def _line(self) -> str:
        return f"{self.run!r}, {self.attributed:,} of them now"


@dataclass(frozen=True)
class WorstPrompt(Record):
    """A prompt with a large completeness error, and the layer that it is in; None if nobody noted that."""

    prompt: int
    fact: int
    text: str
    answer: str
    error: float
    layer: int | None

    def _line(self) -> str:
        return f"{self.prompt}, fact {self.fact}, {quoted(self.text)}, error {self.error:.1e}"


@dataclass(frozen=True)
class LocalisationScore(Record):
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

    def _line(self) -> str:
        return f"{self.method}, precision {share(self.precision)}, recall {share(self.recall)}"
