"""Settings of edits: one value for each kind of work, made from a command's options and passed on whole.

Each refuses what can't be when it is made, so that nobody has to ask again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ..advice import option
from ..errors import UsageError

RULES = ("gradient", "output", "paper")
"""How an update chooses directions: see `UpdateSettings`. Recipes of before there was a choice mean `paper`."""
_SEEDS = 2**63
_MOST = 1_000_000
"""Of steps, and of numbers that weights are computed with: what is larger is no setting, and overflows on the way."""
_DEFAULT_SHARES = {"gradient": 1.0, "output": 0.1, "paper": 0.1}
"""Neurons that more of the relation's facts hold are left out, as in the paper; along the gradient, weights take the
place of that."""


def _refuse(name: str, value: object, *, unless: bool, must: str) -> None:
    """Raises a UsageError that names an option, unless a condition holds."""
    if not unless:
        raise UsageError(f"{option(name)} must be {must} (got {value})")


def _check_choice_of_neurons(max_share: float | None, neurons: int | None) -> None:
    if max_share is not None:
        _refuse("max_share", max_share, unless=0 < max_share <= 1, must="a number above 0, at most 1")
    if neurons is not None:
        _refuse("neurons", neurons, unless=neurons >= 1, must="at least 1")


def check_seed(seed: int) -> None:
    """Refuses a seed that can't be one.

    Raises:
        UsageError: if it is not a number from 0 to 2⁶³ − 1.
    """
    _refuse("seed", seed, unless=0 <= seed < _SEEDS, must="a number from 0 to 2^63 - 1")


def check_known(known: float) -> None:
    """Refuses what is no share of a fact's prompts that a model has to answer.

    Raises:
        UsageError: if it is not a number from 0 to 1.
    """
    _refuse("known", known, unless=0 <= known <= 1, must="a number from 0 to 1")


@dataclass(frozen=True)
class UpdateSettings:
    """How an update moves a fact's value slots.

    Attributes:
        rule: `gradient`: along the gradient of the new answer's log-probability, each slot with a weight that makes the
            change the fact's own. `output`: along the tokens' output directions, each slot with the sign of its
            neuron's activation. `paper`: along their word embeddings, without a sign, as published.
        lambda_old: λ₁, how far each value slot moves away from the present answer, in lengths of it, at least 0; None
            takes half of λ₂ by rule `output`, and 1 by rule `paper`. Rule `gradient` has none.
        lambda_new: λ₂, how far it moves towards the new answer, on average over slots, at least 0; `auto` fits it to
            the fact; None takes `auto`, and 8 by rule `paper`.
        max_share: neurons held by more than this share of the relation's facts are left out, above 0, at most 1. None
            takes all by rule `gradient`; else 0.1, and where that leaves none, the least shared ones.
        neurons: of the others, only so many, those with the highest mean scores, at least 1; None takes all.
    """

    method: ClassVar[str] = "update"

    rule: str = "gradient"
    lambda_old: float | None = None
    lambda_new: float | Literal["auto"] | None = None
    max_share: float | None = None
    neurons: int | None = None

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: if a factor, a share or a number is out of its range, or there is no such rule.
        """
        _refuse("rule", self.rule, unless=self.rule in RULES, must=f"one of {', '.join(RULES)}")
        if self.lambda_old is not None:
            self._check_factor("lambda_old", self.lambda_old, "")
        if self.lambda_new is not None and self.lambda_new != "auto":
            self._check_factor("lambda_new", self.lambda_new, ", or auto")
        if self.rule == "gradient" and self.lambda_old is not None:
            raise UsageError(
                f"{option('lambda_old')} is of {option('rule', 'output')} and paper; the gradient leads away from the "
                "present answer"
            )
        _check_choice_of_neurons(self.max_share, self.neurons)

    @staticmethod
    def _check_factor(name: str, value: float, otherwise: str) -> None:
        _refuse(name, value, unless=0 <= value < math.inf, must=f"a number of at least 0{otherwise}")

    @property
    def share(self) -> float:
        """`max_share`, or the rule's default."""
        return _DEFAULT_SHARES[self.rule] if self.max_share is None else self.max_share

    def as_trial(self) -> dict[str, Any]:
        """The settings as a trial is stored with them."""
        own = {"rule": self.rule, "lambda_old": self.lambda_old, "lambda_new": self.lambda_new}
        return {"method": self.method, **own, "max_share": self.share, "neurons": self.neurons}


@dataclass(frozen=True)
class Neighbours:
    """How many facts an optimisation keeps as they are; all that there are, if there are fewer.

    Attributes:
        relation: other facts of the relation, at least 0.
        elsewhere: facts of other relations, at least 0.
        prompts: how many prompts of each of them count, other ones for other facts, at least 1; None takes all.
    """

    relation: int = 40
    elsewhere: int = 240
    prompts: int | None = 1

    def __post_init__(self) -> None:
        """Refuses negative numbers.

        Raises:
            UsageError: for one.
        """
        for name, number in (("neighbours", self.relation), ("others", self.elsewhere)):
            _refuse(name, number, unless=number >= 0, must="at least 0")
        if self.prompts is not None:
            _refuse("prompts", self.prompts, unless=self.prompts >= 1, must="at least 1")


@dataclass(frozen=True)
class OptimizeSettings:
    """How a fact's value slots are optimised.

    Attributes:
        steps: gradient steps at most, at least 1. This and the next three, and `at_once`, are at most 1,000,000.
        learning_rate: Adam's at the first step, in lengths of a mean slot: about how far a slot moves; above 0. It
            falls in a straight line to nearly 0 at the last step.
        keep: β, the weight of the other prompts' divergence, at least 0.
        bound: c, the largest change of a slot in lengths of that slot, above 0.
        target: the probability of the new answer with which a prompt of the fact has been won, and counts no more; 0 to
            1. Once all have, the steps may stop.
        drift: the mean KL divergence of the other prompts, in nats, up to which they may stop; at least 0.
        at_once: other prompts that count in one step, at least 1: more give a steadier gradient, and slower steps.
        seed: of the draw of other facts, and of the order in which their prompts take turns.
        neighbours: how many other facts' answers should stay the same.
        max_share: neurons held by more than this share of the relation's facts are left out, above 0, at most 1.
        neurons: of the others, only so many, those with the highest mean scores, at least 1; None takes all.
    """

    method: ClassVar[str] = "optimize"

    steps: int = 60
    learning_rate: float = 0.4
    keep: float = 16.0
    bound: float = 20.0
    target: float = 0.5
    drift: float = 0.02
    at_once: int = 16
    seed: int = 0
    neighbours: Neighbours = field(default_factory=Neighbours)
    max_share: float = 1.0
    neurons: int | None = None

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: if a setting is out of its range.
        """
        for name, allowed, must in (
            ("steps", self.steps >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "a number above 0"),
            ("keep", 0 <= self.keep < math.inf, "a number of at least 0"),
            ("bound", 0 < self.bound < math.inf, "a number above 0"),
            ("target", 0 <= self.target < 1, "a probability of at least 0, under 1"),
            ("drift", self.drift >= 0, "a number of at least 0"),
            ("at_once", self.at_once >= 1, "at least 1"),
        ):
            _refuse(name, getattr(self, name), unless=allowed, must=must)
        for name in ("steps", "learning_rate", "keep", "bound", "at_once"):
            _refuse(name, getattr(self, name), unless=getattr(self, name) <= _MOST, must=f"at most {_MOST:,}")
        check_seed(self.seed)
        _check_choice_of_neurons(self.max_share, self.neurons)

    def as_trial(self) -> dict[str, Any]:
        """The settings as a trial is stored with them: of those that few change, only what is not the default."""
        usual = OptimizeSettings()
        rare = ("learning_rate", "bound", "target", "drift", "at_once", "seed")
        changed = {name: getattr(self, name) for name in rare if getattr(self, name) != getattr(usual, name)}
        if self.neighbours != usual.neighbours:
            kept = self.neighbours
            changed |= {"neighbours": kept.relation, "others": kept.elsewhere, "prompts": kept.prompts}
        # The trial has a seed of its own.
        if "seed" in changed:
            changed["order_seed"] = changed.pop("seed")
        own = {"keep": self.keep, "steps": self.steps, "max_share": self.max_share, "neurons": self.neurons}
        return {"method": self.method, **own, **changed}


EditSettings = UpdateSettings | OptimizeSettings
"""A way to give a fact a new answer, with all its settings."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What an edit is measured on.

    Attributes:
        sample: facts of other relations to measure, drawn at random; at least 1.
        seed: of the draw, of the control's neurons and of the intervals.
        generate: also continue the fact's prompts by so many tokens at most, before and after; 0 does not.
    """

    sample: int = 300
    seed: int = 0
    generate: int = 0

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: if a number is out of its range.
        """
        _refuse("sample", self.sample, unless=self.sample >= 1, must="at least 1")
        _refuse("generate", self.generate, unless=self.generate >= 0, must="at least 1, or 0 for nothing")
        check_seed(self.seed)

    def as_json(self) -> dict[str, Any]:
        """The settings as an evaluation is stored with them."""
        found = {"sample": self.sample, "seed": self.seed}
        return found | ({"generate": self.generate} if self.generate else {})


@dataclass(frozen=True)
class TrialSettings:
    """What a trial edits and measures.

    Attributes:
        facts: facts to edit, at least 1; all that there are, if there are fewer.
        intra: facts of the edited relations to measure, at least 1; `inter`: of other relations.
        relations: keys of the relations whose facts are edited; none stands for three quarters of those that have facts
            with knowledge neurons, drawn at random.
        seed: of all that is drawn.
        share: where methods are compared, the share of the other facts, from 0 to 1, that plans may look at: to keep
            their answers, or to count their keys. All others are measured, and no plan sees them.
        known: where methods are compared, edit only facts of whose prompts, held-out ones included, the model answers
            at least this share, from 0 to 1; 0 takes all facts.
        generate: where methods are compared, also continue the edited facts' prompts by so many tokens at most.
    """

    facts: int = 100
    intra: int = 50
    inter: int = 50
    relations: Sequence[str] = ()
    seed: int = 0
    share: float = 0.5
    known: float = 0.0
    generate: int = 0

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: for a number under 1, no share, or no seed.
        """
        check_known(self.known)
        _refuse("share", self.share, unless=0 <= self.share < 1, must="a number of at least 0, under 1")
        _refuse("generate", self.generate, unless=self.generate >= 0, must="at least 1, or 0 for nothing")
        for name in ("facts", "intra", "inter"):
            number = getattr(self, name)
            _refuse(name, number, unless=number >= 1, must="at least 1")
        check_seed(self.seed)

    def as_json(self) -> dict[str, Any]:
        """The settings as a trial is stored with them."""
        numbers = {"facts": self.facts, "intra": self.intra, "inter": self.inter, "seed": self.seed}
        return {**numbers, "relations": sorted(set(self.relations))}
