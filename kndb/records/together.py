"""Joint planning of many facts: its settings, its recipe, and how it went.

A recipe of a thousand facts is a long text in the edit's object: facts are written as columns, facts that are kept as
runs of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

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

SCOPES = ("neurons", "layers")
"""What joint planning may change: see `TogetherSettings`."""


AT_ONCE, AT_ONCE_DEEP, DEEP = 64, 24, 12
"""How many edited and kept prompts count in a step by default; of a model of whose layers a step runs so many, fewer.

On SmolLM2-135M, of whose 30 layers a step runs 25, 300 steps of 24 and 24 prompts take about 15 minutes of one core, of
64 and 64 more than half an hour; lab-gpt2 wins 95 % of its prompts with 32 and 32, all with 64 and 64.
"""

_BEFORE = {"patience": 1}
"""How steps were taken before there was a setting for it: so are those of a recipe that does not say."""


LEAST_STEPS, TURNS = 300, 12
"""Gradient steps at most where none are asked for: at least so many, and so many turns of each edited prompt. Of a
hundred facts' prompts, 300 steps are 19 turns; of a thousand facts', a single one, in which one answer in nine wins."""


@dataclass(frozen=True)
class TogetherSettings:
    """How the value slots of many facts are optimised together.

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
        keep: β, the weight of the kept prompts' divergence, at least 0.
        decay: γ, the weight of the mean (‖Δv‖ ÷ ‖v‖)² over slots, at least 0.
        ridge: λ, above 0: how little steps heed what neurons do on kept prompts; see `slot_steps`. Less changes other
            answers less, and takes more steps.
        bound: c, the largest change of a slot in lengths of that slot, above 0.
        target: the probability of a new answer's token with which it counts as won, and no more in the loss; 0 to 1.
        success: the share of edited prompts that are to be won, 0 to 1; `drift`: the mean KL divergence of the prompts
            of the validation facts, in nats, at least 0. Once both are reached, the steps stop.
        edited_at_once: edited prompts that count in one step; `kept_at_once`: kept ones. 0 fits them to the model:
            `AT_ONCE`, and `AT_ONCE_DEEP` where a step runs `DEEP` layers or more.
        check: steps between measurements of success and drift, at least 1.
        validation: the share of the kept facts whose prompts are only measured, 0 to 1, 1 left out.
        seed: of the order of prompts, and of the draw of validation facts.
    """

    method: ClassVar[str] = "together"

    scope: str = "layers"
    steps: int | None = None
    learning_rate: float = 0.0
    first_step: float = 0.005
    patience: int = 2
    keep: float = 32.0
    decay: float = 0.0
    ridge: float = 0.03
    bound: float = 20.0
    target: float = 0.5
    success: float = 0.99
    drift: float = 0.01
    edited_at_once: int = 0
    kept_at_once: int = 0
    check: int = 50
    validation: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: if a setting is out of its range.
        """
        above, least, share = "a number above 0", "a number of at least 0", "a number from 0 to 1"
        below = "a number of at least 0, under 1"
        for name, allowed, must in (
            ("scope", self.scope in SCOPES, f"one of {', '.join(SCOPES)}"),
            ("steps", self.steps is None or self.steps >= 1, "at least 1"),
            ("learning_rate", 0 <= self.learning_rate < math.inf, least),
            ("first_step", 0 < self.first_step < math.inf, above),
            ("patience", self.patience >= 1, "at least 1"),
            ("keep", 0 <= self.keep < math.inf, least),
            ("decay", 0 <= self.decay < math.inf, least),
            ("ridge", 0 < self.ridge < math.inf, above),
            ("bound", 0 < self.bound < math.inf, above),
            ("target", 0 <= self.target < 1, below),
            ("success", 0 <= self.success <= 1, share),
            ("drift", 0 <= self.drift < math.inf, least),
            ("edited_at_once", self.edited_at_once >= 0, "at least 0"),
            ("kept_at_once", self.kept_at_once >= 0, "at least 0"),
            ("check", self.check >= 1, "at least 1"),
            ("validation", 0 <= self.validation < 1, below),
        ):
            if not allowed:
                raise UsageError(f"{option(name)} must be {must} (got {getattr(self, name)})")
        check_seed(self.seed)

    def fitted(self, layers: int) -> TogetherSettings:
        """The settings of steps that run so many layers: how many prompts count in one is said in numbers."""
        at_once = AT_ONCE_DEEP if layers >= DEEP else AT_ONCE
        return replace(self, edited_at_once=self.edited_at_once or at_once, kept_at_once=self.kept_at_once or at_once)

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> TogetherSettings:
        """Reads what `as_json` wrote; what an earlier kndb did not write has its default, or is as it was then.

        Raises:
            TypeError: if a value is of another type, or a setting is unknown.
            UsageError: if a setting is out of its range.
        """
        kinds = {one.name: type(one.default) for one in fields(cls)}
        parse: Mapping[type, Parse] = {str: text, int: whole, float: number, type(None): or_null(whole)}
        unknown = set(values) - set(kinds)
        if unknown:
            raise TypeError(f"unknown: {', '.join(sorted(unknown))}")
        found: dict[str, Any] = {name: parse[kinds[name]](value) for name, value in values.items()}
        return cls(**{**_BEFORE, **found})

    def most_steps(self, prompts: int) -> int:
        """Gradient steps at most for so many edited prompts: where none were asked for, `TURNS` turns of each."""
        return self.steps or max(LEAST_STEPS, -(-TURNS * prompts // (self.edited_at_once or AT_ONCE)))

    def as_json(self) -> dict[str, Any]:
        """The settings as a recipe, a trial and a file of steps keep them."""
        return dict(vars(self))


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
