"""The settings of `kndb edit merge` that can be named; what is not named is as in the merged edits, or the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from kndb.errors import UsageError
from kndb.records.together import AT_ONCE, AT_ONCE_DEEP, DEEP, TogetherSettings

from ..option_groups import takes
from .together import given


@dataclass(frozen=True)
class GivenSettings:
    """What was named.

    Attributes:
        how: of `TogetherSettings`; `kept`: of `KeptFacts`.
    """

    how: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)


NO_SETTINGS = GivenSettings()
_DEFAULT = TogetherSettings()
_AGREED = "Default: as in the merged edits, if they agree, else {}."


def _number(flag: str, text: str, default: object) -> Any:
    return Annotated[float | None, typer.Option(flag, help=f"{text} {_AGREED.format(default)}", show_default=False)]


def _whole(flag: str, text: str, default: object, *, agreed: bool = True) -> Any:
    told = _AGREED.format(default) if agreed else f"Default: {default}."
    return Annotated[int | None, typer.Option(flag, help=f"{text} {told}", show_default=False)]


_SCOPE = Annotated[
    str | None,
    typer.Option(
        "--scope",
        metavar="neurons|layers",
        help="Change the value slots of the facts' knowledge neurons, or all value slots of the layers that hold most "
        f"of them. {_AGREED.format('layers')}",
        show_default=False,
    ),
]
_OPTIONS: Mapping[str, Any] = {
    "scope": _SCOPE,
    "steps": _whole("--steps", "Take at most so many gradient steps.", _DEFAULT.steps),
    "learning_rate": _number(
        "--learning-rate", "Move a slot about so far in the first step, in lengths of a mean slot.", "fitted"
    ),
    "keep": _number("--keep", "Penalty for changing other facts' answers (β in the docs).", _DEFAULT.keep),
    "decay": _number("--decay", "Penalty for large changes of slots (γ in the docs).", _DEFAULT.decay),
    "ridge": _number(
        "--ridge", "How little steps heed what neurons do on kept prompts (λ in the docs).", _DEFAULT.ridge
    ),
    "bound": _number("--bound", "Change a slot by at most this, in lengths of that slot.", _DEFAULT.bound),
    "target": _number(
        "--target", "A new answer's token has won once it has at least this probability (0 to 1).", _DEFAULT.target
    ),
    "success": _number(
        "--success",
        "Stop once the new answers win on this share of the prompts (0 to 1) and --drift is reached.",
        _DEFAULT.success,
    ),
    "drift": _number("--drift", "Stop once other answers diverge by at most this on average, in nats.", _DEFAULT.drift),
    "neighbours": _whole(
        "--neighbours",
        "Keep the answers of so many other facts of the edited relations, drawn at random.",
        1000,
        agreed=False,
    ),
    "others": _whole(
        "--others", "Keep the answers of so many facts of other relations, drawn at random.", 500, agreed=False
    ),
    "prompts": _whole("--prompts", "Use so many prompts of each of these facts.", 4, agreed=False),
    "at_once": _whole(
        "--at-once",
        "Use so many prompts of edited facts, and of kept ones, in each step.",
        f"{AT_ONCE}, and {AT_ONCE_DEEP} where a step runs {DEEP} layers or more",
    ),
    "validation": _number(
        "--validation", "Measure the drift on this share of the kept facts, which no step sees.", _DEFAULT.validation
    ),
    "check": _whole("--check", "Measure success and drift every so many steps.", _DEFAULT.check),
    "seed": _whole("--seed", "Random seed.", 0),
}


def _settings(
    at_once: int | None, neighbours: int | None, others: int | None, prompts: int | None, **how: Any
) -> GivenSettings:
    if at_once is not None and at_once < 1:
        raise UsageError(f"--at-once must be at least 1 (got {at_once})")
    kept = {"neighbours": neighbours, "others": others, "prompts": prompts}
    return GivenSettings(given({**how, "edited_at_once": at_once, "kept_at_once": at_once}), given(kept))


takes_settings = takes("settings", {name: (kind, None) for name, kind in _OPTIONS.items()}, _settings)
"""Decorates a command that has a `GivenSettings` for a parameter `settings`."""
