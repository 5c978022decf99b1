"""Confidence intervals of measures over facts: how far another draw of as many facts could have been off.

The unit is the fact, never the prompt: prompts of one fact are paraphrases, and go right or wrong together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy

CONFIDENCE = 0.95
"""How often such an interval holds the true value, over many draws."""

RESAMPLES = 1000
"""Draws of the bootstrap."""


def share_interval(shares: Sequence[float], weights: Sequence[float] | None = None) -> tuple[float, float] | None:
    """Wilson's interval of the mean of one share per fact, each from 0 to 1.

    It is exact in kind for shares of 0 and 1, and too wide rather than too narrow for those between: no variable in
    [0, 1] with that mean varies more than one of only 0 and 1.

    Args:
        shares: one for each fact.
        weights: one for each fact, such as its number of prompts; None weighs all alike. Facts of unlike weights count
            for (Σw)² / Σw² facts, as in Kish's effective sample size.

    Returns:
        Its ends, within [0, 1]; None without facts.
    """
    if not shares:
        return None
    weighed = [1.0] * len(shares) if weights is None else weights
    total = math.fsum(weighed)
    count = total * total / math.fsum(weight * weight for weight in weighed)
    mean = math.fsum(share * weight for share, weight in zip(shares, weighed, strict=True)) / total
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    centre = mean + z * z / (2 * count)
    half = z * math.sqrt(max(mean * (1 - mean), 0.0) / count + (z / (2 * count)) ** 2)
    scale = 1 + z * z / count
    # The ends are 0 and 1 where no fact, or each one, has its share; rounding must not say otherwise.
    low = 0.0 if mean == 0 else max((centre - half) / scale, 0.0)
    high = 1.0 if mean == 1 else min((centre + half) / scale, 1.0)
    return low, high


def mean_interval(
    values: Sequence[float], weights: Sequence[float] | None = None, *, seed: int = 0
) -> tuple[float, float] | None:
    """The percentile bootstrap interval of a mean over facts: facts are drawn with replacement, with their weights.

    Args:
        values: one for each fact; all finite.
        weights: one for each fact, such as its number of prompts; None weighs all alike.
        seed: of the draws.

    Returns:
        Its ends; None for fewer than two facts, of which nothing can be said, and where a value is not finite.
    """
    count = len(values)
    if count < 2 or not all(map(math.isfinite, values)):
        return None
    weighed = numpy.ones(count) if weights is None else numpy.asarray(weights, dtype=numpy.float64)
    products = numpy.asarray(values, dtype=numpy.float64) * weighed
    drawn = numpy.random.default_rng(seed).integers(0, count, size=(RESAMPLES, count))
    means = products[drawn].sum(axis=1) / weighed[drawn].sum(axis=1)
    low, high = numpy.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def statistic_interval(
    groups: Sequence[Sequence[Sequence[float]]],
    statistic: Callable[[Sequence[Sequence[float]]], float],
    *,
    seed: int = 0,
) -> tuple[float, float] | None:
    """The percentile bootstrap interval of a statistic of the means of several groups of facts.

    Args:
        groups: of facts that are drawn apart from each other; each has, for each fact, its columns: totals and weights
            in turn, such as (right prompts, prompts). A mean is a column of totals over the next one of weights.
        statistic: of the means of each group; what is not finite, and what a draw leaves no prompts for, is left out.
        seed: of the draws.

    Returns:
        Its ends; None if no group has two facts, or hardly a draw has the statistic.
    """
    if all(len(group) < 2 for group in groups):
        return None
    chance = numpy.random.default_rng(seed)
    sums = []
    for group in groups:
        rows = numpy.asarray(group, dtype=numpy.float64)
        drawn = chance.integers(0, len(rows), size=(RESAMPLES, len(rows)))
        sums.append(rows[drawn].sum(axis=1))
    values = []
    for number in range(RESAMPLES):
        pairs = [of_group[number].reshape(-1, 2).tolist() for of_group in sums]
        if all(weight > 0 for pair in pairs for _, weight in pair):
            values.append(statistic([[total / weight for total, weight in pair] for pair in pairs]))
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < RESAMPLES / 2:
        return None
    low, high = numpy.quantile(finite, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
