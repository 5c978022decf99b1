"""Tables of trials of edits: means over facts that were edited alone, and what piles of edits did."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..records.edits import EDIT_MEASURES, Interval, TrialResult, TrialSummary
from .intervals import mean_interval, share_interval

SINGLE, CUMULATIVE = "single", "cumulative"
_OF_ALL = ("success", "efficacy", "paraphrase", "paraphrase_score")
"""Measures for which a fact without an edit counts as not changed; it has no others."""


def summarise(results: Sequence[TrialResult], seed: int) -> list[TrialSummary]:
    """The table of a trial: single edits first, then piles of them; or the cells of a sweep, in the order given.

    Args:
        results: all that there are so far.
        seed: of the bootstrap.
    """
    parts: dict[str, list[TrialResult]] = {}
    for result in results:
        parts.setdefault(result.part, []).append(result)
    both = (("edit", "edited"), ("random neurons", "control"))
    rows: list[TrialSummary] = []
    for part in sorted(parts, key=lambda part: (part != SINGLE, part == CUMULATIVE)):
        if part == CUMULATIVE:
            rows += [_of_pile(result, *weights) for result in parts[part] for weights in both]
        else:
            settings = {} if part == SINGLE else json.loads(part)
            rows += [_over_facts(parts[part], settings, *weights, seed) for weights in both]
    return rows


def _of_pile(result: TrialResult, weights: str, key: str) -> TrialSummary:
    found: Mapping[str, Any] = result.measures
    measures = {name: _interval(values) for name, values in found[key].items()}
    # A fact without an edit has no prompts among those measured: as one that was not changed, it lowers the shares.
    share = found["planned"] / found["facts"]
    if not found["planned"]:
        measures |= dict.fromkeys(("success", "paraphrase"), (0.0, None, None))
    for name in _OF_ALL:
        if name in measures and share < 1:
            value, low, high = measures[name]
            measures[name] = (_scaled(value, share), _scaled(low, share), _scaled(high, share))
    return TrialSummary(
        CUMULATIVE, result.position, {}, weights, found["facts"], found["planned"], found["neurons"], measures
    )


def _scaled(value: float | None, share: float) -> float | None:
    return None if value is None else value * share


def _over_facts(
    results: Sequence[TrialResult], settings: Mapping[str, Any], weights: str, key: str, seed: int
) -> TrialSummary:
    planned = [result.measures for result in results if key in result.measures]
    missing = len(results) - len(planned)
    measures: dict[str, Interval] = {}
    for name in EDIT_MEASURES:
        values = [float(one[key][name]) for one in planned if one[key].get(name) is not None]
        if name in _OF_ALL and (values or missing):
            values += [0.0] * missing
        if values:
            mean = math.fsum(values) / len(values)
            # Of one fact nearly all prompts give the new answer, or none; other shares are means over many facts.
            ends = share_interval(values) if name in _OF_ALL else mean_interval(values, seed=seed)
            measures[name] = (mean, None, None) if ends is None else (mean, *ends)
    neurons = math.fsum(one["neurons"] for one in planned) / len(planned) if planned else None
    part = "cell" if settings else SINGLE
    return TrialSummary(part, 1, settings, weights, len(results), len(planned), neurons, measures)


def _interval(values: Sequence[float | None]) -> Interval:
    value, low, high = values
    return value, low, high
