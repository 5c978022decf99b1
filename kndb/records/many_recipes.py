"""Recipes of edits of many facts at once, a type for each method. `recipes` says what holds of all recipes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, ClassVar

from ..errors import UsageError
from .json_values import JsonObject, as_json, count, list_of, number, or_null, said, share, text, whole
from .many_settings import (
    SETTINGS,
    AlphaEditSettings,
    EmmetSettings,
    FinetuneSettings,
    ManySettings,
    MemitSettings,
    RomeSettings,
    TargetSettings,
)
from .models import Neuron
from .plan_reports import FactReport
from .recipe_facts import RecipeFact
from .together import parse_runs, written_as_runs


def _objects(values: Any) -> list[object]:
    return [one.as_json() for one in values]


@dataclass(frozen=True, kw_only=True)
class RecipeAnswer(JsonObject):
    """A fact's new answer.

    Attributes:
        fact: the fact; `to`: its new answer.
        old_answer: what the model said before, if that was asked.
    """

    fact: RecipeFact = field(metadata=said(RecipeFact.parse, as_json))
    to: str = field(metadata=said(text))
    old_answer: str | None = field(default=None, metadata=said(or_null(text)))

    @property
    def id(self) -> int:
        """The fact's number where the edit was planned."""
        return self.fact.id

    @property
    def relation(self) -> str:
        """Its relation's key."""
        return self.fact.relation

    @property
    def subject(self) -> str | None:
        """Its subject, if that is named."""
        return self.fact.subject

    @property
    def object(self) -> str:
        """Its object."""
        return self.fact.object


@dataclass(frozen=True, kw_only=True)
class RecipeCovariance(JsonObject):
    """Which keys' covariance a layer was changed by.

    Attributes:
        layer: the layer.
        source: where the texts were from; `texts`: how many, `digest`: sha256 of their tokens.
        tokens: `every` token of them counted, or their `place`.
        keys: how many keys that were.
    """

    layer: int = field(metadata=said(whole))
    source: str = field(metadata=said(text))
    tokens: str = field(metadata=said(text))
    texts: int = field(metadata=said(whole))
    keys: int = field(metadata=said(whole))
    digest: str = field(metadata=said(text))


@dataclass(frozen=True, kw_only=True)
class TriedLayers(JsonObject):
    """What a plan of a share of the facts did, by which the layers and the token were chosen.

    Attributes:
        layers, token: which were tried; the token is None for a method without.
        success: share of prompts that the plan did not see on which the new answers won.
        kept: share of prompts of other facts whose most probable answers stayed.
        failed: why there was no plan; then both are 0.
    """

    layers: tuple[int, ...] = field(metadata=said(list_of(whole), list))
    token: str | None = field(metadata=said(or_null(text)))
    success: float = field(metadata=said(share))
    kept: float = field(metadata=said(share))
    failed: str | None = field(default=None, metadata=said(text))

    @property
    def score(self) -> float:
        """The harmonic mean of both; 0 if one is."""
        return 2 * self.success * self.kept / (self.success + self.kept) if self.success and self.kept else 0.0


@dataclass(frozen=True)
class TriedSettings:
    """Settings whose layers and token were chosen by trying.

    Attributes:
        settings: with the layers and the token of the best.
        tried: all that were tried, the best first.
    """

    settings: ManySettings
    tried: tuple[TriedLayers, ...]


@dataclass(frozen=True, kw_only=True)
class ManyOutcome(JsonObject):
    """How a plan went.

    Attributes:
        rounds: in each round, how many outputs had what makes their answers win; of FT-M, how many tokens had won when
            they were last seen.
        asked: of how many.
        steps: of FT-M, passes over all prompts.
        ranks: of AlphaEdit, the dimensions of each layer's null space.
    """

    rounds: tuple[int, ...] = field(metadata=said(list_of(whole), list))
    asked: int = field(metadata=said(whole))
    steps: int | None = field(default=None, metadata=said(whole))
    ranks: tuple[int, ...] | None = field(default=None, metadata=said(list_of(whole), list))


def settings_as_json(settings: ManySettings) -> dict[str, Any]:
    """A method's settings as a recipe keeps them, every one of them."""
    found: dict[str, Any] = {"method": settings.method, **asdict(settings)}
    if found["layers"] is not None:
        found["layers"] = list(found["layers"])
    return found


def read_settings(values: object) -> ManySettings:
    """A method's settings from a recipe.

    Raises:
        TypeError, UsageError: if they are not what `settings_as_json` gives.
    """
    if not isinstance(values, Mapping):
        raise TypeError(values)
    left = dict(values)
    method = left.pop("method", None)
    if not isinstance(method, str) or method not in SETTINGS:
        raise TypeError(method)
    target, layers = left.pop("target", None), left.pop("layers", None)
    found = _values(SETTINGS[method], left)
    if target is not None:
        if not isinstance(target, Mapping) or method == FinetuneSettings.method:
            raise TypeError(target)
        found["target"] = TargetSettings(**_values(TargetSettings, target))
    found["layers"] = None if layers is None else list_of(whole)(layers)
    return SETTINGS[method](**found)


def _values(of: type[Any], values: Mapping[str, object]) -> dict[str, Any]:
    """Settings by name, each of its default's type; one whose default is None is a number or nothing.

    Raises:
        TypeError: if one is of another type, or unknown.
    """
    defaults = {one.name: one.default for one in fields(of) if one.default is not MISSING}
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name not in defaults:
            raise TypeError(name)
        default = defaults[name]
        if name == "token":
            found[name] = or_null(text)(value)
        elif isinstance(default, str):
            found[name] = text(value)
        else:
            found[name] = whole(value) if isinstance(default, int) else or_null(number)(value)
            if default is not None and value is None:
                raise TypeError(name)
    return found


@dataclass(frozen=True, kw_only=True)
class ManyRecipe(JsonObject):
    """What recipes of edits of many facts have in common.

    Attributes:
        answers: the facts with their new answers, at least one.
        settings: the method's, with layers and token.
        covariances: by which keys the layers were changed; None for a method without.
        tried: where the layers were chosen by trying, the best first.
        kept_facts: other facts of the subjects, whose answers were to stay, by their numbers where the edit was
            planned; `prompts_each`: so many prompts of each.
        earlier: of AlphaEdit, of how many facts that earlier edits had given answers the keys were kept: of all that
            the version had that it was planned on.
        seed: of the draw of texts for covariances, and of the facts that layers were tried on.
        prefixes: texts before the prompts.
        outcome: how it went.
        report: what the plan was found to do.
        rebased_from: the edit that this one was recomputed from.
    """

    kind: ClassVar[str] = ""

    answers: tuple[RecipeAnswer, ...] = field(metadata=said(list_of(RecipeAnswer.parse), _objects))
    settings: ManySettings = field(metadata=said(read_settings, settings_as_json))
    covariances: tuple[RecipeCovariance, ...] | None = field(
        default=None, metadata=said(list_of(RecipeCovariance.parse), _objects)
    )
    tried: tuple[TriedLayers, ...] | None = field(default=None, metadata=said(list_of(TriedLayers.parse), _objects))
    kept_facts: tuple[int, ...] | None = field(default=None, metadata=said(parse_runs, written_as_runs))
    prompts_each: int | None = field(default=None, metadata=said(count))
    earlier: int | None = field(default=None, metadata=said(count))
    seed: int = field(default=0, metadata=said(whole))
    prefixes: tuple[str, ...] | None = field(default=None, metadata=said(list_of(text), list))
    outcome: ManyOutcome | None = field(default=None, metadata=said(ManyOutcome.parse, as_json))
    report: FactReport | None = field(default=None, metadata=said(FactReport.parse, as_json))
    rebased_from: int | None = field(default=None, metadata=said(whole))

    def __post_init__(self) -> None:
        """Refuses settings of another method, and a recipe of no fact.

        Raises:
            UsageError: for either.
        """
        if self.settings.method != self.kind or not self.answers:
            raise UsageError(
                f"settings of {self.settings.method} for {len(self.answers)} facts in a recipe of {self.kind}"
            )

    @property
    def facts(self) -> tuple[RecipeAnswer, ...]:
        """The facts with their new answers."""
        return self.answers

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose value slots may all change; none where the recipe does not say them."""
        return self.settings.layers or ()

    @property
    def neurons(self) -> tuple[Neuron, ...]:
        """None: whole layers change."""
        return ()

    @property
    def refinement(self) -> None:
        """Nobody's knowledge neurons are asked for."""
        return

    @property
    def token(self) -> str | None:
        """Which token's output changes; None for a method without."""
        return None if isinstance(self.settings, FinetuneSettings) else self.settings.token

    @property
    def title(self) -> str:
        """What the edit is for, in one line."""
        if len(self.answers) == 1:
            one = self.answers[0]
            old = one.old_answer or one.fact.object
            return f"{one.fact.subject or '(not named)'} · {one.fact.relation} · {old} → {one.to}"
        relations = Counter(one.fact.relation for one in self.answers)
        named = ", ".join(f"{key} {count}" for key, count in relations.most_common(3))
        more = f" and {len(relations) - 3} more relations" if len(relations) > 3 else ""
        return f"{len(self.answers)} facts: {named}{more}"


@dataclass(frozen=True, kw_only=True)
class RomeRecipe(ManyRecipe):
    """The recipe of ROME."""

    kind: ClassVar[str] = RomeSettings.method


@dataclass(frozen=True, kw_only=True)
class MemitRecipe(ManyRecipe):
    """The recipe of MEMIT."""

    kind: ClassVar[str] = MemitSettings.method


@dataclass(frozen=True, kw_only=True)
class AlphaEditRecipe(ManyRecipe):
    """The recipe of AlphaEdit."""

    kind: ClassVar[str] = AlphaEditSettings.method


@dataclass(frozen=True, kw_only=True)
class EmmetRecipe(ManyRecipe):
    """The recipe of EMMET."""

    kind: ClassVar[str] = EmmetSettings.method


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(ManyRecipe):
    """The recipe of FT-M."""

    kind: ClassVar[str] = FinetuneSettings.method


MANY_RECIPES: Mapping[str, type[ManyRecipe]] = {
    one.kind: one for one in (RomeRecipe, MemitRecipe, AlphaEditRecipe, EmmetRecipe, FinetuneRecipe)
}
"""By kind."""
