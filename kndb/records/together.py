"""Joint planning of many facts: its settings, and how it went."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from ..advice import option
from ..errors import UsageError
from .edit_settings import check_seed

SCOPES = ("neurons", "layers")
"""What joint planning may change: see `TogetherSettings`."""


@dataclass(frozen=True)
class TogetherSettings:
    """How the value slots of many facts are optimised together.

    Attributes:
        scope: `neurons`: the value slots of the facts' knowledge neurons. `layers`: all value slots of the layers that
            hold them.
        steps: gradient steps at most, at least 1.
        learning_rate: of the first step, in lengths of a mean slot: about how far a slot moves in it; above 0. It falls
            in a straight line to nearly 0 at the last step.
        keep: β, the weight of the kept prompts' divergence, at least 0.
        decay: γ, the weight of the mean (‖Δv‖ ÷ ‖v‖)² over slots, at least 0.
        ridge: λ, above 0: how little steps heed what neurons do on kept prompts; see `slot_steps`. Less changes other
            answers less, and takes more steps.
        bound: c, the largest change of a slot in lengths of that slot, above 0.
        target: the probability of a new answer's token with which it counts as won, and no more in the loss; 0 to 1.
        success: the share of edited prompts that are to be won, 0 to 1; `drift`: the mean KL divergence of the prompts
            of the validation facts, in nats, at least 0. Once both are reached, the steps stop.
        edited_at_once: edited prompts that count in one step, at least 1; `kept_at_once`: kept ones.
        check: steps between measurements of success and drift, at least 1.
        validation: the share of the kept facts whose prompts are only measured, 0 to 1, 1 left out.
        seed: of the order of prompts, and of the draw of validation facts.
    """

    method: ClassVar[str] = "together"

    scope: str = "layers"
    steps: int = 200
    learning_rate: float = 0.04
    keep: float = 4.0
    decay: float = 0.0
    ridge: float = 0.01
    bound: float = 6.0
    target: float = 0.8
    success: float = 0.99
    drift: float = 0.01
    edited_at_once: int = 64
    kept_at_once: int = 64
    check: int = 25
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
            ("steps", self.steps >= 1, "at least 1"),
            ("learning_rate", 0 < self.learning_rate < math.inf, above),
            ("keep", 0 <= self.keep < math.inf, least),
            ("decay", 0 <= self.decay < math.inf, least),
            ("ridge", 0 < self.ridge < math.inf, above),
            ("bound", 0 < self.bound < math.inf, above),
            ("target", 0 <= self.target < 1, below),
            ("success", 0 <= self.success <= 1, share),
            ("drift", 0 <= self.drift < math.inf, least),
            ("edited_at_once", self.edited_at_once >= 1, "at least 1"),
            ("kept_at_once", self.kept_at_once >= 1, "at least 1"),
            ("check", self.check >= 1, "at least 1"),
            ("validation", 0 <= self.validation < 1, below),
        ):
            if not allowed:
                raise UsageError(f"{option(name)} must be {must} (got {getattr(self, name)})")
        check_seed(self.seed)

    def as_json(self) -> dict[str, Any]:
        """The settings as a recipe, a trial and a checkpoint keep them."""
        return dict(vars(self))
