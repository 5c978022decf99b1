"""Joint planning of many facts: its settings, its recipe, and how it went.

A recipe of a thousand facts is a long text in the edit's object: facts are written as columns, facts that are kept as
runs of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, TypeVar

from ..advice import option
from ..errors import UsageError
from .edit_settings import check_seed
from .json_values import (
    JsonObject,
    Parse,
    any_neurons,
    as_json,
    flag,
    list_of,
    names,
    number,
    or_null,
    refused,
    said,
    text,
    whole,
)
from .merges import MergedFrom, check_merged_from, edits_in_words
from .models import Neuron
from .plan_reports import FactReport
from .recipe_facts import facts_in_words

_Number = TypeVar("_Number", int, float)
SCOPES = ("neurons", "layers")
"""What joint planning may change: see `TogetherSettings`."""


DEEP = 12
"""So many layers run in a step make a model a deep one, to which other settings are fitted."""


@dataclass(frozen=True)
class Fitted:
    """What settings are where none are asked for: of shallow models or of deep ones.

    Attributes:
        first_step, patience, keep, keep_last, ridge, edited_at_once, kept_at_once: of `TogetherSettings`.
        steps: at most, at least so many; `turns`: and as many as give each edited prompt so many turns.
    """

    first_step: float
    patience: int
    keep: float
    keep_last: float
    ridge: float
    edited_at_once: int
    kept_at_once: int
    steps: int
    turns: int


FITTED = (
    Fitted(0.005, 2, 32.0, 32.0, 0.03, edited_at_once=64, kept_at_once=64, steps=300, turns=12),
    Fitted(0.003, 1, 8.0, 48.0, 0.01, edited_at_once=24, kept_at_once=40, steps=200, turns=6),
)
"""Of shallow models and of deep ones.

The former were chosen on the lab models, of four layers, the latter on SmolLM2-135M, of whose 30 layers a step runs 25;
the page on editing methods says what they reach. Of a hundred facts' prompts, 300 steps are 19 turns; of a thousand
facts', a single one, in which one answer in nine wins.
"""


def _usual(layers: int) -> Fitted:
    return FITTED[layers >= DEEP]


def fitted_in_words(name: str) -> str:
    """What a setting is where none is asked for, such as `32, and 8 where a step runs 12 layers or more`."""
    shallow, deep = (f"{getattr(one, name):g}" for one in FITTED)
    return shallow if shallow == deep else f"{shallow}, and {deep} where a step runs {DEEP} layers or more"


_BEFORE = {"patience": 1}
"""How steps were taken before there was a setting for it: so are those of a recipe that does not say."""


def _counts(value: float) -> bool:
    return value >= 1


def _at_least_0(value: float) -> bool:
    return 0 <= value < math.inf


def _above_0(value: float) -> bool:
    return 0 < value < math.inf


def settled(setting: _Number | None) -> _Number:
    """A setting that was fitted."""
    if setting is None:
        raise AssertionError("steps begin with settings that are fitted")
    return setting


@dataclass(frozen=True)
class TogetherSettings:
    """How the value slots of many facts are optimised together.

    What is None is fitted to the model, by how many layers a step runs; recipes have what it was.

    Attributes:
        scope: `neurons`: the value slots of the facts' knowledge neurons. `layers`: all value slots of the layers that
            hold them.
        steps: gradient steps at most, at least 1; None takes as many as `most_steps` says.
        learning_rate: of the first step, in lengths of a mean slot: about how far a slot moves in it; at least 0. It
            falls in a straight line to nearly 0 at the last step. 0 fits it to the model, by `first_step`; what it was
            is in the outcome.
        first_step: how far the first step moves the outputs of the changed layers on edited prompts, in lengths of
            these outputs, where the learning rate is fitted; above 0. What is too much changes other answers for
            nothing, what is too little needs more steps. Rates in lengths of slots differ tenfold between models for
            the same move.
        patience: how much later an edited prompt that is won comes back than one that is not, at least 1. 1 takes all
            in turn. What is won moves nothing, so that steps are best spent on the others.
        keep: β, the weight of the kept prompts' divergence, at least 0; in the first half of the steps. `keep_last`: β
            in the last sixth; between, it changes in a straight line. Answers that are lost by then count again, so
            that the last steps give others back what winning took more than it needed.
        decay: γ, the weight of the mean (‖Δv‖ ÷ ‖v‖)² over slots, at least 0.
        ridge: λ, above 0: how little steps heed what neurons do on kept prompts; see `slot_steps`. Less changes other
            answers less, and takes more steps.
        bound: c, the largest change of a slot in lengths of that slot, above 0.
        target: the probability of a new answer's token with which it counts as won, and no more in the loss; 0 to 1.
        success: the share of edited prompts that are to be won, 0 to 1; `drift`: the mean KL divergence of the prompts
            of the validation facts, in nats, at least 0. Once both are reached, the steps stop.
        edited_at_once: edited prompts that count in one step; `kept_at_once`: kept ones; both at least 1.
        check: steps between measurements of success and drift, at least 1.
        validation: the share of the kept facts whose prompts are only measured, 0 to 1, 1 left out.
        seed: of the order of prompts, and of the draw of validation facts.
    """

    method: ClassVar[str] = "together"

    scope: str = "layers"
    steps: int | None = None
    learning_rate: float = 0.0
    first_step: float | None = None
    patience: int | None = None
    keep: float | None = None
    keep_last: float | None = None
    decay: float = 0.0
    ridge: float | None = None
    bound: float = 20.0
    target: float = 0.5
    success: float = 0.99
    drift: float = 0.01
    edited_at_once: int | None = None
    kept_at_once: int | None = None
    check: int = 50
    validation: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: if a setting is out of its range.
        """
        above, least, share = "a number above 0", "a number of at least 0", "a number from 0 to 1"
        below, counted = "a number of at least 0, under 1", "at least 1"
        for name, allows, must in (
            ("scope", lambda value: value in SCOPES, f"one of {', '.join(SCOPES)}"),
            ("steps", _counts, counted),
            ("learning_rate", _at_least_0, least),
            ("first_step", _above_0, above),
            ("patience", _counts, counted),
            ("keep", _at_least_0, least),
            ("keep_last", _at_least_0, least),
            ("decay", _at_least_0, least),
            ("ridge", _above_0, above),
            ("bound", _above_0, above),
            ("target", lambda value: 0 <= value < 1, below),
            ("success", lambda value: 0 <= value <= 1, share),
            ("drift", _at_least_0, least),
            ("edited_at_once", _counts, counted),
            ("kept_at_once", _counts, counted),
            ("check", _counts, counted),
            ("validation", lambda value: 0 <= value < 1, below),
        ):
            value = getattr(self, name)
            if value is not None and not allows(value):
                raise UsageError(f"{option(name)} must be {must} (got {value})")
        check_seed(self.seed)

    def fitted(self, layers: int) -> TogetherSettings:
        """The settings of steps that run so many layers, with nothing left to fit.

        A β that is asked for is that of the last steps, too, unless another is asked for.
        """
        usual = dict(vars(_usual(layers)))
        if self.keep is not None:
            usual["keep_last"] = self.keep
        return replace(
            self, **{name: usual[name] for name, value in vars(self).items() if value is None and name != "steps"}
        )

    def keep_at(self, taken: int, most: int) -> float:
        """β of fitted settings in the step after so many, of so many at most."""
        first, last = settled(self.keep), settled(self.keep_last)
        return first + (last - first) * min(1.0, max(0.0, 3 * taken / most - 1.5))

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> TogetherSettings:
        """Reads what `as_json` wrote; what an earlier kndb did not write has its default, or is as it was then.

        Raises:
            TypeError: if a value is of another type, or a setting is unknown.
            UsageError: if a setting is out of its range.
        """
        unknown = set(values) - set(_PARSE)
        if unknown:
            raise TypeError(f"unknown: {', '.join(sorted(unknown))}")
        found: dict[str, Any] = {name: _PARSE[name](value) for name, value in values.items()}
        return cls(**{**_BEFORE, **found})

    def most_steps(self, prompts: int, layers: int) -> int:
        """Gradient steps at most for so many edited prompts, where a step runs so many layers."""
        usual = _usual(layers)
        at_once = self.edited_at_once or usual.edited_at_once
        return self.steps or max(usual.steps, math.ceil(usual.turns * prompts / at_once))

    def as_json(self) -> dict[str, Any]:
        """The settings as a recipe, a trial and a file of steps keep them."""
        return dict(vars(self))


_PARSE: Mapping[str, Parse] = {
    name: {"str": text, "int": whole, "float": number, "int | None": or_null(whole), "float | None": or_null(number)}[
        str(one.type)
    ]
    for name, one in ((one.name, one) for one in fields(TogetherSettings))
}


@dataclass(frozen=True)
class KeptFacts:
    """How many other facts a joint plan keeps as they are; all that there are, if there are fewer.

    Attributes:
        neighbours: facts of the edited relations, at least 0; `others`: facts of other relations, at least 0.
        prompts: how many prompts of each of them count, other ones for other facts, at least 1; None takes all.
    """

    neighbours: int = 1000
    others: int = 500
    prompts: int | None = 4

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: for a number out of its range.
        """
        for name, least in (("neighbours", 0), ("others", 0), ("prompts", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{option(name)} must be at least {least} (got {value})")


@dataclass(frozen=True)
class PlannedFact:
    """A fact of a joint plan, by its number in the store where it was planned, and by name.

    Attributes:
        id, relation, subject, object: the fact.
        to: its new answer; `tokens`: that answer's tokens where the fact's first prompt asks for them.
        old_answer: the answer that the model gave; None if nobody asked.
    """

    id: int
    relation: str
    subject: str | None
    object: str
    to: str
    tokens: tuple[int, ...]
    old_answer: str | None = None


_COLUMNS: Mapping[str, Parse] = {
    "id": whole,
    "relation": text,
    "subject": or_null(text),
    "object": text,
    "to": text,
    "tokens": list_of(whole),
    "old_answer": or_null(text),
}


def _facts(value: object) -> tuple[PlannedFact, ...]:
    """Facts from an object of columns, as many entries in each: a name is written once for all of them."""
    if not isinstance(value, Mapping) or set(value) != set(_COLUMNS):
        raise TypeError(value)
    columns = {name: list_of(parse)(value[name]) for name, parse in _COLUMNS.items()}
    rows = zip(*columns.values(), strict=True)
    return tuple(PlannedFact(**dict(zip(columns, row, strict=True))) for row in rows) or refused(value)


def _columns(facts: Sequence[PlannedFact]) -> dict[str, list[object]]:
    found = {name: [getattr(fact, name) for fact in facts] for name in _COLUMNS}
    return found | {"tokens": [list(tokens) for tokens in found["tokens"]]}


_MOST_KEPT = 1_000_000
"""Kept facts that a recipe may name."""


def parse_runs(value: object) -> tuple[int, ...]:
    """Rising numbers from their runs, `3-17,20`; a recipe may be a stranger's, and a few letters mean any number."""
    found: list[int] = []
    for run in text(value).split(",") if value else ():
        first, _, last = run.partition("-")
        numbers = range(whole(int(first)), whole(int(last or first)) + 1)
        if len(found) + len(numbers) > _MOST_KEPT:
            raise ValueError(value)
        found += numbers
    return tuple(found) if written_as_runs(found) == value else refused(value)


def written_as_runs(numbers: Iterable[int]) -> str:
    """Rising numbers as runs, `3-17,20`: a thousand facts drawn from a list of two thousand take three kilobytes."""
    runs: list[list[int]] = []
    for one in numbers:
        if runs and one == runs[-1][1] + 1:
            runs[-1][1] = one
        else:
            runs.append([one, one])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _how(value: object) -> dict[str, object]:
    """Settings as they were written, if they can be read."""
    if not isinstance(value, Mapping):
        raise TypeError(value)
    TogetherSettings.parse(value)
    return dict(value)


@dataclass(frozen=True, kw_only=True)
class TogetherOutcome(JsonObject):
    """How joint planning went; the measures are those of the changes found, before they are rounded.

    Attributes:
        steps: gradient steps taken.
        reached: whether they stopped because success and drift were reached.
        success: share of edited prompts whose new answer's tokens are all the most probable ones.
        loss: mean −log p over the tokens of the new answers, in nats.
        drift: mean KL divergence over the validation facts' prompts, in nats.
        largest_change: the largest ‖Δv‖ ÷ ‖v‖ of a slot.
        learning_rate: that of the first step, as asked for or fitted; None in recipes of an earlier kndb.
    """

    steps: int = field(metadata=said(whole))
    reached: bool = field(metadata=said(flag))
    success: float = field(metadata=said(number))
    loss: float = field(metadata=said(number))
    drift: float = field(metadata=said(number))
    largest_change: float = field(metadata=said(number))
    learning_rate: float | None = field(default=None, metadata=said(number))


@dataclass(frozen=True, kw_only=True)
class TogetherRecipe(JsonObject):
    """The recipe of `kndb edit optimize --together`.

    Attributes:
        facts: the facts, at least one, with their new answers.
        refinement: whose knowledge neurons.
        layers: with scope `layers`, those whose value slots change; else none.
        neurons: with scope `neurons`, those whose value slots change; else none.
        left_out: how many of the facts' knowledge neurons lie in layers below, and are left out.
        kept_facts: the facts whose answers were to stay; `prompts_each`: so many prompts of each, None for all.
        how: the settings as JSON; see `TogetherSettings`.
        outcome: how the steps went.
        report: what the plan was found to do.
        rebased_from: the edit that this one was recomputed from.
        merged_from: of a merge, the edits that it is of.
    """

    kind: ClassVar[str] = "together"

    facts: tuple[PlannedFact, ...] = field(metadata=said(_facts, _columns))
    refinement: int | None = field(default=None, metadata=said(whole))
    layers: tuple[int, ...] = field(metadata=said(list_of(whole), list))
    neurons: tuple[Neuron, ...] = field(metadata=said(any_neurons, names))
    left_out: int | None = field(default=None, metadata=said(whole))
    kept_facts: tuple[int, ...] = field(metadata=said(parse_runs, written_as_runs))
    prompts_each: int | None = field(metadata=said(or_null(whole)))
    how: Mapping[str, object] = field(metadata=said(_how, dict, key="settings"))
    outcome: TogetherOutcome | None = field(default=None, metadata=said(TogetherOutcome.parse, as_json))
    report: FactReport | None = field(default=None, metadata=said(FactReport.parse, as_json))
    rebased_from: int | None = field(default=None, metadata=said(whole))
    merged_from: tuple[MergedFrom, ...] | None = field(
        default=None, metadata=said(list_of(MergedFrom.parse), lambda sources: [one.as_json() for one in sources])
    )

    def __post_init__(self) -> None:
        """Refuses a recipe whose slots are not those of its scope, whose layers don't rise, or that no merge can have.

        Raises:
            UsageError: for one.
        """
        chosen, other = (self.layers, self.neurons) if self.settings.scope == "layers" else (self.neurons, self.layers)
        if not chosen or other:
            raise UsageError(f"{self.settings.scope} must say what changes, and nothing else")
        if list(self.layers) != sorted(set(self.layers)):
            raise UsageError("layers must rise")
        if self.merged_from is not None:
            check_merged_from(self.merged_from, [fact.id for fact in self.facts])

    @property
    def settings(self) -> TogetherSettings:
        """The settings that the recipe was made from."""
        return TogetherSettings.parse(self.how)

    @property
    def seed(self) -> int:
        """The settings' seed."""
        return self.settings.seed

    @property
    def changed(self) -> tuple[Neuron, ...]:
        """Neurons whose slots, or with scope `layers` all of whose layers' slots, change."""
        return self.neurons or tuple(Neuron(layer, 0) for layer in self.layers)

    @property
    def title(self) -> str:
        """What the edit is for, in one line."""
        merge = "" if self.merged_from is None else f"merge of {edits_in_words(self.merged_from)}: "
        return merge + facts_in_words(fact.relation for fact in self.facts)
