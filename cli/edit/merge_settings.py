"""The settings of `kndb edit merge` that can be named; what is not named is as in the merged edits, or the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from kndb.records.together import KeptFacts, TogetherSettings, fitted_in_words

from ..option_groups import takes
from .together import AT_ONCE_IN_WORDS, STEPS_IN_WORDS, given, prompts_at_once


@dataclass(frozen=True)
class GivenSettings:
    """What was named.

    Attributes:
        how: of `TogetherSettings`; `kept`: of `KeptFacts`.
    """

    how: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)


NO_SETTINGS = GivenSettings()
_AGREED = "Default: as in the merged edits, if they agree, else {}."
_USUAL, _KEPT = TogetherSettings(), KeptFacts()


def _number(name: str, text: str, otherwise: str | None = None) -> Any:
    """A setting of `TogetherSettings` that is a number; `otherwise`, in words, is what it is if the edits disagree."""
    default = _AGREED.format(otherwise or _usual(name))
    return Annotated[float | None, typer.Option(_flag(name), help=f"{text} {default}", show_default=False)]


def _usual(name: str) -> str:
    value = getattr(_USUAL, name)
    return fitted_in_words(name) if value is None else f"{value:g}"


def _whole(name: str, text: str, usual: str | None = None) -> Any:
    default = _AGREED.format(usual or _usual(name))
    return Annotated[int | None, typer.Option(_flag(name), help=f"{text} {default}", show_default=False)]


def _kept(name: str, text: str) -> Any:
    help_text = f"{text} Default: {getattr(_KEPT, name)}."
    return Annotated[int | None, typer.Option(_flag(name), help=help_text, show_default=False)]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


_SCOPE = Annotated[
    str | None,
    typer.Option(
        "--scope",
        metavar="neurons|layers",
        help="Change the value slots of the facts' knowledge neurons, or all value slots of the layers that hold most "
        f"of them. {_AGREED.format(_USUAL.scope)}",
        show_default=False,
    ),
]
_AT_ONCE = Annotated[
    int | None,
    typer.Option(
        "--at-once",
        help=f"Use so many prompts of edited facts, and of kept ones, in each step. {_AGREED.format(AT_ONCE_IN_WORDS)}",
        show_default=False,
    ),
]
_OPTIONS: Mapping[str, Any] = {
    "scope": _SCOPE,
    "steps": _whole("steps", "Take at most so many gradient steps.", STEPS_IN_WORDS),
    "learning_rate": _number(
        "learning_rate",
        "Move a slot about so far in the first step, in lengths of a mean slot; 0 fits it to the model.",
        "fitted to the model by --first-step",
    ),
    "first_step": _number(
        "first_step",
        "Fit the learning rate so that the first step moves the outputs of the changed layers by this much, in lengths "
        "of these outputs.",
    ),
    "patience": _whole(
        "patience", "Use prompts whose new answers have won this many times less often than the others."
    ),
    "keep": _number(
        "keep", "Penalty for changing other facts' answers (β in the docs), in the first half of the steps."
    ),
    "keep_last": _number("keep_last", "That penalty in the last sixth of the steps."),
    "decay": _number("decay", "Penalty for large changes of slots (γ in the docs)."),
    "ridge": _number("ridge", "How little steps heed what neurons do on kept prompts (λ in the docs)."),
    "bound": _number("bound", "Change a slot by at most this, in lengths of that slot."),
    "target": _number("target", "A new answer's token has won once it has at least this probability (0 to 1)."),
    "success": _number(
        "success", "Stop once the new answers win on this share of the prompts (0 to 1) and --drift is reached."
    ),
    "drift": _number("drift", "Stop once other answers diverge by at most this on average, in nats."),
    "neighbours": _kept(
        "neighbours", "Keep the answers of so many other facts of the edited relations, drawn at random."
    ),
    "others": _kept("others", "Keep the answers of so many facts of other relations, drawn at random."),
    "prompts": _kept("prompts", "Use so many prompts of each of these facts."),
    "at_once": _AT_ONCE,
    "validation": _number("validation", "Measure the drift on this share of the kept facts, which no step sees."),
    "check": _whole("check", "Measure success and drift every so many steps."),
    "seed": _whole("seed", "Random seed."),
}


def _settings(
    at_once: int | None, neighbours: int | None, others: int | None, prompts: int | None, **how: Any
) -> GivenSettings:
    kept = {"neighbours": neighbours, "others": others, "prompts": prompts}
    return GivenSettings(given({**how, **prompts_at_once(at_once)}), given(kept))


takes_settings = takes("settings", {name: (kind, None) for name, kind in _OPTIONS.items()}, _settings)
"""Decorates a command that has a `GivenSettings` for a parameter `settings`."""
