"""The frozen dataclasses that cross kndb's layers.

They hold plain Python values only (no tensors, no database rows), so that the store needs no torch and the
engines need no SQLAlchemy. Layer and neuron numbers are 0-based; identifiers are the store's primary keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import RejectedLine, UsageError

SUBJECT_SLOT = "[X]"
"""Where a template takes the subject."""

BLANK = "[Y]"
"""Where a template or prompt leaves out the answer."""

LAB_MODELS = ("lab-bert", "lab-gpt2")
"""The models that kndb ships; they can be named without being registered."""

FREE_PROMPTS = "free-prompts"
"""The relation of the prompts that were given to `kndb attribute --prompt`, without a list of facts."""

ERROR_LIMIT = 1e-3
"""The completeness error above which prompts are counted where a run asked for no tolerance."""

UNKNOWN = "unknown"
"""Family and version of a model of which only results were imported."""

Settings = Mapping[str, object]
"""Settings that are stored as JSON with a result."""


@dataclass(frozen=True, order=True)
class Neuron:
    """An FFN neuron: entry `index` of the vector that enters the down projection of layer `layer`."""

    layer: int
    index: int

    def __str__(self) -> str:
        return f"L{self.layer}.N{self.index}"

    @classmethod
    def parse(cls, text: str) -> Neuron:
        """Reads the text form, for example `L9.N2827`.

        Raises:
            UsageError: if the text has another form.
        """
        match = re.fullmatch(r"L(\d+)\.N(\d+)", text.strip())
        if match is None:
            raise UsageError(f"{text!r} is not a neuron; expected the form L9.N2827 (layer, neuron, both from 0)")
        return cls(int(match[1]), int(match[2]))


# --- what a reader of fact lists yields ----------------------------------------------------------------------


@dataclass(frozen=True)
class TemplateRecord:
    """A sentence with `[X]` for the subject and `[Y]` for the answer, as a file gives it."""

    relation: str
    text: str
    held_out: bool = False


@dataclass(frozen=True)
class FactRecord:
    """A fact as a file gives it, with the prompts that the file writes out for it (if any).

    Attributes:
        relation: the relation's key, for example `P176`.
        subject: None where the source does not name it (the paper's own bags).
        object: the answer.
        external_id: the source's own identifier, or None.
        prompts: prompts of this fact alone: subject filled in, the blank as `[Y]`. Prompts that come from
            templates are not listed here: they follow from template × fact.
    """

    relation: str
    subject: str | None
    object: str
    external_id: str | None = None
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class FactFile:
    """All that one input file (or pair of files) holds.

    Attributes:
        source: the file as the user named it.
        relations: relation key to label; every relation that a fact or template names is a key.
    """

    source: str
    relations: Mapping[str, str | None]
    templates: tuple[TemplateRecord, ...] = ()
    facts: tuple[FactRecord, ...] = ()
    rejected: tuple[RejectedLine, ...] = ()


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did. `facts_seen` counts every fact read, new or not."""

    facts_added: int
    facts_seen: int
    prompts_added: int
    templates_added: int
    relations: int
    rejected: tuple[RejectedLine, ...] = ()
    prompts_blank_last: int = 0


# --- what the store holds ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Relation:
    """A relation, with the number of its facts, templates and prompts."""

    id: int
    key: str
    label: str | None
    facts: int
    templates: int
    prompts: int


@dataclass(frozen=True)
class Fact:
    """A fact ⟨subject, relation, object⟩."""

    id: int
    relation: str
    subject: str | None
    object: str
    external_id: str | None = None
    prompts: int = 0

    @property
    def title(self) -> str:
        """The fact in one line, for messages."""
        return f"⟨{self.subject or '(not named)'}, {self.relation}, {self.object}⟩"


@dataclass(frozen=True)
class Prompt:
    """A prompt with the answer that its fact gives. `text` has the blank as `[Y]`."""

    id: int
    fact_id: int
    text: str
    answer: str
    held_out: bool = False


@dataclass(frozen=True)
class Model:
    """A registered checkpoint; or a model of which only results were imported: see `has_checkpoint`.

    Attributes:
        source: a folder or a hub name; empty without a checkpoint, as is the fingerprint.
        fingerprint: sha256 over weights, tokenizer and configuration, in hex.
        family: the adapter's name.
        layers: number of transformer layers.
        neurons: FFN neurons per layer.
        version: the current version's id.
    """

    id: int
    name: str
    source: str
    fingerprint: str
    family: str
    layers: int
    neurons: int
    version: str
    created_at: str = ""

    @property
    def has_checkpoint(self) -> bool:
        """Whether weights are registered, or only results were imported."""
        return bool(self.fingerprint)


@dataclass(frozen=True)
class Run:
    """An attribution run: all results that one method with one set of settings gave on one model version.

    Attributes:
        prompts: prompts with scores; `skipped`: those without.
        above_tolerance: prompts whose completeness error exceeds `error_limit`; None if no errors are stored.
    """

    id: int
    model: str
    version: str
    method: str
    settings: Settings
    status: str
    created_at: str
    finished_at: str | None
    prompts: int = 0
    skipped: int = 0
    above_tolerance: int | None = None

    @property
    def error_limit(self) -> float:
        """The completeness error above which its prompts are counted: its tolerance; else `ERROR_LIMIT`."""
        return error_limit(self.settings)


def error_limit(settings: Settings) -> float:
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
class KnowledgeNeuron:
    """A neuron in a fact's refined set: in the coarse sets of `prompts` of the fact's prompts.

    An imported set may not know that number, nor the mean score over those prompts: None.
    """

    fact_id: int
    layer: int
    neuron: int
    prompts: int | None
    mean_score: float | None


@dataclass(frozen=True)
class RelationRefinement:
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


@dataclass(frozen=True)
class Refinement:
    """A refinement of one run: settings and the outcome for each relation."""

    id: int
    run_id: int
    settings: Settings
    created_at: str
    relations: tuple[RelationRefinement, ...] = ()


@dataclass(frozen=True)
class SharedNeuron:
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


@dataclass(frozen=True)
class SlotChange:
    """A value slot that an edit changes, with the sha256 of its bytes before and after."""

    parameter: str
    layer: int
    neuron: int
    old_sha256: str
    new_sha256: str


@dataclass(frozen=True)
class Edit:
    """A planned edit: immutable, named by the hash of its object file.

    Attributes:
        kind: `update`, `erase`, `optimize` or `capture`.
        recipe: everything needed to compute it again.
        object_hash: sha256 of the object file, in hex.
        object_path: the object file, relative to the store's folder of objects.
        base_version: the version it was planned on.
        applied: whether it is part of the model's current version.
        author: who planned it; None if nobody knows.
        fact_numbers: of an edit from another store, for each fact's number in the recipe, as text, the number here, or
            None; None for an edit that was planned here.
    """

    id: int
    model: str
    kind: str
    recipe: Settings
    object_hash: str
    object_path: str
    base_version: str
    created_at: str
    neurons: int = 0
    applied: bool = False
    author: str | None = None
    fact_numbers: Mapping[str, int | None] | None = None


@dataclass(frozen=True)
class HistoryEntry:
    """One step of a model's current version.

    Attributes:
        action: `apply`, `revert` or `restore`.
        edit: the edit that was applied or reverted.
        author: who took the step; None if nobody knows.
        direction: `apply` or `revert` for a step of a restore; None for other steps, and where it was not noted.
    """

    id: int
    model: str
    action: str
    edit: int | None
    version_before: str
    version_after: str
    created_at: str
    author: str | None = None
    direction: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """A name for a version of a model."""

    name: str
    model: str
    version: str
    created_at: str


@dataclass(frozen=True)
class Evaluation:
    """The stored measures of one edit."""

    id: int
    edit: int
    version_before: str
    version_after: str
    settings: Settings
    measures: Mapping[str, object]
    created_at: str


@dataclass(frozen=True)
class EditTrial:
    """Edits of many facts that are tried in memory: a bench of one method, or a sweep over settings of it.

    Attributes:
        version: the version that they are tried on.
        kind: `bench` or `sweep`.
        status: `running` until all is measured, then `complete`.
    """

    id: int
    model: str
    version: str
    kind: str
    settings: Settings
    status: str
    created_at: str
    finished_at: str | None


@dataclass(frozen=True)
class TrialResult:
    """One result of a trial.

    Attributes:
        part: `single` or `cumulative` for a bench; the settings of its cell, as JSON, for a sweep.
        position: place in the part, from 0; for `cumulative`, the number of edits.
        fact: the fact that was edited; None for a result over several.
        measures: what was measured.
    """

    part: str
    position: int
    fact: int | None
    measures: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """One answer of the model to a question: a row of `kndb ask`."""

    token: str
    probability: float


@dataclass(frozen=True)
class CheckReport:
    """What `kndb db check` found. `problems` is empty for a sound store; orphans are harmless left-overs."""

    problems: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    repaired: tuple[str, ...] = field(default=())

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems
