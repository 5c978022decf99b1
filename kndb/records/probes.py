"""Experiments on activations, and what they find."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .display import Record, quoted, share
from .models import StoredSettings

ARMS = ("knowledge", "random", "activation")
"""Whose neurons a probe scales: the fact's refined set, as many random ones of the same layers, the baseline's set."""


TEXT_KINDS = ("head-and-tail", "head", "neither")
"""What the texts of an activation probe name of their fact."""


@dataclass(frozen=True)
class Probe(Record):
    """A stored experiment on the activations of a refinement's neurons."""

    id: int
    model: str
    version: str
    kind: str
    refinement: int
    settings: StoredSettings
    created_at: str

    def _line(self) -> str:
        return f"{self.id}, {self.model}, {self.kind}, refinement {self.refinement}"


@dataclass(frozen=True)
class ProbeFact(Record):
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

    def _line(self) -> str:
        return (
            f"fact {self.fact_id}, {self.relation}, {self.neurons_from} neurons, {self.prompts_of} prompts, "
            f"change {share(self.change)}"
        )


@dataclass(frozen=True)
class ProbeSummary(Record):
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

    def _line(self) -> str:
        return (
            f"{self.relation or 'all'}, {self.neurons_from} neurons, {self.prompts_of} prompts, "
            f"change {share(self.change)}"
        )


@dataclass(frozen=True)
class FactActivation(Record):
    """The mean activation of a fact's neurons over its texts of one kind (one of `TEXT_KINDS`)."""

    fact_id: int
    relation: str
    kind: str
    texts: int
    mean_activation: float

    def _line(self) -> str:
        return f"fact {self.fact_id}, {self.relation}, {self.kind}, {self.mean_activation:.4g}"


@dataclass(frozen=True)
class ActivationSummary(Record):
    """Mean activation over a relation's facts (each counts once), or over all facts (`relation` None), by kind."""

    relation: str | None
    kind: str
    facts: int
    texts: int
    mean_activation: float

    def _line(self) -> str:
        return f"{self.relation or 'all'}, {self.kind}, {self.mean_activation:.4g}"


@dataclass(frozen=True)
class ExtremeText(Record):
    """A text that activates a fact's neurons most (rank 1, 2, …) or least (−1, −2, …)."""

    fact_id: int
    rank: int
    kind: str
    text: str
    activation: float

    def _line(self) -> str:
        return f"fact {self.fact_id}, rank {self.rank}, {quoted(self.text)}, {self.activation:.4g}"
