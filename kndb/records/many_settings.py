"""Settings of edits of many facts at once, by the methods that have a layer's keys in view.

Each refuses what can't be when it is made. Where a setting is None, its default depends on the model and stands in
`kndb.editing.many.methods`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, Literal, get_args

from ..advice import option
from ..errors import UsageError
from .edit_settings import check_seed

Token = Literal["subject", "answer"]
"""Which token's output an edit changes: the subject's last one, or the one where the answer is read."""
Averaging = Literal["mean", "each"]
"""Whether a fact has one key, the mean over its prompts, or one for each prompt."""


def _refuse(name: str, value: object, *, unless: bool, must: str) -> None:
    if not unless:
        raise UsageError(f"{option(name)} must be {must} (got {value})")


def _check_positive(name: str, value: float) -> None:
    _refuse(name, value, unless=0 < value < math.inf, must="a number above 0")


def _check_not_negative(name: str, value: float) -> None:
    _refuse(name, value, unless=0 <= value < math.inf, must="a number of at least 0")


def _check_layers(layers: tuple[int, ...] | None) -> None:
    """Refuses layers that don't rise."""
    if layers is None:
        return
    rising = bool(layers) and all(later > earlier for earlier, later in pairwise(layers))
    _refuse("layers", layers, unless=rising and layers[0] >= 0, must="numbers of layers that rise, at least one")


def _check_one_layer(layers: tuple[int, ...] | None) -> None:
    """Refuses several layers, of a method for one."""
    _check_layers(layers)
    if layers is not None:
        _refuse("layers", ", ".join(map(str, layers)), unless=len(layers) == 1, must="one layer")


@dataclass(frozen=True)
class TargetSettings:
    """How the output z at which a new answer wins is found: Adam steps on what is added to a layer's output.

    Published weights of the essence are 0.0625, with "{subject} is a" alone; on lab-bert, 1 with three prompts of each
    other fact of the subject lets fewer other answers change for hardly a new answer less.

    Attributes:
        steps: at most, at least 1.
        learning_rate: Adam's, in lengths of the layer's output over √d, above 0.
        essence: weight of KL(before ‖ after) on "{subject} is a", and on prompts of other facts of the subject where
            there are some; at least 0.
        decay: weight of ‖δ‖² ÷ ‖h‖², at least 0.
        bound: the largest ‖δ‖ in lengths of the layer's output, above 0.
        probability: of the new answer at each prompt with which a fact needs no more steps; 0 to 1.
        at_once: prompts of a fact that count in one step, the next ones in the next; at least 1.
    """

    steps: int = 25
    learning_rate: float = 0.5
    essence: float = 1.0
    decay: float = 0.5
    bound: float = 0.75
    probability: float = 0.95
    at_once: int = 4

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: if a setting is out of its range.
        """
        _refuse("target_steps", self.steps, unless=self.steps >= 1, must="at least 1")
        _check_positive("target_learning_rate", self.learning_rate)
        _check_not_negative("essence", self.essence)
        _check_not_negative("target_decay", self.decay)
        _check_positive("target_bound", self.bound)
        _refuse(
            "target_probability",
            self.probability,
            unless=0 <= self.probability < 1,
            must="a number of at least 0, under 1",
        )
        _refuse("target_at_once", self.at_once, unless=self.at_once >= 1, must="at least 1")


@dataclass(frozen=True)
class _KeySettings:
    """What methods that solve for a change of some layers have in common.

    Attributes:
        layers: which layers change, in order; None takes the model's default.
        token: which token's output changes.
        keys: one key for a fact, or one for each of its prompts.
        rounds: how often targets are looked for and spread, each round from where the one before it ended; at least 1.
        target: how the targets are found.
        ridge: what is added to the covariance's diagonal, in parts of its median entry, that of idle neurons aside; at
            least 0.
    """

    layers: tuple[int, ...] | None = None
    token: Token | None = None
    keys: Averaging = "mean"
    rounds: int = 1
    target: TargetSettings = field(default_factory=TargetSettings)
    ridge: float = 0.01

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: if a setting is out of its range.
        """
        _check_layers(self.layers)
        if self.token is not None:
            _refuse("token", self.token, unless=self.token in get_args(Token), must="subject or answer")
        _refuse("keys", self.keys, unless=self.keys in get_args(Averaging), must="mean or each")
        _refuse("rounds", self.rounds, unless=self.rounds >= 1, must="at least 1")
        _check_not_negative("ridge", self.ridge)


@dataclass(frozen=True)
class RomeSettings(_KeySettings):
    """ROME: one fact, one layer, its new output exactly."""

    method: ClassVar[str] = "rome"

    def __post_init__(self) -> None:
        """As `_KeySettings`."""
        super().__post_init__()
        _check_one_layer(self.layers)


@dataclass(frozen=True)
class MemitSettings(_KeySettings):
    """MEMIT: many facts, least squares against what other keys give.

    Attributes:
        preserve: λ, the weight of what other keys give, in parts of the mean of kᵀC⁻¹k over the edited keys; above 0.
            A key that has nothing in common with others gets about 1 ÷ (1 + this) of what it lacks.
    """

    method: ClassVar[str] = "memit"

    rounds: int = 2
    preserve: float = 0.3

    def __post_init__(self) -> None:
        """As `_KeySettings`."""
        super().__post_init__()
        _check_positive("preserve", self.preserve)


@dataclass(frozen=True)
class AlphaEditSettings(_KeySettings):
    """AlphaEdit: as MEMIT, but in directions alone that other keys hardly have.

    Attributes:
        threshold: eigenvalues of the covariance under this part of its median diagonal entry count as nothing; above 0.
        damping: weight of the change's own size, in parts of the mean squared length of what the edited keys have in
            the null space; above 0.
    """

    method: ClassVar[str] = "alphaedit"

    threshold: float = 0.1
    damping: float = 0.01

    def __post_init__(self) -> None:
        """As `_KeySettings`."""
        super().__post_init__()
        _check_positive("threshold", self.threshold)
        _check_positive("damping", self.damping)


@dataclass(frozen=True)
class EmmetSettings(_KeySettings):
    """EMMET: many facts, their new outputs exactly, with the least change for other keys."""

    method: ClassVar[str] = "emmet"

    slack: float = 0.0
    """ε, what may be missing from equality, in parts of the mean of kᵀC⁻¹k; at least 0."""

    def __post_init__(self) -> None:
        """As `_KeySettings`."""
        super().__post_init__()
        _check_not_negative("slack", self.slack)


@dataclass(frozen=True)
class FinetuneSettings:
    """FT-M: gradient steps on one layer's down projection, the loss on the answer's tokens alone.

    Attributes:
        layers: the layer, as the only one; None takes the model's default.
        steps: passes over all facts at most, at least 1.
        learning_rate: Adam's, in mean absolute values of the matrix, above 0.
        at_once: prompts of one step, at least 1.
        probability: of the new answer at which a prompt counts no more; 0 to 1.
        bound: the largest change of an element in mean absolute values of the matrix, above 0; None for none.
        seed: of the order of the prompts.
    """

    method: ClassVar[str] = "finetune"

    layers: tuple[int, ...] | None = None
    steps: int = 25
    learning_rate: float = 0.05
    at_once: int = 64
    probability: float = 0.95
    bound: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: if a setting is out of its range.
        """
        _check_one_layer(self.layers)
        _refuse("steps", self.steps, unless=self.steps >= 1, must="at least 1")
        _check_positive("learning_rate", self.learning_rate)
        _refuse("at_once", self.at_once, unless=self.at_once >= 1, must="at least 1")
        _refuse(
            "probability", self.probability, unless=0 <= self.probability < 1, must="a number of at least 0, under 1"
        )
        if self.bound is not None:
            _check_positive("bound", self.bound)
        check_seed(self.seed)


KeySettings = RomeSettings | MemitSettings | AlphaEditSettings | EmmetSettings
ManySettings = KeySettings | FinetuneSettings
SETTINGS: Mapping[str, type[ManySettings]] = {
    one.method: one for one in (RomeSettings, MemitSettings, AlphaEditSettings, EmmetSettings, FinetuneSettings)
}
"""By the method's name."""


@dataclass(frozen=True)
class LayerChoice:
    """How layers and token are chosen.

    Attributes:
        validation: the share of the facts that is tried, above 0 to 1; at least one fact is.
        seed: of the draw.
    """

    validation: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses a share out of its range.

        Raises:
            UsageError: for one.
        """
        if not 0 < self.validation <= 1:
            raise UsageError(f"{option('validation')} must be a number above 0, at most 1 (got {self.validation})")
