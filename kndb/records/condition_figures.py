"""Figures of conditions, read from the measures of an evaluation, and why there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .condition_measures import MEASURES
from .conditions import CheckedCondition, Condition, in_unit

Figure = tuple[float, float | None, float | None]
"""A measure, and the ends of its 95 % confidence interval, None where it has none."""


@dataclass(frozen=True)
class Unmeasurable:
    """A condition that can't be measured, and why."""

    condition: Condition
    reason: str

    @property
    def words(self) -> str:
        """In a line."""
        return f"{self.condition.words} can't be measured: {self.reason}"


def checked(condition: Condition, measures: Mapping[str, Any]) -> CheckedCondition | Unmeasurable:
    """A condition with what an evaluation found.

    Args:
        condition: the condition.
        measures: of an evaluation, as it is stored; see `EditEvaluator.measure`.
    """
    figure = figure_of(condition.measure, measures)
    if isinstance(figure, str):
        return Unmeasurable(condition, figure)
    value, low, high = figure
    if math.isnan(value):
        return Unmeasurable(condition, "with the edit, the model's probabilities are not numbers")
    if condition.confident and (low is None or high is None):
        said = f"{condition.measure} is {in_unit(condition.measure, value)}"
        return Unmeasurable(condition, f"{said}, and has no confidence interval (one fact, or infinite values)")
    return CheckedCondition(condition, value, low, high, condition.holds(value, low, high))


def figure_of(name: str, measures: Mapping[str, Any]) -> Figure | str:
    """A measure that conditions may name; or why there is none.

    Shares of flips are 1 − the share of unchanged answers, and factors 1 + the relative change. Evaluations of an
    earlier kndb have no group `summary`: then the harmonic mean is taken here, and the ends of its interval are those
    of the ends of its three scores' intervals, which is wider than one of 95 %; and fluency has no interval.

    Args:
        name: a key of `MEASURES`.
        measures: of an evaluation, as it is stored.
    """
    found = _placed(name, measures)
    if found is None and name == "score":
        return _harmonic_mean(measures)
    if found is None and name == "fluency":
        return _fluency(measures)
    if found is None:
        return MEASURES[name].nothing
    (value, low, high), prompts = found
    if name.startswith("flips."):
        # Counted: 1 − 0.95 is not 0.05 in floating point.
        flips = (prompts - round(value * prompts)) / prompts
        return flips, None if high is None else 1 - high, None if low is None else 1 - low
    if name.startswith("perplexity."):
        return 1 + value, None if low is None else 1 + low, None if high is None else 1 + high
    return value, low, high


def _placed(name: str, measures: Mapping[str, Any]) -> tuple[Figure, int] | None:
    """A measure as evaluations have it, and of how many prompts: 0 in the group `summary`, which does not say."""
    for group, measure in MEASURES[name].places:
        values = measures["edited"].get(group, {})
        if measure in values:
            low, high = measures.get("intervals", {}).get("edited", {}).get(group, {}).get(measure, (None, None))
            return (values[measure], low, high), values.get("prompts", 0)
    return None


def _harmonic_mean(measures: Mapping[str, Any]) -> Figure | str:
    found: list[Figure] = []
    for name in ("efficacy_score", "paraphrase_score", "neighbourhood_score"):
        one = figure_of(name, measures)
        if isinstance(one, str):
            return f"it takes the {name.replace('_', ' ')}, and {one}"
        found.append(one)
    value, low, high = (_mean([one[place] for one in found]) for place in range(3))
    assert value is not None, "each score has a value"
    return value, low, high


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return 0.0 if 0 in known else len(known) / math.fsum(1 / value for value in known)


def _fluency(measures: Mapping[str, Any]) -> Figure | str:
    made = measures.get("generated")
    if made is None:
        return f"{MEASURES['fluency'].nothing}; or the model is not a causal one"
    before, after = made["fluency_before"], made["fluency_after"]
    return (after / before, None, None) if before > 0 else "continuations have no fluency before the edit"
