"""Recipes: what an edit is for and how it was computed, a type for each kind of edit.

A recipe is stored as a JSON object, in the edit's object file and in the store. `read_recipe` makes a value of it where
it enters, and everything else asks that value. Invariants: `as_json` gives back the very object that was read, with the
keys that this kndb does not know; keys that earlier versions did not write may be missing. What can't be read is an
`OtherRecipe`, which holds the JSON as it is: the bytes of such an edit are as good as any, so it can be applied and
taken back, but neither measured nor recomputed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, ClassVar, TypeVar

from ..errors import EditError, UsageError
from .edit_settings import RULES, Neighbours, OptimizeSettings
from .group_recipes import EditedFact, GroupRecipe
from .json_values import (
    JsonObject,
    any_neurons,
    as_json,
    by_neuron,
    count,
    flag,
    list_of,
    named,
    names,
    number,
    or_null,
    refused,
    said,
    some_neurons,
    text,
    whole,
)
from .many_recipes import MANY_RECIPES, ManyRecipe
from .models import Neuron
from .plan_reports import FactReport, PlanReport
from .recipe_facts import RecipeFact as RecipeFact
from .together import TogetherRecipe


class Unsaid(Enum):
    """What a recipe of an earlier version does not say, where null says something else."""

    UNSAID = "unsaid"


UNSAID = Unsaid.UNSAID


def _sign(value: object) -> int:
    return whole(value) if value in (1, -1) else refused(value)


def _rule(value: object) -> str:
    return text(value) if value in RULES else refused(value)


def _range(value: object) -> tuple[float, ...]:
    return tuple(map(number, value)) if isinstance(value, list) and len(value) == 2 else refused(value)


@dataclass(frozen=True, kw_only=True)
class _FactRecipe(JsonObject):
    """What recipes of a fact's new answer have in common.

    Attributes:
        fact, to, old_answer: the fact, its new answer and the one that the model gave.
        old_token, new_token: the two answers' tokens.
        max_share: neurons that more of the relation's facts hold were left out.
        refinement: whose knowledge neurons.
        neurons: whose value slots change.
        neurons_left_out: the fact's other knowledge neurons.
        most_neurons: how many were wanted at most, if that was said.
        least_shared: the lowest and highest share of the neurons, where all are held by more than `max_share`.
    """

    fact: RecipeFact | None = field(default=None, metadata=said(RecipeFact.parse, as_json))
    to: str | None = field(default=None, metadata=said(text))
    old_answer: str | None = field(default=None, metadata=said(text))
    old_token: int = field(metadata=said(count))
    new_token: int = field(metadata=said(count))
    max_share: float | None = field(default=None, metadata=said(number))
    refinement: int | None = field(default=None, metadata=said(whole))
    neurons: tuple[Neuron, ...] = field(metadata=said(some_neurons, names))
    neurons_left_out: tuple[Neuron, ...] | None = field(default=None, metadata=said(any_neurons, names))
    most_neurons: int | None = field(default=None, metadata=said(whole))
    least_shared: tuple[float, float] | None = field(default=None, metadata=said(_range, list))

    @property
    def title(self) -> str:
        """What the edit is for, in one line."""
        if self.fact is None:
            return ""
        return f"{self.fact.subject or '(not named)'} · {self.fact.relation} · {self.old_answer} → {self.to}"


@dataclass(frozen=True, kw_only=True)
class UpdateRecipe(_FactRecipe):
    """The recipe of `kndb edit update`.

    Attributes:
        rule: `gradient`, `output` or `paper`; None before there was a choice, which means `paper`.
        lambda_old, lambda_new: λ₁ and λ₂; `lambda_fitted`: whether λ₂ was fitted to the fact's prompts.
        weights: of rule `gradient`, for each slot; `kept_facts`, `prompts_each`: on which other facts' prompts they
            were weighed; `turned_at`: the λ₂ at which the directions were turned, if any was looked for.
        signs: of rule `output`, for each slot: 1 or −1.
        negative_neurons, cosine_to_output: of rule `paper`, the neurons that are negative on the fact's prompts, and
            the cosine of the new answer's word embedding to its output direction, None for embeddings of another width.
        report: what the plan was found to do.
        rebased_from: the edit that this one was recomputed from.
    """

    kind: ClassVar[str] = "update"

    rule: str | None = field(default=None, metadata=said(_rule))
    lambda_old: float = field(metadata=said(number))
    lambda_new: float = field(metadata=said(number))
    lambda_fitted: bool | None = field(default=None, metadata=said(flag))
    signs: Mapping[Neuron, int] | None = field(default=None, metadata=said(by_neuron(_sign), named))
    weights: Mapping[Neuron, float] | None = field(default=None, metadata=said(by_neuron(number), named))
    kept_facts: tuple[int, ...] | None = field(default=None, metadata=said(list_of(whole), list))
    prompts_each: int | Unsaid | None = field(default=UNSAID, metadata=said(or_null(whole)))
    negative_neurons: tuple[Neuron, ...] | None = field(default=None, metadata=said(any_neurons, names))
    cosine_to_output: float | Unsaid | None = field(default=UNSAID, metadata=said(or_null(number)))
    turned_at: tuple[float, ...] | None = field(default=None, metadata=said(list_of(number), list))
    report: FactReport | None = field(default=None, metadata=said(FactReport.parse, as_json))
    rebased_from: int | None = field(default=None, metadata=said(whole))

    def __post_init__(self) -> None:
        """Refuses a rule without what it needs.

        Raises:
            UsageError: if the weights or signs of the rule are missing.
        """
        for name, needed in (("gradient", "weights"), ("output", "signs")):
            if self.rule == name and getattr(self, needed) is None:
                raise UsageError(f"{needed} is missing")

    @property
    def rule_name(self) -> str:
        """The rule, `paper` if the recipe is of before there was a choice."""
        return self.rule or "paper"


@dataclass(frozen=True, kw_only=True)
class OptimizeOutcome(JsonObject):
    """How an optimisation went; the measures are those of the changes found, before they are rounded.

    Attributes:
        steps: gradient steps taken.
        reached: whether they stopped because target and drift were reached.
        loss: mean −log p(new answer) over the fact's prompts, in nats.
        divergence: mean KL divergence over all other prompts, in nats; 0 without any.
        least_probability: the new answer's lowest probability on a prompt of the fact.
        largest_change: the largest ‖Δv‖ ÷ ‖v‖ of a slot.
    """

    steps: int = field(metadata=said(whole))
    reached: bool = field(metadata=said(flag))
    loss: float = field(metadata=said(number))
    divergence: float = field(metadata=said(number))
    least_probability: float = field(metadata=said(number))
    largest_change: float = field(metadata=said(number))


_BEFORE_AT_ONCE = 40
"""Other prompts that counted in one step when recipes did not say how many."""


@dataclass(frozen=True, kw_only=True)
class OptimizeRecipe(_FactRecipe):
    """The recipe of `kndb edit optimize`.

    Attributes:
        neurons_far_below: knowledge neurons that were left out as they lie far below all others.
        neighbours, others, prompts_each: how many facts were to be kept; see `Neighbours`.
        kept_facts: the facts that were drawn.
        steps, learning_rate, keep, bound, target, drift, at_once, seed: see `OptimizeSettings`.
        outcome: how the steps went.
        report: what the plan was found to do.
        rebased_from: the edit that this one was recomputed from.
    """

    kind: ClassVar[str] = "optimize"

    neurons_far_below: tuple[Neuron, ...] | None = field(default=None, metadata=said(any_neurons, names))
    neighbours: int | None = field(default=None, metadata=said(whole))
    others: int | None = field(default=None, metadata=said(whole))
    prompts_each: int | Unsaid | None = field(default=UNSAID, metadata=said(or_null(whole)))
    kept_facts: tuple[int, ...] | None = field(default=None, metadata=said(list_of(whole), list))
    steps: int = field(metadata=said(whole))
    learning_rate: float = field(metadata=said(number))
    keep: float = field(metadata=said(number))
    bound: float = field(metadata=said(number))
    target: float = field(metadata=said(number))
    drift: float = field(metadata=said(number))
    at_once: int | None = field(default=None, metadata=said(whole))
    seed: int = field(metadata=said(whole))
    outcome: OptimizeOutcome | None = field(default=None, metadata=said(OptimizeOutcome.parse, as_json))
    report: FactReport | None = field(default=None, metadata=said(FactReport.parse, as_json))
    rebased_from: int | None = field(default=None, metadata=said(whole))

    def __post_init__(self) -> None:
        """Refuses settings out of their ranges.

        Raises:
            UsageError: for one.
        """
        _ = self.settings

    @property
    def settings(self) -> OptimizeSettings:
        """The settings that the recipe was made from."""
        usual = Neighbours()
        return OptimizeSettings(
            steps=self.steps,
            learning_rate=self.learning_rate,
            keep=self.keep,
            bound=self.bound,
            target=self.target,
            drift=self.drift,
            at_once=_BEFORE_AT_ONCE if self.at_once is None else self.at_once,
            seed=self.seed,
            neighbours=Neighbours(
                usual.relation if self.neighbours is None else self.neighbours,
                usual.elsewhere if self.others is None else self.others,
                None if isinstance(self.prompts_each, Unsaid) else self.prompts_each,
            ),
            max_share=OptimizeSettings.max_share if self.max_share is None else self.max_share,
            neurons=self.most_neurons,
        )


@dataclass(frozen=True, kw_only=True)
class EraseRecipe(JsonObject):
    """The recipe of `kndb edit erase`.

    Attributes:
        relation: the relation to be forgotten.
        top: how many of its neurons were wanted.
        refinement: whose knowledge neurons.
        neurons: whose value slots become zero.
        report: what the plan was found to do.
        rebased_from: the edit that this one was recomputed from.
    """

    kind: ClassVar[str] = "erase"

    relation: str | None = field(default=None, metadata=said(text))
    top: int | None = field(default=None, metadata=said(whole))
    refinement: int | None = field(default=None, metadata=said(whole))
    neurons: tuple[Neuron, ...] = field(metadata=said(some_neurons, names))
    report: PlanReport | None = field(default=None, metadata=said(PlanReport.parse, as_json))
    rebased_from: int | None = field(default=None, metadata=said(whole))

    @property
    def title(self) -> str:
        """What the edit is for, in one line."""
        return f"{self.relation or ''}: {len(self.neurons)} most common neurons to zero"


@dataclass(frozen=True, kw_only=True)
class CaptureRecipe(JsonObject):
    """The recipe of `kndb edit capture`, and of `kndb edit import`.

    Attributes:
        source: the name of the edited checkpoint's folder, or the adapter's; `from_fingerprint`: of that checkpoint, or
            the sha256 of the adapter's tensors.
        tensors: by parameter, how the object keeps its change: what `CapturedTensor` says.
        adapter: the adapter's format, such as `peft`; None for a checkpoint.
        base_model, words: of an adapter, the model and the title that its sender names, if any.
    """

    kind: ClassVar[str] = "capture"
    report: ClassVar[None] = None

    source: str = field(metadata=said(text, key="from"))
    from_fingerprint: str = field(metadata=said(text))
    tensors: Mapping[str, Mapping[str, object]] = field(metadata=said(lambda value: dict(value), dict))
    adapter: str | None = field(default=None, metadata=said(text))
    base_model: str | None = field(default=None, metadata=said(text))
    words: str | None = field(default=None, metadata=said(text))

    @property
    def title(self) -> str:
        """What the edit is for, in one line."""
        count = len(self.tensors)
        kept = f"{self.source}: {count} parameter{'' if count == 1 else 's'}"
        return kept if self.words is None else f"{kept}; its sender says: {self.words}"


@dataclass(frozen=True)
class OtherRecipe:
    """A recipe that this kndb can't read: of another kind, or without all that its kind needs.

    Attributes:
        kind: the kind of edit.
        values: the JSON object as it is.
        flaw: why it can't be read.
    """

    kind: str
    values: Mapping[str, object] = field(default_factory=dict)
    flaw: str = field(default="", compare=False)

    report: ClassVar[None] = None

    def as_json(self) -> dict[str, Any]:
        """The JSON object."""
        return dict(self.values)

    @property
    def title(self) -> str:
        """What the edit is for, in one line, as far as that is known."""
        return str(self.values.get("relation", ""))


FactRecipe = UpdateRecipe | OptimizeRecipe
"""The recipes of an edit of one fact."""
Recipe = UpdateRecipe | OptimizeRecipe | EraseRecipe | CaptureRecipe | TogetherRecipe | ManyRecipe | OtherRecipe
_BY_KIND: Mapping[
    str, type[UpdateRecipe | OptimizeRecipe | EraseRecipe | CaptureRecipe | TogetherRecipe | ManyRecipe]
] = {
    **{one.kind: one for one in (UpdateRecipe, OptimizeRecipe, EraseRecipe, CaptureRecipe, TogetherRecipe)},
    **MANY_RECIPES,
}
KINDS = tuple(_BY_KIND)
"""The kinds of edits that this kndb knows."""
_Replayed = TypeVar("_Replayed", bound=UpdateRecipe | OptimizeRecipe | EraseRecipe | TogetherRecipe | ManyRecipe)
REPLAYED_KINDS = tuple(sorted({"erase", "optimize", "together", "update", *MANY_RECIPES}))
"""The kinds of edits that can be recomputed."""


def read_recipe(kind: str, values: Mapping[str, Any]) -> Recipe:
    """A recipe from its JSON object; see the module.

    Args:
        kind: the kind of edit.
        values: the object.

    Returns:
        The recipe of its kind; an `OtherRecipe` if it can't be read. Its `as_json` gives the same object.
    """
    if kind not in _BY_KIND:
        return OtherRecipe(kind, values, f"kind {kind!r} is unknown")
    try:
        recipe = _BY_KIND[kind].parse(values)
        # Two texts can mean one value, such as L1.N2 and L01.N2: an object has to keep the one that it has.
        if _canonical(recipe.as_json()) == _canonical(values):
            return recipe
        return OtherRecipe(kind, values, "it is written in another form than kndb writes")
    except EditError as error:
        return OtherRecipe(kind, values, str(error))
    except RecursionError:
        return OtherRecipe(kind, values, "it is nested too deeply")


def replayed(recipe: _Replayed, edit: int) -> _Replayed:
    """The recipe of an edit that is recomputed from another one's; what was measured of that is not said of it."""
    return replace(recipe, report=None, rebased_from=edit)


def relation_of(recipe: Recipe) -> str:
    """The key of the relation that an edit is for, or that of its fact; empty where the recipe says neither."""
    if isinstance(recipe, EraseRecipe):
        return recipe.relation or ""
    if isinstance(recipe, (UpdateRecipe, OptimizeRecipe)) and recipe.fact is not None:
        return recipe.fact.relation
    return ""


def facts_of(recipe: Recipe) -> tuple[RecipeFact | EditedFact, ...]:
    """The facts that an edit gives new answers; none of other edits, and where the recipe does not say which."""
    if isinstance(recipe, GroupRecipe):
        return tuple(recipe.facts)
    if isinstance(recipe, (UpdateRecipe, OptimizeRecipe)) and recipe.fact is not None:
        return (recipe.fact,)
    return ()


def new_answers(recipe: Recipe) -> list[tuple[RecipeFact | EditedFact, str]]:
    """The facts that an edit gives new answers, each with that answer, where the recipe says it."""
    if isinstance(recipe, GroupRecipe):
        return [(fact, fact.to) for fact in recipe.facts]
    if isinstance(recipe, (UpdateRecipe, OptimizeRecipe)) and recipe.fact is not None and recipe.to:
        return [(recipe.fact, recipe.to)]
    return []


def kept_facts_of(recipe: Recipe) -> tuple[int, ...]:
    """The facts whose answers an edit was to leave, by their numbers where it was planned."""
    return (recipe.kept_facts or ()) if isinstance(recipe, UpdateRecipe | OptimizeRecipe | GroupRecipe) else ()


def texts_of(value: object) -> Iterator[str]:
    """Every text that a recipe holds, in its lists and objects too, the names of unknown keys included."""
    left = [value.as_json() if hasattr(value, "as_json") else value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, Mapping):
            left += [*one, *one.values()]
        elif isinstance(one, (list, tuple)):
            left += one


def fact_recipe(recipe: Recipe) -> FactRecipe:
    """A recipe that is one of a fact's new answer.

    Raises:
        EditError: if it is not.
    """
    if not isinstance(recipe, (UpdateRecipe, OptimizeRecipe)):
        raise EditError(f"an edit of kind {recipe.kind!r} gives no fact a new answer")
    return recipe


def _canonical(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, default=str)
