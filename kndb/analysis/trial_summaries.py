"""Tables of trials of edits: means over facts that were edited alone, and what piles of edits did."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..records.edits import COMPARED_MEASURES, EDIT_MEASURES, PLANNING_COSTS, Interval, TrialResult, TrialSummary
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


# --- comparisons of methods ------------------------------------------------------------------------------


def compared_part(method: str, seed: int) -> str:
    """What the results of a method and a seed are stored as."""
    return json.dumps({"method": method, "seed": seed}, sort_keys=True)


def summarise_compared(results: Sequence[TrialResult], methods: Sequence[str]) -> list[TrialSummary]:
    """The table of a comparison: by method, in the order given, and by size; means over seeds, of which each is a draw.

    Args:
        results: all that there are so far.
        methods: the methods' names.
    """
    cells: dict[tuple[str, int], list[TrialResult]] = {}
    for result in results:
        cells.setdefault((json.loads(result.part)["method"], result.position), []).append(result)
    rows = []
    for method, size in sorted(cells, key=lambda cell: (methods.index(cell[0]), cell[1])):
        found = [result.measures for result in cells[method, size]]
        for weights, key in (("edit", "edited"), ("random neurons", "control")):
            if any(one[key] for one in found):
                rows.append(_of_cell(method, size, weights, [one for one in found if one[key]], key))
    return rows


def _of_cell(method: str, size: int, weights: str, found: Sequence[Mapping[str, Any]], key: str) -> TrialSummary:
    names = [name for name in COMPARED_MEASURES if any(name in one[key] for one in found)]
    measures = {name: mean_of_draws([_interval(one[key][name]) for one in found if name in one[key]]) for name in names}
    if key == "edited":
        for name in PLANNING_COSTS:
            measures[name] = (math.fsum(one[name] for one in found) / len(found), None, None)
    facts, planned = (sum(one[name] for one in found) for name in ("facts", "planned"))
    neurons = math.fsum(one["neurons"] for one in found) / len(found)
    return TrialSummary("compared", size, {"method": method}, weights, facts, planned, neurons, measures)


def mean_of_draws(intervals: Sequence[Interval]) -> Interval:
    """The mean of a measure over independent draws of facts; the distances of the ends add up in squares."""
    known = [(value, low, high) for value, low, high in intervals if value is not None]
    if not known:
        return None, None, None
    mean = math.fsum(value for value, _, _ in known) / len(known)
    below = [value - low for value, low, _ in known if low is not None]
    above = [high - value for value, _, high in known if high is not None]
    if len(below) < len(known) or len(above) < len(known):
        return mean, None, None
    return mean, mean - math.hypot(*below) / len(known), mean + math.hypot(*above) / len(known)
