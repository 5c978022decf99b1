"""Recipes of edits of many facts at once, a type for each method. `recipes` says what holds of all recipes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from ..errors import UsageError
from .json_values import JsonObject, as_json, list_of, number, or_null, said, text, whole
from .many_settings import (
    AlphaEditSettings,
    EmmetSettings,
    FinetuneSettings,
    ManySettings,
    MemitSettings,
    RomeSettings,
    TargetSettings,
)
from .plan_reports import FactReport
from .recipe_facts import RecipeFact

_SETTINGS: Mapping[str, type[ManySettings]] = {
    one.method: one for one in (RomeSettings, MemitSettings, AlphaEditSettings, EmmetSettings, FinetuneSettings)
}


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
    if not isinstance(method, str) or method not in _SETTINGS:
        raise TypeError(method)
    if "target" in left:
        left["target"] = TargetSettings(**{name: _plain(value) for name, value in left["target"].items()})
    layers = left.pop("layers", None)
    left["layers"] = None if layers is None else list_of(whole)(layers)
    return _SETTINGS[method](**{name: value if name in _WHOLE else _plain(value) for name, value in left.items()})


_WHOLE = ("target", "layers")


def _plain(value: object) -> Any:
    """A text, a finite number or nothing."""
    return value if value is None or isinstance(value, str) else number(value)


@dataclass(frozen=True, kw_only=True)
class ManyRecipe(JsonObject):
    """What recipes of edits of many facts have in common.

    Attributes:
        answers: the facts with their new answers, at least one.
        settings: the method's, with layers and token.
        covariances: by which keys the layers were changed; None for a method without.
        earlier: of AlphaEdit, the numbers of the edits whose keys were kept.
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
    earlier: tuple[int, ...] | None = field(default=None, metadata=said(list_of(whole), list))
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
